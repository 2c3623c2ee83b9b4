//! Extended attributes: entries and values that overlap or leave their room, hashes, and blocks shared by several
//! inodes.

use std::collections::BTreeMap;

use super::super::error::Ext4Error;
use super::super::features;
use super::super::inode::{self, Inode};
use super::super::layout::{BlockNumber, Run};
use super::super::record::{Number, index};
use super::super::xattr::{self, BLOCK_HEADER, BODY_HEADER};
use super::super::xattr_entry::{self as entries, END, HEADER};
use super::Check;
use super::findings::{Place, Problem};
use super::values::Reference;

/// A block of extended attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedBlock {
    /// Inodes that it says it has.
    stored: u32,
    /// Inodes that were found.
    found: u32,
    /// Blocks or clusters that each of them counts for it and its values.
    space: u64,
}

/// Blocks of extended attributes by their numbers.
pub(super) type SharedBlocks = BTreeMap<u64, SharedBlock>;

/// Ranges of bytes that are spoken for.
struct Regions {
    taken: BTreeMap<usize, usize>,
    end: usize,
}

impl Regions {
    /// Takes `len` bytes, which are some; answers whether they were free.
    fn take(&mut self, start: usize, len: usize) -> bool {
        let end = start.saturating_add(len);
        let before = self.taken.range(..end).next_back();
        let free = end <= self.end && before.is_none_or(|(_, other)| *other <= start);
        if free {
            self.taken.insert(start, end);
        }
        free
    }
}

impl Check<'_, '_> {
    /// Attributes in the inode itself; answers what it counts for values that have an inode of their own.
    pub(super) fn attributes_in(&mut self, number: u32, inode: &Inode) -> Result<u64, Ext4Error> {
        let start = inode::BASE_SIZE + usize::from(inode.get(inode::EXTRA_ISIZE));
        let area = inode.bytes().get(start..).unwrap_or_default();
        if u32::load(area, 0) != xattr::MAGIC {
            return Ok(0);
        }
        let place = Place::Inode(number);
        let mut outside = Vec::new();
        if let Err(what) = check_body(area, &mut outside) {
            self.malformed(place.clone(), what);
        }
        self.references(&place, number, inode, outside)
    }

    /// Attributes in a block; answers what the inode counts for it and for values that have an inode of their own.
    pub(super) fn attribute_block(&mut self, number: u32, inode: &Inode) -> Result<u64, Ext4Error> {
        let wide = self.volume.superblock.has_incompat(features::BITS64);
        let block = if wide { inode.xattr_block() } else { Some(inode.get(inode::FILE_ACL_LO).into()) };
        let Some(block) = block.filter(|block| *block != 0) else { return Ok(0) };
        let known = self.volume.superblock.has_compat(features::EXT_ATTR);
        if !known || !self.volume.layout.contains(BlockNumber(block), 1) {
            self.report(Place::Inode(number), Problem::Outside { what: "extended attributes", block });
            return Ok(0);
        }
        if let Some(shared) = self.shared.get_mut(&block) {
            shared.found = shared.found.saturating_add(1);
            return Ok(shared.space);
        }
        self.claim(number, Run { start: BlockNumber(block), len: 1 });
        let bytes = self.volume.read_block(BlockNumber(block))?;
        let place = Place::XattrBlock(block);
        if xattr::HEADER_MAGIC.get(&bytes) != xattr::MAGIC || xattr::BLOCKS.get(&bytes) != 1 {
            self.malformed(place.clone(), "has a malformed header");
        } else if self.volume.checksums.metadata()
            && xattr::BLOCK_CHECKSUM.get(&bytes) != self.volume.xattr_checksum(BlockNumber(block), &bytes)
        {
            self.report(place.clone(), Problem::Checksum);
        }
        let mut outside = Vec::new();
        if let Err(what) = check_block(&bytes, &mut outside) {
            self.malformed(place.clone(), what);
        }
        let space = self.references(&place, number, inode, outside)?.saturating_add(1);
        self.shared.insert(block, SharedBlock { stored: xattr::REFERENCES.get(&bytes), found: 1, space });
        Ok(space)
    }

