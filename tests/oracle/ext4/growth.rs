//! Where groups keep their metadata: growth in all layouts, backups, meta groups, flex groups. e2fsck, resize2fs
//! and the kernel judge.

use std::process::Command;

use imgbake::ext4::Editor;
use imgbake::{Content, FileRange, HostFile};

use super::edits;
use super::image::{Image, plain, run};
use super::model::{Limits, Model};

const MIB: u64 = 1 << 20;

/// What mke2fs makes with `features` beside Debian's, in blocks of `block_size`.
fn make(size: u64, block_size: &str, features: &str, more: &[&str]) -> Image {
    let mut options = vec!["-b", block_size, "-O", features];
    options.extend(more);
    Image::make(size, &options)
}

/// Grows to `size` with a few edits before and after.
fn grow(image: &mut Image, size: u64) {
    image.edit(size, |editor| {
        editor.write("/before", Content::Bytes(vec![1; 5000]), &plain(0o644)).unwrap();
        editor.grow(size).unwrap();
        editor.write(format!("/grown-to-{size}"), Content::Bytes(vec![2; 50_000]), &plain(0o644)).unwrap();
    });
    image.check();
}

/// The counts of the same file system, grown by resize2fs.
fn compare_with_resize2fs(image: &Image, before: &Image, size: u64) {
    std::fs::OpenOptions::new().write(true).open(&before.path).unwrap().set_len(size).unwrap();
    run("e2fsprogs", Command::new("resize2fs").arg("-f").arg(&before.path));
    for field in ["Block count", "Inode count", "Reserved block count", "Inodes per group", "Filesystem features"] {
        assert_eq!(image.field(field), before.field(field), "{field}");
    }
}

/// Has e2fsck repair a copy from each backup of superblock and descriptors; answers how many it tried.
///
/// With a backup e2fsck takes no group for uninitialised, because the flags of a backup may be old: it reads bitmaps that
/// were never written, and mends them in pass 5. So what counts is that passes 1 to 4 find all as it should
/// be, and that the repaired copy is clean. Without such flags there is nothing to mend, and `-n` must do.
///
/// Where descriptors lead and meta groups follow, superblocks in these have no copy of the leading ones beside them.
/// Nobody puts one there, and e2fsck takes what lies there for one: such backups are left out.
fn judge_backups(image: &Image, block_size: &str) -> usize {
    let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&image.path));
    let lazy = text.contains("_UNINIT");
    let led = text.lines().any(|line| line.starts_with("First meta block group:"));
    let mut backups: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Backup superblock at "))
        .filter(|line| !led || line.contains("Group descriptors at"))
        .map(|line| line.chars().take_while(char::is_ascii_digit).collect())
        .collect();
    // The first two and the last two are enough where there are many: this takes time.
    if backups.len() > 4 {
        backups.drain(2..backups.len() - 2);
    }
    for backup in &backups {
        let from = ["-b", backup, "-B", block_size];
        if lazy {
            let copy = image.copy("copy.img");
            let output = Command::new("/usr/sbin/e2fsck").arg("-fy").args(from).arg(&copy.path).output().unwrap();
            let report = String::from_utf8(output.stdout).unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{report}");
            let (_, passes) = report.split_once("Pass 1: ").unwrap();
            let (passes, _) = passes.split_once("Pass 5: ").unwrap();
            // Times in the far future or past are doubted, as always.
            let doubted =
                |line: &&str| line.starts_with("Timestamp(s)") || line.starts_with("Fix? ") || line.is_empty();
            assert_eq!(passes.lines().filter(|line| !doubted(line)).count(), 4, "backup {backup}: {report}");
            copy.check();
        } else {
            image.e2fsck(&["-fn", "-b", backup, "-B", block_size]);
        }
    }
    backups.len()
}

fn edit_at_random(image: &mut Image) {
    let host = edits::host(image);
    let mut model = Model { limits: Limits::of(image), ..Model::default() };
    image.edit_here(|editor| model.edit(editor, &edits::some(5, 100), &host));
}

