//! Extent trees: where a file's blocks are. Read node by node; written complete, from the leaves up.
//! Written from the kernel's Documentation/filesystems/ext4/ifork.rst.

use super::blockmap;
use super::checksum::crc32c;
use super::error::Ext4Error;
use super::inode::{self, InodeNumber};
use super::layout::{BlockNumber, Layout, Run};
use super::record::{count, fields, high32, index, join32, low16, low32};
use super::volume::Volume;

const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Deeper trees do not occur: five levels of 1 KiB blocks hold more than 2^32 blocks.
pub(super) const DEEPEST: u16 = 5;
/// The longest initialised extent; a length above it marks an uninitialised one.
const LONGEST: u64 = 32768;
/// Entries that fit into the inode.
const ROOT_ENTRIES: usize = 4;

fields! {
    0x0 HEADER_MAGIC: u16, "eh_magic: 0xf30a";
    0x2 HEADER_ENTRIES: u16, "eh_entries: entries in use";
    0x4 HEADER_MAX: u16, "eh_max: entries that fit";
    0x6 HEADER_DEPTH: u16, "eh_depth: levels below; 0 in a leaf";
    0x0 FIRST: u32, "ee_block, ei_block: first logical block";
    0x4 LENGTH: u16, "ee_len: blocks, plus 32768 if uninitialised";
    0x6 START_HI: u16, "ee_start_hi";
    0x8 START_LO: u32, "ee_start_lo";
    0x4 CHILD_LO: u32, "ei_leaf_lo: the node below";
    0x8 CHILD_HI: u16, "ei_leaf_hi";
}

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first block's number in the file.
    pub(super) logical: u64,
    pub(super) run: Run,
    /// Allocated but never written: reads as zero.
    pub(super) uninitialised: bool,
}

/// A node of an extent tree, as the disk has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'bytes> {
    bytes: &'bytes [u8],
}

impl<'bytes> Node<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Self {
        Self { bytes }
    }

    /// Levels below; 0 in a leaf.
    pub(super) fn depth(self) -> u16 {
        HEADER_DEPTH.get(self.bytes)
    }

    /// Whether it begins as a node does and its entries lie in it.
    fn is_node(self) -> bool {
        let entries = usize::from(HEADER_ENTRIES.get(self.bytes));
        HEADER_MAGIC.get(self.bytes) == MAGIC
            && entries <= usize::from(HEADER_MAX.get(self.bytes))
            && HEADER + entries * ENTRY <= self.bytes.len()
    }

    /// The same, and as many entries would fit as do; e2fsprogs grants two less.
    pub(super) fn header_is_right(self) -> bool {
        let fit = self.bytes.len().saturating_sub(HEADER) / ENTRY;
        let most = usize::from(HEADER_MAX.get(self.bytes));
        self.is_node() && most <= fit && most + 2 >= fit
    }

    fn entries(self) -> impl Iterator<Item = &'bytes [u8]> {
        let entries = usize::from(HEADER_ENTRIES.get(self.bytes));
        self.bytes.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY).take(entries)
    }

    /// The number in the file of the first block below.
    pub(super) fn first(self) -> Option<u64> {
        self.entries().next().map(|entry| FIRST.get(entry).into())
    }

    /// A leaf's extents.
    pub(super) fn extents(self) -> impl Iterator<Item = Extent> {
        self.entries().map(|entry| {
            let length = u64::from(LENGTH.get(entry));
            let uninitialised = length > LONGEST;
            let len = if uninitialised { length - LONGEST } else { length };
            let start = BlockNumber(join32(START_LO.get(entry), START_HI.get(entry).into()));
            Extent { logical: FIRST.get(entry).into(), run: Run { start, len }, uninitialised }
        })
    }

    /// The first block in the file and the place of each node below.
    pub(super) fn children(self) -> impl Iterator<Item = (u64, BlockNumber)> {
        self.entries().map(|entry| {
            (FIRST.get(entry).into(), BlockNumber(join32(CHILD_LO.get(entry), CHILD_HI.get(entry).into())))
        })
    }

    /// Whether the checksum behind the entries is right, counted from the inode's seed.
    pub(super) fn checksum_is_right(self, seed: u32) -> bool {
        let tail = HEADER + usize::from(HEADER_MAX.get(self.bytes)) * ENTRY;
        let stored = self.bytes.get(tail..tail + 4).and_then(|tail| tail.try_into().ok()).map(u32::from_le_bytes);
        stored == Some(crc32c(seed, self.bytes.get(..tail).unwrap_or_default()))
    }
}

