//! What is too much is an error of the edit that asks for it. Nothing has changed then, the batch goes on, and
//! e2fsck likes what comes of it.

use std::process::Command;

use imgbake::Content;
use imgbake::ext4::{Editor, Ext4Error};

use super::image::{Image, plain, run};

const MIB: u64 = 1 << 20;

/// Makes things until one is too much; how many there are, and the error.
fn until_full(
    editor: &mut Editor,
    mut make: impl FnMut(&mut Editor, usize) -> Result<(), Ext4Error>,
) -> (usize, Ext4Error) {
    let mut made = 0;
    loop {
        let before = (editor.free_bytes(), editor.free_inodes());
        match make(editor, made) {
            Ok(()) => made += 1,
            Err(error) => {
                assert_eq!((editor.free_bytes(), editor.free_inodes()), before, "something changed: {error}");
                return (made, error);
            }
        }
    }
}

fn is_no_space(error: &Ext4Error) -> bool {
    matches!(error, Ext4Error::NoSpace { .. })
}

fn empty() -> Content {
    Content::Bytes(Vec::new())
}

/// Names alone fill it: folders take their blocks at the end, and there must be enough.
#[test]
fn the_last_block_goes_to_a_folder() {
    for (block_size, features) in [("1024", "metadata_csum"), ("1024", "^dir_index"), ("4096", "^metadata_csum")] {
        let options = ["-b", block_size, "-O", features, "-m", "0", "-N", "4096"];
        let mut image = Image::make(8 * MIB, &options);
        let name = |folder: usize, number: usize| format!("/{folder}/{number:0>240}");
        let made = image.edit_here(|editor| {
            (0..3).for_each(|folder| editor.mkdir(format!("/{folder}"), &plain(0o755)).unwrap());
            editor.write("/file", empty(), &plain(0o644)).unwrap();
            let left = editor.free_bytes() - 200 * 1024;
            editor.write("/ballast", Content::Bytes(vec![1; left.try_into().unwrap()]), &plain(0o644)).unwrap();
            let link = |editor: &mut Editor, number: usize| editor.hard_link(name(number % 3, number), "/file");
            let (made, error) = until_full(editor, link);
            assert!(is_no_space(&error), "{error}");
            // What needs no room still works, and so does what comes after room was made.
            assert!(is_no_space(&editor.mkdir("/more", &plain(0o755)).unwrap_err()));
            assert!(is_no_space(&editor.write("/file", Content::Bytes(vec![1; 9000]), &plain(0o600)).unwrap_err()));
            editor.rename(name(0, 0), name(0, made + 300)).unwrap();
            editor.set_mode("/file", 0o600).unwrap();
            made
        });
        image.check();
        let left: u64 = image.field("Free blocks").parse().unwrap();
        assert!(left <= 8, "{left} of the blocks were left when {made} names were refused one more");
        // A full file system can be emptied.
        image.edit_here(|editor| {
            (0..made).step_by(7).skip(1).for_each(|number| assert!(editor.remove(name(number % 3, number)).unwrap()));
            assert!(editor.remove("/ballast").unwrap());
            editor.write("/file", Content::Bytes(vec![2; 9000]), &plain(0o644)).unwrap();
        });
        image.check();
        assert_eq!(image.debugfs("stat /file").matches("Size: 9000").count(), 1);
    }
}

