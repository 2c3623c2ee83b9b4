# native.sh: read before essential.sh and customize.sh when the image's programs run under emulation.
#
# Starting an emulated program costs some 50 ms and package scripts start thousands of cp, sed and sh; unpacking a
# kernel emulated costs minutes. The host's own programs run in the root at full speed once their libraries
# are there too: Debian's multiarch paths keep those of two architectures apart. borrow puts the host's
# programs in place of the image's, give_back undoes it; nothing of the host's stays.
lent=/var/lib/imgbake-lent
# Not among them: what answers for the machine (uname) and what goes into the initramfs (kmod, but for its modinfo,
# which bookworm's mkinitramfs starts for each module).
borrowed='dash dpkg-deb cp mv rm rmdir ln mkdir chmod touch cat ls stat sed grep find xargs sort uniq tr cut head tail wc
	readlink realpath basename dirname mktemp cmp tar cpio gzip xz zstd mawk modinfo'

# The libraries that the host's program $1 needs, the loader included, one path a line.
libraries() { ldd "$1" | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p'; }

borrow() {
	mkdir -p "$root$lent/usr/bin" "$root$lent/usr/sbin"
	[ -e "$root$lent/libraries" ] || : >"$root$lent/libraries"
	# amd64's loader lives in /lib64, which has to be a link: systemd refuses a root that is not merged.
	if [ ! -e "$root/lib64" ]; then
		mkdir -p "$root/usr/lib64"
		ln -s usr/lib64 "$root/lib64"
		: >"$root$lent/lib64"
	fi
	for name in $borrowed; do
		program=$(command -v "$name") || continue
		needed=$(libraries "$program")
		place=usr/bin/$name
		[ -f "$root/$place" ] || place=usr/sbin/$name
		# Only what is no script, and in place of something that has not been replaced yet.
		if [ -z "$needed" ] || [ ! -f "$root/$place" ] || [ -L "$root$lent/$place" ] || [ -e "$root$lent/$place" ]; then
			continue
		fi
		for library in $needed; do
			grep -qxF "$library" "$root$lent/libraries" && continue
			# A library of the image under the same path is another architecture's mistake: leave all as it is.
			[ ! -e "$root$library" ] || continue 2
			mkdir -p "$root${library%/*}"
			cp -L "$library" "$root$library"
			echo "$library" >>"$root$lent/libraries"
		done
		mv "$root/$place" "$root$lent/$place"
		cp -L "$program" "$root/$place"
	done
	# Slow is better than broken.
	chroot "$root" /bin/sh -c 'cp --version | sed -n 1p | grep -q .' || give_back
}

give_back() {
	[ -d "$root$lent" ] || return 0
	for folder in usr/bin usr/sbin; do
		find "$root$lent/$folder" -mindepth 1 -exec mv -t "$root/$folder" {} +
	done
	while read -r library; do
		rm -f "$root$library"
		rmdir -p --ignore-fail-on-non-empty "$root${library%/*}" 2>/dev/null || :
	done <"$root$lent/libraries"
	if [ -e "$root$lent/lib64" ]; then
		rm "$root/lib64"
		rmdir "$root/usr/lib64" 2>/dev/null || :
	fi
	rm -r "${root:?}$lent"
}
