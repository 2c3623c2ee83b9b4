//! Features that stock and foreign images have beside the common ones: images that mke2fs, debugfs and, for
//! root, the kernel make; read, edited and judged by the same.

use std::path::Path;
use std::process::Command;

use imgbake::ext4::{Editor, Ext4Error, Reader};
use imgbake::{Content, Disk, FileDisk, HostFile};
use rustix::fs::XattrFlags;

use super::image::{Image, Mounted, plain, run};
use super::model::{Limits, Model};
use super::shuffle::{Random, Shuffle};

const MIB: u64 = 1 << 20;

/// Has the kernel mount the image with `options`, if we are root; whether we are.
pub fn mounted(image: &Image, options: &str, work: impl FnOnce(&Path)) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return false;
    }
    let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
    work(Mounted::new(&image.path, image.folder().join("live"), &options).folder());
    true
}

pub fn debugfs(image: &Image, requests: &[&str]) {
    for request in requests {
        run("e2fsprogs", Command::new("debugfs").args(["-w", "-R", request]).arg(&image.path));
    }
}

/// What our reader says about the image.
pub fn read<T>(image: &Image, look: impl FnOnce(&mut Reader) -> T) -> T {
    let disk = FileDisk::new(HostFile::open(&image.path).unwrap());
    look(&mut Reader::open(&disk).unwrap())
}

pub fn small(text: &str) -> Content {
    Content::Bytes(text.as_bytes().to_vec())
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect()
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let name = std::ffi::CString::new(name).unwrap();
    rustix::fs::lsetxattr(path, name.as_c_str(), value, XattrFlags::empty()).unwrap();
}

/// A tree with files, links and folders that are just small enough, or not, to be kept in an inode.
pub fn fill(root: &Path) {
    for size in [0, 1, 59, 60, 61, 100, 120, 132, 140, 150, 156, 160, 200, 1000, 5000] {
        std::fs::write(root.join(format!("file-{size}")), pattern(size)).unwrap();
        if size > 0 {
            std::os::unix::fs::symlink("x".repeat(size.min(1000)), root.join(format!("link-{size}"))).unwrap();
        }
    }
    for names in [0, 1, 2, 3, 5, 7, 9, 40] {
        let folder = root.join(format!("folder-{names}"));
        std::fs::create_dir(&folder).unwrap();
        (0..names).for_each(|name| std::fs::write(folder.join(format!("name-{name}")), pattern(name * 30)).unwrap());
    }
    std::fs::create_dir_all(root.join("folder-1/below/it")).unwrap();
    std::fs::hard_link(root.join("file-100"), root.join("folder-2/hard")).unwrap();
}

/// Edits a filled image at random, and has e2fsck and the kernel look at it.
fn edit_at_random(image: &mut Image, model: Model, edits: usize) {
    let host = image.host_file("content", &pattern(1_000_000));
    let mut shuffle = Shuffle { model, limits: Limits::of(image), random: Random(77), host };
    image.edit_here(|editor| shuffle.model.compare_editor(editor));
    for _ in 0..3 {
        image.edit_here(|editor| {
            shuffle.edit(editor, edits);
            shuffle.model.compare_editor(editor);
        });
        image.check();
        shuffle.model.compare_kernel(image);
        image.edit_here(|editor| shuffle.model.compare_editor(editor));
    }
}

/// What the kernel or, for others than root, mke2fs put into an image with `options`.
fn filled(size: u64, options: &[&str]) -> (Image, Model) {
    let mut image = Image::make(size, options);
    let mut model = Model::default();
    let root = image.as_root(|folder| {
        fill(folder);
        model = Model::read_host(folder);
    });
    if !root {
        (image, model) = packed(size, options);
    }
    model.names.remove(b"/lost+found".as_slice());
    image.check();
    (image, model)
}

/// What mke2fs put into an image with `options`.
fn packed(size: u64, options: &[&str]) -> (Image, Model) {
    let source = tempfile::TempDir::new().unwrap();
    fill(source.path());
    let image = Image::make(size, &[options, &["-d", source.path().to_str().unwrap()]].concat());
    let mut model = Model::read_host(source.path());
    model.nodes.iter_mut().for_each(|node| node.attributes.mtime.nanoseconds = 0);
    (image, model)
}

#[test]
fn contents_kept_in_inodes() {
    for options in [&["-O", "inline_data"][..], &["-O", "inline_data,^metadata_csum", "-b", "1024", "-I", "512"]] {
        let (mut image, model) = filled(64 * MIB, options);
        assert!(image.debugfs("stat /file-60").contains("Flags: 0x10000000"), "it is in its inode");
        edit_at_random(&mut image, model, 150);
    }
}

