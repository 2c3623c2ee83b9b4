//! The journal's inode and superblock. What it held was put into place before the check began.

use super::super::error::Ext4Error;
use super::super::features;
use super::super::inode::InodeNumber;
use super::super::superblock as sb;
use super::Check;
use super::findings::{Place, Problem};

impl Check<'_, '_> {
    pub(super) fn journal(&mut self) -> Result<(), Ext4Error> {
        let superblock = &self.volume.superblock;
        let number = superblock.get(sb::JOURNAL_INUM);
        if !superblock.has_compat(features::HAS_JOURNAL) {
            if number != 0 {
                self.malformed(Place::Superblock, "mentions a journal, and does not have the feature");
            }
            return Ok(());
        }
        // One on another device is not for us to look at.
        if number == 0 || self.replayed {
            return Ok(());
        }
        match self.volume.journal_is_empty(InodeNumber(number)) {
            Ok(true) => {}
            Ok(false) => self.malformed(Place::Journal, "holds changes, and the superblock says that it does not"),
            Err(Ext4Error::Corrupt { what }) => self.report(Place::Journal, Problem::Unreadable(what)),
            // It holds nothing, so nobody needs to understand it.
            Err(Ext4Error::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
