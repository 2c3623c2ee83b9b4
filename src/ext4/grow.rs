//! Growing: more groups, and their descriptors.
//!
//! Every new group keeps its bitmaps and inode table at its own start, which `flex_bg` allows. Descriptors go into the
//! blocks that are reserved for them. When these are used up, they go into the new groups: the file system becomes one with
//! `meta_bg`, as when the kernel grows it (ext4_convert_meta_bg in fs/ext4/resize.c of Linux 6.12). resize2fs
//! would move files out of the way instead. The descriptors that there are stay in place either way, so boot
//! loaders that know no `meta_bg` find what they found before.

use super::bitmap::Bitmap;
use super::error::Ext4Error;
use super::features;
use super::group::{self, Group};
use super::layout::{Backups, Layout, Run};
use super::record::low32;
use super::resize_inode::ReservedBlocks;
use super::superblock;
use super::volume::Volume;

/// A last group with fewer blocks than this to spare is not worth having; as resize2fs has it.
const LEAST_SPARE: u64 = 50;
/// Bytes of bitmaps that growing may make: enough for 1 TiB with blocks of 1 KiB.
const MOST_BITMAPS: u64 = 256 << 20;

/// What the file system is to become; what the image may have wrong was checked.
pub(super) struct Growth {
    layout: Layout,
    reserved: Option<ReservedBlocks>,
}

impl Layout {
    /// The geometry with `blocks` blocks, or with a few less if the last group would hold next to nothing.
    fn grown(&self, blocks: u64, resizable: bool) -> Self {
        let new = self.with_blocks(blocks, resizable);
        let last = new.groups() - 1;
        let overhead = new.base_blocks(last) + 2 + new.inode_table_blocks();
        if last >= self.groups() && u64::from(new.group_len(last)) < overhead + LEAST_SPARE {
            return self.with_blocks(new.group_start(last).0, resizable);
        }
        new
    }

    fn with_blocks(&self, blocks: u64, resizable: bool) -> Self {
        let mut new = self.clone();
        new.blocks = blocks;
        new.backups = self.backups.grown(self.groups(), new.groups());
        let (have, needed) = (self.descriptor_blocks(), new.descriptor_blocks());
        let room = have + u64::from(self.reserved_descriptor_blocks);
        if self.first_meta_group.is_some() || needed == have {
            return new;
        }
        if resizable && needed <= room {
            new.reserved_descriptor_blocks = low32(room - needed);
        } else {
            new.reserved_descriptor_blocks = 0;
            new.first_meta_group = Some(low32(room));
        }
        new
    }
}

impl Backups {
    /// With `sparse_super2` a backup stays where it is, as the kernel has it; one that there were too few groups
    /// for is added, as resize2fs has it.
    fn grown(self, old: u32, new: u32) -> Self {
        match self {
            Self::Two(first, second) if new > old => Self::Two(
                if old == 1 { 1 } else { first },
                if old < 3 && new > 2 && second == 0 { new - 1 } else { second },
            ),
            other => other,
        }
    }
}

