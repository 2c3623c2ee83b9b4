//! Partition tables, FAT, images and sinks, judged by sfdisk, sgdisk, fsck.fat, mtools, xz and cmp.

#[path = "disks/fat.rs"]
mod fat;
#[path = "disks/image.rs"]
mod image;
#[path = "disks/partition.rs"]
mod partition;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use imgbake::{Disk, FileDisk, HostFile, Overlay, Source, ZeroDisk};

const MIB: u64 = 1024 * 1024;

/// Runs a tool, whose package is named if it is missing, and answers what it says; it must exit with 0.
fn run(package: &str, tool: &str, arguments: &[&str]) -> String {
    let (code, text) = try_run(package, tool, arguments);
    assert_eq!(code, Some(0), "{tool} {arguments:?}: {text}");
    text
}

fn try_run(package: &str, tool: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(tool).args(arguments).env("PATH", path).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("`{tool}` cannot run ({error}): install package `{package}`"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn shell(script: &str) -> String {
    run("dash", "sh", &["-ec", script])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// An empty disk.
fn blank(size: u64) -> Overlay {
    Overlay::new(Arc::new(ZeroDisk::new(size)), size)
}

/// A disk over an image in a file.
fn over(path: &Path, size: u64) -> Overlay {
    Overlay::new(Arc::new(FileDisk::new(HostFile::open(path).unwrap())), size)
}

/// Writes a disk to a sparse file without the room under test.
fn save(disk: &dyn Disk, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(disk.size()).unwrap();
    for piece in disk.pieces(0..disk.size()).unwrap() {
        for at in (0..piece.len).step_by(65536).filter(|_| !matches!(piece.source, Source::Zero)) {
            let mut bytes = vec![0; usize::try_from((piece.len - at).min(65536)).unwrap()];
            disk.read_at(piece.offset + at, &mut bytes).unwrap();
            file.write_all_at(&bytes, piece.offset + at).unwrap();
        }
    }
}
