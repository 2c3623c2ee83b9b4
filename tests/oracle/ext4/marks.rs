//! Marks that stand in the way of edits: encrypted, case-insensitive, immutable and append-only files and folders;
//! and those that new files take over.

use imgbake::Content;
use imgbake::ext4::{Editor, Ext4Error, Mark};

use super::features::{debugfs, mounted, pattern, read, small};
use super::image::{Image, export, plain};

const MIB: u64 = 1 << 20;

/// Edits that must all fail, and write nothing.
fn refused(image: &Image, edit: impl FnOnce(&mut Editor)) {
    let mut overlay = image.overlay();
    let mut editor = Editor::open(&mut overlay).unwrap();
    edit(&mut editor);
    drop(editor);
    let next = image.folder().join("next.img");
    export(&overlay, &next);
    assert!(std::fs::read(next).unwrap() == std::fs::read(&image.path).unwrap(), "something was written");
}

/// The kernel encrypts with a key that tests have; nobody else does.
#[test]
fn encrypted_folders_are_listed_and_removed_but_never_changed() {
    let mut image = Image::make(64 * MIB, &["-O", "encrypt", "-b", "4096"]);
    image.edit_here(|editor| {
        editor.mkdir("/plain", &plain(0o755)).unwrap();
        editor.write("/plain/file", small("plain"), &plain(0o644)).unwrap();
        editor.mkdir("/sealed", &plain(0o755)).unwrap();
        editor.write("/secret", small("secret"), &plain(0o644)).unwrap();
    });
    let root = mounted(&image, "test_dummy_encryption=v2", |folder| {
        for name in ["sealed", "secret"] {
            let path = folder.join(name);
            if path.is_dir() { std::fs::remove_dir(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        std::fs::create_dir(folder.join("vault")).unwrap();
        std::fs::create_dir(folder.join("vault/inner")).unwrap();
        for number in 0..300 {
            std::fs::write(folder.join(format!("vault/inner/file-{number}")), "secret").unwrap();
        }
        std::os::unix::fs::symlink("secret", folder.join("vault/link")).unwrap();
        std::fs::rename(folder.join("vault"), folder.join("sealed")).unwrap();
        std::fs::write(folder.join("secret"), "secret").unwrap();
    });
    if !root {
        debugfs(&image, &["sif /sealed flags 0x80800", "sif /secret flags 0x80800"]);
    }
    // Without a key's description, which debugfs cannot give, e2fsck would take the marks off.
    let check = |image: &Image| {
        if root {
            image.check()
        }
    };
    check(&image);
    read(&image, |reader| {
        assert_eq!(reader.read("/plain/file", 100).unwrap().unwrap(), b"plain");
        assert_eq!(reader.read_dir("/sealed").unwrap().unwrap().len(), if root { 2 } else { 0 });
        let error = reader.read("/secret", 100).unwrap_err();
        assert_eq!(error.to_string(), "`/secret` cannot be read: it is encrypted");
        assert!(reader.xattrs("/secret").unwrap().is_empty());
    });
    refused(&image, |editor| {
        let error = editor.write("/sealed/new", small("x"), &plain(0o644)).unwrap_err();
        assert_eq!(error.to_string(), "cannot put a name into the folder `/sealed`: it is encrypted");
        let hint = "put the file elsewhere, or remove the encrypted folder as a whole";
        assert_eq!(error.hint().as_deref(), Some(hint));
        let error = editor.rename("/sealed", "/plain/sealed").unwrap_err();
        assert_eq!(error.to_string(), "`/sealed` cannot be moved to another folder: it is encrypted");
        assert!(editor.rename("/plain/file", "/sealed/file").is_err());
        assert!(editor.hard_link("/sealed/file", "/plain/file").is_err());
        assert!(editor.mkdir_all("/sealed/a/b", &plain(0o755)).is_err());
    });
    image.edit_here(|editor| {
        editor.write("/plain/more", Content::Bytes(vec![1; 10_000]), &plain(0o644)).unwrap();
        editor.set_mode("/sealed", 0o700).unwrap();
        editor.set_xattr("/secret", b"user.note", &[1; 300]).unwrap();
    });
    check(&image);
    if root {
        mounted(&image, "test_dummy_encryption=v2", |folder| {
            assert_eq!(std::fs::read_to_string(folder.join("sealed/inner/file-299")).unwrap(), "secret");
            assert_eq!(std::fs::read_to_string(folder.join("secret")).unwrap(), "secret");
        });
    }
    image.edit_here(|editor| {
        assert!(editor.remove("/sealed").unwrap());
        editor.write("/secret", small("public"), &plain(0o644)).unwrap();
    });
    image.check();
    assert_eq!(image.debugfs("cat /secret"), "public");
}

#[test]
fn case_insensitive_folders_are_read_and_never_changed() {
    let mut image = Image::make(64 * MIB, &["-O", "casefold", "-E", "encoding=utf8"]);
    image.edit_here(|editor| {
        for folder in ["/plain", "/folded", "/folded/below"] {
            editor.mkdir(folder, &plain(0o755)).unwrap();
            editor.write(format!("{folder}/File"), small("text"), &plain(0o644)).unwrap();
        }
    });
    debugfs(&image, &["sif /folded flags 0x40080000"]);
    image.check();
    assert_eq!(read(&image, |reader| reader.read("/folded/File", 10).unwrap().unwrap()), b"text");
    refused(&image, |editor| {
        let error = editor.write("/folded/new", small("x"), &plain(0o644)).unwrap_err();
        let want = "cannot put a name into the folder `/folded`: it is a case-insensitive folder";
        assert_eq!(error.to_string(), want);
        let error = editor.remove("/folded/File").unwrap_err();
        assert!(matches!(error, Ext4Error::MarkedFolder { mark: Mark::CaseInsensitive, .. }), "{error}");
        assert!(editor.rename("/folded/File", "/plain/other").is_err());
        assert!(editor.rename("/folded", "/plain/folded").is_err());
    });
    image.edit_here(|editor| {
        editor.write("/folded/below/new", small("x"), &plain(0o644)).unwrap();
        editor.mkdir("/plain/new", &plain(0o755)).unwrap();
        editor.rename("/folded", "/renamed").unwrap();
    });
    image.check();
    assert!(!image.debugfs("stat /plain/new").contains("0x4000"));
    image.edit_here(|editor| assert!(editor.remove("/renamed").unwrap()));
    image.check();
}

/// A file's hashes stand behind its end, where we do not look; debugfs sets the mark alone.
#[test]
fn verity_files_are_read_replaced_and_removed() {
    let mut image = Image::make(64 * MIB, &["-O", "verity", "-b", "4096"]);
    image.edit_here(|editor| {
        for name in ["/one", "/two"] {
            editor.write(name, Content::Bytes(pattern(70_000)), &plain(0o644)).unwrap();
        }
    });
    debugfs(
        &image,
        &["sif /one flags 0x180000", "sif /one size 5000", "sif /two flags 0x180000", "sif /two size 5000"],
    );
    image.check();
    assert_eq!(read(&image, |reader| reader.read("/one", 5000).unwrap().unwrap()), pattern(5000));
    image.edit_here(|editor| {
        editor.write("/one", small("new"), &plain(0o644)).unwrap();
        assert!(editor.remove("/two").unwrap());
    });
    image.check();
}

#[test]
fn immutable_and_append_only_marks_are_respected() {
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(|editor| {
        for folder in ["/fixed", "/log", "/deep/er", "/other"] {
            editor.mkdir_all(folder, &plain(0o755)).unwrap();
            editor.write(format!("{folder}/file"), small("x"), &plain(0o644)).unwrap();
        }
        for file in ["/immutable", "/append", "/deep/er/immutable"] {
            editor.write(file, small("old"), &plain(0o644)).unwrap();
        }
    });
    debugfs(
        &image,
        &[
            "sif /immutable flags 0x80010",
            "sif /deep/er/immutable flags 0x80010",
            "sif /append flags 0x80020",
            "sif /fixed flags 0x80010",
            "sif /log flags 0x80020",
        ],
    );
    image.check();
    refused(&image, |editor| {
        let error = editor.write("/immutable", small("new"), &plain(0o644)).unwrap_err();
        assert_eq!(error.to_string(), "`/immutable` cannot be replaced: it is immutable");
        assert!(error.hint().unwrap().contains("chattr -i"));
        let error = editor.remove("/append").unwrap_err();
        assert_eq!(error.to_string(), "`/append` cannot be removed: it is append-only");
        assert!(error.hint().unwrap().contains("chattr -a"));
        let error = editor.remove("/deep").unwrap_err();
        assert_eq!(error.to_string(), "`/deep/er/immutable` cannot be removed: it is immutable");
        let error = editor.write("/fixed/new", small("x"), &plain(0o644)).unwrap_err();
        assert_eq!(error.to_string(), "cannot put a name into the folder `/fixed`: it is immutable");
        let error = editor.remove("/log/file").unwrap_err();
        assert_eq!(error.to_string(), "cannot take a name out of the folder `/log`: it is append-only");
        let marked = |result: Result<(), Ext4Error>| {
            assert!(matches!(result, Err(Ext4Error::Marked { .. } | Ext4Error::MarkedFolder { .. })), "{result:?}");
        };
        marked(editor.rename("/immutable", "/elsewhere"));
        marked(editor.rename("/other/file", "/immutable"));
        marked(editor.rename("/other/file", "/fixed/file2"));
        marked(editor.rename("/fixed/file", "/other/file2"));
        marked(editor.rename("/log/file", "/log/file2"));
        marked(editor.rename("/fixed", "/moved"));
        marked(editor.hard_link("/other/link", "/immutable"));
        marked(editor.hard_link("/fixed/link", "/other/file"));
        marked(editor.symlink("/fixed/link", "x", &plain(0)));
        marked(editor.write("/log/file", small("replaced"), &plain(0o644)));
        marked(editor.mkdir("/fixed/folder", &plain(0o755)));
        marked(editor.mkdir_all("/fixed/folder/folder", &plain(0o755)));
        marked(editor.set_mode("/immutable", 0o600));
        marked(editor.set_owner("/append", 1, 1));
        marked(editor.set_mtime("/fixed", super::image::NOON));
        marked(editor.set_xattr("/immutable", b"user.x", b"1"));
        marked(editor.remove_xattr("/immutable", b"user.x").map(drop));
        marked(editor.remove("/fixed").map(drop));
    });
    image.edit_here(|editor| {
        // As the kernel has it: an append-only folder gets more names, and what is in an immutable one can change.
        editor.write("/log/new", small("x"), &plain(0o644)).unwrap();
        editor.set_mode("/fixed/file", 0o600).unwrap();
        assert_eq!(editor.read("/immutable", 10).unwrap().unwrap(), b"old");
    });
    image.check();
}

#[test]
fn new_files_take_over_their_folder_s_flags() {
    let mut image = Image::make(64 * MIB, &[]);
    image.edit_here(|editor| editor.mkdir("/folder", &plain(0o755)).unwrap());
    // dirsync, noatime, nodump, sync, and two that are not handed on: top of hierarchies, append-only.
    debugfs(&image, &["sif /folder flags 0xb00e8"]);
    image.edit_here(|editor| {
        editor.write("/folder/file", small("x"), &plain(0o644)).unwrap();
        editor.mkdir("/folder/below", &plain(0o755)).unwrap();
        editor.symlink("/folder/link", "x", &plain(0)).unwrap();
    });
    image.check();
    let flags = |image: &Image, path: &str| {
        let text = image.debugfs(&format!("stat {path}"));
        text.split("Flags: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    for (path, want) in [("/folder/file", "0x800c8"), ("/folder/below", "0x900c8"), ("/folder/link", "0xc0")] {
        assert_eq!(flags(&image, path), want, "{path}");
    }
    // What the kernel gives its own.
    mounted(&image, "", |folder| {
        std::fs::write(folder.join("folder/file2"), "x").unwrap();
        std::fs::create_dir(folder.join("folder/below2")).unwrap();
        std::os::unix::fs::symlink("x", folder.join("folder/link2")).unwrap();
    });
    for name in ["file", "below", "link"] {
        let theirs = format!("/folder/{name}2");
        if image.debugfs(&format!("stat {theirs}")).contains("Flags") {
            assert_eq!(flags(&image, &format!("/folder/{name}")), flags(&image, &theirs), "{name}");
        }
    }
}
