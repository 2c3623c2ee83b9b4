//! Inodes that were deleted while they were open: a list through their times of deletion, and the orphan file.
//! Written from the kernel's Documentation/filesystems/ext4/orphan.rst.
//!
//! e2fsck deals with them before it looks at anything else, unless it may not write: then it complains, and so do we.

use std::collections::BTreeSet;

use super::super::error::Ext4Error;
use super::super::features;
use super::super::inode::{self, InodeNumber};
use super::super::orphan::listed_orphans;
use super::super::superblock as sb;
use super::Check;
use super::findings::{Place, Problem};

/// The largest orphan file that a kernel accepts.
const LARGEST: u64 = 8 << 20;

/// The inodes on the list, and in the file.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    numbers: BTreeSet<u32>,
}

impl Orphans {
    pub(super) fn contains(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }
}

impl Check<'_, '_> {
    /// Follows the list; what is on it is told of when the inode is met.
    pub(super) fn orphans(&mut self) -> Result<(), Ext4Error> {
        let mut next = self.volume.superblock.get(sb::LAST_ORPHAN);
        while next >= self.volume.layout.first_inode && self.orphans.numbers.insert(next) {
            let Some(inode) = self.peek(next)? else { break };
            next = inode.get(inode::DTIME);
        }
        let superblock = &self.volume.superblock;
        let number = superblock.get(sb::ORPHAN_FILE_INUM);
        if !superblock.has_compat(features::ORPHAN_FILE) {
            return Ok(());
        }
        let present = superblock.has_ro_compat(features::ORPHAN_PRESENT);
        match self.orphan_file(InodeNumber(number)) {
            // A system that stopped leaves it so, and the next mount does not mind.
            Ok(true) if present && !self.replayed => {
                self.malformed(Place::Superblock, "has `orphan_present`, and the orphan file lists none");
                Ok(())
            }
            Err(Ext4Error::Corrupt { what }) => {
                self.report(Place::Inode(number), Problem::Unreadable(what));
                Ok(())
            }
            result => result.map(|_| ()),
        }
    }

    /// Reads the orphan file; answers whether it is sound and lists nothing.
    fn orphan_file(&mut self, number: InodeNumber) -> Result<bool, Ext4Error> {
        let place = Place::Inode(number.0);
        let mut most = LARGEST / u64::from(self.volume.layout.block_size);
        let mut empty = true;
        let size = self.volume.inode(number)?.size();
        if !size.is_multiple_of(self.volume.layout.block_size.into()) {
            self.malformed(place.clone(), "is the orphan file, and ends within a block");
        }
        for extent in self.volume.file_blocks(number)?.extents {
            for block in 0..extent.run.len.min(most) {
                let at = extent.run.start.plus(block);
                let bytes = self.volume.read_block(at)?;
                let orphans = listed_orphans(&bytes);
                if let Some(what) = self.volume.orphan_block_damage(number, at, &bytes)? {
                    let what = format!("block {} of the orphan file {what}", at.0);
                    self.report(place.clone(), Problem::Unreadable(what));
                    empty = false;
                } else if !orphans.is_empty() {
                    self.malformed(place.clone(), "is the orphan file, and lists files that were never dealt with");
                    self.orphans.numbers.extend(orphans);
                    empty = false;
                }
            }
            most = most.saturating_sub(extent.run.len);
        }
        Ok(empty)
    }
}
