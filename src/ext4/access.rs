//! The disk below a file system, for reading only or for both.

use std::ops::Range;

use super::error::Ext4Error;
use crate::disk::{Disk, DiskMut, FileRange, Piece};

/// What a volume may do with its disk.
pub(super) enum Access<'disk> {
    Read(&'disk dyn Disk),
    Write(&'disk mut dyn DiskMut),
}

impl Access<'_> {
    pub(super) fn may_write(&self) -> bool {
        matches!(self, Self::Write(_))
    }

    fn disk(&self) -> &dyn Disk {
        match self {
            Self::Read(disk) => *disk,
            Self::Write(disk) => *disk,
        }
    }

    /// The disk's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.disk().size()
    }

    /// Fills `buffer` from `offset`; `action` is what an error says was being done.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8], action: &'static str) -> Result<(), Ext4Error> {
        self.disk().read_at(offset, buffer).map_err(Ext4Error::disk(action))
    }

    /// What `range` is made of.
    pub(super) fn pieces(&self, range: Range<u64>, action: &'static str) -> Result<Vec<Piece>, Ext4Error> {
        self.disk().pieces(range).map_err(Ext4Error::disk(action))
    }

    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8], action: &'static str) -> Result<(), Ext4Error> {
        self.writable()?.write_at(offset, bytes).map_err(Ext4Error::disk(action))
    }

    pub(super) fn map(&mut self, offset: u64, range: FileRange, action: &'static str) -> Result<(), Ext4Error> {
        self.writable()?.map(offset, range).map_err(Ext4Error::disk(action))
    }

    pub(super) fn zero(&mut self, offset: u64, len: u64, action: &'static str) -> Result<(), Ext4Error> {
        self.writable()?.zero(offset, len).map_err(Ext4Error::disk(action))
    }

    fn writable(&mut self) -> Result<&mut dyn DiskMut, Ext4Error> {
        match self {
            Self::Write(disk) => Ok(*disk),
            Self::Read(_) => Err(Ext4Error::unsupported("changes to a disk that was opened for reading")),
        }
    }
}