/// Edits a file system with meta groups, and grows it step by step to `sizes` in MiB.
fn judge_meta_groups(block_size: &str, features: &str, sizes: &[u64]) {
    let mut image = make(40 * MIB, block_size, &format!("meta_bg,^resize_inode,{features}"), &[]);
    let host = edits::host(&image);
    let mut model = Model { limits: Limits::of(&image), ..Model::default() };
    image.edit_here(|editor| model.edit(editor, &edits::some(77, 100), &host));
    image.check();
    for size in sizes.iter().map(|size| size * MIB + 12_345) {
        let before = image.copy("before.img");
        grow(&mut image, size);
        compare_with_resize2fs(&image, &before, size);
    }
    image.edit_here(|editor| model.edit(editor, &edits::some(78, 100), &host));
    image.check();
    assert!(image.field("Filesystem features").contains("meta_bg"));
    assert!(judge_backups(&image, block_size) > 2);
    image.as_root(|folder| assert_eq!(std::fs::read(folder.join("before")).unwrap(), vec![1; 5000]));
    image.check();
}

/// A meta group has 16 groups of 8 MiB; without `64bit` 32.
#[test]
fn meta_groups_with_blocks_of_1_kib() {
    judge_meta_groups("1024", "flex_bg", &[60, 127, 128, 129, 136, 144, 600]);
    judge_meta_groups("1024", "^flex_bg,^sparse_super", &[128, 145, 300]);
    judge_meta_groups("1024", "^64bit,uninit_bg,^metadata_csum", &[255, 257, 275]);
}

/// A meta group has 32 groups of 32 MiB; without `64bit` 64.
#[test]
fn meta_groups_with_blocks_of_2_kib() {
    judge_meta_groups("2048", "^64bit,^metadata_csum", &[100, 2200]);
    judge_meta_groups("2048", "^sparse_super", &[1025, 1056, 1100]);
}

/// A meta group has 64 groups of 128 MiB; without `64bit` 128.
#[test]
fn meta_groups_with_blocks_of_4_kib() {
    judge_meta_groups("4096", "flex_bg", &[200, 8192, 8200, 30_000]);
    judge_meta_groups("4096", "^64bit,^flex_bg", &[16_384, 16_700]);
}

/// Where the kernel would turn to meta groups, so do we, and the kernel goes on from there: it writes, and grows the file
/// system further if it lets us ask.
#[test]
fn meta_groups_follow_when_the_reserved_descriptors_are_used_up() {
    for (block_size, features, more, to) in [
        ("1024", "^resize_inode", &[][..], 700),
        ("1024", "^resize_inode,^64bit,^metadata_csum,^sparse_super", &[], 700),
        ("1024", "resize_inode", &["-E", "resize=400000"], 1100),
        ("2048", "resize_inode,sparse_super2", &["-E", "resize=600000"], 3000),
        ("4096", "resize_inode", &["-E", "resize=2200000"], 17_000),
        ("4096", "^64bit,resize_inode", &["-E", "resize=4200000"], 34_000),
    ] {
        let mut image = make(64 * MIB, block_size, features, more);
        image.edit_here(|editor| editor.mkdir("/folder", &plain(0o755)).unwrap());
        grow(&mut image, to / 2 * MIB);
        grow(&mut image, to * MIB);
        let kept = image.field("Filesystem features");
        assert!(kept.contains("meta_bg") && !kept.contains("resize_inode"), "{kept}");
        assert!(image.field("First meta block group").parse::<u32>().unwrap() > 0);
        grow(&mut image, (to + 300) * MIB);
        assert!(judge_backups(&image, block_size) > 0);
        go_on_mounted(&mut image, (to + 900) * MIB);
        image.check();
    }
}