#[test]
fn a_file_kept_in_its_inode_keeps_its_contents_beside_attributes() {
    let (mut image, _) = filled(64 * MIB, &["-O", "inline_data", "-b", "4096"]);
    image.edit_here(|editor| {
        editor.set_xattr("/file-100", b"user.large", &[7; 2000]).unwrap();
        editor.set_xattr("/folder-3", b"user.large", &[7; 2000]).unwrap();
        let error = editor.set_xattr("/file-100", b"system.data", b"x").unwrap_err();
        assert!(matches!(error, Ext4Error::BadXattr { .. }), "{error}");
        assert_eq!(editor.xattrs("/file-100").unwrap().len(), 1);
    });
    image.check();
    assert!(image.debugfs("stat /file-100").contains("Flags: 0x10000000"));
    assert_eq!(image.debugfs("cat /file-100").as_bytes(), pattern(100));
    assert!(image.debugfs("ea_list /folder-3").contains("user.large (2000)"));
    assert_eq!(read(&image, |reader| reader.read("/file-100", 100).unwrap().unwrap()), pattern(100));
}

/// Values that debugfs gives an inode each, and those of the kernel, which equal files share.
#[test]
fn values_in_inodes_of_their_own() {
    let mut image = Image::make(64 * MIB, &["-O", "ea_inode", "-b", "4096"]);
    let before = image.field("Free inodes");
    image.host_file("value", &pattern(9000));
    let value = image.folder().join("value");
    // It writes a block's worth of the value, and leaves the space to e2fsck to count.
    debugfs(&image, &[&format!("write {} alone", value.display())]);
    debugfs(&image, &[&format!("ea_set -f {} alone user.big", value.display())]);
    let status = Command::new("/usr/sbin/e2fsck").arg("-fy").arg(&image.path).output().unwrap().status;
    assert!(matches!(status.code(), Some(0 | 1)));
    let root = image.as_root(|folder| {
        for name in ["one", "two", "three", "four"] {
            std::fs::write(folder.join(name), name).unwrap();
            set_xattr(&folder.join(name), "user.big", &pattern(20_000));
            // Enough for a block, which refers to the value then.
            set_xattr(&folder.join(name), "user.middle", &[1; 400]);
        }
        std::fs::create_dir(folder.join("folder")).unwrap();
        set_xattr(&folder.join("folder"), "user.big", &pattern(20_000));
        std::os::unix::fs::symlink("x".repeat(70), folder.join("link")).unwrap();
        std::os::unix::fs::symlink("short", folder.join("folder/link")).unwrap();
    });
    image.check();
    image.edit_here(|editor| {
        assert_eq!(editor.xattrs("/alone").unwrap()[b"user.big".as_slice()], pattern(4096));
        editor.set_xattr("/alone", b"user.small", b"1").unwrap();
        editor.hard_link("/again", "/alone").unwrap();
        let error = editor.set_xattr("/alone", b"user.new", &pattern(9000)).unwrap_err();
        assert!(matches!(error, Ext4Error::XattrsTooLarge { .. }), "{error}");
        if root {
            for name in ["/one", "/two", "/three", "/four", "/folder"] {
                assert_eq!(editor.xattrs(name).unwrap()[b"user.big".as_slice()], pattern(20_000), "{name}");
            }
            assert_eq!(editor.read_link("/folder/link").unwrap().unwrap(), b"short");
            editor.set_xattr("/one", b"user.small", b"1").unwrap();
            assert!(editor.remove("/two").unwrap());
            assert!(editor.remove_xattr("/three", b"user.big").unwrap());
            editor.set_xattr("/four", b"user.big", b"small now").unwrap();
            editor.write("/folder/file", Content::Bytes(vec![1; 5000]), &plain(0o644)).unwrap();
        }
    });
    image.check();
    assert!(image.debugfs("ea_list /alone").contains("user.big (4096)"));
    mounted(&image, "ro", |folder| {
        let mut model = Model::read_host(folder);
        model.names.remove(b"/lost+found".as_slice());
        let big = |name: &str| {
            model.nodes[model.names[name.as_bytes()]].attributes.xattrs.get(b"user.big".as_slice()).cloned()
        };
        assert_eq!(big("/alone"), Some(pattern(4096)));
        assert_eq!(big("/one"), Some(pattern(20_000)));
        assert_eq!((big("/three"), big("/four")), (None, Some(b"small now".to_vec())));
        assert_eq!(big("/folder"), Some(pattern(20_000)));
    });
    image.edit_here(|editor| {
        for name in ["/alone", "/again", "/one", "/three", "/four", "/folder", "/link"] {
            assert!(editor.remove(name).unwrap() || !root);
        }
    });
    image.check();
    assert_eq!(image.field("Free inodes"), before, "the values' inodes are free again");
}

