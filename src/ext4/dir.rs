//! Directories: read whole into a map, written back packed.
//! Written from the kernel's Documentation/filesystems/ext4/directory.rst.
//!
//! An indexed directory reads like a linear one, because its index blocks look like empty entries.

use std::collections::BTreeMap;

use super::FileKind;
use super::checksum::crc32c;
use super::error::Ext4Error;
use super::features;
use super::hash::Hasher;
use super::htree::{self, Packing};
use super::inode::{self, InodeNumber};
use super::layout::{BlockNumber, Run};
use super::record::{Field, count, fields, index};
use super::reserve::Held;
use super::volume::Volume;

fields! {
    0x0 INODE: u32, "inode: 0 if the entry is free";
    0x4 RECORD_LENGTH: u16, "rec_len: bytes to the next entry";
    0x6 NAME_LENGTH: u8, "name_len";
    0x7 FILE_TYPE: u8, "file_type: with the filetype feature";
}
/// Where an entry's name begins.
const NAME: usize = 8;
/// Bytes of the entries `.` and `..`.
const DOTS_SIZE: usize = 24;
/// Bytes of the tail that holds a block's checksum, dressed up as an empty entry.
pub(super) const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;
const TAIL_CHECKSUM: Field<u32> = Field::at(8);
/// The longest name.
pub(super) const LONGEST_NAME: usize = 255;

/// A name's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: InodeNumber,
    /// The kind as the entry says it: only a hint, and 0 without the filetype feature.
    pub(super) file_type: u8,
}

/// A directory, as it is to become.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) parent: InodeNumber,
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    pub(super) changed: bool,
    /// What it has on the disk.
    pub(super) held: Held,
    /// Free blocks kept for it.
    pub(super) reserved: u64,
    size: Size,
}

/// How large a directory's entries are.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Bytes of all entries but `.` and `..`.
    total: usize,
    /// Bytes of the largest that there ever was.
    largest: usize,
    /// Leaves that suffice for them, if they were counted.
    leaves: Option<u64>,
}

impl Size {
    fn with(mut self, name: &[u8]) -> Self {
        let size = entry_size(name.len());
        self.total = self.total.saturating_add(size);
        self.largest = self.largest.max(size);
        // At the worst the entry parts a full leaf into two, and the emptier one has room for it.
        self.leaves = self.leaves.map(|leaves| leaves + 1);
        self
    }

    /// Leaves that suffice for sure: all but the last are fuller than to take the largest entry.
    fn most_leaves(&self, room: usize) -> u64 {
        let least = room.saturating_sub(self.largest) + 4;
        let leaves = count(self.total / least) + 1;
        self.leaves.map_or(leaves, |counted| counted.min(leaves))
    }
}

impl Directory {
    pub(super) fn new(parent: InodeNumber) -> Self {
        Self {
            parent,
            entries: BTreeMap::new(),
            changed: true,
            held: Held::default(),
            reserved: 0,
            size: Size::default(),
        }
    }

    /// Puts a name in; answers what stood under it.
    pub(super) fn insert(&mut self, name: &[u8], entry: Entry) -> Option<Entry> {
        let before = self.entries.insert(name.to_vec(), entry);
        if before.is_none() {
            self.size = self.size.with(name);
        }
        before
    }

    /// Takes a name out.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Entry> {
        let before = self.entries.remove(name);
        if before.is_some() {
            self.size.total = self.size.total.saturating_sub(entry_size(name.len()));
        }
        before
    }

    fn named(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_slice(), *entry))
    }
}

/// Bytes that an entry with a name of `length` bytes takes.
pub(super) fn entry_size(length: usize) -> usize {
    (NAME + length).next_multiple_of(4)
}

/// The name of an entry.
pub(super) fn name(record: &[u8]) -> &[u8] {
    record.get(NAME..NAME + usize::from(NAME_LENGTH.get(record))).unwrap_or_default()
}

/// What stands at the end of a block that should have a checksum there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Right,
    Wrong,
    Missing,
}

/// How a directory's blocks are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) block_size: usize,
    /// Where the checksums start, if there are any.
    pub(super) seed: Option<u32>,
}

impl Format {
    /// Bytes for entries in a block.
    pub(super) fn room(&self) -> usize {
        self.block_size - if self.seed.is_some() { TAIL } else { 0 }
    }

    /// Whether a block ends with its checksum.
    pub(super) fn tail(&self, block: &[u8]) -> Tail {
        let Some((body, tail)) = block.split_at_checked(self.room()) else { return Tail::Missing };
        let dressed = INODE.get(tail) == 0
            && usize::from(RECORD_LENGTH.get(tail)) == TAIL
            && NAME_LENGTH.get(tail) == 0
            && FILE_TYPE.get(tail) == TAIL_TYPE;
        match self.seed {
            Some(seed) if dressed && TAIL_CHECKSUM.get(tail) == crc32c(seed, body) => Tail::Right,
            Some(_) if dressed => Tail::Wrong,
            _ => Tail::Missing,
        }
    }

