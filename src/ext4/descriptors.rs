//! The table of group descriptors: which blocks hold it and its copies, how it is read and written.
//!
//! Without `meta_bg` the whole table follows the superblock in the first group and in each group with a backup.
//! With it that holds for the table's first `s_first_meta_bg` blocks alone. Each further block describes a meta
//! group, as many groups as it has descriptors, and lies in the first, second and last of these: behind the
//! superblock if the group has one, else at its start. Blocks are reserved for more descriptors only without `meta_bg`.
//!
//! Written from the kernel's Documentation/filesystems/ext4/blockgroup.rst and fs/ext4/balloc.c of Linux 6.12.

use super::claims::Claims;
use super::error::Ext4Error;
use super::group::{self, Group};
use super::layout::{BlockNumber, Layout};
use super::record::{index, low32};
use super::superblock;
use super::volume::Volume;

/// The most bytes that the table may have with all its copies, which are in memory together: enough for 16 TiB.
const MOST_BYTES: u64 = 256 << 20;

impl Layout {
    pub(super) fn descriptors_per_block(&self) -> u32 {
        self.block_size / u32::from(self.descriptor_size)
    }

    /// Blocks of the table.
    pub(super) fn descriptor_blocks(&self) -> u64 {
        u64::from(self.groups()).div_ceil(self.descriptors_per_block().into())
    }

    /// Blocks of the table that follow the superblock.
    pub(super) fn leading_descriptor_blocks(&self) -> u64 {
        self.first_meta_group.map_or_else(|| self.descriptor_blocks(), u64::from)
    }

    /// Refuses a table that with its copies would take more memory than an image may make us use.
    pub(super) fn check_copies(&self) -> Result<(), Ext4Error> {
        let leading = self.leading_descriptor_blocks();
        let copies = 1 + super::record::count(self.backup_groups().len());
        let others = self.descriptor_blocks().saturating_sub(leading).saturating_mul(3);
        let bytes = self.bytes(leading.saturating_mul(copies).saturating_add(others));
        if bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(Ext4Error::unsupported(format!("{bytes} bytes of group descriptors and their copies")))
    }

    /// Whether `group` is described by one of these.
    fn is_led(&self, group: u32) -> bool {
        self.first_meta_group.is_none_or(|first| group / self.descriptors_per_block() < first)
    }

    /// Blocks at the start of `group` that hold superblock, descriptors and the room for more of these.
    pub(super) fn base_blocks(&self, group: u32) -> u64 {
        let superblocks = u64::from(self.has_backup(group));
        let per_block = self.descriptors_per_block();
        if !self.is_led(group) {
            return superblocks + u64::from([0, 1, per_block - 1].contains(&(group % per_block)));
        }
        let descriptors = self.leading_descriptor_blocks() + u64::from(self.reserved_descriptor_blocks);
        superblocks * (self.boot_blocks(group) + 1 + descriptors)
    }

    /// Blocks of `group` before its superblock: one where small blocks are counted from the boot sector's on.
    fn boot_blocks(&self, group: u32) -> u64 {
        u64::from(group == 0 && self.block_size == 1024 && self.first_data_block == 0)
    }

    /// Where `group`, one with a backup, has the table's block `number` if that follows the superblock.
    pub(super) fn leading_descriptor_block(&self, group: u32, number: u64) -> BlockNumber {
        self.group_start(group).plus(self.boot_blocks(group) + 1 + number)
    }

    /// The places of the table's block `number`, first the one that is read. `backups` are the backup groups.
    fn descriptor_places(&self, number: u64, backups: &[u32]) -> Vec<BlockNumber> {
        if number < self.leading_descriptor_blocks() {
            let led = backups.iter().copied().filter(|group| self.is_led(*group));
            return std::iter::once(0).chain(led).map(|group| self.leading_descriptor_block(group, number)).collect();
        }
        let per_block = self.descriptors_per_block();
        let first = low32(number).saturating_mul(per_block);
        [first, first + 1, first + per_block - 1]
            .into_iter()
            .filter(|group| *group < self.groups())
            .map(|group| self.group_start(group).plus(self.has_backup(group).into()))
            .collect()
    }
}