#[test]
fn random_edits_beside_values_in_inodes() {
    let (mut image, mut model) = filled(64 * MIB, &["-O", "ea_inode,inline_data", "-b", "4096"]);
    image.as_root(|folder| {
        // e2fsck takes a short link's target for blocks when the link has a value outside.
        let names = model.names.keys().filter(|name| !name.starts_with(b"/link-"));
        for (number, name) in names.enumerate().filter(|(number, _)| number % 3 == 0) {
            let path = folder.join(std::str::from_utf8(&name[1..]).unwrap());
            set_xattr(&path, "trusted.big", &pattern(if number % 2 == 0 { 5000 } else { 70 * number }));
        }
        model = Model::read_host(folder);
        model.names.remove(b"/lost+found".as_slice());
    });
    image.check();
    edit_at_random(&mut image, model, 150);
}

#[test]
fn ext2_and_ext3_are_edited_as_they_are() {
    for options in [
        &["-t", "ext2"][..],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext3", "-b", "1024", "-I", "128", "-O", "^filetype,^sparse_super,^resize_inode,^dir_index"],
        &["-t", "ext2", "-b", "2048", "-O", "^ext_attr"],
    ] {
        let (mut image, model) = filled(128 * MIB, options);
        edit_at_random(&mut image, model, 150);
        // Three levels of 256 numbers each list it.
        let host = image.host_file("large", &pattern(3_000_000).repeat(24));
        image.edit(200 * MIB, |editor| {
            editor.grow(200 * MIB).unwrap();
            editor.write("/large", Content::File(imgbake::FileRange::whole(host)), &plain(0o644)).unwrap();
            editor.mkdir("/many", &plain(0o755)).unwrap();
            for number in 0..2000 {
                editor.write(format!("/many/{}-{number}", "n".repeat(80)), small("x"), &plain(0o644)).unwrap();
            }
        });
        image.check();
        assert!(!image.field("Filesystem features").contains("extent"));
        mounted(&image, "ro", |folder| {
            assert!(std::fs::read(folder.join("large")).unwrap() == pattern(3_000_000).repeat(24));
            assert_eq!(std::fs::read_dir(folder.join("many")).unwrap().count(), 2000);
        });
        image.edit_here(|editor| {
            assert!(editor.read("/large", 1 << 30).unwrap().unwrap() == pattern(3_000_000).repeat(24));
            assert!(editor.remove("/large").unwrap());
            assert!(editor.remove("/many").unwrap());
        });
        image.check();
    }
}

#[test]
fn revision_0_has_neither_features_nor_attributes() {
    let mut image = Image::make(64 * MIB, &["-t", "ext2", "-r", "0", "-b", "1024"]);
    image.edit_here(|editor| {
        editor.mkdir_all("/a/b", &plain(0o755)).unwrap();
        editor.write("/a/b/file", Content::Bytes(pattern(2_000_000)), &plain(0o644)).unwrap();
        editor.symlink("/link", "x".repeat(100), &plain(0)).unwrap();
        let error = editor.set_xattr("/a", b"user.a", b"1").unwrap_err();
        let want = "an ext4 file system with revision 0, which has no extended attributes, is not supported";
        assert_eq!(error.to_string(), want);
    });
    image.check();
    assert!(image.field("Filesystem revision").starts_with('0'));
    mounted(&image, "ro", |folder| assert!(std::fs::read(folder.join("a/b/file")).unwrap() == pattern(2_000_000)));
    image.edit_here(|editor| assert!(editor.remove("/a").unwrap()));
    image.check();
}

#[test]
fn clusters_are_read_and_not_edited() {
    for options in [&["-O", "bigalloc", "-b", "4096"][..], &["-O", "bigalloc", "-b", "1024", "-C", "65536"]] {
        let (image, model) = filled(300 * MIB, options);
        read(&image, |reader| {
            assert_eq!(reader.read_dir("/folder-40").unwrap().unwrap().len(), 40);
            assert_eq!(reader.read("/file-5000", 5000).unwrap().unwrap(), pattern(5000));
            assert!(model.names.keys().all(|name| reader.metadata(name).unwrap().is_some()));
        });
        let error = Editor::open(&mut image.overlay()).err().unwrap();
        assert_eq!(error.to_string(), "an ext4 file system with the feature `bigalloc` is not supported");
    }
}

