//! One edit after the other, each with what e2fsprogs says about it.

use imgbake::{Content, FileKind};

use super::image::{Image, plain};

const MIB: u64 = 1 << 20;

#[test]
fn an_empty_batch_changes_nothing_that_matters() {
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(|_| ());
    image.check();
}

#[test]
fn files_folders_and_links_are_there() {
    let mut image = Image::make(64 * MIB, &[]);
    let host = image.host_file("content", &b"0123456789".repeat(1000));
    image.edit_here(|editor| {
        editor.mkdir_all("/usr/lib/systemd", &plain(0o755)).unwrap();
        editor.symlink("/lib", "usr/lib", &plain(0)).unwrap();
        editor.write("/lib/systemd/unit", Content::Bytes(b"[Unit]\n".to_vec()), &plain(0o644)).unwrap();
        editor.write("/big", Content::File(imgbake::FileRange::whole(host)), &plain(0o600)).unwrap();
        editor.symlink("/long", "x".repeat(100), &plain(0)).unwrap();
        editor.hard_link("/hard", "/big").unwrap();
        editor.mknod("/null", FileKind::CharacterDevice, 1, 3, &plain(0o666)).unwrap();
        editor.mknod("/pipe", FileKind::Fifo, 0, 0, &plain(0o600)).unwrap();
        assert_eq!(editor.read("/usr/lib/systemd/unit", 100).unwrap().unwrap(), b"[Unit]\n");
    });
    image.check();
    assert!(image.debugfs("cat /usr/lib/systemd/unit").ends_with("[Unit]\n"));
    assert!(image.debugfs("cat /big").contains("0123456789"));
    assert!(image.debugfs("stat /long").contains("Size: 100"));
    image.edit_here(|editor| {
        assert_eq!(editor.read_link("/long").unwrap().unwrap(), "x".repeat(100).as_bytes());
        assert!(editor.remove("/usr").unwrap());
        assert!(editor.remove("/big").unwrap());
        assert_eq!(editor.metadata("/hard").unwrap().unwrap().links, 1);
    });
    image.check();
}

#[test]
fn a_large_folder_is_indexed() {
    let mut image = Image::make(64 * MIB, &["-N", "20000"]);
    image.edit_here(|editor| {
        editor.mkdir("/d", &plain(0o755)).unwrap();
        for number in 0..5000 {
            editor.write(format!("/d/file-{number}"), Content::Bytes(vec![]), &plain(0o644)).unwrap();
        }
    });
    image.check();
    assert!(image.debugfs("stat /d").contains("Flags: 0x81000"));
}

#[test]
fn growing_within_the_descriptors_there_are() {
    let mut image = Image::make(100 * MIB, &[]);
    image.edit(1000 * MIB + 12345, |editor| {
        editor.grow(1000 * MIB + 12345).unwrap();
        editor.write("/f", Content::Bytes(vec![7; 200 << 20]), &plain(0o644)).unwrap();
    });
    image.check();
}

#[test]
fn growing_into_the_reserved_descriptors() {
    let mut image = Image::make(1000 * MIB, &[]);
    image.edit(40_000 * MIB, |editor| editor.grow(40_000 * MIB).unwrap());
    image.check();
}
