//! A phony guest: a small disk image laid out like a Raspberry Pi image, made by outside tools, with just enough
//! of Debian in it to be edited. It does not boot; the real images are baked by the boot tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Kitchen, SSH_KEY, tool};

/// ELF machines of the guest's programs.
pub const AARCH64: u8 = 183;
pub const X86_64: u8 = 62;

/// A bake of the guest that needs nothing else.
pub const NODE: [&str; 11] = [
    "pi4",
    "node-2",
    "--base",
    "guest.img",
    "--ssh-key",
    SSH_KEY,
    "--defer",
    "kubernetes",
    "--runtime",
    "distro",
    "--offline",
];

/// First sector of the boot partition and of the root partition.
pub const BOOT_SECTOR: u64 = 2048;
pub const ROOT_SECTOR: u64 = 2048 + 64 * 2048;
/// Sizes in MiB.
const BOOT_MEBIBYTES: u64 = 64;
const ROOT_MEBIBYTES: u64 = 96;

/// An ELF header's first 20 bytes for a 64-bit little-endian machine: 183 is AArch64, 62 x86-64.
fn elf(machine: u8) -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, machine, 0];
    header.resize(64, 0);
    header
}

/// Makes the guest in the kitchen as `guest.img`; `machine` is its programs' ELF machine.
pub fn raspberry_pi(kitchen: &Kitchen, machine: u8) -> PathBuf {
    let image = kitchen.path("guest.img");
    let file = fs::File::create(&image).expect("an image file");
    file.set_len((1 + BOOT_MEBIBYTES + ROOT_MEBIBYTES) << 20).expect("room");
    let table = format!(
        "label: dos\nlabel-id: 0x1badcafe\nstart={BOOT_SECTOR}, size={}, type=c, bootable\nstart={ROOT_SECTOR}, size={}, type=83\n",
        BOOT_MEBIBYTES * 2048,
        ROOT_MEBIBYTES * 2048
    );
    fs::write(kitchen.path("table"), table).expect("a partition table");
    tool("fdisk", Command::new("sh").args(["-c", "sfdisk -q guest.img < table"]).current_dir(kitchen.path("")));
    boot(kitchen, &image);
    root(kitchen, &image, machine);
    image
}

fn boot(kitchen: &Kitchen, image: &Path) {
    let offset = (BOOT_SECTOR * 512).to_string();
    let sectors = BOOT_SECTOR.to_string();
    let kibibytes = (BOOT_MEBIBYTES * 1024).to_string();
    tool(
        "dosfstools",
        Command::new("mkfs.vfat").args(["-F", "32", "-n", "GUESTBOOT", "--offset", &sectors]).arg(image).arg(kibibytes),
    );
    for (name, text) in [
        ("config.txt", "arm_64bit=1\nkernel=vmlinuz\n"),
        ("cmdline.txt", "console=tty1 root=PARTUUID=1badcafe-02 rootfstype=ext4 rootwait\n"),
        ("vmlinuz", "no kernel\n"),
    ] {
        fs::write(kitchen.path(name), text).expect("a boot file");
        let target = format!("{}@@{offset}", image.display());
        tool("mtools", Command::new("mcopy").args(["-i", &target]).arg(kitchen.path(name)).arg(format!("::{name}")));
    }
}

fn root(kitchen: &Kitchen, image: &Path, machine: u8) {
    let tree = kitchen.path("tree");
    for folder in [
        "etc/ssh",
        "etc/default",
        "usr/bin",
        "usr/sbin",
        "usr/lib/systemd/system",
        "var/lib/dbus",
        "var/lib/systemd",
        "home",
        "root",
        "boot/firmware",
    ] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    std::os::unix::fs::symlink("usr/bin", tree.join("bin")).expect("a link");
    for (name, text, mode) in [
        ("etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n", 0o644),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n", 0o644),
        ("etc/group", "root:x:0:\nadm:x:4:\nsudo:x:27:\n", 0o644),
        ("etc/shadow", "root:*:20000:0:99999:7:::\n", 0o640),
        ("etc/gshadow", "root:*::\nadm:*::\nsudo:*::\n", 0o640),
        ("etc/hostname", "localhost\n", 0o644),
        ("etc/hosts", "127.0.0.1 localhost\n", 0o644),
        ("etc/fstab", "PARTUUID=1badcafe-02 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n", 0o644),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444),
        ("var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n", 0o644),
        ("etc/ssh/ssh_host_ed25519_key", "old\n", 0o600),
        ("var/lib/systemd/random-seed", "old\n", 0o600),
    ] {
        fs::write(tree.join(name), text).expect("a file");
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    for program in ["usr/bin/env", "usr/bin/containerd", "usr/sbin/runc", "usr/sbin/iptables", "usr/sbin/nft"] {
        fs::write(tree.join(program), elf(machine)).expect("a program");
    }
    tool(
        "e2fsprogs",
        Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-L",
                "GUESTROOT",
                "-E",
                &format!("offset={},root_owner=0:0", ROOT_SECTOR * 512),
                "-d",
            ])
            .arg(&tree)
            .arg(image)
            .arg(format!("{}k", ROOT_MEBIBYTES * 1024)),
    );
}