/// Has the kernel mount the file system if we are root, and write to it; and grow it first where that is allowed (it takes
/// CAP_SYS_RESOURCE) and known to the kernel.
fn go_on_mounted(image: &mut Image, size: u64) {
    let before = std::fs::metadata(&image.path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&image.path).unwrap();
    file.set_len(size).unwrap();
    let mut grown = false;
    image.as_root(|folder| {
        let device = run("util-linux", Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(folder));
        let output = Command::new("/usr/sbin/resize2fs").arg(device.trim()).output().unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        grown = output.status.success();
        assert!(grown || report.contains("Permission denied") || report.contains("sparse_super2"), "{report}");
        std::fs::write(folder.join("from-the-kernel"), vec![7; 100_000]).unwrap();
    });
    if !grown {
        file.set_len(before).unwrap();
    }
}

#[test]
fn file_systems_with_two_backups_grow() {
    for (block_size, features, more, from, sizes) in [
        ("1024", "sparse_super2", &[][..], 100, &[101, 300, 2000][..]),
        ("1024", "sparse_super2", &["-E", "num_backup_sb=1"], 100, &[300]),
        ("1024", "sparse_super2,^64bit,^metadata_csum", &[], 20, &[27, 500]),
        ("2048", "sparse_super2,^resize_inode", &[], 64, &[200, 900]),
        ("4096", "sparse_super2", &[], 100, &[200, 300, 20_000]),
        ("4096", "sparse_super2,^resize_inode", &[], 1000, &[3000]),
        ("4096", "sparse_super2,^64bit", &["-E", "num_backup_sb=0"], 1000, &[3000, 30_000]),
    ] {
        let mut image = make(from * MIB, block_size, features, more);
        for size in sizes.iter().map(|size| size * MIB) {
            let before = image.copy("before.img");
            grow(&mut image, size);
            if features.contains("^resize_inode") || !more.is_empty() || size < 10_000 * MIB {
                compare_with_resize2fs(&image, &before, size);
            }
        }
        let backups = judge_backups(&image, block_size);
        let none = more.iter().any(|option| option.ends_with("=0"));
        assert_eq!(backups > 0, !none, "{block_size} {features} {more:?}: {backups}");
    }
}

#[test]
fn every_backup_will_do_after_edits_and_growth() {
    for (block_size, features, sizes) in [
        ("1024", "resize_inode", [90, 1500]),
        ("1024", "^resize_inode,^sparse_super", [90, 120]),
        ("2048", "resize_inode,^64bit,^metadata_csum", [90, 1500]),
        ("2048", "^metadata_csum,uninit_bg", [90, 1500]),
        ("4096", "resize_inode", [500, 9000]),
        ("4096", "^64bit,^resize_inode,^sparse_super", [500, 2000]),
    ] {
        let mut image = make(64 * MIB, block_size, features, &[]);
        edit_at_random(&mut image);
        judge_backups(&image, block_size);
        for size in sizes {
            grow(&mut image, size * MIB);
            assert!(judge_backups(&image, block_size) > 0);
        }
    }
}

/// Only metadata is written: the image stays sparse.
#[test]
fn growth_to_a_tebibyte() {
    use std::os::unix::fs::MetadataExt as _;
    for (features, from) in [("resize_inode", 512), ("resize_inode", 2048), ("^64bit,^huge_file", 2048)] {
        let mut image = make(from * MIB, "4096", features, &[]);
        let before = image.copy("before.img");
        let written = image.edit(1 << 40, |editor| editor.grow(1 << 40).unwrap()).1.written_bytes;
        image.check();
        let stored = std::fs::metadata(&image.path).unwrap().blocks() * 512;
        assert!(written < 128 * MIB && stored < 256 * MIB, "{written} bytes written, {stored} stored");
        if from > 512 {
            compare_with_resize2fs(&image, &before, 1 << 40);
        }
    }
}

/// Fills a file system and empties it again, so that every block that may be used is.
fn fill_and_empty(image: &mut Image) {
    let path = image.folder().join("zeros");
    let file = std::fs::File::create(&path).unwrap();
    image.edit_here(|editor| {
        file.set_len(editor.free_bytes().saturating_sub(2 * MIB)).unwrap();
        let zeros = FileRange::whole(HostFile::open(&path).unwrap());
        editor.write("/all", Content::File(zeros), &plain(0o644)).unwrap();
    });
    image.check();
    image.edit_here(|editor| assert!(editor.remove("/all").unwrap()));
    image.check();
}

