//! `imgbake verify --fs`: what it prints, and how it ends.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::guest::{self, AARCH64, NODE, ROOT_SECTOR};
use crate::run::{Kitchen, tool, words};

/// Runs and expects this exit code; answers standard output and standard error.
fn verify(kitchen: &Kitchen, image: &str, code: i32) -> (String, String) {
    let output = kitchen.run(&["verify", "--fs", image]);
    assert_eq!(output.status.code(), Some(code), "{}", words(&output));
    (kitchen.anonymous(&String::from_utf8_lossy(&output.stdout)), kitchen.anonymous(&words(&output)))
}

/// An empty file system of 8 MiB with the label `data`.
fn bare(kitchen: &Kitchen, name: &str) {
    fs::File::create(kitchen.path(name)).expect("a file").set_len(8 << 20).expect("room");
    tool("e2fsprogs", Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", "data"]).arg(kitchen.path(name)));
}

fn write(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("an image");
    file.write_all_at(bytes, offset).expect("written");
}

#[test]
fn a_bare_file_system_is_checked() {
    let kitchen = Kitchen::new();
    bare(&kitchen, "data.img");
    let (said, _) = verify(&kitchen, "data.img", 0);
    let text = tool("e2fsprogs", Command::new("dumpe2fs").arg("-h").arg(kitchen.path("data.img")));
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.trim().parse().expect("a number")
    };
    let blocks = field("Block count:") - field("First block:") - field("Free blocks:");
    let line = format!("2 folders, 0 files, 11 inodes and {blocks} blocks in use; nothing is wrong");
    assert_eq!(said, format!("file system (`data`): {line}\n"));
}

#[test]
fn the_file_systems_of_a_disk_are_checked_packed_or_not() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    let (said, _) = verify(&kitchen, "guest.img", 0);
    assert!(
        said.starts_with("partition 2") && said.ends_with("; nothing is wrong\n") && said.lines().count() == 1,
        "{said}"
    );
    tool("xz-utils", Command::new("xz").args(["-1", "-k"]).arg(kitchen.path("guest.img")));
    assert_eq!(verify(&kitchen, "guest.img.xz", 0).0, said);
}

#[test]
fn what_a_bake_writes_is_right() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    kitchen.ok(&[&NODE[..], &["-o", "node.img"]].concat());
    let (said, _) = verify(&kitchen, "node.img", 0);
    assert!(said.ends_with("; nothing is wrong\n") && said.lines().count() == 1, "{said}");
}

#[test]
fn damage_is_named_with_its_partition() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    write(&image, ROOT_SECTOR * 512 + 1024 + 0x78, b"x");
    let (said, error) = verify(&kitchen, "guest.img", 1);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&"partition 2: the superblock has a wrong checksum"));
    assert!(
        lines.last().is_some_and(|line| line.starts_with("partition 2 (`x") && line.ends_with("; 1 thing is wrong")),
        "{said}"
    );
    let message = "
checking
checking partition 1
checking partition 2
error: 1 thing is wrong in `guest.img`

hint: get the image again; if it is your own, repair a copy with `e2fsck -fy`
";
    assert_eq!(error, message.trim_start_matches('\n'));
}

#[test]
fn quiet_says_nothing_but_what_is_wrong() {
    let kitchen = Kitchen::new();
    bare(&kitchen, "data.img");
    let output = kitchen.run(&["verify", "--fs", "--quiet", "data.img"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{}", words(&output));
}

#[test]
fn what_is_no_image_is_refused() {
    let kitchen = Kitchen::new();
    fs::write(kitchen.path("text"), vec![b'x'; 1 << 20]).expect("a file");
    kitchen.refused(
        &["verify", "--fs", "--quiet", "text"],
        1,
        "
error: cannot check `text`
  caused by: the disk has no partition table

hint: give a disk image with a partition table, or the image of an ext2, ext3 or ext4 file system
",
    );
    kitchen.refused(
        &["verify", "--fs", "--quiet", "missing"],
        1,
        "
error: cannot read `missing`
  caused by: No such file or directory (os error 2)

hint: check the path and its permissions
",
    );
}

#[test]
fn a_disk_without_an_ext_file_system_is_refused() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    write(&image, ROOT_SECTOR * 512 + 1024, &[0; 1024]);
    kitchen.refused(
        &["verify", "--fs", "--quiet", "guest.img"],
        1,
        "
error: `guest.img` has no ext2, ext3 or ext4 file system on any of its 2 partitions
",
    );
}

#[test]
fn it_must_be_said_what_is_to_be_checked() {
    let output = Kitchen::new().run(&["verify", "guest.img"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("--fs"), "{}", words(&output));
}
