//! Hash indexes: nodes from the root down, which leaf each hash belongs to, and blocks that no node mentions.
//! Written from the kernel's Documentation/filesystems/ext4/directory.rst and what e2fsck checks.

use super::super::dir::Format;
use super::super::error::Ext4Error;
use super::super::extent::Extent;
use super::super::features;
use super::super::hash::Hasher;
use super::super::htree;
use super::super::layout::BlockNumber;
use super::super::record::{count, index};
use super::Check;
use super::findings::Place;

/// Numbers of blocks have 28 bits.
const BLOCK_MASK: u32 = 0x0fff_ffff;
/// The largest hash that a name can have.
const LARGEST: u32 = 0xffff_fffe;

/// What the index says about a block of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Unreferenced,
    Inner,
    Leaf { low: u32, high: u32 },
}

/// An index: what each block is.
pub(super) struct Index {
    blocks: Vec<Block>,
    /// None where we cannot tell a name's hash.
    hasher: Option<Hasher>,
}

impl Index {
    pub(super) fn is_inner(&self, block: u64) -> bool {
        self.blocks.get(index(block)) == Some(&Block::Inner)
    }

    /// Whether a name may be in `block`.
    pub(super) fn fits(&self, block: u64, name: &[u8]) -> bool {
        match (self.blocks.get(index(block)), &self.hasher) {
            (Some(Block::Leaf { low, high }), Some(hasher)) => {
                let (hash, _) = hasher.hash(name);
                (*low..=*high).contains(&hash)
            }
            _ => true,
        }
    }
}

/// A node that is to be read, and what the ones above say of it.
#[derive(Debug, Clone, Copy)]
struct Node {
    block: u64,
    levels: u8,
    low: u32,
    high: u32,
}

impl Check<'_, '_> {
    /// Reads the index of folder `number`, which has `blocks` blocks; none if there is no use in going on.
    pub(super) fn index(
        &mut self,
        number: u32,
        extents: &[Extent],
        blocks: u64,
        format: Format,
        folded: bool,
    ) -> Result<Option<Index>, Ext4Error> {
        let known: u64 = extents.iter().map(|extent| extent.run.len).sum();
        if known != blocks {
            return Ok(None);
        }
        if !self.volume.superblock.has_compat(features::DIR_INDEX) {
            self.malformed(Place::Folder(number), "is marked as having an index, which the superblock does not know");
            return Ok(None);
        }
        let Some(place) = find(extents, 0) else { return Ok(None) };
        let root = self.volume.read_block(place)?;
        let version = htree::HASH_VERSION.get(&root);
        let levels = htree::INDIRECT_LEVELS.get(&root);
        let most = if self.volume.superblock.has_incompat(features::LARGEDIR) { 3 } else { 2 };
        let sound = htree::RESERVED.get(&root) == 0
            && htree::INFO_LENGTH.get(&root) >= 8
            && htree::UNUSED_FLAGS.get(&root) & 1 == 0
            && matches!(version, 0..=2 | 6)
            && levels < most;
        if !sound {
            self.malformed(Place::Folder(number), "has an index with a malformed root");
            return Ok(None);
        }
        let hasher = Hasher::with_version(&self.volume.superblock, version).filter(|_| !folded);
        let mut tree = Index { blocks: vec![Block::Unreferenced; index(blocks)], hasher };
        let mut pending = vec![Node { block: 0, levels, low: 0, high: LARGEST }];
        if let Some(slot) = tree.blocks.first_mut() {
            *slot = Block::Inner;
        }
        while let Some(node) = pending.pop() {
            if let Some(place) = find(extents, node.block) {
                self.index_node(number, node, place, format, &mut tree, &mut pending)?;
            }
        }
        Ok(Some(tree))
    }

    fn index_node(
        &mut self,
        number: u32,
        node: Node,
        place: BlockNumber,
        format: Format,
        tree: &mut Index,
        pending: &mut Vec<Node>,
    ) -> Result<(), Ext4Error> {
        let bytes = self.volume.read_block(place)?;
        let here = Place::FolderBlock(number, node.block);
        let start = htree::entries_start(&bytes, node.block == 0);
        let table = bytes.get(start..).unwrap_or_default();
        let (limit, entries) = (htree::LIMIT.get(table), usize::from(htree::COUNT.get(table)));
        let inner = node.block == 0 || htree::is_node(&bytes);
        if !inner || usize::from(limit) != htree::limit(format, start) || entries > usize::from(limit) || entries == 0 {
            self.malformed(here, "is a malformed part of the index");
            return Ok(());
        }
        if format.seed.is_some_and(|seed| !htree::checksum_is_right(seed, &bytes, start)) {
            self.malformed(here.clone(), "is a part of the index with a wrong checksum");
        }
        let children: Vec<(u32, u32)> = htree::children(table, entries).collect();
        let nexts = children.iter().skip(1).map(|(hash, _)| hash & !1).chain([node.high]);
        let mut before = node.low;
        for (at, ((hash, block), high)) in children.iter().zip(nexts).enumerate() {
            let low = if at == 0 { node.low } else { hash & !1 };
            let block = block & BLOCK_MASK;
            if low < before || high > node.high {
                self.malformed(here.clone(), "is a part of the index with hashes out of order");
            }
            before = low;
            let Some(slot) = tree.blocks.get_mut(index(block)) else {
                self.malformed(here.clone(), "is a part of the index that mentions a block past the folder's end");
                continue;
            };
            if *slot != Block::Unreferenced {
                self.malformed(here.clone(), "is a part of the index that mentions a block for the second time");
            } else if node.levels == 0 {
                *slot = Block::Leaf { low, high };
            } else {
                *slot = Block::Inner;
                pending.push(Node { block: block.into(), levels: node.levels - 1, low, high });
            }
        }
        Ok(())
    }

    /// Blocks that the index does not mention.
    pub(super) fn unreferenced(&mut self, number: u32, tree: &Index) {
        for (block, what) in tree.blocks.iter().enumerate() {
            if *what == Block::Unreferenced {
                self.malformed(Place::FolderBlock(number, count(block)), "is not mentioned by the index");
            }
        }
    }
}

/// Where block `logical` of a folder is; its extents are in order.
fn find(extents: &[Extent], logical: u64) -> Option<BlockNumber> {
    let after = extents.partition_point(|extent| extent.logical <= logical);
    let extent = extents.get(after.checked_sub(1)?)?;
    let offset = logical - extent.logical;
    (offset < extent.run.len).then(|| extent.run.start.plus(offset))
}
