//! The journal: a file system that was not unmounted cleanly has changes in it that must come first.

use super::error::Ext4Error;
use super::features;
use super::volume::Volume;

impl Volume<'_> {
    /// Refuses a file system whose journal holds changes.
    pub(super) fn recover(&mut self) -> Result<(), Ext4Error> {
        if !self.superblock.has_incompat(features::RECOVER) {
            return Ok(());
        }
        Err(Ext4Error::Unsupported {
            what: "changes in its journal (`needs_recovery`)".into(),
            hint: Some("run `e2fsck -fy` on a copy of the image: it was not unmounted cleanly"),
        })
    }
}
