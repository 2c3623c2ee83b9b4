//! Which blocks and inodes get used: next fit, by size class, always the same for the same edits.
//!
//! A request is met by the largest free runs that the cursor of its size class meets; classes halve until
//! it is met. A cursor goes over the groups once, and again only after something was freed, so the whole
//! batch costs a few passes over the bitmaps that it needs.

use super::error::Ext4Error;
use super::group;
use super::inode::{Inode, InodeNumber};
use super::layout::{BlockNumber, Layout, Run};
use super::record::index;
use super::superblock;
use super::volume::Volume;

/// Size classes: runs of at least 1, 2, 4, … 4096 blocks.
const CLASSES: usize = 13;

#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    group: u32,
    bit: u32,
    /// The first group in which something was freed since the cursor passed it.
    freed: Option<u32>,
}

/// Where each size class searches on.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursors {
    blocks: [Cursor; CLASSES],
    inode_group: u32,
}

/// What all groups together have free.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Free {
    /// Blocks, those kept for root included.
    pub(super) blocks: u64,
    pub(super) inodes: u64,
}

impl Volume<'_> {
    /// Takes `blocks` free blocks, in as few runs as there are.
    pub(super) fn allocate(&mut self, blocks: u64) -> Result<Vec<Run>, Ext4Error> {
        let free = self.free.blocks;
        if blocks > free {
            return Err(Ext4Error::NoSpace { needed: self.layout.bytes(blocks), free: self.layout.bytes(free) });
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut left = blocks;
        let mut class = CLASSES - 1;
        while left > 0 {
            class = class.min(index(left.ilog2()));
            let Some((group, bit, len)) = self.find(class)? else {
                class = class
                    .checked_sub(1)
                    .ok_or_else(|| Ext4Error::corrupt("fewer blocks are free than the groups' descriptors say"))?;
                continue;
            };
            let take = u32::try_from(left).unwrap_or(u32::MAX).min(len);
            self.take(group, bit, take)?;
            let start = self.layout.group_start(group).plus(bit.into());
            match runs.last_mut() {
                Some(last) if last.start.plus(last.len) == start => last.len += u64::from(take),
                _ => runs.push(Run { start, len: take.into() }),
            }
            left -= u64::from(take);
        }
        Ok(runs)
    }

    /// The next free run of a size class: group, first bit, bits.
    fn find(&mut self, class: usize) -> Result<Option<(u32, u32, u32)>, Ext4Error> {
        let least = 1u32 << class;
        let groups = self.layout.groups();
        let Some(mut cursor) = self.cursors.blocks.get(class).copied() else { return Ok(None) };
        loop {
            while cursor.group < groups {
                if self.group(cursor.group)?.free_blocks() >= least {
                    let bitmap = self.block_bitmap(cursor.group)?;
                    while let Some(start) = bitmap.next_clear(cursor.bit) {
                        let end = bitmap.next_set(start);
                        cursor.bit = start;
                        if end - start >= least {
                            self.put_cursor(class, cursor);
                            return Ok(Some((cursor.group, start, end - start)));
                        }
                        cursor.bit = end;
                    }
                }
                cursor.group += 1;
                cursor.bit = 0;
            }
            let Some(group) = cursor.freed.take() else {
                self.put_cursor(class, cursor);
                return Ok(None);
            };
            cursor.group = group;
            cursor.bit = 0;
        }
    }

    fn put_cursor(&mut self, class: usize, cursor: Cursor) {
        if let Some(slot) = self.cursors.blocks.get_mut(class) {
            *slot = cursor;
        }
    }

    fn take(&mut self, number: u32, bit: u32, len: u32) -> Result<(), Ext4Error> {
        self.block_bitmap(number)?.set_range(bit, bit + len);
        let group = self.group(number)?;
        group.set_free_blocks(group.free_blocks().saturating_sub(len));
        self.free.blocks = self.free.blocks.saturating_sub(len.into());
        Ok(())
    }

    /// Gives blocks back.
    pub(super) fn free(&mut self, run: Run) -> Result<(), Ext4Error> {
        if !self.layout.contains(run.start, run.len) {
            return Err(Ext4Error::corrupt(format!("block {} lies outside of the file system", run.start.0)));
        }
        let end = run.start.plus(run.len);
        let stale: Vec<BlockNumber> = self.changed.range(run.start..end).map(|(block, _)| *block).collect();
        for block in stale {
            self.changed.remove(&block);
        }
        let mut at = run.start;
        while at < end {
            let (number, bit) = self.layout.locate(at)?;
            let stop = u64::from(self.layout.group_len(number)).min(u64::from(bit) + (end.0 - at.0));
            let stop = u32::try_from(stop).unwrap_or(u32::MAX);
            let claimed = self.claims.touch(Run { start: at, len: u64::from(stop - bit) });
            let bitmap = self.block_bitmap(number)?;
            if claimed || bitmap.next_clear(bit).is_some_and(|clear| clear < stop) {
                let what = format!("a file claims free blocks or metadata among the {} from {}", stop - bit, at.0);
                return Err(Ext4Error::corrupt(what));
            }
            bitmap.clear_range(bit, stop);
            let group = self.group(number)?;
            group.set_free_blocks(group.free_blocks().saturating_add(stop - bit));
            self.free.blocks += u64::from(stop - bit);
            for cursor in &mut self.cursors.blocks {
                cursor.freed = Some(cursor.freed.map_or(number, |before| before.min(number)));
            }
            at = at.plus(u64::from(stop - bit));
        }
        Ok(())
    }

    /// Lets every cursor see the groups from `group` on again: they have grown.
    pub(super) fn groups_grew(&mut self, group: u32) {
        for cursor in &mut self.cursors.blocks {
            cursor.freed = Some(cursor.freed.map_or(group, |before| before.min(group)));
        }
        self.cursors.inode_group = 0;
    }

    /// Takes the lowest free inode and puts `inode` there.
    pub(super) fn allocate_inode(&mut self, inode: Inode, directory: bool) -> Result<InodeNumber, Ext4Error> {
        let per_group = self.layout.inodes_per_group;
        for number in self.cursors.inode_group..self.layout.groups() {
            self.cursors.inode_group = number;
            if self.group(number)?.free_inodes() == 0 {
                continue;
            }
            // The kernel, too, takes a group's blocks into use together with its first inode.
            if self.group(number)?.has(group::BLOCK_UNINIT) {
                self.block_bitmap(number)?;
            }
            let reserved = if number == 0 { self.layout.first_inode - 1 } else { 0 };
            let from = self.group(number)?.inode_cursor.max(reserved);
            let bitmap = self.inode_bitmap(number)?;
            let Some(place) = bitmap.next_clear(from) else { continue };
            bitmap.set_range(place, place + 1);
            let checksums = self.checksums;
            let group = self.group(number)?;
            group.inode_cursor = place + 1;
            group.set_free_inodes(group.free_inodes().saturating_sub(1));
            if checksums.descriptors() {
                group.set_unused_inodes(group.unused_inodes().min(per_group - (place + 1)));
            }
            if directory {
                group.set_used_directories(group.used_directories().saturating_add(1));
            }
            self.free.inodes = self.free.inodes.saturating_sub(1);
            let number = InodeNumber(number * per_group + place + 1);
            self.put_inode(number, inode);
            return Ok(number);
        }
        if self.free.inodes > 0 {
            return Err(Ext4Error::corrupt("fewer inodes are free than the groups' descriptors say"));
        }
        Err(Ext4Error::NoInodes { total: self.layout.inode_count() })
    }

    /// Gives an inode back; its blocks must have been freed.
    pub(super) fn free_inode(&mut self, number: InodeNumber, directory: bool) -> Result<(), Ext4Error> {
        let (group_number, place) = self.layout.locate_inode(number)?;
        let bitmap = self.inode_bitmap(group_number)?;
        if !bitmap.get(place) {
            return Err(Ext4Error::corrupt(format!("inode {} is in use but marked free", number.0)));
        }
        bitmap.clear_range(place, place + 1);
        let group = self.group(group_number)?;
        group.inode_cursor = group.inode_cursor.min(place);
        group.set_free_inodes(group.free_inodes().saturating_add(1));
        if directory {
            group.set_used_directories(group.used_directories().saturating_sub(1));
        }
        self.free.inodes += 1;
        self.cursors.inode_group = self.cursors.inode_group.min(group_number);
        let size = self.layout.inode_size;
        self.put_inode(number, Inode::free(size));
        Ok(())
    }

    /// Whether `number` is an inode that a name may stand for.
    pub(super) fn check_nameable(&self, number: InodeNumber) -> Result<(), Ext4Error> {
        self.layout.locate_inode(number)?;
        if number != super::inode::ROOT && number.0 < self.layout.first_inode {
            return Err(Ext4Error::corrupt(format!("a folder names the reserved inode {}", number.0)));
        }
        Ok(())
    }

    /// Free bytes that are not kept for root.
    pub(super) fn free_bytes(&self) -> u64 {
        let reserved = self.superblock.reserved_blocks();
        self.layout.bytes(self.free.blocks.saturating_sub(reserved))
    }

    /// How large a new inode's extra part is.
    pub(super) fn extra_size(&self) -> u16 {
        self.superblock.get(superblock::WANT_EXTRA_ISIZE)
    }

    /// Flags for a new group: nothing in it is initialised but the inode table, which is zeroed.
    pub(super) fn new_group_flags(&self, layout: &Layout, number: u32) -> u16 {
        match (self.checksums.descriptors(), number + 1 == layout.groups()) {
            (false, _) => 0,
            (true, true) => group::INODE_UNINIT | group::ITABLE_ZEROED,
            (true, false) => group::INODE_UNINIT | group::BLOCK_UNINIT | group::ITABLE_ZEROED,
        }
    }
}
