//! A part of a disk that looks like a disk of its own: what a partition's file system is given.

use std::ops::Range;

use super::{Disk, DiskError, DiskMut, FileRange, Piece, check};

/// A range of another disk; offset 0 is the range's start.
pub struct Window<'disk> {
    disk: &'disk mut dyn DiskMut,
    start: u64,
    size: u64,
}

impl<'disk> Window<'disk> {
    /// The bytes `range` of `disk`.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if `range` does not lie within `disk`.
    pub fn new(disk: &'disk mut dyn DiskMut, range: Range<u64>) -> Result<Self, DiskError> {
        let size = range.end.saturating_sub(range.start);
        check(range.start, size, disk.size())?;
        Ok(Self { disk, start: range.start, size })
    }
}

impl Disk for Window<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check(offset, buffer.len() as u64, self.size)?;
        self.disk.read_at(self.start + offset, buffer)
    }

    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError> {
        check(range.start, range.end.saturating_sub(range.start), self.size)?;
        let mut pieces = self.disk.pieces(self.start + range.start..self.start + range.end)?;
        pieces.iter_mut().for_each(|piece| piece.offset -= self.start);
        Ok(pieces)
    }
}

impl DiskMut for Window<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        check(offset, bytes.len() as u64, self.size)?;
        self.disk.write_at(self.start + offset, bytes)
    }

    fn map(&mut self, offset: u64, range: FileRange) -> Result<(), DiskError> {
        check(offset, range.len(), self.size)?;
        self.disk.map(self.start + offset, range)
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        check(offset, len, self.size)?;
        self.disk.zero(self.start + offset, len)
    }
}
