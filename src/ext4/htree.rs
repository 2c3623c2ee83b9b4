//! Hash indexes of large directories, built complete from the leaves up, as `e2fsck -D` does.
//! Written from the kernel's Documentation/filesystems/ext4/directory.rst.

use super::checksum::crc32c;
use super::dir::{Entry, Format, entry_size, put_entry, short};
use super::hash::Hasher;
use super::inode::InodeNumber;
use super::record::{count, fields, index};

fields! {
    0x1c HASH_VERSION: u8, "dx_root_info.hash_version";
    0x1d INFO_LENGTH: u8, "dx_root_info.info_length: 8";
    0x1e INDIRECT_LEVELS: u8, "dx_root_info.indirect_levels: levels between root and leaves";
    0x0 LIMIT: u16, "dx_countlimit.limit: entries that fit";
    0x2 COUNT: u16, "dx_countlimit.count: entries in use";
    0x0 HASH: u32, "dx_entry.hash: the smallest of its block; the first entry has none";
    0x4 BLOCK: u32, "dx_entry.block: number within the directory";
    0x4 TAIL_CHECKSUM: u32, "dx_tail.dt_checksum";
}
/// Where the entries of the root and of the other nodes begin.
const ROOT_ENTRIES: usize = 0x20;
const NODE_ENTRIES: usize = 0x8;
const ENTRY: usize = 8;
const TAIL: usize = 8;

/// How full leaves get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// An eighth stays free, for the names to come.
    Loose,
    /// Nothing stays free that a name fits into.
    Tight,
}

impl Packing {
    fn room(self, format: Format) -> usize {
        match self {
            Self::Loose => format.room() - format.room() / 8,
            Self::Tight => format.room(),
        }
    }
}

/// What an index can hold.
#[derive(Debug, Clone, Copy)]
struct Limits {
    root: usize,
    node: usize,
    levels: u8,
}

impl Limits {
    fn new(format: Format, large: bool) -> Self {
        let tail = if format.seed.is_some() { TAIL } else { 0 };
        Self {
            root: (format.block_size - ROOT_ENTRIES - tail) / ENTRY,
            node: (format.block_size - NODE_ENTRIES - tail) / ENTRY,
            levels: if large { 2 } else { 1 },
        }
    }
}

/// All blocks of a directory with `leaves` leaves; none if they are more than its index can hold.
pub(super) fn blocks(leaves: u64, format: Format, large: bool) -> Option<u64> {
    let limits = Limits::new(format, large);
    let (mut total, mut nodes) = (1 + leaves, index(leaves));
    for _ in 0..limits.levels {
        if nodes <= limits.root {
            break;
        }
        nodes = nodes.div_ceil(limits.node);
        total += count(nodes);
    }
    (nodes <= limits.root).then_some(total)
}

/// How many leaves these entries take when they are packed tight.
pub(super) fn count_leaves<'name>(
    entries: impl Iterator<Item = (&'name [u8], Entry)>,
    hasher: &Hasher,
    format: Format,
) -> u64 {
    count(split(&sort(entries, hasher), Packing::Tight.room(format)).count())
}

/// A block of the directory, and the smallest hash in it.
#[derive(Debug, Clone, Copy)]
struct Child {
    hash: u32,
    block: u32,
}

/// The blocks of an indexed directory: the root, the leaves, and the nodes between them; none if they are
/// more than the index can hold.
pub(super) fn build<'name>(
    dots: &[(&[u8], Entry); 2],
    entries: impl Iterator<Item = (&'name [u8], Entry)>,
    hasher: &Hasher,
    format: Format,
    packing: Packing,
    large: bool,
) -> Option<Vec<Vec<u8>>> {
    let sorted = sort(entries, hasher);
    let mut blocks = vec![Vec::new()];
    let mut children = leaves(&sorted, format, packing, &mut blocks);
    let limits = Limits::new(format, large);
    let mut levels = 0u8;
    while children.len() > limits.root {
        levels += 1;
        if levels > limits.levels {
            return None;
        }
        let mut above = Vec::with_capacity(children.len().div_ceil(limits.node));
        for below in children.chunks(limits.node) {
            above.push(Child { hash: below.first().map_or(0, |child| child.hash), block: next_block(&blocks) });
            let mut node = vec![0; format.block_size];
            put_entry(&mut node, b"", Entry { inode: InodeNumber(0), file_type: 0 }, format.block_size);
            put_children(&mut node, NODE_ENTRIES, limits.node, below, format);
            blocks.push(node);
        }
        children = above;
    }
    let mut root = vec![0; format.block_size];
    let [(dot, own), (dots, parent)] = *dots;
    let at = put_entry(&mut root, dot, own, entry_size(dot.len()));
    put_entry(root.get_mut(at..).unwrap_or_default(), dots, parent, format.block_size - at);
    HASH_VERSION.set(&mut root, hasher.version);
    INFO_LENGTH.set(&mut root, 8);
    INDIRECT_LEVELS.set(&mut root, levels);
    put_children(&mut root, ROOT_ENTRIES, limits.root, &children, format);
    if let Some(first) = blocks.first_mut() {
        *first = root;
    }
    Some(blocks)
}

