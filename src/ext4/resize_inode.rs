//! Inode 7, which owns the blocks reserved for descriptors: a double-indirect tree that lists each reserved
//! block of the first group, which lists its copies in the backup groups.
//! Written from e2fsprogs 1.47 lib/ext2fs/res_gdt.c.

use super::error::Ext4Error;
use super::features;
use super::inode::{self, Inode};
use super::layout::{Backups, BlockNumber, Layout, Run};
use super::record::{Number, count, index, low32};
use super::superblock;
use super::volume::Volume;

/// The block that lists the first group's reserved blocks.
pub(super) struct ReservedBlocks {
    place: BlockNumber,
    bytes: Vec<u8>,
}

impl Volume<'_> {
    /// The list of reserved blocks, checked; none without a resize inode or if that never had any.
    pub(super) fn reserved_blocks(&mut self) -> Result<Option<ReservedBlocks>, Ext4Error> {
        if !self.superblock.has_compat(features::RESIZE_INODE) {
            return Ok(None);
        }
        if matches!(self.layout.backups, Backups::All) {
            return Err(Ext4Error::unsupported("the feature `resize_inode` and backups in all groups"));
        }
        let place = BlockNumber(self.inode(inode::RESIZE)?.get(inode::DOUBLE_INDIRECT).into());
        if place.0 == 0 && self.layout.reserved_descriptor_blocks == 0 {
            return Ok(None);
        }
        let bytes = self.read_block(place)?;
        let layout = &self.layout;
        let used = layout.descriptor_blocks();
        let listed = (used..used + u64::from(layout.reserved_descriptor_blocks)).all(|number| {
            let listed = u32::load(&bytes, reserved_slot(layout, number));
            u64::from(listed) == layout.leading_descriptor_block(0, number).0
        });
        if !listed || self.claims.touch(Run { start: place, len: 1 }) {
            return Err(Ext4Error::corrupt("the resize inode does not list the reserved descriptor blocks"));
        }
        Ok(Some(ReservedBlocks { place, bytes }))
    }

    /// Takes the blocks that are descriptors now off the list, and adds the copies in new backup groups.
    pub(super) fn store_reserved_blocks(&mut self, old: &Layout, list: ReservedBlocks) -> Result<(), Ext4Error> {
        let ReservedBlocks { place, mut bytes } = list;
        let new = self.layout.clone();
        for number in old.descriptor_blocks()..new.descriptor_blocks() {
            0u32.store(&mut bytes, reserved_slot(&new, number));
        }
        self.change_block(place, bytes);
        let backups = new.backup_groups();
        let first = new.descriptor_blocks();
        for number in first..first + u64::from(new.reserved_descriptor_blocks) {
            let mut copies = vec![0; index(new.block_size)];
            for (slot, group) in backups.iter().enumerate() {
                low32(new.leading_descriptor_block(*group, number).0).store(&mut copies, slot * 4);
            }
            self.change_block(new.leading_descriptor_block(0, number), copies);
        }
        let blocks = 1 + u64::from(new.reserved_descriptor_blocks) * (1 + count(backups.len()));
        self.inode(inode::RESIZE)?.set_sectors(new.sectors(blocks), new.block_size);
        Ok(())
    }

    /// Does away with the resize inode: all that was reserved holds descriptors.
    pub(super) fn drop_reserved_blocks(&mut self, list: Option<ReservedBlocks>) -> Result<(), Ext4Error> {
        if !self.superblock.has_compat(features::RESIZE_INODE) {
            return Ok(());
        }
        if let Some(list) = list {
            self.free(Run { start: list.place, len: 1 })?;
        }
        self.put_inode(inode::RESIZE, Inode::free(self.layout.inode_size));
        let compat = self.superblock.get(superblock::FEATURE_COMPAT);
        self.superblock.set(superblock::FEATURE_COMPAT, compat & !features::RESIZE_INODE);
        Ok(())
    }
}

/// Where the list holds the first group's descriptor block `number`.
fn reserved_slot(layout: &Layout, number: u64) -> usize {
    index(number % count(layout.addresses())) * 4
}