/// All blocks of a file: its contents in order, and those of the tree that lists them.
#[derive(Debug, Default)]
pub(super) struct FileBlocks {
    pub(super) extents: Vec<Extent>,
    pub(super) tree: Vec<BlockNumber>,
}

impl FileBlocks {
    /// Whether a block is listed twice. Each extent costs an image 12 bytes and a reader up to 32768 blocks.
    fn overlap(&self) -> bool {
        if self.extents.len() + self.tree.len() < 2 {
            return false;
        }
        let tree = self.tree.iter().map(|block| Run { start: *block, len: 1 });
        let mut runs: Vec<Run> = self.extents.iter().map(|extent| extent.run).chain(tree).collect();
        runs.sort_unstable_by_key(|run| run.start);
        runs.iter().zip(runs.iter().skip(1)).any(|(run, next)| run.end() > next.start)
    }
}

impl Volume<'_> {
    /// Where the blocks of inode `number` are; none if it keeps its contents in itself.
    pub(super) fn file_blocks(&mut self, number: InodeNumber) -> Result<FileBlocks, Ext4Error> {
        let found = self.listed_blocks(number)?;
        let tree = found.tree.iter().map(|block| Run { start: *block, len: 1 });
        let mut runs = found.extents.iter().map(|extent| extent.run).chain(tree);
        match runs.find(|run| self.claims.touch(*run)) {
            // The resize inode owns the blocks that are reserved for descriptors.
            Some(run) if number != inode::RESIZE => {
                let what =
                    format!("inode {} claims metadata among the {} blocks from {}", number.0, run.len, run.start.0);
                Err(Ext4Error::corrupt(what))
            }
            _ if found.overlap() => Err(Ext4Error::corrupt(format!("inode {} lists a block twice", number.0))),
            _ => Ok(found),
        }
    }

    fn listed_blocks(&mut self, number: InodeNumber) -> Result<FileBlocks, Ext4Error> {
        let inode = self.inode(number)?;
        if inode.has(inode::INLINE_DATA_FLAG) {
            return Ok(FileBlocks::default());
        }
        if !inode.has(inode::EXTENTS_FLAG) {
            return self.mapped_blocks(number);
        }
        let root = inode.block().to_vec();
        let mut found = FileBlocks::default();
        let walk = Walk { number, seed: self.inode_seed(number)? };
        let depth = self.check_node(&walk, &root, None)?;
        self.walk_node(&walk, &root, depth, &mut found)?;
        Ok(found)
    }

    /// Checks a node's header; answers its depth.
    fn check_node(&self, walk: &Walk, node: &[u8], depth: Option<u16>) -> Result<u16, Ext4Error> {
        let node = Node::new(node);
        let found = node.depth();
        let right =
            node.is_node() && depth.is_none_or(|depth| depth == found && node.first().is_some()) && found <= DEEPEST;
        if right { Ok(found) } else { Err(walk.damaged("has a malformed extent tree")) }
    }

    /// Collects the extents below `node`. Logical blocks must ascend, so no node can be met twice.
    fn walk_node(&self, walk: &Walk, node: &[u8], depth: u16, found: &mut FileBlocks) -> Result<(), Ext4Error> {
        let check_order = |first: u64, found: &FileBlocks| {
            let next = found.extents.last().map_or(0, |last| last.logical + last.run.len);
            if first < next { Err(walk.damaged("has extents that overlap")) } else { Ok(()) }
        };
        if depth == 0 {
            for extent in Node::new(node).extents() {
                check_order(extent.logical, found)?;
                if extent.run.len == 0 || !self.layout.contains(extent.run.start, extent.run.len) {
                    return Err(walk.damaged("has an extent outside of the file system"));
                }
                found.extents.push(extent);
            }
            return Ok(());
        }
        for (first, child) in Node::new(node).children() {
            check_order(first, found)?;
            found.tree.push(child);
            let bytes = self.read_block(child)?;
            self.check_node(walk, &bytes, Some(depth - 1))?;
            if self.checksums.metadata() && !Node::new(&bytes).checksum_is_right(walk.seed) {
                return Err(walk.damaged("has an extent block with a wrong checksum"));
            }
            self.walk_node(walk, &bytes, depth - 1, found)?;
        }
        Ok(())
    }

    /// Frees all blocks of inode `number`, and those of the tree that lists them.
    pub(super) fn free_file_blocks(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let blocks = self.file_blocks(number)?;
        for extent in blocks.extents {
            self.free(extent.run)?;
        }
        for block in blocks.tree {
            self.free(Run { start: block, len: 1 })?;
        }
        Ok(())
    }

    /// Gives inode `number`, which owns no tree now, an extent tree that lists `runs` from its start on.
    pub(super) fn set_extents(&mut self, number: InodeNumber, runs: &[Run]) -> Result<(), Ext4Error> {
        let mut logical = 0u64;
        let extent = |run: &Run| {
            let extent = Extent { logical, run: *run, uninitialised: false };
            logical = logical.saturating_add(run.len);
            extent
        };
        let extents: Vec<Extent> = runs.iter().map(extent).collect();
        self.set_tree(number, &extents)
    }

    /// Gives inode `number`, which owns no tree now, an extent tree that lists `extents`.
    /// Counts the blocks: contents, tree, and the block of extended attributes if there is one.
    pub(super) fn set_tree(&mut self, number: InodeNumber, extents: &[Extent]) -> Result<(), Ext4Error> {
        let mut entries = leaf_entries(extents)?;
        let per_node = (index(self.layout.block_size) - HEADER) / ENTRY;
        let mut depth = 0;
        let mut tree_blocks = 0;
        while entries.len() > ROOT_ENTRIES {
            let needed = entries.len().div_ceil(per_node);
            let places = self.allocate(count(needed))?;
            let places = places.iter().flat_map(|run| (0..run.len).map(|block| run.start.plus(block)));
            let mut above = Vec::with_capacity(needed);
            let seed = self.inode_seed(number)?;
            for (children, place) in entries.chunks(per_node).zip(places) {
                let mut node = encode_node(children, per_node, depth, index(self.layout.block_size));
                let tail = HEADER + per_node * ENTRY;
                if self.checksums.metadata() {
                    let checksum = crc32c(seed, node.get(..tail).unwrap_or_default());
                    if let Some(slot) = node.get_mut(tail..tail + 4) {
                        slot.copy_from_slice(&checksum.to_le_bytes());
                    }
                }
                self.change_block(place, node);
                above.push(index_entry(children, place));
            }
            tree_blocks += count(needed);
            depth += 1;
            entries = above;
        }
        let root = encode_node(&entries, ROOT_ENTRIES, depth, inode::BLOCK_SIZE);
        let blocks = extents.iter().map(|extent| extent.run.len).fold(tree_blocks, u64::saturating_add);
        let inode = self.inode(number)?;
        inode.block_mut().copy_from_slice(&root);
        inode.set_flag(inode::EXTENTS_FLAG, true);
        self.count_space(number, blocks)
    }
}