    /// A block that holds `entries`; the last one takes what is left.
    pub(super) fn block<'name>(&self, entries: impl IntoIterator<Item = (&'name [u8], Entry)>) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        let mut at = 0;
        let mut last = 0;
        for (name, entry) in entries {
            last = at;
            at += put_entry(block.get_mut(at..).unwrap_or_default(), name, entry, entry_size(name.len()));
        }
        if let Some(record) = block.get_mut(last..) {
            RECORD_LENGTH.set(record, short(self.room() - last));
        }
        if let Some(seed) = self.seed {
            let (body, tail) = block.split_at_mut(self.room());
            RECORD_LENGTH.set(tail, short(TAIL));
            FILE_TYPE.set(tail, TAIL_TYPE);
            TAIL_CHECKSUM.set(tail, crc32c(seed, body));
        }
        block
    }
}

/// A length within a block as the disk holds it.
pub(super) fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Puts an entry of `size` bytes at the start of `record`; answers the size.
pub(super) fn put_entry(record: &mut [u8], name: &[u8], entry: Entry, size: usize) -> usize {
    INODE.set(record, entry.inode.0);
    RECORD_LENGTH.set(record, short(size));
    NAME_LENGTH.set(record, u8::try_from(name.len()).unwrap_or(u8::MAX));
    FILE_TYPE.set(record, entry.file_type);
    if let Some(slot) = record.get_mut(NAME..NAME + name.len()) {
        slot.copy_from_slice(name);
    }
    size
}

