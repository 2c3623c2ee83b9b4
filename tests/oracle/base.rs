//! Disks that were put together from a root tree, as the tools of their file systems see them. The tree is a small one,
//! archived by the same tar call as mmdebstrap's; a whole build needs a mirror and minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbake::{Recipe, Silent, assemble_base};

const MIB: u64 = 1024 * 1024;
const EPOCH: u64 = 1_795_000_000;

/// Runs a tool, whose package is named if it is missing; it must exit with 0. Answers all it says.
fn run(package: &str, tool: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(tool).args(arguments).env("PATH", path).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("`{tool}` cannot run ({error}): install package `{package}`"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{tool} {arguments:?}: {text}");
    text
}

/// Makes a root tree in `folder` whose boot files lie below `mount`, and archives it. Owners and devices are written
/// into the archive by tar's options or Python, so that no root is needed.
fn tree(folder: &Path, mount: &str) -> PathBuf {
    let script = r#"
import io, sys, tarfile
out, mount = sys.argv[1:]
tar = tarfile.open(out, 'w', format=tarfile.PAX_FORMAT)
def add(name, kind=tarfile.REGTYPE, data=b'', mode=0o644, uid=0, gid=0, link='', pax={}, device=(0, 0), mtime=1700000000):
    member = tarfile.TarInfo('./' + name)
    member.type, member.size, member.mode, member.uid, member.gid = kind, len(data), mode, uid, gid
    member.linkname, member.mtime, member.pax_headers = link, mtime, pax
    member.devmajor, member.devminor = device
    tar.addfile(member, io.BytesIO(data))
def directory(name, **more): add(name, tarfile.DIRTYPE, mode=more.pop('mode', 0o755), **more)
directory('')
for name in ['boot', 'dev', 'etc', 'tmp', 'usr', 'usr/bin', 'usr/share', 'boot/grub', 'boot/grub/i386-pc']:
    directory(name, **({'mode': 0o1777} if name == 'tmp' else {}))
directory(mount)
directory(mount + '/EFI')
add(mount + '/EFI/some long file name.conf', data=b'on the fat\n' * 9000)
add(mount + '/cmdline.txt', data=b'root=LABEL=RASPIROOT\n')
add('bin', tarfile.SYMTYPE, link='usr/bin', mode=0o777)
add('boot/grub/i386-pc/boot.img', data=b'\xeb' * 512)
add('boot/grub/i386-pc/core.img', data=b'\xce' * 70000)
add('dev/null', tarfile.CHRTYPE, mode=0o666, device=(1, 3))
add('dev/pipe', tarfile.FIFOTYPE, mode=0o600)
add('etc/late', data=b'from the future', mtime=1900000000)
add('etc/owned', data=b'mine', uid=1000, gid=70000, mode=0o600)
add('usr/bin/perl', data=bytes(range(256)) * 5000, mode=0o755)
add('usr/bin/perl5', tarfile.LNKTYPE, link='./usr/bin/perl')
add('usr/bin/sudo', data=b'#!', mode=0o4755)
add('usr/share/capable', data=b'ping', pax={'SCHILY.xattr.user.note': 'two\nlines = odd'})
acl = '\x02\x00\x00\x00\x01\x00\x07\x00' + '\udcff' * 4 + '\x04\x00\x05\x00' + '\udcff' * 4 + '\x20\x00\x05\x00' + '\udcff' * 4
directory('usr/share/listed', pax={'SCHILY.xattr.system.posix_acl_access': acl})
add('usr/share/' + 'x' * 120 + '-é', data=b'a long name')
add('usr/share/far', tarfile.SYMTYPE, link='/' + 'deep/' * 40, mode=0o777)
directory('usr/share/many')
for i in range(1500): add(f'usr/share/many/entry-{i:04}', data=b'%d' % i)
tar.close()
"#;
    let tar = folder.join("root.tar");
    run("python3", "python3", &["-c", script, text(&tar), mount]);
    tar
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// Assembles the small tree as `name`; answers the folder, which goes when dropped, and the image in it.
fn assembled(name: &str, mount: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let tar = tree(folder.path(), mount);
    let image = folder.path().join("base.img");
    let recipe = Recipe::by_name(name).unwrap();
    assemble_base(&recipe, &tar, EPOCH, folder.path(), &image, &Silent).unwrap_or_else(|error| panic!("{error:?}"));
    (folder, image)
}

/// Copies a part of the image to a file of its own.
fn part(image: &Path, start: u64, mib: u64) -> PathBuf {
    let out = image.with_extension(start.to_string());
    let skip = format!("skip={}", start / MIB);
    let (from, to) = (format!("if={}", text(image)), format!("of={}", text(&out)));
    run("coreutils", "dd", &[&from, &to, "bs=1M", &skip, &format!("count={mib}"), "conv=sparse", "status=none"]);
    out
}

fn debugfs(root: &Path, request: &str) -> String {
    run("e2fsprogs", "debugfs", &["-R", request, text(root)])
}

fn assert_table_is_clean(image: &Path) {
    let said = run("fdisk", "sfdisk", &["--verify", text(image)]);
    assert!(said.contains("No errors detected"), "{said}");
}

fn assert_root_holds_the_tree(root: &Path) {
    run("e2fsprogs", "e2fsck", &["-fn", text(root)]);
    let sudo = debugfs(root, "stat /usr/bin/sudo");
    assert!(sudo.contains("Mode:  04755"), "{sudo}");
    assert!(debugfs(root, "stat /tmp").contains("Mode:  01777"));
    let owned = debugfs(root, "stat /etc/owned");
    assert!(owned.contains("User:  1000   Group: 70000") && owned.contains("Mode:  0600"), "{owned}");
    let null = debugfs(root, "stat /dev/null");
    assert!(null.contains("Type: character special") && null.contains("Device major/minor number: 01:03"), "{null}");
    assert!(debugfs(root, "stat /dev/pipe").contains("Type: FIFO"));
    let inode = |path: &str| {
        debugfs(root, &format!("stat {path}")).lines().find(|l| l.starts_with("Inode:")).map(str::to_owned)
    };
    assert_eq!(inode("/usr/bin/perl"), inode("/usr/bin/perl5"));
    assert!(debugfs(root, "stat /usr/bin/perl").contains("Links: 2"));
    assert!(debugfs(root, "stat /bin").contains("Fast link dest: \"usr/bin\""));
    let note = root.with_extension("note");
    debugfs(root, &format!("ea_get -f {} /usr/share/capable user.note", text(&note)));
    assert_eq!(fs::read(&note).unwrap(), b"two\nlines = odd");
    let list = debugfs(root, "ea_list /usr/share/listed");
    assert!(list.contains("system.posix_acl_access (16) = 01 00 00 00 01 00 07 00 04 00 05 00 20 00 05 00"), "{list}");
    // 1795000000 is 0x6afd86c0, 1700000000 is 0x6553f100.
    assert!(debugfs(root, "stat /etc/late").contains("mtime: 0x6afd86c0"), "times end at the epoch");
    assert!(debugfs(root, "stat /usr").contains("mtime: 0x6553f100"), "folders keep their times");
    assert_eq!(debugfs(root, "ls -p /usr/share/many").matches("/entry-").count(), 1500);
    let dumped = root.with_extension("perl");
    debugfs(root, &format!("dump /usr/bin/perl {}", text(&dumped)));
    assert!(fs::read(&dumped).unwrap() == (0..=255u8).cycle().take(256 * 5000).collect::<Vec<_>>());
}

fn assert_fat_holds_the_boot_files(fat: &Path) {
    run("dosfstools", "fsck.fat", &["-n", text(fat)]);
    let name = "::EFI/some long file name.conf";
    assert_eq!(run("mtools", "mtype", &["-i", text(fat), name]), "on the fat\n".repeat(9000));
}

#[test]
fn a_raspberry_pis_disk_is_sound_and_holds_the_tree() {
    let (_folder, image) = assembled("debian-13-rpi", "boot/firmware");
    assert_table_is_clean(&image);
    let dump = run("fdisk", "sfdisk", &["--dump", text(&image)]);
    assert!(dump.contains("label-id: 0x1ba6ba5e") && dump.contains("size=     1048576, type=c, bootable"), "{dump}");
    let fat = part(&image, 4 * MIB, 512);
    assert_fat_holds_the_boot_files(&fat);
    assert!(run("mtools", "mlabel", &["-s", "-i", text(&fat), "::"]).contains("RASPIFIRM"));
    let root = part(&image, 516 * MIB, 100_000);
    assert_root_holds_the_tree(&root);
    let super_block = run("e2fsprogs", "dumpe2fs", &["-h", text(&root)]);
    assert!(super_block.contains("RASPIROOT") && super_block.contains("orphan_file"), "{super_block}");
    assert!(!debugfs(&root, "ls -p /boot/firmware").contains("EFI"), "boot files are on the FAT only");
}

#[test]
fn a_pcs_cloud_disk_is_sound_and_starts_grub() {
    let (_folder, image) = assembled("debian-13-cloud-amd64", "boot/efi");
    assert_table_is_clean(&image);
    let said = run("gdisk", "sgdisk", &["-v", text(&image)]);
    assert!(said.contains("No problems found"), "{said}");
    let bytes = fs::read(&image).unwrap();
    assert_eq!(bytes[..3], [0xeb; 3], "boot.img is in sector 0");
    assert_eq!(bytes[0x5c..0x64], 2048u64.to_le_bytes());
    assert_eq!(bytes[0x1fe..0x200], [0x55, 0xaa]);
    assert_eq!(bytes[2048 * 512..][..0x1f4], [0xce; 0x1f4], "core.img is in the BIOS boot partition");
    assert_fat_holds_the_boot_files(&part(&image, 4 * MIB, 124));
    let size = bytes.len() as u64;
    assert_root_holds_the_tree(&part(&image, 128 * MIB, size / MIB - 129));
}

#[test]
fn an_arm_cloud_disk_has_no_bios_partition_and_bookworms_file_system() {
    let (_folder, image) = assembled("debian-12-cloud-arm64", "boot/efi");
    assert_table_is_clean(&image);
    let dump = run("fdisk", "sfdisk", &["--dump", text(&image)]);
    assert!(!dump.contains("21686148-6449-6E6F-744E-656564454649"), "{dump}");
    assert!(dump.contains("B921B045-1DF0-41C3-AF44-4C6F280D3FAE"), "{dump}");
    let size = fs::metadata(&image).unwrap().len();
    let root = part(&image, 128 * MIB, size / MIB - 129);
    run("e2fsprogs", "e2fsck", &["-fn", text(&root)]);
    let super_block = run("e2fsprogs", "dumpe2fs", &["-h", text(&root)]);
    assert!(!super_block.contains("orphan_file") && !super_block.contains("metadata_csum_seed"), "{super_block}");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (_one, first) = assembled("debian-13-cloud-amd64", "boot/efi");
    let (_two, second) = assembled("debian-13-cloud-amd64", "boot/efi");
    run("diffutils", "cmp", &[text(&first), text(&second)]);
}

#[test]
fn a_tar_that_is_cut_off_leaves_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let tar = tree(folder.path(), "boot/efi");
    let file = fs::File::options().write(true).open(&tar).unwrap();
    file.set_len(200_000).unwrap();
    let image = folder.path().join("base.img");
    let recipe = Recipe::by_name("debian-13-cloud-amd64").unwrap();
    assert!(assemble_base(&recipe, &tar, EPOCH, folder.path(), &image, &Silent).is_err());
    assert!(!image.exists());
}
