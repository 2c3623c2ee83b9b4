//! Orphans: files that were deleted while a process had them open, or that were being made shorter, when the system
//! stopped.
//!
//! They stand in a list that begins in the superblock and goes on in `i_dtime`, or in the blocks of the orphan file.
//! A deleted one is released with all it has; another is cut off at its size. The inode of a released one becomes
//! zeros like every other that the editor frees, so there is no time of deletion to be known. Written from the
//! kernel's Documentation/filesystems/ext4/orphan.rst and fs/ext4/orphan.c (Linux 6.12), and e2fsprogs 1.47
//! e2fsck/super.c, which goes on where we stop: a list that cannot be true is an error.

use std::collections::BTreeSet;

use super::FileKind;
use super::checksum::crc32c;
use super::error::Ext4Error;
use super::features;
use super::inode::{self, InodeNumber};
use super::layout::BlockNumber;
use super::record::Number;
use super::superblock;
use super::volume::Volume;

const BLOCK_MAGIC: u32 = 0x0b10_ca04;
/// Bytes at the end of an orphan file's block: magic number and checksum.
const TAIL: usize = 8;

impl Volume<'_> {
    /// Deals with all orphans, and leaves none.
    pub(super) fn release_orphans(&mut self) -> Result<(), Ext4Error> {
        let mut seen = BTreeSet::new();
        let mut next = self.superblock.get(superblock::LAST_ORPHAN);
        while next != 0 {
            let number = InodeNumber(next);
            self.check_orphan(number, &mut seen)?;
            next = self.inode(number)?.get(inode::DTIME);
            self.inode(number)?.set(inode::DTIME, 0);
            self.release_orphan(number)?;
        }
        if self.superblock.has_ro_compat(features::ORPHAN_PRESENT) {
            self.release_orphan_file(&mut seen)?;
        }
        self.superblock.clear_orphans();
        Ok(())
    }

    /// Refuses what no orphan can be.
    fn check_orphan(&mut self, number: InodeNumber, seen: &mut BTreeSet<InodeNumber>) -> Result<(), Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("the orphan inode {} {what}", number.0)));
        let (group, place) = match self.layout.locate_inode(number) {
            Ok(found) => found,
            Err(_) => return damaged("does not exist"),
        };
        let hidden = [superblock::JOURNAL_INUM, superblock::ORPHAN_FILE_INUM];
        if number.0 < self.layout.first_inode || hidden.into_iter().any(|field| self.superblock.get(field) == number.0)
        {
            return damaged("is a reserved one");
        }
        if !seen.insert(number) {
            return damaged("is listed twice");
        }
        if !self.inode_bitmap(group)?.get(place) {
            return damaged("is marked free");
        }
        let inode = self.inode(number)?;
        match (inode.kind(), inode.get(inode::LINKS_COUNT)) {
            (None, _) => damaged("is not in use"),
            (Some(_), 0) | (Some(FileKind::File), _) => Ok(()),
            (Some(_), _) => damaged("has a name and is not a regular file"),
        }
    }

    fn release_orphan(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let inode = self.inode(number)?;
        if inode.get(inode::LINKS_COUNT) > 0 {
            return self.truncate_to_size(number);
        }
        let directory = inode.kind() == Some(FileKind::Directory);
        self.free_file_blocks(number)?;
        self.drop_xattrs(number)?;
        self.free_inode(number, directory)
    }

    fn release_orphan_file(&mut self, seen: &mut BTreeSet<InodeNumber>) -> Result<(), Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("the orphan file {what}")));
        if !self.superblock.has_compat(features::ORPHAN_FILE) {
            return damaged("is said to list orphans, and there is none");
        }
        let number = InodeNumber(self.superblock.get(superblock::ORPHAN_FILE_INUM));
        let inode = self.inode(number)?;
        let size = inode.size();
        if inode.kind() != Some(FileKind::File) || inode.get(inode::LINKS_COUNT) == 0 {
            return damaged(&format!("(inode {}) is not a file in use", number.0));
        }
        let mut next = 0;
        for extent in self.file_blocks(number)?.extents {
            if extent.logical != next || extent.uninitialised {
                return damaged("has a hole");
            }
            for block in 0..extent.run.len {
                self.release_orphan_block(number, extent.run.start.plus(block), seen)?;
            }
            next += extent.run.len;
        }
        let blocks = self.layout.blocks_for(size);
        if next != blocks { damaged("has more or fewer blocks than its size says") } else { Ok(()) }
    }

    /// Deals with the orphans that a block of the orphan file lists, and empties it.
    fn release_orphan_block(
        &mut self,
        file: InodeNumber,
        place: BlockNumber,
        seen: &mut BTreeSet<InodeNumber>,
    ) -> Result<(), Ext4Error> {
        let mut bytes = self.read_block(place)?;
        if let Some(what) = self.orphan_block_damage(file, place, &bytes)? {
            return Err(Ext4Error::corrupt(format!("block {} of the orphan file {what}", place.0)));
        }
        let orphans = listed_orphans(&bytes);
        if orphans.is_empty() {
            return Ok(());
        }
        for orphan in orphans {
            self.check_orphan(InodeNumber(orphan), seen)?;
            self.release_orphan(InodeNumber(orphan))?;
        }
        let room = bytes.len().saturating_sub(TAIL);
        bytes.get_mut(..room).unwrap_or_default().fill(0);
        if self.checksums.metadata() {
            self.orphan_block_checksum(file, place, &bytes)?.store(&mut bytes, room + 4);
        }
        self.change_block(place, bytes);
        Ok(())
    }

    /// What is wrong with the tail of a block of the orphan file, if something is.
    pub(super) fn orphan_block_damage(
        &mut self,
        file: InodeNumber,
        place: BlockNumber,
        bytes: &[u8],
    ) -> Result<Option<&'static str>, Ext4Error> {
        let room = bytes.len().saturating_sub(TAIL);
        if u32::load(bytes, room) != BLOCK_MAGIC {
            return Ok(Some("has no magic number"));
        }
        let checksum = self.orphan_block_checksum(file, place, bytes)?;
        let wrong = self.checksums.metadata() && u32::load(bytes, room + 4) != checksum;
        Ok(wrong.then_some("has a wrong checksum"))
    }

    fn orphan_block_checksum(&mut self, file: InodeNumber, place: BlockNumber, bytes: &[u8]) -> Result<u32, Ext4Error> {
        let seed = crc32c(self.inode_seed(file)?, &place.0.to_le_bytes());
        Ok(crc32c(seed, bytes.get(..bytes.len().saturating_sub(TAIL)).unwrap_or_default()))
    }
}

/// The inodes that a block of the orphan file lists.
pub(super) fn listed_orphans(bytes: &[u8]) -> Vec<u32> {
    let slots = bytes.len().saturating_sub(TAIL) / 4;
    (0..slots).map(|slot| u32::load(bytes, slot * 4)).filter(|orphan| *orphan != 0).collect()
}
