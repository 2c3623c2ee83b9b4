//! Cutting a file off at its size: blocks beyond it are freed, and what the last block holds beyond it becomes zero
//! unless it is encrypted.
//!
//! The kernel notes a file that it is about to make shorter as an orphan, so a crash may leave blocks behind. Written
//! from the kernel's Documentation/filesystems/ext4/ifork.rst and blockmap.rst; what is left of a tree of block
//! numbers is what fs/ext4/indirect.c and e2fsck leave: no block of the tree that lists nothing.

use super::error::Ext4Error;
use super::extent::{Extent, FileBlocks};
use super::inode::{self, InodeNumber};
use super::layout::{BlockNumber, Run};
use super::record::{Number, count, index};
use super::volume::Volume;

const DIRECT: usize = 12;

impl Volume<'_> {
    /// Frees what the regular file `number` has beyond its size.
    pub(super) fn truncate_to_size(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let blocks = self.file_blocks(number)?;
        let inode = self.inode(number)?;
        let (size, has_tree) = (inode.size(), inode.has(inode::EXTENTS_FLAG));
        // Without its key the end of an encrypted block cannot change alone; the kernel leaves it, too.
        if !inode.is_encrypted() {
            self.zero_tail(&blocks, size)?;
        }
        let keep = self.layout.blocks_for(size);
        let mut kept: Vec<Extent> = Vec::new();
        let mut freed = 0u64;
        for extent in &blocks.extents {
            let len = keep.saturating_sub(extent.logical).min(extent.run.len);
            if len > 0 {
                kept.push(Extent { run: Run { start: extent.run.start, len }, ..*extent });
            }
            let rest = Run { start: extent.run.start.plus(len), len: extent.run.len - len };
            self.free(rest)?;
            freed = freed.saturating_add(rest.len);
        }
        if freed == 0 {
            return Ok(());
        }
        if has_tree {
            for block in blocks.tree {
                self.free(Run { start: block, len: 1 })?;
            }
            return self.set_tree(number, &kept);
        }
        freed = freed.saturating_add(self.cut_map(number, keep)?);
        let (block_size, sectors) = (self.layout.block_size, self.layout.sectors(freed));
        let inode = self.inode(number)?;
        inode.set_sectors(inode.sectors(block_size).saturating_sub(sectors), block_size);
        Ok(())
    }

    fn zero_tail(&mut self, blocks: &FileBlocks, size: u64) -> Result<(), Ext4Error> {
        let block_size = u64::from(self.layout.block_size);
        let (last, used) = (size / block_size, index(size % block_size));
        let holds = |extent: &&Extent| (extent.logical..extent.logical + extent.run.len).contains(&last);
        let Some(extent) = blocks.extents.iter().find(holds).filter(|extent| used > 0 && !extent.uninitialised) else {
            return Ok(());
        };
        let place = extent.run.start.plus(last - extent.logical);
        let mut bytes = self.read_block(place)?;
        let tail = bytes.get_mut(used..).unwrap_or_default();
        if tail.iter().any(|byte| *byte != 0) {
            tail.fill(0);
            self.change_block(place, bytes);
        }
        Ok(())
    }

    /// Takes the numbers of the blocks from `keep` on, which were freed, out of an inode's tree; answers how many
    /// blocks of the tree itself were freed.
    fn cut_map(&mut self, number: InodeNumber, keep: u64) -> Result<u64, Ext4Error> {
        let mut map = self.inode(number)?.block().to_vec();
        let mut freed = 0;
        let mut first = 0;
        for (slot, levels) in (0..).zip(std::iter::repeat_n(0, DIRECT).chain(1..=3)) {
            let block = BlockNumber(u32::load(&map, slot * 4).into());
            if block.0 != 0 && !self.keeps_any(block, levels, first, keep, &mut freed)? {
                0u32.store(&mut map, slot * 4);
            }
            first += self.span(levels);
        }
        self.inode(number)?.block_mut().copy_from_slice(&map);
        Ok(freed)
    }

    /// Blocks that a tree of so many levels lists.
    fn span(&self, levels: u32) -> u64 {
        count(self.layout.addresses()).saturating_pow(levels)
    }

    /// Cuts the tree below `block`, which begins at the file's block `first`; whether something is left of it. The
    /// levels, three at the most, bound the recursion; `file_blocks` has seen the whole tree.
    fn keeps_any(
        &mut self,
        block: BlockNumber,
        levels: u32,
        first: u64,
        keep: u64,
        freed: &mut u64,
    ) -> Result<bool, Ext4Error> {
        if levels == 0 || first.saturating_add(self.span(levels)) <= keep {
            return Ok(first < keep);
        }
        let mut bytes = self.read_block(block)?;
        let (mut left, mut cut) = (false, false);
        for slot in 0..self.layout.addresses() {
            let child = BlockNumber(u32::load(&bytes, slot * 4).into());
            if child.0 == 0 {
                continue;
            }
            let start = first.saturating_add(count(slot).saturating_mul(self.span(levels - 1)));
            if self.keeps_any(child, levels - 1, start, keep, freed)? {
                left = true;
            } else {
                0u32.store(&mut bytes, slot * 4);
                cut = true;
            }
        }
        if !left {
            self.free(Run { start: block, len: 1 })?;
            *freed = freed.saturating_add(1);
        } else if cut {
            self.change_block(block, bytes);
        }
        Ok(left)
    }
}