#[test]
fn flex_groups_of_all_sizes() {
    for (block_size, features, more) in [
        ("1024", "flex_bg", &["-G", "1"][..]),
        ("1024", "flex_bg", &["-G", "16"]),
        ("1024", "flex_bg,^metadata_csum,uninit_bg", &["-G", "64"]),
        ("1024", "flex_bg,meta_bg,^resize_inode", &["-G", "256"]),
        ("1024", "flex_bg,^metadata_csum", &["-G", "256"]),
        ("1024", "flex_bg", &["-G", "16", "-E", "packed_meta_blocks=1"]),
        ("1024", "^flex_bg", &[]),
    ] {
        let mut image = make(300 * MIB, block_size, features, more);
        fill_and_empty(&mut image);
        grow(&mut image, 420 * MIB);
        fill_and_empty(&mut image);
        // resize2fs packs the bitmaps and tables of new groups.
        let file = std::fs::OpenOptions::new().write(true).open(&image.path).unwrap();
        file.set_len(700 * MIB).unwrap();
        run("e2fsprogs", Command::new("resize2fs").arg("-f").arg(&image.path));
        fill_and_empty(&mut image);
        grow(&mut image, 900 * MIB);
        fill_and_empty(&mut image);
        assert!(judge_backups(&image, block_size) > 0);
    }
}

/// What the editor says to a file system with these changes to its groups, made by debugfs.
fn refusal(features: &str, requests: &[&str]) -> String {
    let image = make(64 * MIB, "1024", features, &[]);
    let script = image.folder().join("requests");
    std::fs::write(&script, requests.join("\n")).unwrap();
    run("e2fsprogs", Command::new("debugfs").args(["-w", "-f"]).args([&script, &image.path]));
    let mut overlay = image.overlay();
    let edit = |mut editor: Editor| {
        for number in 0..60 {
            editor.write(format!("/lost+found/{number}"), Content::Bytes(vec![1; 800_000]), &plain(0o644))?;
        }
        editor.finish()
    };
    Editor::open(&mut overlay).and_then(edit).unwrap_err().to_string()
}

#[test]
fn groups_that_claim_the_same_blocks_are_refused() {
    let damaged = "the ext4 file system is damaged: ";
    for (features, requests, want) in [
        ("^metadata_csum", &["set_bg 2 block_bitmap 259"][..], "the groups 0 and 2 both claim block 259"),
        ("^metadata_csum", &["set_bg 3 inode_bitmap 1"], "group 3's descriptor has a wrong place"),
        ("^metadata_csum", &["set_bg 1 inode_table 8190"], "the groups 1 and 1 both claim block 8193 "),
        ("^metadata_csum", &["set_bg 1 inode_table 999999"], "group 1's descriptor has a wrong place"),
        ("^metadata_csum", &["set_bg 1 block_bitmap 20000"], "inode 8 claims metadata"),
        ("metadata_csum", &["set_bg 1 block_bitmap 259"], "group 1's descriptor has a wrong checksum"),
        ("metadata_csum", &["set_bg 1 block_bitmap 259", "set_bg 1 checksum calc"], "the groups 0 and 1 both claim"),
        // A folder whose entries would be written over an inode table.
        ("^metadata_csum", &["sif <11> flags 0", "sif <11> block[0] 275"], "inode 11 claims metadata"),
        // A table in a group whose bitmap does not exist and would be computed without it.
        (
            "metadata_csum,^flex_bg",
            &["set_bg 1 inode_table 34000", "set_bg 1 free_blocks_count 7932", "set_bg 1 checksum calc"],
            "group 4's block bitmap",
        ),
    ] {
        let error = refusal(features, requests);
        assert!(error.starts_with(&format!("{damaged}{want}")), "{features} {requests:?}: {error}");
    }
}
