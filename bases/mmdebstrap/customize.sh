# customize.sh ROOT: run by mmdebstrap (--customize-hook) when all packages are configured.
#
# Environment: KIND (rpi|cloud), ARCH (Debian's name), EMULATED (yes|no: native.sh goes before this file), and the ids that the assembly in Rust gives the disk:
# ROOT_LABEL BOOT_LABEL (rpi), ROOT_UUID ROOT_PARTUUID ESP_PARTUUID (cloud); SOURCES (deb822 text for the image).
# What belongs on the FAT partition is left in /boot/firmware (rpi) or /boot/efi (cloud).
set -eu
root=$1
phase() { printf 'imgbake: %s\n' "$*"; }

# The stand-ins of essential.sh go; what they held back is done now.
for name in update-initramfs depmod update-ca-certificates py3compile py3clean; do rm -f "$root/usr/local/sbin/$name"; done
if [ "$EMULATED" = yes ]; then borrow; fi
version=$(find "$root/usr/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -V | tail -n 1)

settle_identity() {
	rm -f "$root/etc/resolv.conf"
	ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
	echo localhost >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
	rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
	: >"$root/etc/machine-id"
	chroot "$root" usermod --password '*' root
	rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/0000*.list "$root"/etc/apt/apt.conf.d/99mmdebstrap
	rm -f "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
	printf '%s\n' "$SOURCES" >"$root/etc/apt/sources.list.d/debian.sources"
}

# What py3compile would have done, for the modules of all packages at once. Timestamps, because the default under
# SOURCE_DATE_EPOCH, hashes, makes every start of Python read the sources again.
compile_python() {
	chroot "$root" python3 -m compileall -q --invalidation-mode timestamp /usr/lib/python3/dist-packages
}

make_initramfs() {
	phase certificates
	chroot "$root" update-ca-certificates
	phase depmod
	chroot "$root" depmod "$version"
	phase initramfs
	# zstd at level 1 while building; a later update on the node takes Debian's defaults again.
	printf 'COMPRESSLEVEL=1\n' >>"$root/etc/initramfs-tools/conf.d/imgbake"
	chroot "$root" update-initramfs -c -k "$version"
	rm -f "$root/etc/initramfs-tools/conf.d/imgbake"
}

rpi() {
	printf 'LABEL=%s / ext4 rw,discard,errors=remount-ro 0 1\nLABEL=%s /boot/firmware vfat rw 0 2\n' \
		"$ROOT_LABEL" "$BOOT_LABEL" >"$root/etc/fstab"
	sed -i -e "s|^#\?ROOTPART=.*|ROOTPART=LABEL=$ROOT_LABEL|" -e 's|^#\?CONSOLES=.*|CONSOLES="tty0 ttyS1,115200"|' \
		"$root/etc/default/raspi-firmware"
	mkdir -p "$root/etc/cloud/cloud.cfg.d"
	cat >"$root/etc/cloud/cloud.cfg.d/99-imgbake-seed.cfg" <<-'EOT'
		# cloud-init's seed (user-data, meta-data, network-config) lies on the boot partition.
		# One line for the list: ds-identify's parser reads no other form.
		datasource_list: [ NoCloud, None ]
		datasource:
		  NoCloud:
		    seedfrom: file:///boot/firmware/
	EOT
	for unit in cloud-init-local cloud-init-main; do
		mkdir -p "$root/etc/systemd/system/$unit.service.d"
		printf '[Unit]\nRequiresMountsFor=/boot/firmware\n' >"$root/etc/systemd/system/$unit.service.d/imgbake-seed.conf"
	done
	mkdir -p "$root/boot/firmware"
	phase firmware
	chroot "$root" env DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/z50-raspi-firmware "$version" "/boot/vmlinuz-$version"
	printf 'dsmode: local\ninstance-id: imgbake-base\n' >"$root/boot/firmware/meta-data"
	printf '#cloud-config\n' >"$root/boot/firmware/user-data"
}

grub_modules() {
	for target in "$@"; do
		mkdir -p "$root/boot/grub/$target"
		cp "$root/usr/lib/grub/$target"/*.mod "$root/usr/lib/grub/$target"/*.lst "$root/boot/grub/$target/"
	done
	mkdir -p "$root/boot/grub/fonts"
	cp "$root/usr/share/grub/unicode.pf2" "$root/boot/grub/fonts/"
	{ printf '# GRUB Environment Block\n'; head -c 999 /dev/zero | tr '\0' '#'; } >"$root/boot/grub/grubenv"
}

grub_configuration() {
	mkdir -p "$root/etc/default/grub.d"
	cat >"$root/etc/default/grub.d/10_imgbake.cfg" <<-EOT
		GRUB_TIMEOUT=0
		GRUB_TIMEOUT_STYLE=hidden
		GRUB_CMDLINE_LINUX="$consoles"
		GRUB_TERMINAL="console serial"
		GRUB_SERIAL_COMMAND="serial --speed=115200"
	EOT
	cat >"$root/boot/grub/grub.cfg" <<-EOT
		# Written without grub-mkconfig, which needs the booted disk; update-grub on the node replaces it.
		set default=0
		set timeout=0
		search --no-floppy --fs-uuid --set=root $ROOT_UUID
		menuentry 'Debian GNU/Linux' --class debian --class gnu-linux --class os {
		  insmod gzio
		  insmod part_gpt
		  insmod ext2
		  search --no-floppy --fs-uuid --set=root $ROOT_UUID
		  echo 'Loading Linux $version ...'
		  linux /boot/vmlinuz-$version root=PARTUUID=$ROOT_PARTUUID ro $consoles
		  echo 'Loading initial ramdisk ...'
		  initrd /boot/initrd.img-$version
		}
	EOT
}

# shim and Debian's signed grub, as `grub-install --uefi-secure-boot --force-extra-removable` lays them out.
esp() {
	efi=$root/boot/efi/EFI
	mkdir -p "$efi/BOOT" "$efi/debian"
	cp "$root/usr/lib/shim/shim$efi_arch.efi.signed" "$efi/BOOT/BOOT$(echo "$efi_arch" | tr '[:lower:]' '[:upper:]').EFI"
	cp "$root/usr/lib/shim/shim$efi_arch.efi.signed" "$efi/debian/shim$efi_arch.efi"
	for folder in BOOT debian; do
		cp "$root/usr/lib/grub/$efi_target-signed/grub$efi_arch.efi.signed" "$efi/$folder/grub$efi_arch.efi"
	done
	for manager in "$root/usr/lib/shim/mm$efi_arch.efi" "$root/usr/lib/shim/mm$efi_arch.efi.signed"; do
		if [ -e "$manager" ]; then cp "$manager" "$efi/debian/mm$efi_arch.efi"; fi
	done
	printf "search.fs_uuid %s root\nset prefix=(\$root)'/boot/grub'\nconfigfile \$prefix/grub.cfg\n" "$ROOT_UUID" \
		>"$efi/debian/grub.cfg"
}

# boot.img and core.img for the BIOS; the assembly patches them and puts them before the first partition's file system.
bios() {
	# shellcheck disable=SC2016 # grub expands it
	printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$ROOT_UUID" >"$root/tmp/load.cfg"
	chroot "$root" grub-mkimage -O i386-pc -p /boot/grub -c /tmp/load.cfg -o /boot/grub/i386-pc/core.img \
		biosdisk part_gpt ext2 search_fs_uuid normal configfile linux gzio serial terminal test echo minicmd
	cp "$root/usr/lib/grub/i386-pc/boot.img" "$root/boot/grub/i386-pc/boot.img"
	rm "$root/tmp/load.cfg"
}

cloud() {
	printf 'PARTUUID=%s / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\nPARTUUID=%s /boot/efi vfat defaults 0 0\n' \
		"$ROOT_PARTUUID" "$ESP_PARTUUID" >"$root/etc/fstab"
	case $ARCH in
	amd64) consoles='console=tty0 console=ttyS0,115200' efi_target=x86_64-efi efi_arch=x64 bios_target=i386-pc ;;
	arm64) consoles='console=tty0 console=ttyAMA0' efi_target=arm64-efi efi_arch=aa64 bios_target= ;;
	esac
	phase grub
	# shellcheck disable=SC2086 # an architecture without BIOS has no second word
	grub_modules $efi_target $bios_target
	grub_configuration
	esp
	if [ -n "$bios_target" ]; then bios; fi
}

settle_identity
# Beside the rest: the one long step that nothing else waits for.
compile_python &
compiling=$!
make_initramfs
wait "$compiling"
"$KIND"
if [ "$EMULATED" = yes ]; then give_back; fi
chroot "$root" apt-get clean
# The folder came with the kept packages, and its owner with it.
rm -f "$root/var/cache/apt/archives/lock"
chown 0:0 "$root/var/cache/apt/archives"
# Traces of the build that differ each time or say where it was.
rm -rf "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/cache/debconf/*-old "$root"/var/cache/ldconfig/aux-cache
rm -f "$root"/var/lib/dpkg/*-old "$root"/etc/*- "$root/var/lib/apt/extended_states.ucf-dist"
# Not older than /usr: the first boot need not make the linker's cache, the hardware database and the catalogue again.
touch "$root/etc/.updated" "$root/var/.updated"
phase archiving
