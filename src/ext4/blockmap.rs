//! Files as ext2 and ext3 keep them, in trees of block numbers. Where the file system has extents such files
//! are read and freed, and new files are none of them.
//! Written from the kernel's Documentation/filesystems/ext4/blockmap.rst.

use std::collections::BTreeSet;

use super::FileKind;
use super::error::Ext4Error;
use super::extent::{Extent, FileBlocks};
use super::inode::{self, InodeNumber};
use super::layout::{BlockNumber, Layout, Run};
use super::record::{Number, count, index};
use super::volume::Volume;

/// Blocks that the inode itself lists.
pub(super) const DIRECT: usize = 12;
/// Levels of the deepest of the three trees in an inode.
const LEVELS: u32 = 3;

/// The blocks that a new map lists, and those that it takes itself.
struct Map<I: Iterator, J> {
    blocks: std::iter::Peekable<I>,
    tree: J,
}

impl<I: Iterator<Item = u64>, J> Map<I, J> {
    /// The next block's number; 0, which stands for a hole, behind the last.
    fn next_block(&mut self) -> Result<u32, Ext4Error> {
        self.blocks.next().map_or(Ok(0), address)
    }
}

fn each_block(runs: &[Run]) -> impl Iterator<Item = u64> {
    runs.iter().flat_map(|run| run.start.0..run.start.plus(run.len).0)
}

fn address(block: u64) -> Result<u32, Ext4Error> {
    u32::try_from(block).map_err(|_| Ext4Error::unsupported("no `extent` feature for blocks past the first 2^32"))
}

/// The most blocks that a file can have.
pub(super) fn most_blocks(addresses: usize) -> u64 {
    (1..=LEVELS).map(|levels| count(addresses).saturating_pow(levels)).sum::<u64>() + count(DIRECT)
}

/// Blocks of the trees that list `blocks` blocks without a hole.
pub(super) fn tree_blocks(blocks: u64, addresses: usize) -> u64 {
    let addresses = count(addresses);
    let mut left = blocks.saturating_sub(count(DIRECT));
    let mut total = 0;
    for levels in 1..=LEVELS {
        let listed = left.min(addresses.saturating_pow(levels));
        total += (1..=levels).map(|level| listed.div_ceil(addresses.saturating_pow(level))).sum::<u64>();
        left -= listed;
    }
    total
}

impl Volume<'_> {
    /// The blocks of an inode without an extent tree.
    pub(super) fn mapped_blocks(&mut self, number: InodeNumber) -> Result<FileBlocks, Ext4Error> {
        let mut found = FileBlocks::default();
        let short_link = self.is_short_link(number)?;
        let inode = self.inode(number)?;
        let has_blocks = matches!(inode.kind(), Some(FileKind::File | FileKind::Directory | FileKind::Symlink));
        if !has_blocks || short_link {
            return Ok(found);
        }
        let map: Vec<u64> =
            (0..inode.block().len() / 4).map(|slot| u32::load(inode.block(), slot * 4).into()).collect();
        let mut logical = 0;
        let mut met = BTreeSet::new();
        for block in map.iter().take(DIRECT) {
            self.push_block(number, *block, logical, &mut found)?;
            logical += 1;
        }
        for (levels, block) in (1..).zip(map.iter().skip(DIRECT)) {
            self.walk_map(number, *block, levels, &mut logical, &mut found, &mut met)?;
        }
        Ok(found)
    }

    /// Collects what `block` lists, `levels` levels down. A block that was met before is refused: three of them that
    /// list each other could stand for a thousand million.
    fn walk_map(
        &self,
        number: InodeNumber,
        block: u64,
        levels: u32,
        logical: &mut u64,
        found: &mut FileBlocks,
        met: &mut BTreeSet<u64>,
    ) -> Result<(), Ext4Error> {
        let span = count(self.layout.addresses()).saturating_pow(levels);
        if block == 0 {
            *logical = logical.saturating_add(span);
            return Ok(());
        }
        if !met.insert(block) {
            return Err(Ext4Error::corrupt(format!("inode {} has a tree of blocks that meets itself", number.0)));
        }
        found.tree.push(BlockNumber(block));
        self.check_amount(number, found)?;
        let bytes = self.read_block(BlockNumber(block))?;
        for slot in 0..self.layout.addresses() {
            let child = u64::from(u32::load(&bytes, slot * 4));
            if levels > 1 {
                self.walk_map(number, child, levels - 1, logical, found, met)?;
            } else {
                self.push_block(number, child, *logical, found)?;
                *logical = logical.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Gives inode `number`, which owns no map now, one that lists `runs` from its start on.
    pub(super) fn set_map(&mut self, number: InodeNumber, runs: &[Run]) -> Result<(), Ext4Error> {
        let blocks = Layout::total(runs);
        let tree = tree_blocks(blocks, self.layout.addresses());
        let places = self.allocate(tree)?;
        let mut map = Map { blocks: each_block(runs).peekable(), tree: each_block(&places) };
        let mut root = vec![0; inode::BLOCK_SIZE];
        for slot in 0..DIRECT {
            map.next_block()?.store(&mut root, slot * 4);
        }
        for (slot, levels) in (DIRECT..).zip(1..=LEVELS) {
            self.store_map(&mut map, levels)?.store(&mut root, slot * 4);
        }
        let inode = self.inode(number)?;
        inode.block_mut().copy_from_slice(&root);
        inode.set_flag(inode::EXTENTS_FLAG, false);
        self.count_space(number, blocks + tree)
    }

    /// Makes a tree of `levels` levels for the next blocks; answers where it is, or 0 if none are left.
    fn store_map<I, J>(&mut self, map: &mut Map<I, J>, levels: u32) -> Result<u32, Ext4Error>
    where
        I: Iterator<Item = u64>,
        J: Iterator<Item = u64>,
    {
        if map.blocks.peek().is_none() {
            return Ok(0);
        }
        let place = map.tree.next().unwrap_or_default();
        let mut bytes = vec![0; index(self.layout.block_size)];
        for slot in 0..self.layout.addresses() {
            let child = if levels > 1 { self.store_map(map, levels - 1)? } else { map.next_block()? };
            child.store(&mut bytes, slot * 4);
        }
        self.change_block(BlockNumber(place), bytes);
        address(place)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_counted_as_they_grow() {
        let blocks = [(0, 0), (12, 0), (13, 1), (268, 1), (269, 3), (524, 3), (525, 4), (65804, 258), (65805, 261)];
        for (blocks, tree) in blocks {
            assert_eq!(tree_blocks(blocks, 256), tree, "{blocks}");
        }
        assert_eq!(most_blocks(256), 12 + 256 + 65_536 + 16_777_216);
    }
}
