# Runs on the booted node as root, `sh -s USER WAITING_FOR` over SSH, and prints what checks.py judges: a line
# `=== NAME`, then what the node says about it. It changes nothing.
user=$1 waiting_for=$2

tell() { # NAME COMMAND…: failures are for checks.py to judge
    echo "=== $1"
    shift
    "$@" 2>&1 || true
}

timeout 900 cloud-init status --wait >/dev/null 2>&1
tries=0
while [ -n "$waiting_for" ] && [ $tries -lt 60 ] && ! grep -qs "waiting for endpoint $waiting_for" /run/imgbake/status; do
    tries=$((tries + 1))
    sleep 5
done

home=$(getent passwd "$user" | cut -d: -f6)
root=$(findmnt -nro SOURCE /)
disk=/dev/$(lsblk -nrdo PKNAME "$root")
tell hostname hostname
tell user id "$user"
tell authorized-keys cat "$home/.ssh/authorized_keys"
# shellcheck disable=SC2016 # the dollars are awk's
tell passwords awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow
tell sshd sshd -T
tell containerd systemctl is-active containerd.service
tell cgroup-controllers cat /sys/fs/cgroup/cgroup.controllers
tell modules lsmod
tell forwarding cat /proc/sys/net/ipv4/ip_forward
tell swaps cat /proc/swaps
tell machine-id cat /etc/machine-id
tell first-boot systemctl show -p LoadState,ActiveState,SubState,Result imgbake-first-boot.service
tell status cat /run/imgbake/status
tell banner cat /etc/issue /etc/issue.d/* /run/issue /run/issue.d/* /etc/motd /run/motd.d/*
tell failed-units systemctl --failed --no-legend --plain
tell cycles journalctl -b -q -o cat -g 'ordering cycle'
tell disk-errors journalctl -b -k -q -o cat -g 'EXT4-fs (error|warning)|I/O error|FAT-fs.*(error|not properly unmounted)'
tell disk-size lsblk -bnrdo SIZE "$disk"
tell root-size findmnt -bnro SIZE /
tell boot-partition findmnt -nro SOURCE,FSTYPE /boot/firmware
tell cloud-init cloud-init status --long
tell firmware sh -c 'test -d /sys/firmware/efi && echo UEFI || echo no UEFI'
tell kernel uname -rm
tell arguments cat /proc/cmdline
tell start-up systemd-analyze time
tell addresses ip -brief address
