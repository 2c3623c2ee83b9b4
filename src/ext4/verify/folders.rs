//! Folders, block by block: records, names, and the inodes that names stand for.

use std::collections::BTreeSet;

use super::super::dir::{self, Format, Tail};
use super::super::error::Ext4Error;
use super::super::extent::Extent;
use super::super::features;
use super::super::flags;
use super::super::inode::{self, Inode, InodeNumber, ROOT};
use super::super::layout::BlockNumber;
use super::super::record::index;
use super::Check;
use super::blocks::Held;
use super::findings::{Place, Problem};
use super::index::Index;

/// A folder in use.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) number: u32,
    generation: u32,
    flags: u32,
    /// Where its blocks are, as far as nobody else claimed them first.
    extents: Box<[Extent]>,
    /// Blocks it should have.
    pub(super) blocks: u64,
    /// The folder that holds a name for it; 0 for none.
    pub(super) parent: u32,
    /// What `..` stands for; 0 if there is none.
    pub(super) dotdot: u32,
}

impl Folder {
    pub(super) fn new(number: u32, inode: &Inode, held: Held) -> Self {
        Self {
            number,
            generation: inode.get(inode::GENERATION),
            flags: inode.get(inode::FLAGS),
            extents: held.extents.into_boxed_slice(),
            blocks: held.last.map_or(0, |last| last + 1),
            parent: if number == ROOT.0 { number } else { 0 },
            dotdot: 0,
        }
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// What reading a block of a folder needs to know.
pub(super) struct Reading<'index> {
    pub(super) number: u32,
    pub(super) block: u64,
    format: Format,
    /// Bytes that a record takes beside its name.
    extra: usize,
    file_types: bool,
    index: Option<&'index mut Index>,
}

impl Check<'_, '_> {
    pub(super) fn folders(&mut self) -> Result<(), Ext4Error> {
        for place in 0..self.folders.len() {
            let Some(folder) = self.folders.get_mut(place) else { break };
            let extents = std::mem::take(&mut folder.extents);
            let (number, blocks) = (folder.number, folder.blocks);
            let indexed = folder.has(inode::INDEX_FLAG);
            let inline = folder.has(inode::INLINE_DATA_FLAG);
            let inline = inline && self.volume.superblock.has_incompat(features::INLINE_DATA);
            let seed = self.volume.checksums.inode_seed(InodeNumber(number), folder.generation);
            let hashed_names = folder.has(flags::CASEFOLD) && folder.has(flags::ENCRYPT);
            let folded = folder.has(flags::CASEFOLD);
            let format = Format {
                block_size: index(self.volume.layout.block_size),
                seed: self.volume.checksums.metadata().then_some(seed),
            };
            let file_types = self.volume.superblock.has_incompat(features::FILETYPE);
            let extra = if hashed_names { 8 } else { 0 };
            if inline {
                if indexed {
                    self.malformed(Place::Folder(number), "is stored inline, and is marked as having an index");
                }
                let mut reading = Reading { number, block: 0, format, extra, file_types, index: None };
                self.inline_folder(&mut reading)?;
                continue;
            }
            let mut tree = if indexed { self.index(number, &extents, blocks, format, folded)? } else { None };
            for extent in &extents {
                for block in 0..extent.run.len {
                    let mut reading = Reading {
                        number,
                        block: extent.logical + block,
                        format,
                        extra,
                        file_types,
                        index: tree.as_mut(),
                    };
                    self.folder_block(&mut reading, extent.run.start.plus(block))?;
                }
            }
            if let Some(tree) = tree {
                self.unreferenced(number, &tree);
            }
        }
        Ok(())
    }

    fn folder_block(&mut self, reading: &mut Reading<'_>, place: BlockNumber) -> Result<(), Ext4Error> {
        let bytes = self.volume.read_block(place)?;
        let here = Place::FolderBlock(reading.number, reading.block);
        let inner = reading.index.as_ref().is_some_and(|index| index.is_inner(reading.block));
        let mut room = bytes.len();
        if reading.format.seed.is_some() && !inner {
            room = reading.format.room();
            match reading.format.tail(&bytes) {
                Tail::Right => {}
                Tail::Wrong => self.report(here.clone(), Problem::Checksum),
                Tail::Missing => self.malformed(here.clone(), "has no room for a checksum"),
            }
        }
        self.entries(reading, &bytes, room, if reading.block == 0 { 0 } else { 2 })
    }

