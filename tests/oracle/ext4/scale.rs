//! Large amounts: many files, long files, torn free space, far growth.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imgbake::ext4::Editor;
use imgbake::{Content, FileDisk, FileRange, HostFile, Overlay};

use super::image::{Image, plain};

const MIB: u64 = 1 << 20;

/// Generous for a busy machine without optimisation; a quadratic step takes far longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn sparse(image: &Image, len: u64) -> Arc<HostFile> {
    let path = image.folder().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(len).unwrap();
    HostFile::open(&path).unwrap()
}

#[test]
fn sixty_thousand_files_in_one_batch() {
    let image = Image::make(4096 * MIB, &["-N", "120000"]);
    let host = sparse(&image, 1400 * MIB);
    let mut overlay = Overlay::new(Arc::new(FileDisk::new(HostFile::open(&image.path).unwrap())), 4096 * MIB);
    let start = Instant::now();
    let mut editor = Editor::open(&mut overlay).unwrap();
    for folder in 0..600 {
        editor.mkdir_all(format!("/usr/share/d{}/{folder}", folder % 10), &plain(0o755)).unwrap();
    }
    for file in 0..60_000u64 {
        let range = FileRange::new(Arc::clone(&host), file * 23_000, 23_000).unwrap();
        let folder = file % 600;
        let path = format!("/usr/share/d{}/{folder}/file-{file}", folder % 10);
        editor.write(path, Content::File(range), &plain(0o644)).unwrap();
    }
    let summary = editor.finish().unwrap();
    let took = start.elapsed();
    assert_eq!(summary.mapped_bytes, 60_000 * 23_000);
    eprintln!("60,000 files took {took:?}");
    assert!(took < PATIENCE, "it took {took:?}");
    let next = image.folder().join("next.img");
    super::image::export(&overlay, &next);
    std::fs::rename(next, &image.path).unwrap();
    image.check();
}

#[test]
fn one_folder_with_forty_thousand_entries() {
    for block_size in ["1024", "4096"] {
        let mut image = Image::make(256 * MIB, &["-N", "60000", "-b", block_size]);
        let start = Instant::now();
        image.edit_here(|editor| {
            editor.mkdir("/d", &plain(0o755)).unwrap();
            for number in 0..40_000 {
                editor.write(format!("/d/entry-number-{number}"), Content::Bytes(vec![]), &plain(0o644)).unwrap();
            }
        });
        image.check();
        image.edit_here(|editor| {
            for number in 0..40_000 {
                if number % 3 == 0 {
                    assert!(editor.remove(format!("/d/entry-number-{number}")).unwrap());
                }
            }
            assert_eq!(editor.read_dir("/d").unwrap().unwrap().len(), 26_666);
        });
        assert!(start.elapsed() < PATIENCE);
        image.check();
        assert!(image.debugfs("htree_dump /d").contains("Indirect levels: "));
    }
}

/// More subfolders than a link count can say: it says 1.
#[test]
fn a_folder_with_more_subfolders_than_it_can_count() {
    let mut image = Image::make(256 * MIB, &["-N", "70000", "-b", "1024", "-O", "dir_nlink"]);
    image.edit_here(|editor| {
        editor.mkdir("/d", &plain(0o755)).unwrap();
        for number in 0..65_010 {
            editor.mkdir(format!("/d/{number}"), &plain(0o755)).unwrap();
        }
    });
    image.check();
    image.edit_here(|editor| {
        assert_eq!(editor.metadata("/d").unwrap().unwrap().links, 1);
        for number in 0..100 {
            assert!(editor.remove(format!("/d/{number}")).unwrap());
        }
    });
    image.check();
    image.edit_here(|editor| assert!(editor.remove("/d").unwrap()));
    image.check();
}

#[test]
fn a_file_of_more_than_four_gibibytes() {
    let mut image = Image::make(6000 * MIB, &[]);
    let host = sparse(&image, 5000 * MIB + 1);
    image.edit_here(|editor| {
        editor.write("/long", Content::File(FileRange::whole(host)), &plain(0o644)).unwrap();
        let metadata = editor.metadata("/long").unwrap().unwrap();
        assert_eq!(metadata.size, 5000 * MIB + 1);
    });
    image.check();
    assert!(image.debugfs("stat /long").contains(&format!("Size: {}", 5000 * MIB + 1)));
    image.edit_here(|editor| assert!(editor.remove("/long").unwrap()));
    image.check();
}

/// Free space in single blocks: extent trees of two levels, in new files and old ones.
#[test]
fn torn_free_space() {
    for block_size in ["1024", "4096"] {
        let mut image = Image::make(64 * MIB, &["-m", "0", "-N", "30000", "-b", block_size]);
        let bytes: Vec<u8> = (0..8_000_000u32).map(|at| u8::try_from(at / 1024 % 251).unwrap()).collect();
        let host = image.host_file("content", &bytes);
        let block: usize = block_size.parse().unwrap();
        let pieces = 45_000_000 / block / 2;
        let pieces = pieces.min(14_000);
        image.edit_here(|editor| {
            for number in 0..pieces * 2 {
                editor.write(format!("/piece-{number}"), Content::Bytes(vec![1; block]), &plain(0o600)).unwrap();
            }
            // What is left in one piece goes to a file, so that only the holes remain.
            let left = editor.free_bytes().saturating_sub(MIB);
            editor.write("/rest", Content::Bytes(vec![2; usize::try_from(left).unwrap()]), &plain(0o600)).unwrap();
            for number in 0..pieces {
                assert!(editor.remove(format!("/piece-{}", number * 2)).unwrap());
            }
            editor.write("/torn", Content::File(FileRange::whole(host)), &plain(0o600)).unwrap();
        });
        image.check();
        assert!(image.debugfs("extents /torn").lines().count() > 400);
        image.edit_here(|editor| {
            assert!(editor.read("/torn", 1 << 30).unwrap().unwrap() == bytes);
            editor.write("/torn", Content::Bytes(bytes[..5_000_000].to_vec()), &plain(0o600)).unwrap();
            assert!(editor.remove("/rest").unwrap());
        });
        image.check();
        image.edit_here(|editor| assert!(editor.read("/torn", 1 << 30).unwrap().unwrap() == bytes[..5_000_000]));
    }
}

#[test]
fn far_growth_uses_reserved_descriptors() {
    for (options, from, to) in [
        (&["-b", "4096"][..], 500 * MIB, 70_000 * MIB + 4096 * 777),
        (&["-b", "1024"], 200 * MIB, 3000 * MIB),
        (&["-b", "4096", "-O", "^64bit,^metadata_csum"], 500 * MIB, 40_000 * MIB),
        (&["-b", "4096", "-O", "^flex_bg"], 500 * MIB, 20_000 * MIB + 30 * MIB),
        (&["-b", "4096", "-E", "resize=10000000"], 500 * MIB, 33_000 * MIB),
    ] {
        let mut image = Image::make(from, options);
        image.edit(to, |editor| {
            editor.grow(to).unwrap();
            editor.write("/file", Content::Bytes(vec![1; 1000]), &plain(0o644)).unwrap();
        });
        image.check();
        image.edit(to + 500 * MIB, |editor| editor.grow(to + 500 * MIB).unwrap());
        image.check();
    }
}

#[test]
fn every_size_of_the_last_group_will_do() {
    let mut image = Image::make(140 * MIB, &["-b", "1024", "-N", "4096"]);
    for step in 0..40u64 {
        let size = 140 * MIB + step * 700 * 1024 + step;
        image.edit(size, |editor| editor.grow(size).unwrap());
        image.check();
    }
}
