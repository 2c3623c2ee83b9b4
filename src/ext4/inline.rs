//! Files, links and folders that an inode keeps in itself (the feature `inline_data`): the 60 bytes where the
//! map of blocks would be, and behind them the extended attribute `system.data` inside the inode.
//! Written from the kernel's Documentation/filesystems/ext4/inlinedata.rst.
//!
//! Such contents are read, replaced and removed. New ones go to blocks, and so does a folder that changes.

use super::error::Ext4Error;
use super::inode::{self, InodeNumber};
use super::record::Number;
use super::volume::Volume;
use super::xattr_name::{Name, Value};

/// The directory's parent, in the place of its entries `.` and `..`.
const PARENT: usize = 4;

/// An inline directory's two runs of entries.
pub(super) struct InlineEntries {
    pub(super) parent: InodeNumber,
    pub(super) areas: [Vec<u8>; 2],
}

impl Volume<'_> {
    /// The two parts of what inode `number` keeps in itself.
    fn inline_parts(&mut self, number: InodeNumber) -> Result<(Vec<u8>, Vec<u8>), Ext4Error> {
        let damaged = |what: &str| Ext4Error::corrupt(format!("inode {} is stored inline and {what}", number.0));
        let start = self.inode(number)?.block().to_vec();
        match self.xattrs_inside(number)?.remove(&Name::inline_data()) {
            Some(Value::Bytes(rest)) => Ok((start, rest)),
            _ => Err(damaged("has no attribute for its contents")),
        }
    }

    /// The contents of inode `number`, which keeps them in itself.
    pub(super) fn inline_contents(&mut self, number: InodeNumber) -> Result<Vec<u8>, Ext4Error> {
        let size = super::record::index(self.inode(number)?.size());
        let (mut contents, rest) = self.inline_parts(number)?;
        contents.extend(rest);
        if contents.len() < size {
            let what = format!("inode {} is stored inline and shorter than its size says", number.0);
            return Err(Ext4Error::corrupt(what));
        }
        contents.truncate(size);
        Ok(contents)
    }

    /// The entries of directory `number`, which keeps them in itself.
    pub(super) fn inline_entries(&mut self, number: InodeNumber) -> Result<InlineEntries, Ext4Error> {
        let (start, rest) = self.inline_parts(number)?;
        let parent = InodeNumber(u32::load(&start, 0));
        Ok(InlineEntries { parent, areas: [start.get(PARENT..).unwrap_or_default().to_vec(), rest] })
    }

    /// Takes away what inode `number` keeps in itself; it has no contents then.
    pub(super) fn drop_inline(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let mut xattrs = self.xattrs(number)?;
        xattrs.remove(&Name::inline_data());
        let inode = self.inode(number)?;
        inode.set_flag(inode::INLINE_DATA_FLAG, false);
        inode.block_mut().fill(0);
        self.set_xattrs(number, &xattrs)
    }
}
