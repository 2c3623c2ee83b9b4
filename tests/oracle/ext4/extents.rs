//! Files whose blocks lie as only the kernel, time or size lay them: preallocated, sparse, in pieces, very large.

use std::path::Path;
use std::process::Command;

use imgbake::ext4::{Editor, Ext4Error};
use imgbake::{Content, Disk, HostFile};

use super::features::{debugfs, pattern, read, small};
use super::image::{Image, plain, run};

const MIB: u64 = 1 << 20;

fn preallocate(path: &Path, offset: u64, len: u64, flags: rustix::fs::FallocateFlags) {
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    rustix::fs::fallocate(&file, flags, offset, len).unwrap();
}

/// Extents as only the kernel makes them; debugfs's `fallocate` serves those who are not root.
#[test]
fn preallocated_sparse_and_fragmented_files() {
    use rustix::fs::FallocateFlags;
    let mut image = Image::make(128 * MIB, &["-b", "1024", "-O", "^has_journal"]);
    let root = image.as_root(|folder| {
        preallocate(&folder.join("zeros"), 0, 1 << 20, FallocateFlags::empty());
        std::fs::write(folder.join("more"), pattern(5000)).unwrap();
        preallocate(&folder.join("more"), 0, 1 << 20, FallocateFlags::KEEP_SIZE);
        let holes = folder.join("holes");
        std::fs::write(&holes, pattern(30 << 20)).unwrap();
        // Depth 2 takes more than 4 × 84 extents.
        for hole in 0..6000 {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            preallocate(&holes, hole * 4096, 1024, flags);
        }
        let huge = std::fs::File::create(folder.join("huge")).unwrap();
        huge.set_len(6 << 30).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&huge, b"far", 5 << 30).unwrap();
    });
    if !root {
        let value = image.folder().join("content");
        image.host_file("content", &pattern(5000));
        debugfs(&image, &[&format!("write {} more", value.display()), "fallocate /more 5 900"]);
        debugfs(&image, &["mknod zeros p", "rm zeros"]);
    }
    image.check();
    assert_eq!(read(&image, |reader| reader.read("/more", 5000).unwrap().unwrap()), pattern(5000));
    if root {
        assert!(image.debugfs("ex /holes").contains(" 2/ 2"), "a tree of three levels");
        read(&image, |reader| {
            assert!(reader.read("/zeros", 1 << 20).unwrap().unwrap() == vec![0; 1 << 20]);
            let mut want = pattern(30 << 20);
            (0..6000).for_each(|hole| want[hole * 4096..hole * 4096 + 1024].fill(0));
            assert!(reader.read("/holes", 30 << 20).unwrap().unwrap() == want);
            assert_eq!(reader.metadata("/huge").unwrap().unwrap().size, 6 << 30);
            assert!(matches!(reader.read("/huge", 1 << 20), Err(Ext4Error::TooLarge { .. })));
        });
    }
    let free = image.edit_here(|editor| {
        for name in ["/zeros", "/holes", "/huge"] {
            assert!(editor.remove(name).unwrap() == root);
        }
        editor.write("/more", small("x"), &plain(0o644)).unwrap();
        editor.free_bytes()
    });
    image.check();
    image.edit_here(|editor| {
        assert!(editor.remove("/more").unwrap());
        assert_eq!(editor.free_bytes(), free + 1024);
    });
    image.check();
}

/// A file of ext3 in a file system that has extents now, made by the kernel and larger than 4 GiB.
#[test]
fn sparse_files_without_extents() {
    let mut image = Image::make(64 * MIB, &["-b", "1024", "-O", "^extent,^64bit"]);
    image.as_root(|folder| {
        let huge = std::fs::File::create(folder.join("huge")).unwrap();
        for place in [0, 13 << 10, 300 << 10, 70 << 20, 5 << 30] {
            std::os::unix::fs::FileExt::write_all_at(&huge, b"here", place).unwrap();
        }
        let sparse = std::fs::File::create(folder.join("sparse")).unwrap();
        for place in [500, 13 << 10, 300 << 10, 20 << 20] {
            std::os::unix::fs::FileExt::write_all_at(&sparse, b"here", place).unwrap();
        }
    });
    run("e2fsprogs", Command::new("tune2fs").args(["-O", "extent"]).arg(&image.path));
    image.check();
    let root = read(&image, |reader| {
        let Some(bytes) = reader.read("/sparse", 1 << 30).unwrap() else { return false };
        assert_eq!(bytes.len(), (20 << 20) + 4);
        let at = |place: usize| &bytes[place..place + 4];
        assert!([500, 13 << 10, 300 << 10, 20 << 20].into_iter().all(|place| at(place) == b"here"));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 16);
        assert_eq!(reader.metadata("/huge").unwrap().unwrap().size, (5 << 30) + 4);
        true
    });
    image.edit_here(|editor| {
        assert_eq!(editor.remove("/huge").unwrap(), root);
        editor.write("/sparse", small("x"), &plain(0o644)).unwrap();
    });
    image.check();
    assert!(image.debugfs("stat /sparse").contains("0x80000"), "the new file has extents");
}

/// An edited image without its longest runs of contents, as a sparse file: e2fsck does not look at them.
fn export_in_part(disk: &dyn Disk, path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(disk.size()).unwrap();
    for piece in disk.pieces(0..disk.size()).unwrap() {
        let len = usize::try_from(piece.len).unwrap();
        let place = |bytes: &[u8]| std::os::unix::fs::FileExt::write_all_at(&file, bytes, piece.offset).unwrap();
        match piece.source {
            imgbake::Source::Bytes(bytes, from) => place(&bytes[from..from + len]),
            imgbake::Source::File(range) if piece.len <= 64 * MIB => {
                let mut bytes = vec![0; len];
                range.read_at(0, &mut bytes).unwrap();
                place(&bytes);
            }
            _ => {}
        }
    }
}

#[test]
fn files_of_more_than_four_gigabytes() {
    const LARGE: u64 = (5 << 30) + 12_345;
    for options in [&["-O", "^has_journal"][..], &["-t", "ext2"]] {
        let mut image = Image::make(8 << 30, &[options, &["-b", "4096", "-N", "2048"]].concat());
        let path = image.folder().join("large");
        std::fs::File::create(&path).unwrap().set_len(LARGE).unwrap();
        let content = Content::File(imgbake::FileRange::whole(HostFile::open(&path).unwrap()));
        for replaced in [false, true] {
            let mut overlay = image.overlay();
            let mut editor = Editor::open(&mut overlay).unwrap();
            if replaced {
                assert_eq!(editor.metadata("/large").unwrap().unwrap().size, LARGE);
                assert!(editor.remove("/large").unwrap());
            }
            editor.write("/large", content.clone(), &plain(0o644)).unwrap();
            assert_eq!(editor.finish().unwrap().mapped_bytes, LARGE);
            let next = image.folder().join("next.img");
            export_in_part(&overlay, &next);
            drop(overlay);
            std::fs::rename(next, &image.path).unwrap();
            image.check();
            assert!(image.debugfs("stat /large").contains(&format!("Size: {LARGE}")));
        }
        image.as_root(|folder| assert_eq!(std::fs::metadata(folder.join("large")).unwrap().len(), LARGE));
    }
}