/// Blocks of the tree that lists `blocks` blocks in at most `runs` runs: no more than that.
pub(super) fn most_tree_blocks(runs: u64, blocks: u64, layout: &Layout) -> u64 {
    if !layout.extents {
        return blockmap::tree_blocks(blocks, layout.addresses());
    }
    let per_node = count((index(layout.block_size) - HEADER) / ENTRY);
    let mut entries = runs.saturating_add(blocks / LONGEST);
    let mut total = 0u64;
    while entries > count(ROOT_ENTRIES) {
        entries = entries.div_ceil(per_node);
        total = total.saturating_add(entries);
    }
    total
}

struct Walk {
    number: InodeNumber,
    seed: u32,
}

impl Walk {
    fn damaged(&self, what: &str) -> Ext4Error {
        Ext4Error::corrupt(format!("inode {} {what}", self.number.0))
    }
}

fn leaf_entries(extents: &[Extent]) -> Result<Vec<[u8; ENTRY]>, Ext4Error> {
    let mut entries = Vec::with_capacity(extents.len());
    for extent in extents {
        // The longest length is the first that says "uninitialised".
        let (longest, mark) = if extent.uninitialised { (LONGEST - 1, LONGEST) } else { (LONGEST, 0) };
        let mut done = 0;
        while done < extent.run.len {
            let len = (extent.run.len - done).min(longest);
            let start = extent.run.start.plus(done).0;
            let first = u32::try_from(extent.logical.saturating_add(done))
                .map_err(|_| Ext4Error::unsupported("no room for a file of more than 2^32 blocks"))?;
            let mut entry = [0; ENTRY];
            FIRST.set(&mut entry, first);
            LENGTH.set(&mut entry, u16::try_from(len + mark).unwrap_or_default());
            START_HI.set(&mut entry, low16(high32(start)));
            START_LO.set(&mut entry, low32(start));
            entries.push(entry);
            done += len;
        }
    }
    Ok(entries)
}

