//! Files as ext2 and ext3 keep them, in trees of block numbers: read, and freed. New files get extents.
//! Written from the kernel's Documentation/filesystems/ext4/blockmap.rst.

use super::FileKind;
use super::error::Ext4Error;
use super::extent::{Extent, FileBlocks};
use super::inode::InodeNumber;
use super::layout::{BlockNumber, Run};
use super::record::{Number, count, index};
use super::volume::Volume;

const DIRECT: usize = 12;

impl Volume<'_> {
    /// The blocks of an inode without an extent tree.
    pub(super) fn mapped_blocks(&mut self, number: InodeNumber) -> Result<FileBlocks, Ext4Error> {
        let mut found = FileBlocks::default();
        let block_size = self.layout.block_size;
        let inode = self.inode(number)?;
        let xattr_sectors = if inode.xattr_block().is_some() { u64::from(block_size / 512) } else { 0 };
        let stored = inode.sectors(block_size) > xattr_sectors;
        let has_blocks = matches!(inode.kind(), Some(FileKind::File | FileKind::Directory | FileKind::Symlink));
        if !has_blocks || !stored {
            return Ok(found);
        }
        let map: Vec<u64> =
            (0..inode.block().len() / 4).map(|slot| u32::load(inode.block(), slot * 4).into()).collect();
        let mut logical = 0;
        for block in map.iter().take(DIRECT) {
            self.push_block(number, *block, logical, &mut found)?;
            logical += 1;
        }
        for (levels, block) in (1..).zip(map.iter().skip(DIRECT)) {
            self.walk_map(number, *block, levels, &mut logical, &mut found)?;
        }
        Ok(found)
    }

    fn walk_map(
        &self,
        number: InodeNumber,
        block: u64,
        levels: u32,
        logical: &mut u64,
        found: &mut FileBlocks,
    ) -> Result<(), Ext4Error> {
        let span = count(self.layout.addresses()).saturating_pow(levels);
        if block == 0 {
            *logical = logical.saturating_add(span);
            return Ok(());
        }
        found.tree.push(BlockNumber(block));
        self.check_amount(number, found)?;
        let bytes = self.read_block(BlockNumber(block))?;
        for slot in 0..self.layout.addresses() {
            let child = u64::from(u32::load(&bytes, slot * 4));
            if levels > 1 {
                self.walk_map(number, child, levels - 1, logical, found)?;
            } else {
                self.push_block(number, child, *logical, found)?;
                *logical = logical.saturating_add(1);
            }
        }
        Ok(())
    }

    fn push_block(
        &self,
        number: InodeNumber,
        block: u64,
        logical: u64,
        found: &mut FileBlocks,
    ) -> Result<(), Ext4Error> {
        if block == 0 {
            return Ok(());
        }
        let start = BlockNumber(block);
        if !self.layout.contains(start, 1) {
            return Err(Ext4Error::corrupt(format!("inode {} has blocks outside of the file system", number.0)));
        }
        match found.extents.last_mut() {
            Some(last) if last.run.start.plus(last.run.len) == start && last.logical + last.run.len == logical => {
                last.run.len += 1;
            }
            _ => found.extents.push(Extent { logical, run: Run { start, len: 1 }, uninitialised: false }),
        }
        self.check_amount(number, found)
    }

    /// A tree that leads in circles would list more runs than there are blocks.
    fn check_amount(&self, number: InodeNumber, found: &FileBlocks) -> Result<(), Ext4Error> {
        if found.extents.len() + found.tree.len() > index(self.layout.blocks) {
            return Err(Ext4Error::corrupt(format!("inode {} lists more blocks than there are", number.0)));
        }
        Ok(())
    }
}
