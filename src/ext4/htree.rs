//! Hash indexes of large directories, built complete from the leaves up, as `e2fsck -D` does.
//! Written from the kernel's Documentation/filesystems/ext4/directory.rst.

use super::checksum::crc32c;
use super::dir::{Entry, Format, entry_size, put_entry, short};
use super::error::Ext4Error;
use super::hash::Hasher;
use super::inode::InodeNumber;
use super::record::fields;

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

/// A block of the directory, and the smallest hash in it.
#[derive(Debug, Clone, Copy)]
struct Child {
    hash: u32,
    block: u32,
}

/// The blocks of an indexed directory: the root, the leaves, and the nodes between them.
pub(super) fn build<'name>(
    dots: &[(&[u8], Entry); 2],
    entries: impl Iterator<Item = (&'name [u8], Entry)>,
    hasher: &Hasher,
    format: Format,
    large: bool,
) -> Result<Vec<Vec<u8>>, Ext4Error> {
    let mut sorted: Vec<((u32, u32), &[u8], Entry)> =
        entries.map(|(name, entry)| (hasher.hash(name), name, entry)).collect();
    sorted.sort_unstable_by_key(|(hash, name, _)| (*hash, *name));
    let mut blocks = vec![Vec::new()];
    let mut children = leaves(&sorted, format, &mut blocks);
    let tail = if format.seed.is_some() { TAIL } else { 0 };
    let root_limit = (format.block_size - ROOT_ENTRIES - tail) / ENTRY;
    let node_limit = (format.block_size - NODE_ENTRIES - tail) / ENTRY;
    let mut levels = 0u8;
    while children.len() > root_limit {
        levels += 1;
        if levels > if large { 2 } else { 1 } {
            let block_size = u32::try_from(format.block_size).unwrap_or(u32::MAX);
            return Err(Ext4Error::DirectoryTooLarge { entries: sorted.len(), block_size });
        }
        let mut above = Vec::with_capacity(children.len().div_ceil(node_limit));
        for below in children.chunks(node_limit) {
            above.push(Child { hash: below.first().map_or(0, |child| child.hash), block: next_block(&blocks) });
            let mut node = vec![0; format.block_size];
            put_entry(&mut node, b"", Entry { inode: InodeNumber(0), file_type: 0 }, format.block_size);
            put_children(&mut node, NODE_ENTRIES, node_limit, below, format);
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
    put_children(&mut root, ROOT_ENTRIES, root_limit, &children, format);
    if let Some(first) = blocks.first_mut() {
        *first = root;
    }
    Ok(blocks)
}

fn next_block(blocks: &[Vec<u8>]) -> u32 {
    u32::try_from(blocks.len()).unwrap_or(u32::MAX)
}

/// Packs entries into leaves, with some room for the names to come.
fn leaves(sorted: &[((u32, u32), &[u8], Entry)], format: Format, blocks: &mut Vec<Vec<u8>>) -> Vec<Child> {
    let room = format.room() - format.room() / 8;
    let mut children = Vec::new();
    let mut rest = sorted;
    let mut before = None;
    while let Some(((hash, _), _, _)) = rest.first() {
        let mut used = 0;
        let fits = rest.iter().take_while(|(_, name, _)| {
            used += entry_size(name.len());
            used <= room
        });
        // A single entry always fits: names are at most 255 bytes long and blocks at least 1024.
        let (leaf, after) = rest.split_at(fits.count().max(1));
        // The lowest bit says that entries with this very hash begin in the block before.
        let continued = u32::from(before == Some(*hash));
        children.push(Child { hash: hash | continued, block: next_block(blocks) });
        blocks.push(format.block(leaf.iter().map(|(_, name, entry)| (*name, *entry))));
        before = leaf.last().map(|((hash, _), _, _)| *hash);
        rest = after;
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
            build(&dots, names.iter().take(amount).map(|name| (name.as_slice(), entry)), &hasher, format, large)
        };
        assert_eq!(build(100, false).unwrap()[0][0x1e], 0);
        assert_eq!(build(10_000, false).unwrap()[0][0x1e], 1);
        assert!(matches!(build(60_000, false), Err(Ext4Error::DirectoryTooLarge { entries: 60_000, .. })));
        assert_eq!(build(60_000, true).unwrap()[0][0x1e], 2);
    }
}