impl Volume<'_> {
    /// Reads all descriptors, whatever they say.
    pub(super) fn load_groups(&mut self) -> Result<(), Ext4Error> {
        let size = usize::from(self.layout.descriptor_size);
        self.groups.clear();
        for number in 0..self.layout.descriptor_blocks() {
            let Some(place) = self.layout.descriptor_places(number, &[]).first().copied() else { break };
            let bytes = self.read_block(place)?;
            let left = index(self.layout.groups()) - self.groups.len();
            self.groups.extend(bytes.chunks_exact(size).take(left).map(|bytes| Group::new(bytes.to_vec())));
        }
        Ok(())
    }

    /// Refuses wrong descriptors, and adds up what they call free.
    pub(super) fn check_groups(&mut self) -> Result<(), Ext4Error> {
        self.free = Default::default();
        for (number, group) in (0..).zip(&self.groups) {
            self.check_group(number, group)?;
            self.free.blocks += u64::from(group.free_blocks());
            self.free.inodes += u64::from(group.free_inodes());
        }
        self.claims = Claims::new(&self.layout, &self.groups)?;
        Ok(())
    }

    fn check_group(&self, number: u32, group: &Group) -> Result<(), Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("group {number}'s descriptor has a wrong {what}")));
        if self.checksums.descriptors()
            && group.get(group::CHECKSUM) != self.checksums.descriptor(number, group.bytes())
        {
            return damaged("checksum");
        }
        // A hole in place of the table would make each group's metadata begin at block 0. That must end with the first:
        // a few bytes can claim millions of groups.
        let first = self.layout.group_start(0).plus(self.layout.base_blocks(0));
        let places = group.places(number, &self.layout);
        if places.into_iter().any(|run| !self.layout.contains(run.start, run.len))
            || places.into_iter().skip(1).any(|run| run.start < first)
        {
            return damaged("place for its bitmaps or inode table");
        }
        let inodes = self.layout.inodes_per_group;
        if group.free_blocks() > self.layout.group_len(number) {
            return damaged("number of free blocks");
        }
        if group.free_inodes() > inodes || group.used_directories() > inodes {
            return damaged("number of free inodes or directories");
        }
        if self.checksums.descriptors() && group.unused_inodes() > inodes {
            return damaged("number of unused inodes");
        }
        Ok(())
    }

    /// The block that holds `group`'s copy of the superblock, and where in it.
    pub(super) fn superblock_place(&self, group: u32) -> (BlockNumber, usize) {
        match (group, self.layout.block_size) {
            (0, 1024) => (BlockNumber(1), 0),
            (0, _) => (BlockNumber(0), index(superblock::OFFSET)),
            _ => (self.layout.group_start(group), 0),
        }
    }

    /// Puts superblock and descriptors, with their counts and checksums, into all places that hold them.
    pub(super) fn flush_descriptors(&mut self) -> Result<(), Ext4Error> {
        let mut table = Vec::new();
        for (number, group) in (0..).zip(&mut self.groups) {
            let checksum = self.checksums.descriptor(number, group.bytes());
            group.set(group::CHECKSUM, checksum);
            table.extend_from_slice(group.bytes());
        }
        let backups = self.layout.backup_groups();
        for (number, bytes) in (0..).zip(table.chunks(index(self.layout.block_size))) {
            for place in self.layout.descriptor_places(number, &backups) {
                self.change_block(place, bytes.to_vec());
            }
        }
        self.superblock.set_free_blocks(self.free.blocks);
        self.superblock.set(superblock::FREE_INODES_COUNT, low32(self.free.inodes));
        for group in std::iter::once(0).chain(backups) {
            let superblock = self.superblock.encode(group);
            let (block, offset) = self.superblock_place(group);
            // What lies before and behind the superblock is not ours: boot code, and padding.
            let mut bytes = self.read_block(block)?;
            if let Some(slot) = bytes.get_mut(offset..offset + superblock::SIZE) {
                slot.copy_from_slice(&superblock);
            }
            self.change_block(block, bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::{DiskMut as _, Overlay, ZeroDisk};
    use crate::ext4::superblock::Superblock;
    use crate::ext4::{Editor, Reader, features};

    /// A disk that holds nothing but a superblock, which claims `groups` groups of 128 MiB.
    fn claiming(groups: u32, ro_compat: u32) -> Overlay {
        let mut bytes = vec![0; superblock::SIZE];
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x4c] = 1;
        bytes[0x60] = 0xc0;
        let mut superblock = Superblock::parse(bytes).unwrap();
        superblock.set(superblock::STATE, 1);
        superblock.set(superblock::LOG_BLOCK_SIZE, 2);
        superblock.set(superblock::BLOCKS_PER_GROUP, 32768);
        superblock.set(superblock::INODES_PER_GROUP, 16);
        superblock.set(superblock::INODES_COUNT, groups * 16);
        superblock.set(superblock::INODE_SIZE, 256);
        superblock.set(superblock::FIRST_INO, 11);
        superblock.set(superblock::DESC_SIZE, 64);
        superblock.set(superblock::FEATURE_RO_COMPAT, ro_compat);
        superblock.set_blocks(u64::from(groups) * 32768);
        let size = u64::from(groups) << 27;
        let mut disk = Overlay::new(Arc::new(ZeroDisk::new(size)), size);
        disk.write_at(superblock::OFFSET, &superblock.encode(0)).unwrap();
        disk
    }

    #[test]
    fn a_hole_for_a_table_ends_with_the_first_group() {
        let disk = claiming(1 << 20, features::SPARSE_SUPER);
        let error = Reader::open(&disk).err().unwrap();
        let want =
            "the ext4 file system is damaged: group 0's descriptor has a wrong place for its bitmaps or inode table";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn more_groups_than_memory_holds_are_refused() {
        let disk = claiming((1 << 20) + 1, features::SPARSE_SUPER);
        assert!(matches!(Reader::open(&disk).err(), Some(Ext4Error::Unsupported { .. })));
    }

    #[test]
    fn more_copies_of_the_table_than_memory_holds_are_refused_for_writing() {
        let mut disk = claiming(4096, 0);
        let error = Editor::open(&mut disk).err().unwrap();
        let want = "an ext4 file system with 1073741824 bytes of group descriptors and their copies is not supported";
        assert_eq!(error.to_string(), want);
        assert!(matches!(Reader::open(&disk).err(), Some(Ext4Error::Corrupt { .. })));
    }
}
