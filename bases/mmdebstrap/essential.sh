# essential.sh ROOT: run by mmdebstrap (--essential-hook) when the essential packages are in and the rest is not.
#
# Programs that maintainer scripts find first in PATH (/usr/local/sbin, see DPkg::Path) are put aside while
# the packages are configured, because their work is done once, at the end, by customize.sh: the initramfs,
# depmod and the list of certificates, each of which would be made two or three times, and Python's byte code, for which
# an interpreter would start with every package. customize.sh removes the stand-ins.
set -eu
root=$1
mkdir -p "$root/usr/local/sbin" "$root/etc/initramfs-tools/conf.d" "$root/etc/default"
for name in update-initramfs depmod update-ca-certificates py3compile py3clean; do
	printf '#!/bin/sh\nexit 0\n' >"$root/usr/local/sbin/$name"
	chmod 755 "$root/usr/local/sbin/$name"
done
# cloud-init then finds the locale set and leaves it alone; C.UTF-8 needs no locale-gen.
printf 'LANG=C.UTF-8\n' >"$root/etc/default/locale"
# On the root's own file system there is one kernel's initramfs, without a backup of the one before it.
printf 'MODULES=most\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/imgbake"
if [ "$EMULATED" = yes ]; then borrow; fi
