//! One edit after the other, each with what e2fsprogs says about it.

use imgbake::ext4::{Editor, Ext4Error, FileKind};
use imgbake::{Content, FileDisk, HostFile, Overlay, ZeroDisk};

use super::edits;
use super::image::{Image, export, plain, run};
use super::model::{Body, Limits, Model};
use super::shuffle::Random;

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

#[test]
fn attributes_as_the_kernel_reads_them() {
    let mut image = Image::make(64 * MIB, &["-b", "4096"]);
    let mut model = Model::default();
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 6, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend_from_slice(&[tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let mut attributes = plain(0o775);
    attributes.xattrs.insert(b"system.posix_acl_access".to_vec(), acl.clone());
    let mut folder = attributes.clone();
    folder.xattrs.insert(b"system.posix_acl_default".to_vec(), acl);
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    attributes.xattrs.insert(b"security.capability".to_vec(), capability);
    attributes.xattrs.insert(b"user.large".to_vec(), vec![5; 3000]);
    image.edit_here(|editor| {
        editor.mkdir("/d", &folder).unwrap();
        editor.write("/d/f", Content::Bytes(b"x".to_vec()), &attributes).unwrap();
        let error = editor.set_xattr("/d/f", b"user.more", &[1; 2000]).unwrap_err();
        assert!(matches!(error, Ext4Error::XattrsTooLarge { .. }), "{error}");
    });
    image.check();
    model.add("/d", Body::Directory, folder);
    model.add("/d/f", Body::File(b"x".to_vec()), attributes);
    model.compare_kernel(&image);
    image.edit_here(|editor| model.compare_editor(editor));
}

/// Files whose attributes share a block, which only the kernel makes: others look at blocks of their own.
#[test]
fn shared_attribute_blocks_are_told_apart() {
    let mut image = Image::make(64 * MIB, &["-b", "4096"]);
    let paths: Vec<String> = (0..5).map(|number| format!("/file-{number}")).collect();
    let mut attributes = plain(0o644);
    attributes.xattrs.insert(b"user.large".to_vec(), vec![7; 1000]);
    let root = image.as_root(|folder| {
        for path in &paths {
            let path = folder.join(&path[1..]);
            std::fs::write(&path, "x").unwrap();
            rustix::fs::setxattr(&path, c"user.large", &[7; 1000], rustix::fs::XattrFlags::CREATE).unwrap();
        }
    });
    if root {
        let block = |path: &str| image.debugfs(&format!("stat {path}")).split("File ACL: ").nth(1).map(str::to_owned);
        assert!(block(&paths[0]).unwrap().starts_with(block(&paths[4]).unwrap().split_whitespace().next().unwrap()));
    } else {
        image.edit_here(|editor| {
            paths.iter().for_each(|path| editor.write(path, Content::Bytes(b"x".to_vec()), &attributes).unwrap());
        });
    }
    image.edit_here(|editor| {
        editor.set_xattr(&paths[0], b"user.own", b"1").unwrap();
        assert!(editor.remove(&paths[1]).unwrap());
        assert!(editor.remove_xattr(&paths[2], b"user.large").unwrap());
        assert_eq!(editor.xattrs(&paths[3]).unwrap(), attributes.xattrs);
    });
    image.check();
    image.edit_here(|editor| paths.iter().for_each(|path| assert_eq!(editor.remove(path).unwrap(), *path != paths[1])));
    image.check();
}

/// ext3's files in a file system that was converted: read, moved, replaced, removed.
#[test]
fn files_without_extents() {
    let source = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(source.path().join("d")).unwrap();
    let bytes: Vec<u8> = (0..600_000u32).map(|at| u8::try_from(at / 1000 % 251).unwrap()).collect();
    for number in 0..200 {
        std::fs::write(source.path().join(format!("d/name-of-file-{number}")), &bytes[..number * 100]).unwrap();
    }
    std::fs::write(source.path().join("large"), &bytes).unwrap();
    std::fs::write(source.path().join("larger"), bytes.repeat(20)).unwrap();
    let folder = source.path().to_str().unwrap();
    let mut image = Image::make(64 * MIB, &["-O", "^extent,^64bit,^metadata_csum", "-b", "1024", "-d", folder]);
    run("e2fsprogs", std::process::Command::new("tune2fs").args(["-O", "extent"]).arg(&image.path));
    image.edit_here(|editor| {
        assert!(editor.read("/large", 1 << 20).unwrap().unwrap() == bytes);
        assert!(editor.read("/larger", 1 << 24).unwrap().unwrap() == bytes.repeat(20));
        editor.write("/d/new", Content::Bytes(bytes.clone()), &plain(0o644)).unwrap();
        editor.write("/large", Content::Bytes(b"small".to_vec()), &plain(0o644)).unwrap();
        editor.rename("/d/name-of-file-7", "/seven").unwrap();
        assert!(editor.remove("/larger").unwrap());
    });
    image.check();
    image.edit_here(|editor| assert!(editor.remove("/d").unwrap()));
    image.check();
}

#[test]
fn too_much_is_refused_and_nothing_is_written() {
    let image = Image::make(16 * MIB, &["-N", "32"]);
    let mut overlay = image.overlay();
    let mut editor = Editor::open(&mut overlay).unwrap();
    let error = editor.write("/f", Content::Bytes(vec![1; 20 << 20]), &plain(0o644)).unwrap_err();
    assert!(error.to_string().starts_with("the ext4 file system is full: 20971520 bytes are needed and "), "{error}");
    assert_eq!(error.hint().as_deref(), Some("bake a larger image with `--size`"));
    let error = editor.write("/".to_owned() + &"x".repeat(256), Content::Bytes(vec![]), &plain(0o644)).unwrap_err();
    assert!(matches!(error, Ext4Error::BadName { length: 256, .. }));
    let free = editor.free_inodes();
    for number in 0..free {
        editor.write(format!("/{number}"), Content::Bytes(vec![1]), &plain(0o644)).unwrap();
    }
    let error = editor.mkdir("/more", &plain(0o755)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the ext4 file system holds 32 files and folders, and all of these inodes are in use"
    );
    // Replacing still works: it needs nothing more.
    editor.write("/0", Content::Bytes(vec![2]), &plain(0o644)).unwrap();
    assert!(matches!(editor.grow(1 << 30), Err(Ext4Error::DiskTooSmall { .. })));
    assert!(matches!(editor.grow(1 << 20), Err(Ext4Error::Shrink { .. })));
    drop(editor);
    let next = image.folder().join("next.img");
    export(&overlay, &next);
    assert!(std::fs::read(next).unwrap() == std::fs::read(&image.path).unwrap(), "something was written");
}

#[test]
fn paths_follow_the_image_s_links_and_never_leave_it() {
    let mut image = Image::make(16 * MIB, &[]);
    image.edit_here(|editor| {
        editor.mkdir_all("/a/b", &plain(0o755)).unwrap();
        editor.write("/a/b/f", Content::Bytes(b"f".to_vec()), &plain(0o644)).unwrap();
        for (path, target) in [
            ("/absolute", "/a/b"),
            ("/up", "../../../../a"),
            ("/a/b/back", "../b/./back2"),
            ("/a/b/back2", "f"),
            ("/round", "/round2"),
            ("/round2", "round"),
            ("/dangling", "/a/missing"),
            ("/host", "/etc/passwd"),
        ] {
            editor.symlink(path, target, &plain(0)).unwrap();
        }
        for (path, want) in [
            ("absolute/f", Some("/a/b/f")),
            ("/up/b/../b/f", Some("/a/b/f")),
            ("//a/./b/back/", Some("/a/b/f")),
            ("/../../a", Some("/a")),
            ("/", Some("/")),
            ("/dangling", None),
            ("/host", None),
            ("/a/b/f/..", None),
            ("/nothing/here", None),
        ] {
            assert_eq!(
                editor.resolve(path).unwrap().map(|path| String::from_utf8(path).unwrap()).as_deref(),
                want,
                "{path}"
            );
        }
        assert!(matches!(editor.resolve("/round"), Err(Ext4Error::TooManySymlinks { limit: 40, .. })));
        assert_eq!(editor.metadata("/round").unwrap().unwrap().kind, FileKind::Symlink);
        editor.write("/absolute/g", Content::Bytes(b"g".to_vec()), &plain(0o644)).unwrap();
        editor.write("/host", Content::Bytes(b"replaced".to_vec()), &plain(0o644)).unwrap();
        assert_eq!(editor.metadata("/host").unwrap().unwrap().kind, FileKind::File);
        let error = editor.write("/nothing/here", Content::Bytes(vec![]), &plain(0o644)).unwrap_err();
        assert_eq!(error.to_string(), "`/nothing/here` cannot be made: its folder does not exist in the image");
        assert!(matches!(
            editor.write("/a", Content::Bytes(vec![]), &plain(0o644)),
            Err(Ext4Error::IsADirectory { .. })
        ));
        assert!(matches!(editor.mkdir("/a", &plain(0o755)), Err(Ext4Error::Exists { .. })));
        assert!(matches!(editor.remove("/"), Err(Ext4Error::Invalid { .. })));
        editor.mkdir_all("/dangling/deep", &plain(0o755)).unwrap();
        assert_eq!(editor.metadata("/a/missing/deep").unwrap().unwrap().kind, FileKind::Directory);
    });
    image.check();
    assert_eq!(image.debugfs("cat /a/b/g"), "g");
}

#[test]
fn uncommon_features_are_kept_or_refused() {
    for features in ["^filetype", "sparse_super2,^resize_inode", "^dir_nlink,^large_file,^huge_file", "verity"] {
        let mut image = Image::make(300 * MIB, &["-O", features, "-b", "1024"]);
        let host = edits::host(&image);
        let mut model = Model { limits: Limits::of(&image), ..Model::default() };
        image.edit_here(|editor| model.edit(editor, &edits::some(9, 200), &host));
        image.check();
        model.compare_kernel(&image);
    }
    for (features, name) in [("bigalloc", "`bigalloc`"), ("quota", "`quota`"), ("project,quota", "`quota`, `project`")]
    {
        let image = Image::make(64 * MIB, &["-O", features]);
        let mut overlay = image.overlay();
        let error = Editor::open(&mut overlay).err().unwrap();
        assert!(matches!(error, Ext4Error::Unsupported { .. }));
        assert!(error.to_string().contains(name), "{features}: {error}");
    }
}

#[test]
fn a_truncated_image_is_said_to_be_one() {
    let image = Image::make(64 * MIB, &[]);
    let mut overlay = Overlay::new(std::sync::Arc::new(FileDisk::new(HostFile::open(&image.path).unwrap())), 60 * MIB);
    let error = Editor::open(&mut overlay).err().unwrap();
    let want = "the ext4 file system is damaged: it has 67108864 bytes and its disk or partition only 62914560 (a truncated image?)";
    assert_eq!(error.to_string(), want);
    let mut nothing = Overlay::new(std::sync::Arc::new(ZeroDisk::new(0)), 60 * MIB);
    assert!(matches!(Editor::open(&mut nothing), Err(Ext4Error::NotExt4 { found: 0 })));
}

#[test]
fn the_same_edits_give_the_same_bytes() {
    let base = Image::make(64 * MIB, &[]);
    let bake = || {
        let mut image = base.copy("baked.img");
        let host = edits::host(&image);
        let mut model = Model { limits: Limits::of(&image), ..Model::default() };
        image.edit(300 * MIB, |editor| {
            editor.set_time(super::image::NOON);
            editor.grow(300 * MIB).unwrap();
            model.edit(editor, &edits::some(42, 400), &host);
        });
        image.check();
        std::fs::read(&image.path).unwrap()
    };
    assert!(bake() == bake());
}

/// One byte or a few changed at random: an error or a result, but no panic, and soon.
#[test]
fn damaged_images_do_no_harm() {
    for features in ["^metadata_csum", "^metadata_csum,^64bit,uninit_bg", "metadata_csum"] {
        let mut image = Image::make(16 * MIB, &["-O", features, "-N", "256"]);
        image.edit_here(|editor| {
            editor.mkdir_all("/d/e", &plain(0o755)).unwrap();
            for number in 0..60 {
                let name = format!("/d/{}-{number}", "n".repeat(50));
                editor.write(name, Content::Bytes(vec![1; number * 100]), &plain(0o644)).unwrap();
            }
            editor.symlink("/link", "d/e", &plain(0)).unwrap();
        });
        let good = std::fs::read(&image.path).unwrap();
        let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0 && good[*at] != 1).collect();
        let mut random = Random(7);
        for _ in 0..600 {
            let mut bad = good.clone();
            for _ in 0..1 + random.below(3) {
                bad[used[random.below(used.len())]] =
                    [0, 0xff, 0x7f, 2][random.below(4)] ^ u8::try_from(random.below(3)).unwrap();
            }
            let mut overlay = Overlay::new(std::sync::Arc::new(ZeroDisk::new(0)), 64 * MIB);
            imgbake::DiskMut::write_at(&mut overlay, 0, &bad).unwrap();
            let _ = try_everything(&mut overlay);
        }
    }
}

fn try_everything(overlay: &mut Overlay) -> Result<(), Ext4Error> {
    let mut editor = Editor::open(overlay)?;
    let _ = editor.grow(60 * MIB);
    let _ = editor.read_dir("/d");
    let _ = editor.read("/d/e/../x", 100);
    let _ = editor.xattrs("/d");
    let _ = editor.resolve("/link/x");
    let _ = editor.write("/link/new", Content::Bytes(vec![1; 100_000]), &plain(0o644));
    let _ = editor.remove("/d");
    editor.finish().map(drop)
}

/// A kernel adds to the folders we packed, and resize2fs grows the file system further. Only root can have the
/// kernel do its part.
#[test]
fn a_running_system_goes_on_from_what_we_leave() {
    let mut image = Image::make(100 * MIB, &["-b", "1024", "-O", "metadata_csum_seed,orphan_file", "-N", "20000"]);
    let name = |number: usize| format!("d/a-name-of-some-length-{number}");
    image.edit(900 * MIB, |editor| {
        editor.grow(300 * MIB).unwrap();
        editor.mkdir("/d", &plain(0o755)).unwrap();
        for number in 0..3000 {
            editor.write(name(number), Content::Bytes(vec![1; 10]), &plain(0o644)).unwrap();
        }
    });
    let root = image.as_root(|folder| {
        for number in 3000..9000 {
            std::fs::write(folder.join(name(number)), vec![2; 3000]).unwrap();
        }
        (0..500).for_each(|number| std::fs::remove_file(folder.join(name(number * 7))).unwrap());
        std::fs::write(folder.join("large"), vec![3; 150 << 20]).unwrap();
    });
    image.check();
    run("e2fsprogs", std::process::Command::new("resize2fs").arg("-f").arg(&image.path));
    image.check();
    image.edit_here(|editor| {
        assert_eq!(editor.size(), 900 * MIB);
        assert_eq!(editor.read_dir("/d").unwrap().unwrap().len(), if root { 8500 } else { 3000 });
        assert!(editor.remove("/d").unwrap());
    });
    image.check();
}
