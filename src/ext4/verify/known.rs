//! What is remembered of each inode in use.

use super::super::FileKind;
use super::super::record::count;

/// An inode in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) number: u32,
    /// None for a mode that says nothing known, and for reserved inodes without one.
    pub(super) kind: Option<FileKind>,
    /// Links as the inode counts them.
    pub(super) links: u16,
    /// Names found for it.
    pub(super) names: u32,
    /// Whether nothing but the superblock refers to it.
    pub(super) hidden: bool,
}

/// All inodes in use, by number.
#[derive(Debug, Default)]
pub(super) struct KnownInodes {
    known: Vec<Known>,
}

impl KnownInodes {
    /// Inodes come in ascending order.
    pub(super) fn add(&mut self, known: Known) {
        self.known.push(known);
    }

    pub(super) fn get(&self, number: u32) -> Option<&Known> {
        let place = self.known.binary_search_by_key(&number, |known| known.number).ok()?;
        self.known.get(place)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Known> {
        let place = self.known.binary_search_by_key(&number, |known| known.number).ok()?;
        self.known.get_mut(place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.iter()
    }

    /// Those with numbers from `from` on and below `to`.
    pub(super) fn between(&self, from: u64, to: u64) -> &[Known] {
        let start = self.known.partition_point(|known| u64::from(known.number) < from);
        let end = self.known.partition_point(|known| u64::from(known.number) < to);
        self.known.get(start..end).unwrap_or_default()
    }

    pub(super) fn in_use(&self) -> u64 {
        count(self.known.len())
    }

    pub(super) fn folders(&self) -> u64 {
        self.count(FileKind::Directory)
    }

    pub(super) fn files(&self) -> u64 {
        self.count(FileKind::File)
    }

    fn count(&self, kind: FileKind) -> u64 {
        count(self.known.iter().filter(|known| !known.hidden && known.kind == Some(kind)).count())
    }
}