impl Volume<'_> {
    /// Reads directory `number` whole.
    pub(super) fn load_directory(&mut self, number: InodeNumber) -> Result<Directory, Ext4Error> {
        let damaged = |what: &str| Ext4Error::corrupt(format!("folder inode {} {what}", number.0));
        let inode = self.inode(number)?;
        if inode.kind() != Some(FileKind::Directory) {
            return Err(damaged("is no folder"));
        }
        let strict = !inode.is_encrypted();
        let mut directory = Directory::new(InodeNumber(0));
        directory.changed = false;
        if inode.has(inode::INLINE_DATA_FLAG) {
            directory.held = Held::inline(inode.xattr_block().is_some());
            let inline = self.inline_entries(number)?;
            directory.parent = inline.parent;
            for area in inline.areas {
                parse_block(&area, &mut directory, strict).ok_or_else(|| damaged("has a malformed entry"))?;
            }
        } else {
            self.load_blocks(number, &mut directory, strict)?;
        }
        for entry in directory.entries.values() {
            self.check_nameable(entry.inode)?;
        }
        if directory.parent.0 == 0 {
            return Err(damaged("has no entry for its parent"));
        }
        Ok(directory)
    }

    /// Takes in the blocks of directory `number`.
    fn load_blocks(&mut self, number: InodeNumber, directory: &mut Directory, strict: bool) -> Result<(), Ext4Error> {
        let damaged = |what: &str| Ext4Error::corrupt(format!("folder inode {} {what}", number.0));
        let blocks = self.inode(number)?.size() / u64::from(self.layout.block_size);
        let mut next = 0;
        let held = self.file_blocks(number)?;
        self.folders.note(number, &held.extents)?;
        directory.held = Held::new(&held);
        for extent in held.extents {
            if extent.logical != next || extent.uninitialised {
                return Err(damaged("has a hole"));
            }
            next += extent.run.len;
            for block in 0..extent.run.len {
                let bytes = self.read_block(extent.run.start.plus(block))?;
                parse_block(&bytes, directory, strict).ok_or_else(|| damaged("has a malformed entry"))?;
            }
        }
        if next < blocks || next == 0 {
            return Err(damaged("has fewer blocks than its size says"));
        }
        Ok(())
    }

    /// Writes directory `number` whole, into its old blocks as far as they go and `spare` others.
    pub(super) fn store_directory(
        &mut self,
        number: InodeNumber,
        directory: &Directory,
        spare: u64,
    ) -> Result<(), Ext4Error> {
        if self.inode(number)?.has(inode::INLINE_DATA_FLAG) {
            self.drop_inline(number)?;
        }
        let seed = self.inode_seed(number)?;
        let (blocks, indexed) = self.encode_directory(number, directory, self.directory_format(seed), spare);
        if indexed {
            Hasher::settle(&mut self.superblock);
        }
        let runs = self.reuse_blocks(number, count(blocks.len()))?;
        let places = runs.iter().flat_map(|run| (0..run.len).map(|block| run.start.plus(block)));
        let places: Vec<BlockNumber> = places.collect();
        let size = self.layout.bytes(count(blocks.len()));
        for (place, bytes) in places.into_iter().zip(blocks) {
            self.change_block(place, bytes);
        }
        self.set_blocks(number, &runs)?;
        let inode = self.inode(number)?;
        inode.set_size(size);
        inode.set_flag(inode::INDEX_FLAG, indexed);
        Ok(())
    }

    fn directory_format(&self, seed: u32) -> Format {
        Format { block_size: index(self.layout.block_size), seed: self.checksums.metadata().then_some(seed) }
    }

    /// How names are hashed, if directories get indexes.
    fn hasher(&self) -> Option<Hasher> {
        self.superblock.has_compat(features::DIR_INDEX).then(|| Hasher::new(&self.superblock)).flatten()
    }

    fn large_directories(&self) -> bool {
        self.superblock.has_incompat(features::LARGEDIR)
    }

    /// Blocks that suffice for a directory of `size`; none if they are more than an index can hold.
    fn enough_blocks(&self, size: &Size) -> Option<u64> {
        let format = self.directory_format(0);
        if DOTS_SIZE + size.total <= format.room() {
            return Some(1);
        }
        let leaves = size.most_leaves(format.room());
        match self.hasher() {
            Some(_) => htree::blocks(leaves, format, self.large_directories()),
            None => Some(leaves + 1),
        }
    }

    /// Blocks that suffice for the directory as it is.
    pub(super) fn most_blocks(&self, directory: &Directory) -> u64 {
        let room = self.directory_format(0).room();
        self.enough_blocks(&directory.size).unwrap_or_else(|| directory.size.most_leaves(room) + 1)
    }

    /// Blocks that suffice for the directory when `name` comes in.
    ///
    /// # Errors
    /// [`Ext4Error::DirectoryTooLarge`] if its index cannot hold it.
    pub(super) fn blocks_with(&self, directory: &mut Directory, name: &[u8]) -> Result<u64, Ext4Error> {
        if let Some(blocks) = self.enough_blocks(&directory.size.with(name)) {
            return Ok(blocks);
        }
        self.count_leaves(directory);
        let entries = directory.entries.len() + 1;
        let too_large = Ext4Error::DirectoryTooLarge { entries, block_size: self.layout.block_size };
        self.enough_blocks(&directory.size.with(name)).ok_or(too_large)
    }

    /// Counts the leaves that the directory's entries take, unless they can hardly be fewer than is known.
    pub(super) fn count_leaves(&self, directory: &mut Directory) {
        let format = self.directory_format(0);
        if let Some(hasher) = self.hasher()
            && directory.size.most_leaves(format.room()) > count(directory.size.total.div_ceil(format.room()))
        {
            directory.size.leaves = Some(htree::count_leaves(directory.named(), &hasher, format));
        }
    }

    /// The number of blocks that the directory can do with.
    pub(super) fn least_blocks(&self, number: InodeNumber, directory: &Directory) -> Result<u64, Ext4Error> {
        let format = self.directory_format(0);
        let linear = self.split_linear(&self.dots(number, directory), directory, format).len();
        let indexed = self.hasher().filter(|_| linear > 1).and_then(|hasher| {
            let leaves = htree::count_leaves(directory.named(), &hasher, format);
            htree::blocks(leaves, format, self.large_directories())
        });
        Ok(indexed.map_or(count(linear), |indexed| indexed.min(count(linear))))
    }

    /// The directory's blocks, and whether the first is an index. There is one if no more than `spare` blocks
    /// have to be had for it.
    fn encode_directory(
        &self,
        number: InodeNumber,
        directory: &Directory,
        format: Format,
        spare: u64,
    ) -> (Vec<Vec<u8>>, bool) {
        let dots = self.dots(number, directory);
        let linear = self.split_linear(&dots, directory, format);
        if let Some(hasher) = self.hasher().filter(|_| linear.len() > 1) {
            for packing in [Packing::Loose, Packing::Tight] {
                let large = self.large_directories();
                let built = htree::build(&dots, directory.named(), &hasher, format, packing, large);
                if let Some(blocks) = built
                    && (directory.held.missing(count(blocks.len()), &self.layout) <= spare
                        || packing == Packing::Tight && blocks.len() <= linear.len())
                {
                    return (blocks, true);
                }
            }
        }
        (linear.into_iter().map(|entries| format.block(entries)).collect(), false)
    }

    fn dots(&self, number: InodeNumber, directory: &Directory) -> [(&'static [u8], Entry); 2] {
        let file_type =
            if self.superblock.has_incompat(features::FILETYPE) { FileKind::Directory.file_type() } else { 0 };
        [
            (b".".as_slice(), Entry { inode: number, file_type }),
            (b"..".as_slice(), Entry { inode: directory.parent, file_type }),
        ]
    }

    /// The entries of each block without an index.
    fn split_linear<'a>(
        &self,
        dots: &'a [(&'static [u8], Entry); 2],
        directory: &'a Directory,
        format: Format,
    ) -> Vec<Vec<(&'a [u8], Entry)>> {
        let mut blocks = Vec::new();
        let mut pending = Vec::new();
        let mut used = 0;
        for (name, entry) in dots.iter().copied().chain(directory.named()) {
            let size = entry_size(name.len());
            if used + size > format.room() {
                blocks.push(std::mem::take(&mut pending));
                used = 0;
            }
            used += size;
            pending.push((name, entry));
        }
        blocks.push(pending);
        blocks
    }

    /// Leaves inode `number` with `wanted` blocks and no tree that lists them: the first of those that it
    /// has, and new ones.
    fn reuse_blocks(&mut self, number: InodeNumber, wanted: u64) -> Result<Vec<Run>, Ext4Error> {
        let old = self.file_blocks(number)?;
        for block in old.tree {
            self.free(Run { start: block, len: 1 })?;
        }
        let mut runs = Vec::new();
        let mut have = 0;
        for extent in old.extents {
            let keep = extent.run.len.min(wanted - have);
            if keep > 0 {
                runs.push(Run { start: extent.run.start, len: keep });
                have += keep;
            }
            if keep < extent.run.len {
                self.free(Run { start: extent.run.start.plus(keep), len: extent.run.len - keep })?;
            }
        }
        if have < wanted {
            runs.extend(self.allocate(wanted - have)?);
        }
        Ok(runs)
    }
}