fn next_block(blocks: &[Vec<u8>]) -> u32 {
    u32::try_from(blocks.len()).unwrap_or(u32::MAX)
}

type Hashed<'name> = ((u32, u32), &'name [u8], Entry);

fn sort<'name>(entries: impl Iterator<Item = (&'name [u8], Entry)>, hasher: &Hasher) -> Vec<Hashed<'name>> {
    let mut sorted: Vec<Hashed> = entries.map(|(name, entry)| (hasher.hash(name), name, entry)).collect();
    sorted.sort_unstable_by_key(|(hash, name, _)| (*hash, *name));
    sorted
}

/// The entries of each leaf, at most `room` bytes of them.
fn split<'a, 'name>(sorted: &'a [Hashed<'name>], room: usize) -> impl Iterator<Item = &'a [Hashed<'name>]> {
    let mut rest = sorted;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fits = rest.iter().take_while(|(_, name, _)| {
            used += entry_size(name.len());
            used <= room
        });
        // A single entry always fits: names are at most 255 bytes long and blocks at least 1024.
        let (leaf, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!leaf.is_empty()).then_some(leaf)
    })
}

/// Packs entries into leaves.
fn leaves(sorted: &[Hashed], format: Format, packing: Packing, blocks: &mut Vec<Vec<u8>>) -> Vec<Child> {
    let mut children = Vec::new();
    let mut before = None;
    for leaf in split(sorted, packing.room(format)) {
        let hash = leaf.first().map_or(0, |((hash, _), _, _)| *hash);
        // The lowest bit says that entries with this very hash begin in the block before.
        let continued = u32::from(before == Some(hash));
        children.push(Child { hash: hash | continued, block: next_block(blocks) });
        blocks.push(format.block(leaf.iter().map(|(_, name, entry)| (*name, *entry))));
        before = leaf.last().map(|((hash, _), _, _)| *hash);
    }
    children
}

fn put_children(node: &mut [u8], at: usize, limit: usize, children: &[Child], format: Format) {
    let table = node.get_mut(at..).unwrap_or_default();
    for (slot, child) in table.chunks_exact_mut(ENTRY).zip(children) {
        HASH.set(slot, child.hash);
        BLOCK.set(slot, child.block);
    }
    // The first entry's hash is implied; its place holds these two.
    LIMIT.set(table, short(limit));
    COUNT.set(table, short(children.len()));
    if let Some(seed) = format.seed {
        let used = node.get(..at + children.len() * ENTRY).unwrap_or_default();
        // The tail counts with its checksum as zero.
        let checksum = crc32c(crc32c(seed, used), &[0; TAIL]);
        TAIL_CHECKSUM.set(node.get_mut(at + limit * ENTRY..).unwrap_or_default(), checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::superblock::Superblock;

    #[test]
    fn a_directory_past_two_levels_is_refused() {
        let mut bytes = vec![0; 1024];
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x4c] = 1;
        bytes[0x60] = 0x40;
        bytes[0xfc] = 1;
        let hasher = Hasher::new(&Superblock::parse(bytes).unwrap()).unwrap();
        let format = Format { block_size: 1024, seed: None };
        let entry = Entry { inode: InodeNumber(12), file_type: 1 };
        let dots = [(b".".as_slice(), entry), (b"..".as_slice(), entry)];
        let names: Vec<Vec<u8>> = (0..60_000).map(|n| format!("{n:0>250}").into_bytes()).collect();
        let build = |amount: usize, large| {
            let entries = || names.iter().take(amount).map(|name| (name.as_slice(), entry));
            let built = build(&dots, entries(), &hasher, format, Packing::Tight, large);
            let foreseen = blocks(count_leaves(entries(), &hasher, format), format, large);
            assert_eq!(built.as_ref().map(|blocks| count(blocks.len())), foreseen);
            built.map(|blocks| blocks[0][0x1e])
        };
        assert_eq!(build(100, false), Some(0));
        assert_eq!(build(10_000, false), Some(1));
        assert_eq!(build(60_000, false), None);
        assert_eq!(build(60_000, true), Some(2));
    }
}
