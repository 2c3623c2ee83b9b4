//! Checks the ext4 file systems of an image: of a disk with partitions, or of a bare one.
//!
//! Nothing is changed. What is found wrong goes to the caller as it is found, with the partition it is on.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskError, FileDisk, HostFile, Overlay, Window};
use crate::ext4::{self, Ext4Error, Finding, Verified};
use crate::image;
use crate::partition::{PartitionError, Table};
use crate::progress::Progress;
use crate::store::{Store, StoreError};

/// Why an image could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read or unpacked.
    #[error(transparent)]
    Store(StoreError),
    /// The partition table is not usable, and the file is no file system either.
    #[error("cannot check `{image}`")]
    Partition {
        /// The image.
        image: String,
        /// Why.
        source: PartitionError,
    },
    /// The disk cannot be read.
    #[error("cannot read `{image}`")]
    Disk {
        /// The image.
        image: String,
        /// Why.
        source: DiskError,
    },
    /// A file system cannot be checked.
    #[error("cannot check {0}", part(.image, .partition))]
    FileSystem {
        /// The image.
        image: String,
        /// The partition; none for a bare file system.
        partition: Option<u32>,
        /// Why.
        source: Ext4Error,
    },
    /// There is nothing to check.
    #[error("`{image}` has no ext2, ext3 or ext4 file system on any of its {partitions} partitions")]
    NoFileSystem {
        /// The image.
        image: String,
        /// How many partitions there are.
        partitions: usize,
    },
}

fn part(image: &str, partition: &Option<u32>) -> String {
    match partition {
        Some(number) => format!("partition {number} of `{image}`"),
        None => format!("`{image}`"),
    }
}

impl VerifyError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            // What unpacked it knows best what to do.
            Self::Store(StoreError::Unpack { source, .. }) => {
                source.downcast_ref::<image::ImageError>().and_then(image::ImageError::hint)
            }
            Self::Store(error) => error.hint(),
            Self::Partition { source: PartitionError::NoTable, .. } => Some(
                "give a disk image with a partition table, or the image of an ext2, ext3 or ext4 file system"
                    .to_owned(),
            ),
            Self::Partition { source, .. } => source.hint(),
            Self::FileSystem { source, .. } => source.hint(),
            Self::Disk { .. } | Self::NoFileSystem { .. } => None,
        }
    }
}

/// A file system that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The partition that holds it; none for a bare one.
    pub partition: Option<u32>,
    /// Its label; empty if it has none.
    pub label: String,
    /// What there was.
    pub verified: Verified,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.label.is_empty() { String::new() } else { format!(" (`{}`)", self.label.escape_debug()) };
        match self.partition {
            Some(number) => write!(f, "partition {number}{name}: ")?,
            None => write!(f, "file system{name}: ")?,
        }
        let Verified { folders, files, inodes, blocks, findings } = self.verified;
        write!(f, "{folders} folders, {files} files, {inodes} inodes and {blocks} blocks in use; ")?;
        match findings {
            0 => write!(f, "nothing is wrong"),
            1 => write!(f, "1 thing is wrong"),
            _ => write!(f, "{findings} things are wrong"),
        }
    }
}

/// Checks every ext2, ext3 and ext4 file system of the image at `path`, raw or in `.xz`, which `store` unpacks.
/// What is wrong goes to `report` with the number of its partition, 0 for a bare file system.
///
/// # Errors
/// [`VerifyError`]. Damage of a file system is none.
pub fn verify_image(
    path: &Path,
    store: &Store,
    progress: &dyn Progress,
    report: &mut dyn FnMut(u32, &Finding),
) -> Result<Vec<Checked>, VerifyError> {
    let image = path.display().to_string();
    let unpack = |packed: &Arc<HostFile>, raw: &mut File, progress: &dyn Progress| {
        image::unpack(packed, raw, progress).map(drop)
    };
    let file = store.unpacked(path, progress, unpack).map_err(VerifyError::Store)?;
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(file));
    let mut checked = Vec::new();
    let bare = check(disk.as_ref(), &image, None, progress, report)?;
    if let Some(bare) = bare {
        checked.push(bare);
        return Ok(checked);
    }
    let table = Table::read(disk.as_ref()).map_err(|source| VerifyError::Partition { image: image.clone(), source })?;
    // A window wants a disk that can be changed; this one is thrown away unchanged.
    let mut overlay = Overlay::new(Arc::clone(&disk), disk.size());
    for partition in table.partitions() {
        let window = Window::new(&mut overlay, partition.range())
            .map_err(|source| VerifyError::Disk { image: image.clone(), source })?;
        checked.extend(check(&window, &image, Some(partition.number), progress, report)?);
    }
    if checked.is_empty() {
        return Err(VerifyError::NoFileSystem { image, partitions: table.partitions().len() });
    }
    Ok(checked)
}

/// Checks the file system at the start of `disk`, if it is one.
fn check(
    disk: &dyn Disk,
    image: &str,
    partition: Option<u32>,
    progress: &dyn Progress,
    report: &mut dyn FnMut(u32, &Finding),
) -> Result<Option<Checked>, VerifyError> {
    let step = partition.map_or_else(|| "checking".to_owned(), |number| format!("checking partition {number}"));
    progress.begin(&step, None);
    let verified = ext4::verify(disk, &mut |finding| report(partition.unwrap_or(0), &finding));
    progress.end();
    match verified {
        Ok(verified) => Ok(Some(Checked { partition, label: ext4::label(disk).unwrap_or_default(), verified })),
        Err(error) if error.is_foreign() => Ok(None),
        Err(source) => Err(VerifyError::FileSystem { image: image.to_owned(), partition, source }),
    }
}
