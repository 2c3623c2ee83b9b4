//! Block groups: descriptors, and the places of bitmaps and inode tables.

use super::super::error::Ext4Error;
use super::super::features;
use super::super::group::{self, Group};
use super::super::layout::{BlockNumber, Run};
use super::super::superblock;
use super::Check;
use super::findings::{Place, Problem};
use super::usage::{Taken, Usage};

impl Check<'_, '_> {
    /// Checks all descriptors and claims what they, the superblocks and the inode tables take.
    pub(super) fn groups(&mut self) -> Result<(), Ext4Error> {
        // Groups may share a cluster, and may not share a block.
        self.usage = Usage::of_blocks(&self.volume.layout);
        // As e2fsprogs does, copies of superblock and descriptors come first, then group by group the rest.
        for number in 0..self.volume.layout.groups() {
            let len = self.volume.layout.base_blocks(number);
            if len > 0 {
                self.usage.claim(Run { start: self.volume.layout.group_start(number), len });
            }
        }
        let groups: Vec<(Vec<u8>, u16)> =
            self.volume.groups.iter().map(|group| (group.bytes().to_vec(), group.get(group::CHECKSUM))).collect();
        for (number, (bytes, checksum)) in (0..).zip(groups) {
            if self.volume.checksums.descriptors() && checksum != self.volume.checksums.descriptor(number, &bytes) {
                self.report(Place::Group(number), Problem::Checksum);
            }
            let group = Group::new(bytes);
            self.group_places(number, &group);
            self.group_counts(number, &group);
            if self.volume.checksums.descriptors() && group.has(group::BLOCK_UNINIT) {
                let places = group.places(number, &self.volume.layout).into_iter();
                for run in places.filter(|run| run.len > 0 && self.volume.layout.contains(run.start, run.len)) {
                    self.unmapped.claim(run);
                }
            }
        }
        let blocks = std::mem::replace(&mut self.usage, Usage::new(&self.volume.layout));
        self.usage.adopt(&blocks);
        if self.volume.superblock.has_incompat(features::MMP) {
            self.mmp_block()?;
        }
        Ok(())
    }

    /// The block that says who has the file system in use. That somebody has is not for us to judge.
    fn mmp_block(&mut self) -> Result<(), Ext4Error> {
        let block = BlockNumber(self.volume.superblock.get(superblock::MMP_BLOCK));
        let layout = &self.volume.layout;
        if block.0 <= layout.first_data_block.into() || !layout.contains(block, 1) {
            self.report(Place::Superblock, Problem::Outside { what: "block for `mmp`", block: block.0 });
            return Ok(());
        }
        if !self.volume.is_mmp_block(&self.volume.read_block(block)?) {
            self.malformed(Place::Superblock, "has a malformed block for `mmp`");
        }
        self.usage.claim(Run { start: block, len: 1 });
        Ok(())
    }

    /// Where a group's own blocks may be: with flex_bg anywhere.
    fn group_places(&mut self, number: u32, group: &Group) {
        let layout = self.volume.layout.clone();
        let flexible = self.volume.superblock.has_incompat(features::FLEX_BG);
        let start = if flexible { layout.first_data_block.into() } else { layout.group_start(number).0 };
        let end =
            if flexible { layout.blocks } else { layout.group_start(number).plus(layout.group_len(number).into()).0 };
        let places = [
            ("inode table", group.inode_table(), layout.inode_table_blocks()),
            ("block bitmap", group.block_bitmap(), 1),
            ("inode bitmap", group.inode_bitmap(), 1),
        ];
        for (what, BlockNumber(block), len) in places {
            if block < start || block.checked_add(len).is_none_or(|last| last > end) {
                self.report(Place::Group(number), Problem::Outside { what, block });
            } else if let Some(taken) = self.usage.claim(Run { start: BlockNumber(block), len }) {
                self.taken(Place::Group(number), taken);
            }
        }
    }

    fn group_counts(&mut self, number: u32, group: &Group) {
        let layout = &self.volume.layout;
        let inodes = layout.inodes_per_group;
        let last = number.saturating_add(1) == layout.groups();
        let (free_blocks, blocks) = (group.free_blocks(), layout.blocks_per_group);
        let place = Place::Group(number);
        let mut wrong = Vec::new();
        let impossible = |field, value: u32| Problem::Value { field, value: value.into() };
        if free_blocks > blocks {
            wrong.push(impossible("number of free blocks", free_blocks));
        }
        if group.free_inodes() > inodes {
            wrong.push(impossible("number of free inodes", group.free_inodes()));
        }
        if group.used_directories() > inodes {
            wrong.push(impossible("number of folders", group.used_directories()));
        }
        if self.volume.checksums.descriptors() {
            if group.unused_inodes() > group.free_inodes().min(inodes) {
                wrong.push(impossible("number of unused inodes", group.unused_inodes()));
            }
            if last && group.has(group::BLOCK_UNINIT) {
                wrong.push(Problem::Malformed("is the last, and marked as having no block bitmap"));
            }
        } else if group.has(group::BLOCK_UNINIT | group::INODE_UNINIT) || group.unused_inodes() != 0 {
            wrong.push(Problem::Malformed("is marked as not in use, which needs checksums"));
        }
        for problem in wrong {
            self.report(place.clone(), problem);
        }
    }

    /// Inodes at the start of `group`'s table that may be in use.
    pub(super) fn initialised_inodes(&self, number: usize) -> u32 {
        let inodes = self.volume.layout.inodes_per_group;
        let Some(group) = self.volume.groups.get(number) else { return 0 };
        match self.volume.checksums.descriptors() {
            true if group.has(group::INODE_UNINIT) => 0,
            true => inodes.saturating_sub(group.unused_inodes()),
            false => inodes,
        }
    }

    pub(super) fn taken(&mut self, place: Place, taken: Taken) {
        self.report(place, Problem::Taken { first: taken.first, blocks: taken.blocks });
    }
}
