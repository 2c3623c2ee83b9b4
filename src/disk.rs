//! Disks as the byte rooms see them: a size, bytes at offsets, and the pieces they are made of.
//!
//! [`Disk`] is what can be read, [`DiskMut`] what can also be changed. [`FileDisk`] is a raw image in a
//! file, [`Overlay`] a changed disk over one that never changes, [`Window`] a partition's view.
//! Nothing here copies file contents: [`DiskMut::map`] only notes where the bytes are.

mod file;
mod overlay;
mod window;

use std::ops::Range;
use std::sync::Arc;

pub use file::{FileDisk, FileRange, HostFile};
pub use overlay::Overlay;
pub use window::Window;

/// What can go wrong below the file systems.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host failed to read a file that the disk is made of.
    #[error("cannot read {len} bytes at offset {offset} of `{path}`")]
    Io {
        /// The file on the host.
        path: String,
        /// Byte offset in that file.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// The system's error.
        source: std::io::Error,
    },
    /// Somebody asked for bytes past the end: with a damaged image, the usual sign of truncation.
    #[error("bytes {offset}..{end} lie past the end of the disk ({size} bytes)")]
    OutOfBounds {
        /// First byte asked for.
        offset: u64,
        /// One past the last byte asked for.
        end: u64,
        /// The disk's size in bytes.
        size: u64,
    },
}

/// A disk that can be read. Offsets and sizes are bytes.
pub trait Disk: Send + Sync {
    /// The disk's size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if the range does not lie within the disk, [`DiskError::Io`] if the host fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// What `range` is made of: pieces in order, without gaps, none empty.
    ///
    /// # Errors
    /// As [`Disk::read_at`].
    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError>;
}

/// A disk that can be changed.
pub trait DiskMut: Disk {
    /// Puts `bytes` at `offset`.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if the range does not lie within the disk.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the bytes from `offset` be those of `range`, without reading them now.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if the range does not lie within the disk.
    fn map(&mut self, offset: u64, range: FileRange) -> Result<(), DiskError>;

    /// Makes `len` bytes from `offset` zero (a hole where the output can have holes).
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if the range does not lie within the disk.
    fn zero(&mut self, offset: u64, len: u64) -> Result<(), DiskError>;
}

/// A run of a disk's bytes and where they come from.
#[derive(Debug, Clone)]
pub struct Piece {
    /// First byte's offset on the disk.
    pub offset: u64,
    /// Bytes; never zero.
    pub len: u64,
    /// Where they are.
    pub source: Source,
}

/// Where a piece's bytes are.
#[derive(Debug, Clone)]
pub enum Source {
    /// They are zero.
    Zero,
    /// In memory, from the given index on.
    Bytes(Arc<[u8]>, usize),
    /// In a file of the host, as they are.
    File(FileRange),
    /// Only [`Disk::read_at`] knows (a compressed or otherwise encoded base).
    Opaque,
}

/// The contents that a file inside an image gets.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A range of a file of the host; mapped, not copied.
    File(FileRange),
}

impl Content {
    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.len(),
        }
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A disk of `0` bytes: what an [`Overlay`] stands on when a disk is made from nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct ZeroDisk {
    size: u64,
}

impl ZeroDisk {
    /// A disk of `size` zero bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size }
    }
}

impl Disk for ZeroDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check(offset, buffer.len() as u64, self.size)?;
        buffer.fill(0);
        Ok(())
    }

    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError> {
        let len = range.end.saturating_sub(range.start);
        check(range.start, len, self.size)?;
        Ok(if len == 0 { Vec::new() } else { vec![Piece { offset: range.start, len, source: Source::Zero }] })
    }
}

/// Whether `len` bytes at `offset` lie within a disk of `size` bytes; answers the end.
fn check(offset: u64, len: u64, size: u64) -> Result<u64, DiskError> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(end),
        end => Err(DiskError::OutOfBounds { offset, end: end.unwrap_or(u64::MAX), size }),
    }
}