/// Takes a block's entries into `directory`; none if the block is malformed. An encrypted name, for which
/// `strict` is off, can hold any byte.
fn parse_block(block: &[u8], directory: &mut Directory, strict: bool) -> Option<()> {
    let mut rest = block;
    while !rest.is_empty() {
        let length = usize::from(RECORD_LENGTH.get(rest));
        if length < NAME || !length.is_multiple_of(4) || length > rest.len() {
            return None;
        }
        let (record, after) = rest.split_at(length);
        rest = after;
        let inode = InodeNumber(INODE.get(record));
        if inode.0 == 0 {
            continue;
        }
        let name = record.get(NAME..NAME + usize::from(NAME_LENGTH.get(record)))?;
        match name {
            b"." => {}
            b".." => directory.parent = inode,
            _ => {
                let entry = Entry { inode, file_type: FILE_TYPE.get(record) };
                let allowed = if strict { is_name(name) } else { !name.is_empty() };
                let fresh = allowed && directory.insert(name, entry).is_none();
                fresh.then_some(())?;
            }
        }
    }
    Some(())
}

/// Whether `name` can be a file's name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(inode: u32) -> Entry {
        Entry { inode: InodeNumber(inode), file_type: 1 }
    }

    #[test]
    fn a_block_reads_back() {
        let format = Format { block_size: 1024, seed: Some(7) };
        let block = format.block([
            (b".".as_slice(), entry(12)),
            (b"..".as_slice(), entry(2)),
            (b"name".as_slice(), entry(13)),
            (b"longer-name".as_slice(), entry(14)),
        ]);
        let mut directory = Directory::new(InodeNumber(0));
        parse_block(&block, &mut directory, true).unwrap();
        assert_eq!(directory.parent, InodeNumber(2));
        let names: Vec<&[u8]> = directory.entries.keys().map(Vec::as_slice).collect();
        assert_eq!(names, [b"longer-name".as_slice(), b"name"]);
    }

    #[test]
    fn malformed_entries_are_found() {
        let format = Format { block_size: 1024, seed: None };
        let good = format.block([(b"..".as_slice(), entry(2)), (b"a".as_slice(), entry(3))]);
        let broken = |at: usize, byte: u8| {
            let mut block = good.clone();
            block[at] = byte;
            parse_block(&block, &mut Directory::new(InodeNumber(0)), true)
        };
        assert!(broken(0, 3).is_some());
        assert!(broken(4, 0).is_none(), "no length");
        assert!(broken(4, 13).is_none(), "not a multiple of four");
        assert!(broken(5, 0xff).is_none(), "past the block");
        assert!(broken(18, 0xff).is_none(), "NULs in a name");
        assert!(broken(6, 200).is_none(), "a name past its record");
        assert!(broken(20, b'/').is_none(), "a slash in a name");
    }
}
