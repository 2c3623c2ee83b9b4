//! Extent trees, node by node. A node is followed only by the first who claims its block.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::extent::{DEEPEST, Extent, Node};
use super::super::features;
use super::super::inode::{self, Inode, InodeNumber};
use super::super::layout::{BlockNumber, Run};
use super::super::superblock as sb;
use super::Check;
use super::blocks::{Held, MISALIGNED};
use super::findings::{Place, Problem};

/// A walk through one inode's tree.
struct Walk<'held> {
    number: u32,
    seed: u32,
    folder: bool,
    /// Blocks of a folder that is no large one.
    most: u64,
    /// The block behind the last that the size asks for.
    end: u64,
    /// Written blocks may lie past the size: fs-verity's hashes.
    past: bool,
    /// The block behind the last extent so far.
    next: u64,
    held: &'held mut Held,
}

/// What a node above says of one.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    depth: u16,
    start: u64,
    last: Option<u64>,
}

impl Check<'_, '_> {
    pub(super) fn extents(&mut self, number: u32, inode: &Inode, held: &mut Held) -> Result<(), Ext4Error> {
        let root = Node::new(inode.block());
        if !root.header_is_right() || root.depth() > DEEPEST {
            self.malformed(Place::Inode(number), "has a malformed extent tree");
            held.incomplete = true;
            return Ok(());
        }
        let layout = &self.volume.layout;
        let large = self.volume.superblock.has_incompat(features::LARGEDIR) || inode.get(inode::SIZE_HIGH) != 0;
        let log = self.volume.superblock.get(sb::LOG_BLOCK_SIZE).min(21);
        let mut walk = Walk {
            number,
            seed: self.volume.checksums.inode_seed(InodeNumber(number), inode.get(inode::GENERATION)),
            folder: inode.kind() == Some(FileKind::Directory),
            most: if large { u64::MAX } else { 1 << (21 - log) },
            end: layout.blocks_for(inode.size()),
            past: inode.has(inode::VERITY_FLAG),
            next: 0,
            held,
        };
        let bytes = inode.block().to_vec();
        self.extent_node(&mut walk, &bytes, Bounds { depth: root.depth(), start: 0, last: None })
    }

    fn extent_node(&mut self, walk: &mut Walk<'_>, bytes: &[u8], bounds: Bounds) -> Result<(), Ext4Error> {
        let node = Node::new(bytes);
        if bounds.depth == 0 {
            let mut start = bounds.start;
            for extent in node.extents() {
                self.leaf(walk, extent, &mut start, bounds.last);
            }
            return Ok(());
        }
        let children: Vec<(u64, BlockNumber)> = node.children().collect();
        let nexts = children.iter().skip(1).map(|(first, _)| Some(*first)).chain([None]);
        for ((first, block), next) in children.iter().zip(nexts) {
            let place = Place::Inode(walk.number);
            // Below the root the last branch ends with its node; below that, with the file.
            let end = next.or_else(|| bounds.last.map(|last| last.saturating_add(1))).unwrap_or(walk.end);
            let last = (end > *first).then(|| end - 1);
            if !self.volume.layout.contains(*block, 1) {
                self.report(place, Problem::Outside { what: "extent block", block: block.0 });
            } else if *first < bounds.start || bounds.last.zip(last).is_some_and(|(most, last)| last > most) {
                self.malformed(place, "has extent blocks out of order");
            } else if self.claim(walk.number, Run { start: *block, len: 1 }) {
                walk.held.blocks += 1;
                self.child(walk, *first, *block, Bounds { depth: bounds.depth - 1, start: *first, last })?;
                continue;
            }
            walk.held.incomplete = true;
        }
        Ok(())
    }

    fn child(&mut self, walk: &mut Walk<'_>, first: u64, block: BlockNumber, bounds: Bounds) -> Result<(), Ext4Error> {
        let bytes = self.volume.read_block(block)?;
        let node = Node::new(&bytes);
        let place = Place::Inode(walk.number);
        if !node.header_is_right() || node.depth() != bounds.depth || node.first().is_none() {
            self.malformed(place, "has a malformed extent block");
            walk.held.incomplete = true;
            return Ok(());
        }
        if self.volume.checksums.metadata() && !node.checksum_is_right(walk.seed) {
            self.malformed(place.clone(), "has an extent block with a wrong checksum");
        }
        if node.first() != Some(first) {
            self.malformed(place, "has an extent block that does not begin where the one above says");
        }
        let start = node.first().unwrap_or(first);
        self.extent_node(walk, &bytes, Bounds { start, ..bounds })
    }

    fn leaf(&mut self, walk: &mut Walk<'_>, extent: Extent, start: &mut u64, last: Option<u64>) {
        let place = Place::Inode(walk.number);
        let Extent { logical, run, uninitialised } = extent;
        let end = logical + run.len;
        let beyond = last.is_some_and(|last| end > last.saturating_add(1));
        let excused = end > walk.end && walk.end > 0 && (uninitialised || walk.past);
        let what = if run.len == 0 {
            "has an empty extent"
        } else if logical < *start || beyond && !excused {
            "has extents out of order"
        } else if logical < walk.next {
            "has extents that overlap"
        } else if walk.folder && end > walk.most {
            "is a folder that is too large"
        } else {
            ""
        };
        if !self.volume.layout.contains(run.start, run.len) {
            self.report(place, Problem::Outside { what: "extent", block: run.start.0 });
            walk.held.incomplete = true;
            return;
        }
        if !what.is_empty() {
            self.malformed(place, what);
            walk.held.incomplete = true;
            return;
        }
        if walk.folder && uninitialised {
            self.malformed(place.clone(), "is a folder with blocks that were never written");
        }
        if walk.folder && logical > walk.held.last.map_or(0, |last| last + 1) {
            self.malformed(place.clone(), "is a folder with a hole");
        }
        if !self.is_aligned(walk.held, logical, run.start) {
            self.malformed(place, MISALIGNED);
        }
        let free = self.claim_contents(walk.number, walk.held, run);
        if walk.folder && free {
            walk.held.extents.push(extent);
        }
        walk.held.last = Some(end - 1);
        if !uninitialised {
            walk.held.last_written = Some(end - 1);
        }
        walk.next = end;
        *start = end - 1;
    }
}
