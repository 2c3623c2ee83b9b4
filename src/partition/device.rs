//! A disk with a position, which is how the partition crates want it.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::{Deref, DerefMut};

use crate::disk::{Disk, DiskMut};

/// A reference to a disk, read and written at a position.
pub(super) struct Device<D> {
    disk: D,
    position: u64,
}

impl<D> Device<D> {
    pub(super) fn new(disk: D) -> Self {
        Self { disk, position: 0 }
    }
}

impl<D> fmt::Debug for Device<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<D: Deref<Target: Disk>> Read for Device<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.disk.size().saturating_sub(self.position)).unwrap_or(usize::MAX);
        let (part, _) = buffer.split_at_mut(buffer.len().min(left));
        if !part.is_empty() {
            self.disk.read_at(self.position, part).map_err(io::Error::other)?;
            self.position += part.len() as u64;
        }
        Ok(part.len())
    }
}

impl<D: DerefMut<Target: DiskMut>> Write for Device<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write_at(self.position, bytes).map_err(io::Error::other)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Deref<Target: Disk>> Seek for Device<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.disk.size().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
