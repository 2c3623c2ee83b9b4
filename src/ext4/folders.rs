//! Which blocks the folders have that were read, so that none is read for two.
//!
//! Folders are kept in memory whole. As each has blocks of its own, all of them together take no more than the image
//! has bytes for; without this check a few thousand inodes could name the same blocks again and again.

use std::collections::BTreeMap;

use super::error::Ext4Error;
use super::extent::Extent;
use super::inode::InodeNumber;
use super::layout::{BlockNumber, Run};

/// Runs by their first block, each with its folder; none overlap.
#[derive(Debug, Default)]
pub(super) struct Folders {
    runs: BTreeMap<BlockNumber, (Run, InodeNumber)>,
}

impl Folders {
    /// Notes the blocks of folder `number`, which may have been noted before.
    pub(super) fn note(&mut self, number: InodeNumber, extents: &[Extent]) -> Result<(), Ext4Error> {
        for extent in extents {
            let before = self.runs.range(..extent.run.end()).next_back();
            if let Some((_, (run, other))) = before
                && run.end() > extent.run.start
                && *other != number
            {
                let what = format!("the folder inodes {} and {} have the same block", other.0, number.0);
                return Err(Ext4Error::corrupt(what));
            }
            self.runs.insert(extent.run.start, (extent.run, number));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_two_folders_is_found() {
        let extents = |runs: &[(u64, u64)]| -> Vec<Extent> {
            runs.iter()
                .map(|(start, len)| Run { start: BlockNumber(*start), len: *len })
                .map(|run| Extent { logical: run.start.0, run, uninitialised: false })
                .collect()
        };
        let mut folders = Folders::default();
        folders.note(InodeNumber(12), &extents(&[(10, 5), (30, 1)])).unwrap();
        folders.note(InodeNumber(12), &extents(&[(10, 5), (30, 1)])).unwrap();
        folders.note(InodeNumber(13), &extents(&[(15, 15), (31, 1), (9, 1)])).unwrap();
        for run in [(10, 1), (14, 1), (8, 2), (0, 100), (30, 2), (30, 1)] {
            assert!(folders.note(InodeNumber(14), &extents(&[run])).is_err(), "{run:?}");
        }
    }
}
