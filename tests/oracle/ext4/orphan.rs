//! Files that were deleted while they were open, or cut off half way: dealt with as e2fsck and the kernel do.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use imgbake::Content;
use imgbake::ext4::{Editor, Ext4Error, FileKind};

use super::image::{Image, plain, run};
use super::model::Model;

const MIB: u64 = 1 << 20;
fn counts(image: &Image) -> [String; 2] {
    ["Free blocks", "Free inodes"].map(|name| image.field(name))
}

fn inode(image: &Image, path: &str) -> u32 {
    let text = image.debugfs(&format!("stat {path}"));
    text.split_once("Inode: ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

/// Opens and writes the image without an edit of our own; what is left is what e2fsck, and the kernel if we are root,
/// leave of copies: the same counts, and no orphans.
fn settles_as_e2fsck(image: &mut Image) {
    let repaired = image.repaired();
    let mut mounted = image.copy("mounted.img");
    image.edit_here(|_| ());
    image.check();
    assert_eq!(counts(image), counts(&repaired));
    assert!(!image.field("Filesystem features").contains("orphan_present"));
    if mounted.as_root(|_| ()) {
        mounted.check();
        assert_eq!(counts(image), counts(&mounted));
    }
}

/// Makes each inode an orphan of the list, and those that are to be `deleted` nameless.
fn list(image: &Image, orphans: &[(u32, bool)]) {
    let mut script = vec![format!("ssv last_orphan {}", orphans[0].0)];
    for (place, (number, deleted)) in orphans.iter().enumerate() {
        let next = orphans.get(place + 1).map_or(0, |(next, _)| *next);
        script.push(format!("sif <{number}> dtime @{next:#x}"));
        if *deleted {
            script.push(format!("sif <{number}> links_count 0"));
        }
    }
    image.debugfs_write(&script);
}

/// Files of all kinds below `/o`, of which the list makes deleted ones.
fn some_of_each(editor: &mut Editor) {
    let attributes = plain(0o644);
    let mut with_block = attributes.clone();
    with_block.xattrs = [(b"user.long".to_vec(), vec![7; 600])].into();
    editor.mkdir("/o", &plain(0o755)).unwrap();
    editor.write("/o/file", Content::Bytes(vec![1; 300_000]), &with_block).unwrap();
    editor.write("/o/empty", Content::Bytes(vec![]), &attributes).unwrap();
    editor.symlink("/o/short", "target", &attributes).unwrap();
    editor.symlink("/o/long", "t".repeat(200), &attributes).unwrap();
    editor.mknod("/o/pipe", FileKind::Fifo, 0, 0, &attributes).unwrap();
    editor.mknod("/o/null", FileKind::CharacterDevice, 1, 3, &attributes).unwrap();
    editor.write("/kept", Content::Bytes(b"kept".to_vec()), &attributes).unwrap();
}

const EACH: [&str; 6] = ["file", "empty", "short", "long", "pipe", "null"];

#[test]
fn the_list_s_deleted_files_are_released() {
    for options in [&["-O", "64bit"][..], &["-O", "^metadata_csum,^64bit", "-I", "128"], &["-b", "4096"]] {
        let mut image = Image::make(64 * MIB, options);
        image.edit_here(some_of_each);
        let orphans: Vec<(u32, bool)> = EACH.iter().map(|name| (inode(&image, &format!("/o/{name}")), true)).collect();
        image.debugfs_write(&EACH.map(|name| format!("unlink /o/{name}")));
        list(&image, &orphans);
        settles_as_e2fsck(&mut image);
        assert!(image.debugfs("cat /kept").ends_with("kept"));
    }
}

#[test]
fn a_deleted_folder_is_released() {
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(|editor| editor.mkdir("/gone", &plain(0o755)).unwrap());
    let number = inode(&image, "/gone");
    image.debugfs_write(&["unlink /gone".into(), "sif / links_count 3".into()]);
    list(&image, &[(number, true)]);
    settles_as_e2fsck(&mut image);
    image.edit_here(|editor| editor.mkdir("/new", &plain(0o755)).unwrap());
    image.check();
}

/// What the files that are cut off hold at `at`.
fn pattern(at: u64) -> u8 {
    u8::try_from(at * 7 % 251).unwrap() + 1
}

fn dump(image: &Image, name: &str) -> Vec<u8> {
    let to = image.folder().join("dumped");
    image.debugfs(&format!("dump {name} {}", to.display()));
    std::fs::read(to).unwrap()
}

/// The image with the file `name`, which holds `bytes`, cut off at `size` by whoever deals with the orphans.
fn to_be_cut(image: &Image, name: &str, size: u64) -> Image {
    let cut = image.copy("cut.img");
    let number = inode(&cut, name);
    cut.debugfs_write(&[format!("sif {name} size {size}")]);
    list(&cut, &[(number, false)]);
    cut
}

/// The file `name` was cut off: it holds the beginning of `bytes`, and zeros stand behind its end, as the kernel
/// leaves it. e2fsck does not care about these.
fn was_cut(image: &Image, name: &str, size: u64, bytes: &[u8]) {
    let block: u64 = image.field("Block size").parse().unwrap();
    assert!(dump(image, name) == bytes[..usize::try_from(size).unwrap()], "{name} cut at {size}");
    let place: u64 = image.debugfs(&format!("bmap {name} {}", size / block)).trim().parse().unwrap_or(0);
    if place != 0 {
        let used = size % block;
        let tail = image.peek(place * block + used, usize::try_from(block - used).unwrap());
        assert!(tail.iter().all(|byte| *byte == 0), "{name} cut at {size} has bytes behind its end");
    }
}

/// Cuts the file off at each of `sizes`, and compares with e2fsck and the kernel.
fn cuts_off(image: &Image, name: &str, bytes: &[u8], sizes: &[u64]) {
    for size in sizes {
        let mut cut = to_be_cut(image, name, *size);
        settles_as_e2fsck(&mut cut);
        was_cut(&cut, name, *size, bytes);
    }
}

#[test]
fn a_file_with_extents_is_cut_off() {
    let mut image = Image::make(64 * MIB, &["-b", "1024"]);
    let bytes: Vec<u8> = (0..100_000).map(pattern).collect();
    image.edit_here(|editor| editor.write("/file", Content::Bytes(bytes.clone()), &plain(0o644)).unwrap());
    cuts_off(&image, "/file", &bytes, &[0, 1, 1024, 5000, 90_113, 99_999, 100_000]);
}

#[test]
fn an_encrypted_file_that_is_cut_off_keeps_its_last_block() {
    let mut image = Image::make(64 * MIB, &["-b", "1024", "-O", "encrypt"]);
    let bytes: Vec<u8> = (0..10_000).map(pattern).collect();
    image.edit_here(|editor| editor.write("/file", Content::Bytes(bytes.clone()), &plain(0o644)).unwrap());
    image.debugfs_write(&["sif /file flags 0x80800".into()]);
    let mut cut = to_be_cut(&image, "/file", 5001);
    let place: u64 = cut.debugfs("bmap /file 4").trim().parse().unwrap();
    let mut mounted = cut.copy("mounted.img");
    cut.edit_here(|_| ());
    assert_eq!(cut.field("Free blocks"), cut.repaired().field("Free blocks"));
    assert!(cut.peek(place * 1024, 1024) == bytes[4096..5120]);
    if mounted.as_root(|_| ()) {
        assert!(mounted.peek(place * 1024, 1024) == bytes[4096..5120]);
        assert_eq!(cut.field("Free blocks"), mounted.field("Free blocks"));
    }
}

#[test]
fn a_file_that_is_cut_off_keeps_its_attributes() {
    // e2fsck 1.47 forgets the block of attributes here, the kernel keeps it.
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(some_of_each);
    let mut cut = to_be_cut(&image, "/o/file", 5000);
    let before = cut.debugfs("ea_list /o/file");
    cut.edit_here(|_| ());
    cut.check();
    assert!(before.contains("user.long"));
    assert_eq!(cut.debugfs("ea_list /o/file"), before);
}

#[test]
fn a_file_with_a_tree_of_extents_is_cut_off() {
    let mut image = Image::make(64 * MIB, &["-b", "1024"]);
    let all = usize::try_from(image.field("Free blocks").parse::<u64>().unwrap() * 1024).unwrap();
    image.edit_here(|editor| {
        for number in 0..900 {
            editor.write(format!("/f{number}"), Content::Bytes(vec![1; 1024]), &plain(0o644)).unwrap();
        }
        editor.write("/filler", Content::Bytes(vec![3; all - 3_000 * 1024]), &plain(0o644)).unwrap();
        for number in (0..900).step_by(2) {
            editor.remove(format!("/f{number}")).unwrap();
        }
    });
    let bytes: Vec<u8> = (0..2_300_000).map(pattern).collect();
    image.edit_here(|editor| editor.write("/file", Content::Bytes(bytes.clone()), &plain(0o644)).unwrap());
    assert!(image.debugfs("ex /file").contains("1/ 1"), "the file has no tree");
    for size in [0, 1, 1024, 60_000, 1_900_000, 2_299_999, 2_300_000] {
        // e2fsck 1.47 forgets an extent in each block of such a tree, and the kernel does not pack what is left of it.
        let mut cut = to_be_cut(&image, "/file", size);
        let repaired = cut.repaired();
        cut.edit_here(|_| ());
        cut.check();
        was_cut(&cut, "/file", size, &bytes);
        let free = |image: &Image| image.field("Free blocks").parse::<u64>().unwrap();
        assert!(free(&cut) >= free(&repaired), "cut at {size}");
        let mut mounted = to_be_cut(&image, "/file", size);
        if mounted.as_root(|_| ()) {
            assert!((0..10).contains(&(free(&cut) - free(&mounted))), "cut at {size}");
        }
    }
}

#[test]
fn a_file_with_a_map_of_blocks_is_cut_off() {
    let image = Image::make(32 * MIB, &["-b", "1024", "-O", "^extent,^64bit"]);
    let mapped: Vec<u8> = (0..700_000).map(pattern).collect();
    let mut sparse = vec![0; 400_003];
    sparse[400_000..].copy_from_slice(b"end");
    for (name, bytes) in [("mapped", &mapped), ("sparse", &sparse)] {
        image.host_file(name, bytes);
        let from = image.folder().join(name);
        image.debugfs_write(&[format!("write {} {name}", from.display())]);
    }
    run("e2fsprogs", Command::new("tune2fs").args(["-O", "extent"]).arg(&image.path));
    let ends = [0, 1000, 12 * 1024, 12 * 1024 + 1, 20_500, 268 * 1024, 268 * 1024 + 5, 300_000, 524 * 1024, 699_999];
    cuts_off(&image, "/mapped", &mapped, &ends);
    cuts_off(&image, "/sparse", &sparse, &[0, 5000, 100_000, 274_500, 400_002]);
}

/// The orphan file's blocks list these; without metadata_csum, so that they need no checksum.
fn with_orphan_file(orphans: &[u32]) -> Image {
    let mut image = Image::make(64 * MIB, &["-O", "orphan_file,^metadata_csum", "-b", "1024"]);
    image.edit_here(some_of_each);
    let place: u64 = image.debugfs("bmap <12> 3").trim().parse().unwrap();
    for (slot, orphan) in (5u64..).step_by(3).zip(orphans) {
        image.poke(place * 1024 + slot * 4, &orphan.to_le_bytes());
    }
    present(&image, true);
    image
}

/// Says that the orphan file lists orphans, or that it does not.
fn present(image: &Image, present: bool) {
    let sign = if present { "" } else { "^" };
    image.debugfs_write(&[format!("feature {sign}orphan_present")]);
}

#[test]
fn the_orphan_file_s_deleted_files_are_released() {
    let mut image = with_orphan_file(&[]);
    let numbers: Vec<u32> = EACH.iter().map(|name| inode(&image, &format!("/o/{name}"))).collect();
    let mut script = EACH.map(|name| format!("unlink /o/{name}")).to_vec();
    script.extend(numbers.iter().map(|number| format!("sif <{number}> links_count 0")));
    image.debugfs_write(&script);
    let place: u64 = image.debugfs("bmap <12> 3").trim().parse().unwrap();
    for (slot, orphan) in (5u64..).step_by(3).zip(&numbers) {
        image.poke(place * 1024 + slot * 4, &orphan.to_le_bytes());
    }
    settles_as_e2fsck(&mut image);
    assert!(image.peek(place * 1024, 1016).iter().all(|byte| *byte == 0));
}

fn corrupt(image: &Image) -> String {
    match image.refused() {
        Ext4Error::Corrupt { what } => what,
        error => panic!("{error}"),
    }
}

#[test]
fn lists_that_cannot_be_true_are_refused_by_name() {
    let mut image = Image::make(64 * MIB, &["-O", "^metadata_csum"]);
    image.edit_here(some_of_each);
    let [file, empty, pipe] = ["file", "empty", "pipe"].map(|name| inode(&image, &format!("/o/{name}")));
    let (folder, last) = (inode(&image, "/o"), image.field("Inode count").parse::<u32>().unwrap());
    let found = |orphans: &[(u32, bool)], script: &[String]| {
        let copy = image.copy("hostile.img");
        list(&copy, orphans);
        copy.debugfs_write(script);
        corrupt(&copy)
    };
    assert_eq!(found(&[(8, false)], &[]), "the orphan inode 8 is a reserved one");
    assert_eq!(found(&[(last + 1, false)], &[]), format!("the orphan inode {} does not exist", last + 1));
    assert_eq!(found(&[(last, true)], &[]), format!("the orphan inode {last} is marked free"));
    assert_eq!(
        found(&[(folder, false)], &[]),
        format!("the orphan inode {folder} has a name and is not a regular file")
    );
    assert_eq!(found(&[(pipe, false)], &[]), format!("the orphan inode {pipe} has a name and is not a regular file"));
    assert_eq!(
        found(&[(empty, true)], &[format!("sif <{empty}> mode 0")]),
        format!("the orphan inode {empty} is not in use")
    );
    let circle = [format!("sif <{empty}> dtime @{file:#x}")];
    assert_eq!(found(&[(file, false), (empty, false)], &circle), format!("the orphan inode {file} is listed twice"));
    assert_eq!(found(&[(file, true), (empty, true)], &circle), format!("the orphan inode {file} is listed twice"));
}

#[test]
fn an_orphan_file_that_cannot_be_true_is_refused_by_name() {
    assert_eq!(corrupt(&with_orphan_file(&[12])), "the orphan inode 12 is a reserved one");
    assert_eq!(corrupt(&with_orphan_file(&[14, 14])), "the orphan inode 14 is listed twice");
    let image = with_orphan_file(&[]);
    let place: u64 = image.debugfs("bmap <12> 3").trim().parse().unwrap();
    image.poke(place * 1024 + 1016, &[0]);
    assert_eq!(corrupt(&image), format!("block {place} of the orphan file has no magic number"));
    let image = with_orphan_file(&[]);
    image.debugfs_write(&["sif <12> size 40960".into()]);
    assert_eq!(corrupt(&image), "the orphan file has more or fewer blocks than its size says");
    let image = Image::make(64 * MIB, &["-O", "^orphan_file"]);
    present(&image, true);
    assert_eq!(corrupt(&image), "the orphan file is said to list orphans, and there is none");
}

#[test]
fn an_orphan_file_s_block_with_a_wrong_checksum_is_refused() {
    let image = Image::make(64 * MIB, &["-O", "orphan_file", "-b", "1024"]);
    present(&image, true);
    let place: u64 = image.debugfs("bmap <12> 3").trim().parse().unwrap();
    image.poke(place * 1024, &[1]);
    assert_eq!(corrupt(&image), format!("block {place} of the orphan file has a wrong checksum"));
}

/// Open files that have no name any more, and one that goes on past its size.
fn deleted_but_open(folder: &Path) -> Vec<File> {
    let mut open = Vec::new();
    for number in 0..40u32 {
        let path = folder.join(format!("file-{number}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all_at(&vec![7; number as usize * 999 + 1], u64::from(number % 5) * 100_000).unwrap();
        if number % 4 != 0 {
            std::fs::remove_file(path).unwrap();
            open.push(file);
        }
    }
    std::fs::create_dir(folder.join("gone")).unwrap();
    open.push(File::open(folder.join("gone")).unwrap());
    std::fs::remove_dir(folder.join("gone")).unwrap();
    let beyond = File::create(folder.join("beyond")).unwrap();
    rustix::fs::fallocate(&beyond, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 3 << 20).unwrap();
    beyond.write_all_at(b"short", 0).unwrap();
    open.push(beyond);
    std::fs::write(folder.join("cut"), vec![5; 500_000]).unwrap();
    OpenOptions::new().write(true).open(folder.join("cut")).unwrap().set_len(123_456).unwrap();
    open
}

/// A power cut with files that are open and deleted. Only root can have the kernel mount an image; the tests above do
/// with debugfs.
#[test]
fn a_power_cut_with_open_files() {
    for options in [
        &["-O", "orphan_file"][..],
        &["-O", "^orphan_file"],
        &["-O", "orphan_file,^metadata_csum,^64bit", "-b", "1024"],
        &["-O", "orphan_file,metadata_csum_seed", "-b", "4096"],
    ] {
        let image = Image::make(64 * MIB, options);
        let mut model = Model::default();
        let cut = image.power_cut("", |folder| {
            let open = deleted_but_open(folder);
            model = Model::read_host(folder);
            open
        });
        let Some(mut cut) = cut else { return };
        model.names.remove(b"/lost+found".as_slice());
        settles_as_e2fsck(&mut cut);
        model.compare_kernel(&cut);
        cut.check();
    }
}

/// A snapshot of a running machine: its journal is empty, its orphans are there.
#[test]
fn a_snapshot_of_a_frozen_file_system() {
    for options in ["orphan_file", "^orphan_file"] {
        let image = Image::make(64 * MIB, &["-O", options]);
        let mut model = Model::default();
        let mut snapshot = None;
        image.power_cut("", |folder| {
            let open = deleted_but_open(folder);
            model = Model::read_host(folder);
            let freeze = |option: &str| run("util-linux", Command::new("fsfreeze").arg(option).arg(folder));
            freeze("-f");
            snapshot = Some(image.copy("snapshot.img"));
            freeze("-u");
            std::fs::write(folder.join("later"), b"later").unwrap();
            open
        });
        let Some(mut snapshot) = snapshot else { return };
        assert!(!snapshot.field("Filesystem features").contains("needs_recovery"));
        model.names.remove(b"/lost+found".as_slice());
        settles_as_e2fsck(&mut snapshot);
        model.compare_kernel(&snapshot);
    }
}

#[test]
fn a_reader_leaves_orphans_alone() {
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(some_of_each);
    list(&image, &[(inode(&image, "/o/file"), false)]);
    let overlay = image.overlay();
    let mut reader = imgbake::ext4::Reader::open(&overlay).unwrap();
    assert_eq!(reader.read("/o/file", MIB).unwrap().unwrap(), vec![1; 300_000]);
}