fn index_entry(children: &[[u8; ENTRY]], place: BlockNumber) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    FIRST.set(&mut entry, children.first().map(|child| FIRST.get(child)).unwrap_or_default());
    CHILD_LO.set(&mut entry, low32(place.0));
    CHILD_HI.set(&mut entry, low16(high32(place.0)));
    entry
}

fn encode_node(entries: &[[u8; ENTRY]], most: usize, depth: u16, size: usize) -> Vec<u8> {
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let mut node = vec![0; size];
    HEADER_MAGIC.set(&mut node, MAGIC);
    HEADER_ENTRIES.set(&mut node, small(entries.len()));
    HEADER_MAX.set(&mut node, small(most));
    HEADER_DEPTH.set(&mut node, depth);
    for (slot, entry) in node.get_mut(HEADER..).unwrap_or_default().chunks_exact_mut(ENTRY).zip(entries) {
        slot.copy_from_slice(entry);
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_listed_twice_is_found() {
        let blocks = |runs: &[(u64, u64)], tree: &[u64]| FileBlocks {
            extents: runs
                .iter()
                .map(|(start, len)| Run { start: BlockNumber(*start), len: *len })
                .map(|run| Extent { logical: run.start.0, run, uninitialised: false })
                .collect(),
            tree: tree.iter().copied().map(BlockNumber).collect(),
        };
        assert!(!blocks(&[(50, 10), (10, 40), (60, 1)], &[9, 61]).overlap());
        assert!(blocks(&[(50, 10), (10, 41)], &[]).overlap());
        assert!(blocks(&[(10, 100), (20, 1)], &[]).overlap());
        assert!(blocks(&[(10, 10)], &[19]).overlap());
    }

    #[test]
    fn long_runs_are_cut_at_the_longest_extent() {
        let run = Run { start: BlockNumber(1 << 33), len: 70_000 };
        let lengths = |uninitialised| -> Vec<u16> {
            let entries = leaf_entries(&[Extent { logical: 0, run, uninitialised }]).unwrap();
            entries.iter().map(|entry| LENGTH.get(entry)).collect()
        };
        assert_eq!(lengths(true), [65535, 65535, 32768 + 4466]);
        let lengths = lengths(false);
        assert_eq!(lengths, [32768, 32768, 4464]);
        let entries = leaf_entries(&[Extent { logical: 0, run, uninitialised: false }]).unwrap();
        assert_eq!((FIRST.get(&entries[2]), START_HI.get(&entries[2]), START_LO.get(&entries[2])), (65536, 2, 65536));
    }
}