/// Every edit that takes blocks is refused when there are none, and taken back whole.
#[test]
fn nothing_fits_a_full_file_system() {
    for block_size in ["1024", "4096"] {
        let mut image = Image::make(8 * MIB, &["-b", block_size, "-m", "0", "-N", "1024", "-I", "256"]);
        image.edit_here(|editor| {
            for name in ["/a", "/b", "/c/d/e"] {
                editor.mkdir_all(name, &plain(0o755)).unwrap();
            }
            editor.write("/file", Content::Bytes(vec![1; 5000]), &plain(0o644)).unwrap();
            editor.write("/other", empty(), &plain(0o644)).unwrap();
            let block: usize = block_size.parse().unwrap();
            let write = |editor: &mut Editor, number| {
                editor.write(format!("/a/{number}"), Content::Bytes(vec![1; block * 16]), &plain(0o600))
            };
            until_full(editor, write);
            let write = |editor: &mut Editor, number| {
                editor.write(format!("/b/{number}"), Content::Bytes(vec![1; block]), &plain(0o600))
            };
            assert!(is_no_space(&until_full(editor, write).1));
            let metadata = editor.metadata("/file").unwrap().unwrap();
            let long = vec![b'x'; 100];
            let mut large = plain(0o600);
            large.xattrs.insert(b"user.large".to_vec(), vec![1; 600]);
            for result in [
                editor.write("/new", Content::Bytes(vec![1; 10]), &plain(0o600)),
                editor.write("/new", empty(), &large),
                editor.write("/file", Content::Bytes(vec![1; 5000 + 2 * block]), &plain(0o600)),
                editor.write("/other", empty(), &large),
                editor.symlink("/new", &long, &plain(0)),
                editor.symlink("/other", &long, &plain(0)),
                editor.mkdir("/new", &plain(0o755)),
                editor.mkdir_all("/c/d/new/newer", &plain(0o755)),
                editor.set_xattr("/file", b"user.large", &[1; 600]),
                editor.set_xattr("/c", b"user.large", &[1; 600]),
            ] {
                let error = result.unwrap_err();
                assert!(is_no_space(&error), "{error:?}");
            }
            assert_eq!(editor.metadata("/file").unwrap().unwrap(), metadata);
            assert!(editor.xattrs("/file").unwrap().is_empty());
            assert!(editor.metadata("/c/d/new").unwrap().is_none());
            editor.write("/file", Content::Bytes(vec![2; 5000]), &plain(0o644)).unwrap();
            editor.symlink("/short", "x", &plain(0)).unwrap();
            editor.set_xattr("/file", b"user.small", b"1").unwrap();
        });
        image.check();
        assert!(image.debugfs("cat /file").bytes().all(|byte| byte == 2));
    }
}

#[test]
fn inodes_run_out() {
    let mut image = Image::make(16 * MIB, &["-N", "64"]);
    image.edit_here(|editor| {
        editor.write("/linked", empty(), &plain(0o644)).unwrap();
        editor.hard_link("/link", "/linked").unwrap();
        let write = |editor: &mut Editor, number| editor.write(format!("/{number}"), empty(), &plain(0o644));
        let (made, error) = until_full(editor, write);
        assert!(made > 40 && matches!(error, Ext4Error::NoInodes { total: 64 }), "{error}");
        assert!(matches!(editor.mkdir_all("/a/b", &plain(0o755)), Err(Ext4Error::NoInodes { .. })));
        assert!(
            matches!(editor.symlink("/link", "x", &plain(0)), Err(Ext4Error::NoInodes { .. })),
            "the other name stays"
        );
        editor.symlink("/0", "x", &plain(0)).unwrap();
        assert!(editor.remove("/1").unwrap());
        assert!(matches!(editor.mkdir_all("/a/b", &plain(0o755)), Err(Ext4Error::NoInodes { .. })));
        assert!(editor.metadata("/a").unwrap().is_none(), "all or nothing");
        editor.mkdir("/a", &plain(0o755)).unwrap();
    });
    image.check();
}

#[test]
fn a_file_with_as_many_names_as_it_can_have() {
    let mut image = Image::make(32 * MIB, &["-b", "1024", "-N", "1024"]);
    image.edit_here(|editor| {
        editor.mkdir("/d", &plain(0o755)).unwrap();
        editor.write("/file", empty(), &plain(0o644)).unwrap();
        let (made, error) = until_full(editor, |editor, number| editor.hard_link(format!("/d/{number}"), "/file"));
        assert_eq!(made, 64_999);
        assert!(matches!(error, Ext4Error::TooManyLinks { links: 65_001, limit: 65_000, .. }), "{error:?}");
        assert!(editor.remove("/d/7").unwrap());
        editor.hard_link("/again", "/file").unwrap();
    });
    image.check();
    assert!(image.debugfs("stat /file").contains("Links: 65000"));
}