    /// The records in `bytes` up to `room`, of which the `first` is counted from the one for the folder itself on.
    pub(super) fn entries(
        &mut self,
        reading: &mut Reading<'_>,
        bytes: &[u8],
        room: usize,
        mut first: usize,
    ) -> Result<(), Ext4Error> {
        let here = Place::FolderBlock(reading.number, reading.block);
        let mut names = BTreeSet::new();
        let mut at = 0;
        while at < room {
            let record = bytes.get(at..).unwrap_or_default();
            let length = usize::from(dir::RECORD_LENGTH.get(record));
            let name_length = usize::from(dir::NAME_LENGTH.get(record));
            // An entry without a name of its own, as in an index, needs no room for one.
            let extra = if first < 2 { 0 } else { reading.extra };
            let least = dir::entry_size(name_length) + extra;
            if length > record.len() || length < 12 || !length.is_multiple_of(4) || least > length {
                self.malformed(here, "has a malformed entry");
                return Ok(());
            }
            let entry = record.get(..length).unwrap_or_default();
            match first {
                0 => self.dot(reading.number, entry),
                1 => self.dotdot(reading.number, entry),
                _ => self.name(reading, entry, &mut names)?,
            }
            first += 1;
            at += length;
        }
        if at != room {
            self.malformed(here, "has entries that do not end with it");
        }
        Ok(())
    }

    /// The first two entries of a folder that is stored inline, where only the parent's number is kept.
    pub(super) fn dot_of_inline(&mut self, number: u32, parent: u32) {
        self.count_name(number);
        self.parent(number, parent);
        self.count_name(parent);
    }

    /// What `..` stands for.
    fn parent(&mut self, number: u32, target: u32) {
        if target == 0 {
            self.malformed(Place::Folder(number), "has no second entry for its parent");
        } else if let Ok(place) = self.folders.binary_search_by_key(&number, |folder| folder.number)
            && let Some(folder) = self.folders.get_mut(place)
        {
            folder.dotdot = target;
        }
    }

    /// The first entry.
    fn dot(&mut self, number: u32, entry: &[u8]) {
        let name = dir::name(entry);
        let target = dir::INODE.get(entry);
        let right = name == b"." && target == number && entry.get(9) == Some(&0) && entry.len() <= 24;
        if !right {
            self.malformed(Place::Folder(number), "does not begin with an entry for itself");
        }
        self.file_type(number, entry);
        self.count_name(target);
    }

    /// The second entry.
    fn dotdot(&mut self, number: u32, entry: &[u8]) {
        let target = dir::INODE.get(entry);
        let right = dir::name(entry) == b".." && entry.get(10) == Some(&0);
        self.parent(number, if right { target } else { 0 });
        self.file_type(number, entry);
        self.count_name(target);
    }

    fn name(
        &mut self,
        reading: &mut Reading<'_>,
        entry: &[u8],
        names: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), Ext4Error> {
        let target = dir::INODE.get(entry);
        if target == 0 {
            return Ok(());
        }
        let name = dir::name(entry);
        let place = Place::Name { folder: reading.number, name: name.to_vec() };
        if let Some(why) = self.no_target(reading.number, target) {
            self.report(place, Problem::Names { inode: target, why });
            return Ok(());
        }
        let what = match name {
            b"" => "has no name",
            b"." | b".." => "is there a second time",
            _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => "holds a byte that no name can hold",
            _ => "",
        };
        if !what.is_empty() {
            self.malformed(place.clone(), what);
        }
        if !reading.file_types && dir::FILE_TYPE.get(entry) != 0 {
            self.malformed(place.clone(), "has a file type, which the superblock does not know");
        }
        self.file_type(reading.number, entry);
        if let Some(index) = &reading.index
            && !index.fits(reading.block, name)
        {
            self.malformed(place.clone(), "is in the wrong block for its hash");
        }
        if !names.insert(name.to_vec()) {
            self.malformed(place.clone(), "is there twice");
        }
        self.count_name(target);
        if let Ok(at) = self.folders.binary_search_by_key(&target, |folder| folder.number)
            && let Some(folder) = self.folders.get_mut(at)
        {
            match folder.parent {
                0 => folder.parent = reading.number,
                _ => self.malformed(place, "stands for a folder that has a name already"),
            }
        }
        Ok(())
    }

    /// Why a name cannot stand for `target`, if it cannot.
    fn no_target(&self, folder: u32, target: u32) -> Option<&'static str> {
        let layout = &self.volume.layout;
        if u64::from(target) > layout.inode_count() {
            return Some("which does not exist");
        }
        if target == ROOT.0 {
            return Some("the root");
        }
        if target < layout.first_inode {
            return Some("which is reserved");
        }
        if target == folder {
            return Some("the folder itself");
        }
        match self.inodes.get(target) {
            None => Some("which is not in use"),
            Some(_) => None,
        }
    }

    /// The kind of file that an entry mentions.
    fn file_type(&mut self, folder: u32, entry: &[u8]) {
        let target = dir::INODE.get(entry);
        let Some(kind) = self.inodes.get(target).and_then(|known| known.kind) else { return };
        let named = dir::FILE_TYPE.get(entry);
        // Zero is "unknown", which is allowed.
        if self.volume.superblock.has_incompat(features::FILETYPE) && named != 0 && named != kind.file_type() {
            let place = Place::Name { folder, name: dir::name(entry).to_vec() };
            self.malformed(place, "has a file type that is not its inode's");
        }
    }

    fn count_name(&mut self, target: u32) {
        if let Some(known) = self.inodes.get_mut(target) {
            known.names = known.names.saturating_add(1);
        }
    }
}
