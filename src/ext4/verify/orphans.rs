//! Inodes that were deleted while they were open: a list through their times of deletion, and the orphan file.
//! Written from the kernel's Documentation/filesystems/ext4/orphan.rst.

use std::collections::BTreeSet;

use super::super::error::Ext4Error;
use super::super::inode;
use super::super::superblock as sb;
use super::Check;

/// The inodes on the list.
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
        Ok(())
    }
}