#[test]
fn mmp_says_whether_a_file_system_is_in_use() {
    for checksums in ["mmp", "mmp,^metadata_csum"] {
        let mut image = Image::make(64 * MIB, &["-O", checksums]);
        image.edit_here(|editor| editor.write("/file", small("x"), &plain(0o644)).unwrap());
        image.check();
        let block: u64 = image.field("MMP block number").parse().unwrap();
        let size: u64 = image.field("Block size").parse().unwrap();
        let place = block * size;
        let used = image.copy("used.img");
        let file = std::fs::OpenOptions::new().write(true).open(&used.path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x50, 0x4d, 0x4d, 0x12], place + 4).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"elsewhere\0", place + 16).unwrap();
        let error = Editor::open(&mut used.overlay()).err().unwrap().to_string();
        let want = if checksums == "mmp" {
            format!("the ext4 file system is damaged: the `mmp` block {block} is malformed")
        } else {
            "an ext4 file system with an `mmp` block by which `elsewhere` has it in use is not supported".to_owned()
        };
        assert_eq!(error, want);
        assert_eq!(read(&used, |reader| reader.read("/file", 1).unwrap().unwrap()), b"x");
    }
}

#[test]
fn what_cannot_be_kept_consistent_is_refused_by_name_and_read() {
    for (features, name, hint) in
        [("quota", "feature `quota`", Some("tune2fs -Q")), ("quota,project", "features `quota`, `project`", None)]
    {
        let (image, _) = packed(64 * MIB, &["-O", features]);
        let error = Editor::open(&mut image.overlay()).err().unwrap();
        assert_eq!(error.to_string(), format!("an ext4 file system with the {name} is not supported"));
        assert_eq!(error.hint().is_some_and(|text| text.contains(hint.unwrap_or("-"))), hint.is_some());
        assert_eq!(read(&image, |reader| reader.read("/file-60", 60).unwrap().unwrap()), pattern(60));
    }
    for (features, name, readable) in [
        ("FEATURE_R12", "`read-only`", true),
        ("FEATURE_R14", "`shared_blocks`", true),
        ("FEATURE_I12", "`dirdata`", false),
        ("FEATURE_I0", "`compression`", false),
        ("FEATURE_I3", "`journal_dev`", false),
        ("FEATURE_I31", "`incompat:0x80000000`", false),
        ("FEATURE_C8", "`snapshot_bitmap`", true),
    ] {
        let image = Image::make(16 * MIB, &[]);
        debugfs(&image, &[&format!("feature {features}")]);
        let error = Editor::open(&mut image.overlay()).err().unwrap();
        assert!(error.to_string().contains(name), "{features}: {error}");
        let disk = FileDisk::new(HostFile::open(&image.path).unwrap());
        assert_eq!(Reader::open(&disk).is_ok(), readable, "{features}");
    }
    let mut image = Image::make(16 * MIB, &["-O", "stable_inodes,fast_commit"]);
    image.edit_here(|editor| editor.write("/file", small("x"), &plain(0o644)).unwrap());
    image.check();
}

#[test]
fn times_where_an_inode_s_extra_part_is_small() {
    let mut image = Image::make(64 * MIB, &["-I", "256"]);
    let sizes = [0, 4, 12, 20, 24, 28, 32];
    image.edit_here(|editor| {
        for size in sizes {
            editor.write(format!("/{size}"), small("x"), &plain(0o644)).unwrap();
        }
    });
    for size in sizes {
        debugfs(&image, &[&format!("sif /{size} extra_isize {size}")]);
    }
    image.check();
    let late = imgbake::ext4::Timestamp { seconds: 1 << 33, nanoseconds: 7 };
    let early = imgbake::ext4::Timestamp { seconds: -1_000_000, nanoseconds: 9 };
    image.edit_here(|editor| {
        for size in sizes {
            editor.set_mtime(format!("/{size}"), late).unwrap();
            editor.set_xattr(format!("/{size}"), b"user.a", b"1").unwrap();
        }
        editor.set_mtime("/32", early).unwrap();
        editor.set_mtime("/24", early).unwrap();
    });
    image.check();
    mounted(&image, "ro", |folder| {
        use std::os::unix::fs::MetadataExt as _;
        for size in sizes {
            let metadata = std::fs::metadata(folder.join(size.to_string())).unwrap();
            let want = match size {
                24 | 32 => (early.seconds, 9),
                // The kernel reads what was there before behind an extra part of 0 bytes.
                0 => continue,
                4 => (i64::from(i32::MAX), 0),
                _ => (late.seconds, 7),
            };
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), want, "{size}");
        }
    });
}

