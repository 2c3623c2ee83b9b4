//! Images that lie: few bytes that ask for much work or memory. What fuzzing found that takes a file system to show.

use std::os::unix::fs::FileExt as _;
use std::process::Command;

use imgbake::Content;
use imgbake::ext4::{Editor, Ext4Error, Reader};

use super::image::{Image, plain, run};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

fn patch(image: &Image, offset: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(&image.path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// The block `block` of a file.
fn place(image: &Image, path: &str, block: u32) -> u32 {
    image.debugfs(&format!("bmap {path} {block}")).trim().parse().unwrap()
}

#[test]
fn a_map_of_blocks_that_lists_itself_is_refused() {
    // Large enough that the number of blocks is no bound worth having.
    let mut image = Image::make(1 << 40, &["-O", "^metadata_csum,^has_journal", "-N", "131072", "-b", "4096"]);
    image.edit_here(|editor| editor.write("/file", Content::Bytes(vec![1; 4096]), &plain(0o644)).unwrap());
    let map = place(&image, "/file", 0);
    patch(&image, u64::from(map) * BLOCK, &map.to_le_bytes().repeat(1024));
    let script = image.folder().join("script");
    let requests = ["flags 0", "block[0] 0", &format!("block[TIND] {map}")];
    std::fs::write(&script, requests.map(|request| format!("set_inode_field /file {request}\n")).concat()).unwrap();
    run("e2fsprogs", Command::new("debugfs").arg("-w").arg("-f").arg(script).arg(&image.path));
    let disk = image.overlay();
    let error = Reader::open(&disk).unwrap().read("/file", MIB).unwrap_err();
    assert!(error.to_string().ends_with("has a tree of blocks that meets itself"), "{error}");
}

#[test]
fn growing_stops_where_the_bitmaps_of_new_groups_would_fill_the_memory() {
    let image = Image::make(64 * MIB, &["-O", "^metadata_csum,^uninit_bg,64bit", "-b", "1024"]);
    let mut disk = image.overlay();
    disk.resize(1 << 42).unwrap();
    let mut editor = Editor::open(&mut disk).unwrap();
    let error = editor.grow(1 << 41).unwrap_err();
    assert!(matches!(error, Ext4Error::GrowLimit { limit, .. } if limit > 1 << 40), "{error}");
}

/// A few thousand of these would fill the memory.
#[test]
fn folders_that_share_their_blocks_are_refused_before_anything_changes() {
    let mut image = Image::make(16 << 20, &["-b", "1024", "-O", "^metadata_csum"]);
    image.edit_here(|editor| {
        for folder in ["/d", "/d/one", "/d/two"] {
            editor.mkdir(folder, &plain(0o755)).unwrap();
        }
    });
    let shared = place(&image, "/d/one", 0);
    // Where its one extent begins.
    image.debugfs_write(&[format!("sif /d/two block[5] {shared}")]);
    let mut overlay = image.overlay();
    let mut editor = Editor::open(&mut overlay).unwrap();
    let error = editor.remove("/d").unwrap_err();
    assert!(matches!(&error, Ext4Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("have the same block"), "{error}");
    editor.finish().unwrap();
}