#[test]
fn a_folder_with_as_many_subfolders_as_it_can_have() {
    let mut image = Image::make(128 * MIB, &["-b", "1024", "-N", "66000", "-O", "^dir_nlink,^has_journal"]);
    image.edit_here(|editor| {
        editor.mkdir_all("/e/f", &plain(0o755)).unwrap();
        editor.mkdir("/d", &plain(0o755)).unwrap();
        let (made, error) = until_full(editor, |editor, number| editor.mkdir(format!("/d/{number}"), &plain(0o755)));
        assert_eq!(made, 64_998);
        assert!(matches!(error, Ext4Error::TooManyLinks { limit: 65_000, .. }), "{error:?}");
        assert!(matches!(editor.rename("/e", "/d/e"), Err(Ext4Error::TooManyLinks { .. })));
        editor.rename("/e", "/d/0").unwrap();
        editor.rename("/d/1", "/d/one").unwrap();
        assert!(editor.metadata("/d/0/f").unwrap().is_some());
    });
    image.check();
    assert!(image.debugfs("stat /d").contains("Links: 65000"));
}

/// Two levels of index end at so many names; large_dir has a third, which the kernel, too, looks names up in.
#[test]
fn a_folder_as_large_as_its_index() {
    for large in [false, true] {
        let features = if large { "large_dir" } else { "^large_dir" };
        let mut image = Image::make(48 * MIB, &["-b", "1024", "-N", "1024", "-O", features]);
        let name = |number: usize| format!("{number:0>250}");
        let most = image.edit_here(|editor| {
            editor.mkdir("/d", &plain(0o755)).unwrap();
            editor.write("/file", empty(), &plain(0o644)).unwrap();
            let link = |editor: &mut Editor, number| match number {
                50_000 => Err(Ext4Error::Torn),
                _ => editor.hard_link(format!("/d/{}", name(number)), "/file"),
            };
            let (made, error) = until_full(editor, link);
            assert!(matches!(error, Ext4Error::Torn) == large, "{error}");
            assert!(matches!(error, Ext4Error::DirectoryTooLarge { block_size: 1024, .. }) != large, "{error}");
            if !large {
                let error = editor.rename("/file", format!("/d/{}", name(made))).unwrap_err();
                assert!(matches!(error, Ext4Error::DirectoryTooLarge { .. }), "{error}");
                assert!(editor.remove(format!("/d/{}", name(0))).unwrap());
            }
            made
        });
        assert!(most > 46_000, "{most} names");
        image.check();
        let levels = format!("Indirect levels: {}", if large { 2 } else { 1 });
        assert!(image.debugfs("htree_dump /d").contains(&levels));
        image.as_root(|folder| {
            for number in (1..most).step_by(97) {
                assert!(folder.join("d").join(name(number)).exists(), "the kernel finds no {number}");
            }
            assert!(!folder.join("d").join(name(most)).exists());
            if large {
                (most..most + 500).for_each(|number| std::fs::write(folder.join("d").join(name(number)), "").unwrap());
            }
        });
        image.check();
    }
}

