//! e2fsck's opinion, when it is asked for: `IMGBAKE_FUZZ_E2FSCK=1`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use imgbake::{Disk as _, Overlay, Source};

/// Larger disks are not written out.
const LARGEST: u64 = 1 << 40;

/// Panics if e2fsck finds something to repair.
pub(crate) fn e2fsck(name: &str, disk: &Overlay) {
    if std::env::var_os("IMGBAKE_FUZZ_E2FSCK").is_none() || disk.size() > LARGEST {
        return;
    }
    let path = std::env::temp_dir().join(format!("imgbake-fuzz-{}.img", std::process::id()));
    write(disk, &path).expect("a temporary file");
    let judged = Command::new("e2fsck")
        .arg("-fn")
        .arg(&path)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .expect("e2fsck; install the package e2fsprogs");
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{name}: e2fsck on {}:\n{said}", path.display());
    std::fs::remove_file(&path).expect("it was just written");
}

/// The disk as a file with holes.
fn write(disk: &Overlay, path: &Path) -> std::io::Result<()> {
    let file = File::create(path)?;
    file.set_len(disk.size())?;
    for piece in disk.pieces(0..disk.size()).map_err(std::io::Error::other)? {
        if let Source::Bytes(bytes, from) = piece.source {
            file.write_all_at(&bytes[from..][..piece.len as usize], piece.offset)?;
        }
    }
    Ok(())
}