    /// Compares how many inodes share each block of attributes.
    pub(super) fn shared_blocks(&mut self) {
        for (block, SharedBlock { stored, found, .. }) in std::mem::take(&mut self.shared) {
            if stored != found {
                let problem =
                    Problem::Count { what: "inodes that share it", stored: stored.into(), found: found.into() };
                self.report(Place::XattrBlock(block), problem);
            }
        }
    }
}

const OVERLAP: &str = "has extended attributes that overlap";
const TOO_LONG: &str = "has an extended attribute that does not fit";
const HASH: &str = "has an extended attribute with a wrong hash";

/// The size of an entry with its name.
fn entry_len(entry: &[u8]) -> usize {
    (HEADER + usize::from(entries::NAME_LENGTH.get(entry))).next_multiple_of(4)
}

fn name(entry: &[u8]) -> &[u8] {
    let end = HEADER + usize::from(entries::NAME_LENGTH.get(entry));
    entry.get(HEADER..end).unwrap_or_default()
}

/// Attributes in an inode: `area` begins with the magic number, and places of values count from behind it.
fn check_body(area: &[u8], references: &mut Vec<Reference>) -> Result<(), &'static str> {
    let mut regions = Regions { taken: BTreeMap::from([(0, BODY_HEADER)]), end: area.len() };
    let mut left = area.len().saturating_sub(BODY_HEADER);
    let mut at = BODY_HEADER;
    while left >= HEADER {
        let entry = area.get(at..).unwrap_or_default();
        if u32::load(entry, 0) == 0 {
            break;
        }
        let len = entry_len(entry);
        if !regions.take(at, len) {
            return Err(OVERLAP);
        }
        let size = index(entries::VALUE_SIZE.get(entry));
        let outside = entries::VALUE_INODE.get(entry) != 0;
        let inline = if outside { 0 } else { size };
        left = left.checked_sub(len).and_then(|left| left.checked_sub(inline)).ok_or(TOO_LONG)?;
        if outside {
            references.push(Reference::new(entry, name(entry)));
        } else {
            let start = usize::from(entries::VALUE_OFFSET.get(entry)) + BODY_HEADER;
            if size > 0 && !regions.take(start, size.next_multiple_of(4)) {
                return Err(OVERLAP);
            }
            let value = area.get(start..start.saturating_add(size)).unwrap_or_default();
            let hash = entries::ENTRY_HASH.get(entry);
            if hash != 0 && !entries::is_entry_hash(hash, name(entry), value) {
                return Err(HASH);
            }
        }
        at += len;
    }
    if regions.take(at, END) { Ok(()) } else { Err(OVERLAP) }
}

/// Attributes in a block, from whose start places of values count.
fn check_block(block: &[u8], references: &mut Vec<Reference>) -> Result<(), &'static str> {
    let mut regions = Regions { taken: BTreeMap::from([(0, BLOCK_HEADER)]), end: block.len() };
    let mut at = BLOCK_HEADER;
    while let Some(entry) = block.get(at..).filter(|entry| u32::load(entry, 0) != 0) {
        if !regions.take(at, entry_len(entry)) {
            return Err(OVERLAP);
        }
        if entries::NAME_INDEX.get(entry) == 0 {
            return Err("has an extended attribute of an unknown kind");
        }
        if entries::VALUE_INODE.get(entry) == 0 {
            let size = index(entries::VALUE_SIZE.get(entry));
            let start = usize::from(entries::VALUE_OFFSET.get(entry));
            let end = start.checked_add(size).filter(|end| *end <= block.len()).ok_or(TOO_LONG)?;
            if size > 0 && !regions.take(start, size.next_multiple_of(4)) {
                return Err(OVERLAP);
            }
            let value = block.get(start..end).unwrap_or_default();
            if !entries::is_entry_hash(entries::ENTRY_HASH.get(entry), name(entry), value) {
                return Err(HASH);
            }
        } else {
            references.push(Reference::new(entry, name(entry)));
        }
        at += entry_len(entry);
    }
    if regions.take(at, END) { Ok(()) } else { Err(OVERLAP) }
}