/// Names with one hash that stand in two leaves: the kernel has to look on in the next.
#[test]
fn equal_hashes_span_leaves() {
    // Found by `dx_hash` of debugfs with the seed that all images here have.
    let half_md4 = [
        1426, 250_370, 2980, 109_584, 33_304, 90_635, 36_692, 238_778, 45_394, 147_233, 49_225, 157_153, 49_682,
        169_969, 50_530, 77_210, 57_349, 184_711, 69_410, 201_713, 71_790, 78_474, 77_653, 143_432,
    ];
    let tea = [
        8189, 181_643, 18_599, 188_416, 49_002, 238_369, 61_036, 181_158, 61_962, 66_690, 86_486, 237_412, 118_124,
        184_020, 122_036, 227_764, 122_614, 122_807, 122_846, 141_013, 143_941, 233_325, 202_041, 208_108,
    ];
    let legacy = [
        1032, 223_110, 1131, 1331, 2101, 10_159, 4000, 4022, 4002, 4020, 4644, 4666, 4646, 4664, 7110, 102_142, 8872,
        22_650, 9789, 100_528, 10_537, 125_662, 14_840, 103_540,
    ];
    let name = |number: usize| format!("{number:0>250}");
    for (hash, equal) in [("half_md4", half_md4), ("tea", tea), ("legacy", legacy)] {
        let mut image = Image::make(16 * MIB, &["-b", "1024", "-N", "2048"]);
        let request = format!("ssv def_hash_version {hash}");
        run("e2fsprogs", Command::new("debugfs").arg("-w").arg("-R").arg(request).arg(&image.path));
        let numbers: Vec<usize> = equal.into_iter().chain(300_000..300_300).collect();
        image.edit_here(|editor| {
            editor.mkdir("/d", &plain(0o755)).unwrap();
            for number in &numbers {
                editor.write(format!("/d/{}", name(*number)), empty(), &plain(0o644)).unwrap();
            }
        });
        image.check();
        let dump = image.debugfs("htree_dump /d");
        let hashes = dump.lines().filter_map(|line| line.trim().strip_prefix("Entry #")?.split_once("Hash 0x"));
        let continued = hashes.filter(|(_, hash)| {
            let digits: String = hash.chars().take_while(char::is_ascii_hexdigit).collect();
            u32::from_str_radix(&digits, 16).unwrap() % 2 == 1
        });
        assert!(continued.count() >= 2, "{hash}: no leaf goes on with the hash of the one before");
        image.as_root(|folder| {
            for number in &numbers {
                assert!(folder.join("d").join(name(*number)).exists(), "{hash}: the kernel finds no {number}");
            }
            for number in equal {
                std::fs::remove_file(folder.join("d").join(name(number))).unwrap();
                std::fs::write(folder.join("d").join(name(number)), "again").unwrap();
            }
        });
        image.check();
    }
}

/// A superblock can name hashes by numbers that no index may name, and leave open whether characters have a sign.
#[test]
fn hashes_are_named_as_indexes_can() {
    let name = |number: usize| format!("größe-ä-{number}");
    for (version, flags) in [(1, 0), (3, 1), (4, 2), (5, 0)] {
        let mut image = Image::make(16 * MIB, &["-b", "1024", "-O", "^metadata_csum", "-N", "2048"]);
        image.debugfs_write(&[format!("ssv flags {flags}")]);
        image.poke(1024 + 0xfc, &[version]);
        image.edit_here(|editor| {
            editor.mkdir("/d", &plain(0o755)).unwrap();
            for number in 0..300 {
                editor.write(format!("/d/{}", name(number)), empty(), &plain(0o644)).unwrap();
            }
        });
        image.check();
        assert!(image.debugfs("stat /d").contains("Flags: 0x81000"), "no index");
        image.as_root(|folder| {
            for number in 0..300 {
                let found = folder.join("d").join(name(number)).exists();
                assert!(found, "version {version}, flags {flags}: the kernel finds no {number}");
            }
            std::fs::write(folder.join("d").join(name(300)), "").unwrap();
        });
        image.check();
    }
}

