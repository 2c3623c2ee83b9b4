//! Growing: more groups, their descriptors, and the inode that owns the blocks reserved for these.
//!
//! Every new group keeps its bitmaps and inode table at its own start, which `flex_bg` allows. The blocks
//! reserved for descriptors belong to inode 7: a double-indirect tree that lists each reserved block of
//! the first group, which lists its copies in the backup groups.

use super::error::Ext4Error;
use super::features;
use super::group::{self, Group};
use super::inode;
use super::layout::{BlockNumber, Layout};
use super::record::{Number, count, low32};
use super::superblock;
use super::volume::Volume;

/// A last group with fewer blocks than this to spare is not worth having; as resize2fs has it.
const LEAST_SPARE: u64 = 50;

impl Volume<'_> {
    /// Makes the file system `size` bytes large, rounded down to what groups allow.
    pub(super) fn grow(&mut self, size: u64) -> Result<(), Ext4Error> {
        if size > self.disk.size() {
            return Err(Ext4Error::DiskTooSmall { asked: size, disk: self.disk.size() });
        }
        let old = self.layout.clone();
        let blocks = size / u64::from(old.block_size);
        if blocks < old.blocks {
            return Err(Ext4Error::Shrink { size: old.bytes(old.blocks), asked: size });
        }
        let new = self.grown_layout(size, blocks)?;
        if new.blocks <= old.blocks {
            return Ok(());
        }
        // All that can fail on the image's account comes before the first change.
        let last = old.groups() - 1;
        self.block_bitmap(last)?;
        let reserved = self.reserved_blocks_tree()?;

        self.layout = new.clone();
        self.extend_last_group(last, old.group_len(last), new.group_len(last))?;
        for number in old.groups()..new.groups() {
            self.add_group(number)?;
        }
        self.update_counts(&old);
        if let Some(tree) = reserved {
            self.store_reserved_blocks(&old, tree)?;
        }
        self.groups_grew(last);
        Ok(())
    }

    /// The geometry for `blocks` blocks, or for a few less if the last group would hold next to nothing.
    fn grown_layout(&self, size: u64, blocks: u64) -> Result<Layout, Ext4Error> {
        let old = &self.layout;
        let descriptor_room = old.descriptor_blocks() + u64::from(old.reserved_descriptor_blocks);
        let mut new = old.clone();
        new.blocks = blocks;
        // While groups are counted, descriptors and reserved blocks together stay what they were.
        new.reserved_descriptor_blocks = 0;
        let last = new.groups() - 1;
        let base = if new.has_backup(last) { 1 + descriptor_room } else { 0 };
        let overhead = base + 2 + new.inode_table_blocks();
        if last >= old.groups() && u64::from(new.group_len(last)) < overhead + LEAST_SPARE {
            new.blocks = new.group_start(last).0;
        }
        let resizable = self.superblock.has_compat(features::RESIZE_INODE);
        let room = if resizable { descriptor_room } else { old.descriptor_blocks() };
        let groups = room.saturating_mul(old.descriptors_per_block().into());
        let mut most = new.group_start(u32::try_from(groups).unwrap_or(u32::MAX)).0;
        if !self.superblock.has_incompat(features::BITS64) {
            most = most.min(u32::MAX.into());
        }
        let inode_groups = u64::from(u32::MAX) / u64::from(old.inodes_per_group);
        most = most.min(inode_groups.saturating_mul(old.blocks_per_group.into()));
        if new.blocks > most {
            return Err(Ext4Error::GrowLimit { asked: size, limit: old.bytes(most) });
        }
        if new.groups() > old.groups() && self.superblock.has_compat(features::SPARSE_SUPER2) {
            return Err(Ext4Error::unsupported("the feature `sparse_super2` that is to grow by whole groups"));
        }
        let left =
            if resizable { descriptor_room - new.descriptor_blocks() } else { old.reserved_descriptor_blocks.into() };
        new.reserved_descriptor_blocks = low32(left);
        Ok(new)
    }

    fn extend_last_group(&mut self, last: u32, old: u32, new: u32) -> Result<(), Ext4Error> {
        self.block_bitmap(last)?.grow(new);
        let group = self.group(last)?;
        group.set_free_blocks(group.free_blocks() + (new - old));
        self.free.blocks += u64::from(new - old);
        Ok(())
    }

    fn add_group(&mut self, number: u32) -> Result<(), Ext4Error> {
        let layout = self.layout.clone();
        let start = layout.group_start(number).plus(layout.base_blocks(number));
        let table = start.plus(2);
        let mut group = Group::new(vec![0; usize::from(layout.descriptor_size)]);
        group.set_places(start, start.plus(1), table);
        let used = layout.base_blocks(number) + 2 + layout.inode_table_blocks();
        group.set_free_blocks(layout.group_len(number).saturating_sub(low32(used)));
        group.set_free_inodes(layout.inodes_per_group);
        group.set(group::FLAGS, self.new_group_flags(&layout, number));
        if self.checksums.descriptors() {
            group.set_unused_inodes(layout.inodes_per_group);
            group.unused_on_disk = layout.inodes_per_group;
        }
        if !group.has(group::BLOCK_UNINIT) {
            group.blocks = Some(group.computed_blocks(number, &layout));
        }
        if !group.has(group::INODE_UNINIT) {
            group.inodes = Some(super::bitmap::Bitmap::empty(layout.block_size, layout.inodes_per_group));
        }
        self.free.blocks += u64::from(group.free_blocks());
        self.free.inodes += u64::from(group.free_inodes());
        self.groups.push(group);
        self.zeroed.push((layout.bytes(table.0), layout.bytes(layout.inode_table_blocks())));
        Ok(())
    }

    fn update_counts(&mut self, old: &Layout) {
        let new = self.layout.clone();
        let reserved = u128::from(self.superblock.reserved_blocks()) * u128::from(new.blocks) / u128::from(old.blocks);
        self.superblock.set_blocks(new.blocks);
        self.superblock.set_reserved_blocks(u64::try_from(reserved).unwrap_or(u64::MAX));
        self.superblock.set(superblock::INODES_COUNT, low32(new.inode_count()));
        let left = u16::try_from(new.reserved_descriptor_blocks).unwrap_or_default();
        self.superblock.set(superblock::RESERVED_GDT_BLOCKS, left);
        // The kernel counts it when it mounts.
        self.superblock.set(superblock::OVERHEAD_CLUSTERS, 0);
    }

    /// The block that lists the first group's reserved blocks, and its bytes, checked; none without a
    /// resize inode.
    fn reserved_blocks_tree(&mut self) -> Result<Option<(BlockNumber, Vec<u8>)>, Ext4Error> {
        let reserved = self.layout.reserved_descriptor_blocks;
        if !self.superblock.has_compat(features::RESIZE_INODE) || reserved == 0 {
            return Ok(None);
        }
        let damaged = || Ext4Error::corrupt("the resize inode does not list the reserved descriptor blocks");
        let tree = BlockNumber(self.inode(inode::RESIZE)?.get(inode::DOUBLE_INDIRECT).into());
        let bytes = self.read_block(tree)?;
        let layout = &self.layout;
        let used = layout.descriptor_blocks();
        for number in used..used + u64::from(reserved) {
            let listed = u32::load(&bytes, self.reserved_slot(number));
            if u64::from(listed) != self.descriptors_start().plus(number).0 {
                return Err(damaged());
            }
        }
        if layout.backup_groups().len() > layout.addresses() {
            return Err(damaged());
        }
        Ok(Some((tree, bytes)))
    }

    /// Where the list holds the first group's descriptor block `number`.
    fn reserved_slot(&self, number: u64) -> usize {
        super::record::index(number % count(self.layout.addresses())) * 4
    }

    /// Takes the blocks that are descriptors now off the list, and adds the copies in new backup groups.
    fn store_reserved_blocks(&mut self, old: &Layout, tree: (BlockNumber, Vec<u8>)) -> Result<(), Ext4Error> {
        let (place, mut bytes) = tree;
        let new = self.layout.clone();
        for number in old.descriptor_blocks()..new.descriptor_blocks() {
            0u32.store(&mut bytes, self.reserved_slot(number));
        }
        self.change_block(place, bytes);
        let backups = new.backup_groups();
        let first = new.descriptor_blocks();
        for number in first..first + u64::from(new.reserved_descriptor_blocks) {
            let block = self.descriptors_start().plus(number);
            let mut copies = vec![0; super::record::index(new.block_size)];
            for (slot, group) in backups.iter().enumerate() {
                let copy = block.0 + u64::from(*group) * u64::from(new.blocks_per_group);
                low32(copy).store(&mut copies, slot * 4);
            }
            self.change_block(block, copies);
        }
        let blocks = 1 + u64::from(new.reserved_descriptor_blocks) * (1 + count(backups.len()));
        self.inode(inode::RESIZE)?.set_sectors(new.sectors(blocks), new.block_size);
        Ok(())
    }
}