impl Volume<'_> {
    /// What it takes to make the file system `size` bytes large, rounded down to what groups allow; nothing if it is.
    pub(super) fn growth(&mut self, size: u64) -> Result<Option<Growth>, Ext4Error> {
        if size > self.disk.size() {
            return Err(Ext4Error::DiskTooSmall { asked: size, disk: self.disk.size() });
        }
        let old = self.layout.clone();
        let blocks = size / u64::from(old.block_size);
        if blocks < old.blocks {
            return Err(Ext4Error::Shrink { size: old.bytes(old.blocks), asked: size });
        }
        let most = old.most_blocks(self.superblock.has_incompat(features::BITS64)).min(self.most_initialised());
        if blocks > most {
            return Err(Ext4Error::GrowLimit { asked: size, limit: old.bytes(most) });
        }
        let resizable = self.superblock.has_compat(features::RESIZE_INODE);
        let layout = old.grown(blocks, resizable);
        if layout.blocks <= old.blocks {
            return Ok(None);
        }
        layout.check_copies()?;
        self.block_bitmap(old.groups() - 1)?;
        let reserved = self.reserved_blocks()?;
        Ok(Some(Growth { layout, reserved }))
    }

    /// Blocks that the file system may grow to where new groups need bitmaps at once, which are in memory together.
    fn most_initialised(&self) -> u64 {
        if self.checksums.descriptors() {
            return u64::MAX;
        }
        let groups = MOST_BITMAPS / self.layout.bytes(2) + u64::from(self.layout.groups());
        groups.saturating_mul(self.layout.blocks_per_group.into())
    }

    /// Grows as [`Volume::growth`] found.
    pub(super) fn grow(&mut self, growth: Growth) -> Result<(), Ext4Error> {
        let old = std::mem::replace(&mut self.layout, growth.layout);
        let last = old.groups() - 1;
        self.extend_last_group(last, old.group_len(last), self.layout.group_len(last))?;
        for number in old.groups()..self.layout.groups() {
            self.add_group(number);
        }
        self.update_counts(&old);
        if self.layout.first_meta_group.is_some() {
            self.drop_reserved_blocks(growth.reserved)?;
        } else if let Some(list) = growth.reserved {
            self.store_reserved_blocks(&old, list)?;
        }
        self.groups_grew(last);
        Ok(())
    }

    fn extend_last_group(&mut self, last: u32, old: u32, new: u32) -> Result<(), Ext4Error> {
        self.block_bitmap(last)?.grow(new);
        let group = self.group(last)?;
        group.set_free_blocks(group.free_blocks() + (new - old));
        self.free.blocks += u64::from(new - old);
        Ok(())
    }

    fn add_group(&mut self, number: u32) {
        let layout = &self.layout;
        let base = layout.base_blocks(number);
        let table_blocks = layout.inode_table_blocks();
        let own = Run { start: layout.group_start(number), len: base + 2 + table_blocks };
        let place = own.start.plus(base);
        let mut group = Group::new(vec![0; usize::from(layout.descriptor_size)]);
        group.set_places(place, place.plus(1), place.plus(2));
        group.set_free_blocks(layout.group_len(number).saturating_sub(low32(own.len)));
        group.set_free_inodes(layout.inodes_per_group);
        group.set(group::FLAGS, self.new_group_flags(layout, number));
        if self.checksums.descriptors() {
            group.set_unused_inodes(layout.inodes_per_group);
            group.unused_on_disk = layout.inodes_per_group;
        }
        self.claims.push(own);
        if !group.has(group::BLOCK_UNINIT) {
            group.blocks = Some(self.claims.bitmap(layout, number));
        }
        if !group.has(group::INODE_UNINIT) {
            group.inodes = Some(Bitmap::empty(layout.block_size, layout.inodes_per_group));
        }
        self.free.blocks += u64::from(group.free_blocks());
        self.free.inodes += u64::from(group.free_inodes());
        self.groups.push(group);
        self.zeroed.push((layout.bytes(place.plus(2).0), layout.bytes(table_blocks)));
    }

    fn update_counts(&mut self, old: &Layout) {
        let new = &self.layout;
        let reserved = u128::from(self.superblock.reserved_blocks()) * u128::from(new.blocks) / u128::from(old.blocks);
        self.superblock.set_blocks(new.blocks);
        self.superblock.set_reserved_blocks(u64::try_from(reserved).unwrap_or(u64::MAX));
        self.superblock.set(superblock::INODES_COUNT, low32(new.inode_count()));
        let left = u16::try_from(new.reserved_descriptor_blocks).unwrap_or_default();
        self.superblock.set(superblock::RESERVED_GDT_BLOCKS, left);
        if let Some(first) = new.first_meta_group {
            let incompat = self.superblock.get(superblock::FEATURE_INCOMPAT);
            self.superblock.set(superblock::FEATURE_INCOMPAT, incompat | features::META_BG);
            self.superblock.set(superblock::FIRST_META_BG, first);
        }
        if let Backups::Two(first, second) = new.backups {
            self.superblock.set(superblock::BACKUP_BGS_0, first);
            self.superblock.set(superblock::BACKUP_BGS_1, second);
        }
        // The kernel counts it when it mounts.
        self.superblock.set(superblock::OVERHEAD_CLUSTERS, 0);
    }
}