/// The kernel has equal attributes share a block; a folder that leaves its inode may then need one of its own.
#[test]
fn room_is_kept_for_attributes_that_inline_folders_shared() {
    let mut image = Image::make(16 * MIB, &["-b", "1024", "-O", "inline_data", "-N", "2048"]);
    let shared = image.as_root(|folder| {
        for name in ["one", "two"] {
            std::fs::create_dir(folder.join(name)).unwrap();
            rustix::fs::setxattr(folder.join(name), "user.long", &[7; 300], rustix::fs::XattrFlags::empty()).unwrap();
        }
    });
    if !shared {
        return;
    }
    assert!(image.debugfs("stat /one").contains("File ACL: ") && !image.debugfs("stat /one").contains("File ACL: 0"));
    for left in 0..8 {
        let mut overlay = image.overlay();
        let mut editor = Editor::open(&mut overlay).unwrap();
        let free = image.field("Free blocks").parse::<u64>().unwrap() - left;
        editor.write("/full", Content::Bytes(vec![1; usize::try_from(free * 1024).unwrap()]), &plain(0o644)).ok();
        let made = ["/one/x", "/two/x"].map(|path| editor.symlink(path, "target", &plain(0o777)).is_ok());
        let result = editor.finish();
        assert!(result.is_ok(), "{left} blocks are left, {made:?}: {result:?}");
        Image::of(&overlay).check();
    }
}

/// Deeper than any path is long, with names that a shell could not write.
#[test]
fn a_deep_tree_is_moved_and_removed() {
    let mut image = Image::make(16 * MIB, &["-b", "1024", "-N", "4096"]);
    let free = (image.field("Free blocks"), image.field("Free inodes"));
    image.edit_here(|editor| {
        let mut path = Vec::new();
        for number in 0..1500u32 {
            path.extend_from_slice(b"/\xff\n");
            path.push(u8::try_from(number % 26).unwrap() + b'a');
            editor.mkdir(&path, &plain(0o755)).unwrap();
        }
        editor.write([&path, b"/file".as_slice()].concat(), empty(), &plain(0o644)).unwrap();
        editor.mkdir("/other", &plain(0o755)).unwrap();
        editor.rename(b"/\xff\na", "/other/top").unwrap();
        path.splice(..4, *b"/other/top");
        assert!(editor.metadata([&path, b"/file".as_slice()].concat()).unwrap().is_some());
    });
    image.check();
    assert!(image.debugfs("ls -p /other").contains("/top/"));
    image.edit_here(|editor| assert!(editor.remove("/other").unwrap()));
    image.check();
    assert_eq!((image.field("Free blocks"), image.field("Free inodes")), free);
}

/// As rename(2), with what stands in the way.
#[test]
fn rename_replaces_as_the_kernel_does() {
    let mut image = Image::make(16 * MIB, &[]);
    image.edit_here(|editor| {
        for folder in ["/full/x", "/empty", "/d/e"] {
            editor.mkdir_all(folder, &plain(0o755)).unwrap();
        }
        for file in ["/file", "/other"] {
            editor.write(file, Content::Bytes(file.into()), &plain(0o644)).unwrap();
        }
        editor.hard_link("/same", "/file").unwrap();
        let is = |result: Result<(), Ext4Error>, want: &str| {
            let error = format!("{:?}", result.unwrap_err());
            assert!(error.starts_with(want), "{error}, not {want}");
        };
        is(editor.rename("/d", "/full"), "NotEmpty");
        is(editor.rename("/d", "/file"), "NotADirectory");
        is(editor.rename("/file", "/empty"), "IsADirectory");
        is(editor.rename("/d", "/d/e/f"), "Invalid");
        is(editor.rename("/d/e", "/d"), "NotEmpty");
        is(editor.rename("/d/e/..", "/g"), "Invalid");
        is(editor.rename("/d/.", "/g"), "Invalid");
        is(editor.rename("/", "/g"), "Invalid");
        is(editor.rename("/none", "/g"), "NotFound");
        is(editor.rename("/file", "/none/g"), "NoParent");
        is(editor.remove("/d/e/..").map(drop), "Invalid");
        editor.rename("/file", "/same").unwrap();
        assert!(editor.metadata("/file").unwrap().is_some(), "two names of one file stay");
        editor.rename("/d", "/empty").unwrap();
        editor.rename("/other", "/same").unwrap();
        assert_eq!(editor.metadata("/file").unwrap().unwrap().links, 1);
        editor.rename("/empty/e", "/full/x").unwrap();
        assert_eq!(editor.metadata("/empty").unwrap().unwrap().links, 2);
    });
    image.check();
    assert_eq!(image.debugfs("cat /same"), "/other");
}
