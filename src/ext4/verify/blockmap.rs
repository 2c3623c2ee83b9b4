//! The blocks of files without extents. A block of numbers is followed only by the first who claims it.

use super::super::FileKind;
use super::super::blockmap::DIRECT;
use super::super::error::Ext4Error;
use super::super::extent::Extent;
use super::super::inode::{Inode, RESIZE};
use super::super::layout::{BlockNumber, Run};
use super::super::record::{Number, count};
use super::Check;
use super::blocks::Held;
use super::findings::{Place, Problem};

/// A walk through one inode's map.
struct Walk<'held> {
    number: u32,
    folder: bool,
    /// The number in the file of the next block.
    logical: u64,
    /// Blocks that follow one another and were not claimed yet.
    pending: Option<Extent>,
    held: &'held mut Held,
}

impl Check<'_, '_> {
    pub(super) fn mapped_blocks(&mut self, number: u32, inode: &Inode, held: &mut Held) -> Result<(), Ext4Error> {
        let folder = inode.kind() == Some(FileKind::Directory);
        let mut walk = Walk { number, folder, logical: 0, pending: None, held };
        let map: Vec<u32> = (0..inode.block().len() / 4).map(|slot| u32::load(inode.block(), slot * 4)).collect();
        for block in map.iter().take(DIRECT) {
            self.mapped(&mut walk, (*block).into());
        }
        for (levels, block) in (1..).zip(map.iter().skip(DIRECT)) {
            self.map_block(&mut walk, (*block).into(), levels)?;
        }
        self.claim_pending(&mut walk);
        Ok(())
    }

    /// A block of numbers, `levels` above the contents.
    fn map_block(&mut self, walk: &mut Walk<'_>, block: u64, levels: u32) -> Result<(), Ext4Error> {
        let span = count(self.addresses()).saturating_pow(levels);
        let skip = walk.logical.saturating_add(span);
        if block == 0 {
            walk.logical = skip;
            return Ok(());
        }
        self.claim_pending(walk);
        let run = Run { start: BlockNumber(block), len: 1 };
        // Of the resize inode only the topmost block is its own; the others were claimed with the descriptors.
        let own = walk.number != RESIZE.0 || levels == 2;
        if !own && levels > 2 {
            // Nobody claims its blocks, so nothing would bound the walk.
        } else if !self.volume.layout.contains(run.start, 1) {
            self.report(Place::Inode(walk.number), Problem::Outside { what: "block of block numbers", block });
        } else if !own || self.claim(walk.number, run) {
            walk.held.blocks = walk.held.blocks.saturating_add(1);
            let bytes = self.volume.read_block(run.start)?;
            for slot in 0..self.addresses() {
                let child = u64::from(u32::load(&bytes, slot * 4));
                match levels {
                    1 => self.mapped(walk, child),
                    _ => self.map_block(walk, child, levels - 1)?,
                }
            }
            walk.logical = skip;
            return Ok(());
        }
        walk.held.incomplete = true;
        walk.logical = skip;
        Ok(())
    }

    /// A block of the contents, or a hole.
    fn mapped(&mut self, walk: &mut Walk<'_>, block: u64) {
        let logical = walk.logical;
        walk.logical = logical.saturating_add(1);
        if block == 0 {
            return;
        }
        if !self.volume.layout.contains(BlockNumber(block), 1) {
            self.report(Place::Inode(walk.number), Problem::Outside { what: "contents", block });
            walk.held.incomplete = true;
            return;
        }
        if walk.folder && logical > walk.held.last.map_or(0, |last| last + 1) {
            self.malformed(Place::Inode(walk.number), "is a folder with a hole");
        }
        walk.held.last = Some(logical);
        walk.held.last_written = Some(logical);
        match &mut walk.pending {
            Some(Extent { logical: first, run, .. })
                if run.start.0 + run.len == block && *first + run.len == logical =>
            {
                run.len += 1;
            }
            _ => {
                self.claim_pending(walk);
                let run = Run { start: BlockNumber(block), len: 1 };
                walk.pending = Some(Extent { logical, run, uninitialised: false });
            }
        }
    }

    fn claim_pending(&mut self, walk: &mut Walk<'_>) {
        let Some(extent) = walk.pending.take() else { return };
        if walk.number == RESIZE.0 {
            walk.held.blocks = walk.held.blocks.saturating_add(extent.run.len);
        } else if self.claim_contents(walk.number, walk.held, extent.run) && walk.folder {
            walk.held.extents.push(extent);
        }
    }
}