#[test]
fn a_reader_never_writes() {
    let (image, _) = filled(64 * MIB, &["-O", "ea_inode,inline_data,encrypt,mmp"]);
    let disk = FileDisk::new(HostFile::open(&image.path).unwrap());
    let before = std::fs::read(&image.path).unwrap();
    let mut reader = Reader::open(&disk).unwrap();
    for (name, _) in reader.read_dir("/").unwrap().unwrap() {
        reader.metadata(&name).unwrap();
        reader.xattrs(&name).unwrap();
    }
    assert!(disk.size() == before.len() as u64 && std::fs::read(&image.path).unwrap() == before);
}

/// The journal of ext3 lists its blocks one by one, and deleted files that are still open take their values along.
#[test]
fn a_power_cut_with_these_features() {
    for options in [&["-t", "ext3", "-b", "1024"][..], &["-O", "ea_inode,inline_data", "-b", "4096"]] {
        let (image, _) = filled(64 * MIB, options);
        let mut cut = image.copy("cut.img");
        let mut model = Model::default();
        let root = mounted(&image, "", |folder| {
            for number in 0..200 {
                let path = folder.join(format!("folder-40/new-{number}"));
                std::fs::write(&path, pattern(number * 20)).unwrap();
                set_xattr(&path, "user.note", &pattern(if options.contains(&"ext3") { 50 } else { 3000 }));
            }
            let open: Vec<std::fs::File> = (0..9)
                .map(|number| {
                    let path = folder.join(format!("folder-40/new-{}", number * 20));
                    let file = std::fs::File::open(&path).unwrap();
                    std::fs::remove_file(&path).unwrap();
                    file
                })
                .collect();
            run("coreutils", Command::new("sync").arg("-f").arg(folder.join("folder-40")));
            cut = image.copy("cut.img");
            model = Model::read_host(folder);
            drop(open);
        });
        if !root {
            continue;
        }
        model.names.remove(b"/lost+found".as_slice());
        assert!(cut.field("Filesystem features").contains("needs_recovery"));
        read(&cut, |reader| assert_eq!(reader.read("/folder-40/new-199", 5000).unwrap().unwrap(), pattern(199 * 20)));
        cut.edit_here(|editor| model.compare_editor(editor));
        cut.check();
        model.compare_kernel(&cut);
    }
}

/// One byte or a few changed at random: an error or a result, but no panic, and soon.
#[test]
fn damaged_images_with_these_features_do_no_harm() {
    for options in
        [&["-O", "inline_data,ea_inode,encrypt,^metadata_csum,^has_journal"][..], &["-t", "ext2", "-b", "1024"]]
    {
        let (image, model) = filled(8 * MIB, &[options, &["-N", "256"]].concat());
        mounted(&image, "", |folder| {
            for name in ["file-60", "folder-5"] {
                let _ = rustix::fs::lsetxattr(folder.join(name), c"user.big", &pattern(3000), XattrFlags::empty());
            }
        });
        let good = std::fs::read(&image.path).unwrap();
        let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
        let mut random = Random(11);
        for _ in 0..200 {
            let mut overlay = imgbake::Overlay::new(std::sync::Arc::new(imgbake::ZeroDisk::new(0)), 8 * MIB);
            let mut bad = good.clone();
            for _ in 0..1 + random.below(3) {
                let at = used[random.below(used.len())];
                bad[at] = [0, 0xff, 0x7f, 0x10, bad[at] ^ 1][random.below(5)];
            }
            imgbake::DiskMut::write_at(&mut overlay, 0, &bad).unwrap();
            if let Ok(mut reader) = Reader::open(&overlay) {
                for name in model.names.keys() {
                    let _ = reader.read(name, MIB);
                    let _ = reader.read_link(name);
                    let _ = reader.read_dir(name);
                    let _ = reader.xattrs(name);
                }
            }
            let Ok(mut editor) = Editor::open(&mut overlay) else { continue };
            for (number, name) in model.names.keys().enumerate() {
                let _ = match number % 4 {
                    0 => editor.set_xattr(name, b"user.new", &[1; 100]),
                    1 => editor.remove(name).map(drop),
                    2 => editor.write(name, small("new"), &plain(0o644)),
                    _ => editor.write([name, b"/new".as_slice()].concat(), small("new"), &plain(0o644)),
                };
            }
            let _ = editor.finish();
        }
    }
}
