//! The blocks that an inode holds: how many there are, against its size and its own count.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::extent::Extent;
use super::super::features;
use super::super::inode::{self, Inode, ROOT};
use super::super::layout::{BlockNumber, Run};
use super::super::record::{join32, low32};
use super::super::superblock as sb;
use super::Check;
use super::contents::is_fast;
use super::findings::{Place, Problem};
use super::folders::Folder;

pub(super) const MISALIGNED: &str = "has blocks that lie in their clusters otherwise than in the file";

/// What was found of an inode's blocks.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// All blocks or clusters, those that list others included.
    pub(super) blocks: u64,
    /// Where the last block of the contents is that was looked at.
    pub(super) place: Option<BlockNumber>,
    /// The last block's number in the file.
    pub(super) last: Option<u64>,
    /// The same of blocks that were written.
    pub(super) last_written: Option<u64>,
    /// What is known of a folder's blocks; those that somebody else claimed first are left out.
    pub(super) extents: Vec<Extent>,
    /// Whether some could not be followed, so that numbers mean nothing.
    pub(super) incomplete: bool,
}

impl Check<'_, '_> {
    /// Walks an inode's extended attributes and blocks; `values` is what it counts for attributes with inodes of
    /// their own beside those in a block.
    pub(super) fn contents_of(&mut self, number: u32, inode: &Inode, values: u64) -> Result<(), Ext4Error> {
        let mut held = Held { blocks: values, ..Held::default() };
        held.blocks = held.blocks.saturating_add(self.attribute_block(number, inode)?);
        let inline = self.is_inline(inode);
        let has_blocks = match inode.kind() {
            _ if inline => false,
            Some(FileKind::Directory | FileKind::File) => true,
            Some(FileKind::Symlink) => !is_fast(inode),
            _ => false,
        };
        let extents = self.volume.superblock.has_incompat(features::EXTENTS) && inode.has(inode::EXTENTS_FLAG);
        if has_blocks && extents {
            self.extents(number, inode, &mut held)?;
        } else if has_blocks {
            self.mapped_blocks(number, inode, &mut held)?;
        }
        if !held.incomplete {
            self.block_count(number, inode, held.blocks);
            if inline {
                self.inline_size(number, inode, most_mapped(self.volume.layout.block_size.into()))?;
            } else {
                self.size(number, inode, extents, &held);
            }
        }
        self.clustered_map(number, inode, extents);
        if inode.kind() == Some(FileKind::Directory) {
            if held.blocks == 0 && !inode.has(inode::INLINE_DATA_FLAG) {
                self.malformed(Place::Folder(number), "has no blocks");
            }
            self.folders.push(Folder::new(number, inode, held));
        } else if inode.has(inode::INDEX_FLAG) {
            self.malformed(Place::Inode(number), "is marked as having an index, and is no folder");
        }
        Ok(())
    }

    /// With clusters, files and folders have extents.
    fn clustered_map(&mut self, number: u32, inode: &Inode, extents: bool) {
        let named = number == ROOT.0 || number >= self.volume.layout.first_inode;
        let plain = matches!(inode.kind(), Some(FileKind::Directory | FileKind::File));
        let attributes = if inode.xattr_block().is_some() { self.volume.layout.sectors(1) } else { 0 };
        let inline = inode.has(inode::INLINE_DATA_FLAG);
        let mapped = !extents && !inline && inode.sectors(self.volume.layout.block_size) > attributes;
        if self.volume.superblock.has_ro_compat(features::BIGALLOC) && named && plain && mapped {
            self.malformed(Place::Inode(number), "has no extents, which files in clusters must have");
        }
    }

    fn block_count(&mut self, number: u32, inode: &Inode, blocks: u64) {
        let huge = self.volume.superblock.has_ro_compat(features::HUGE_FILE);
        let high = inode.get(inode::BLOCKS_HIGH);
        let stored = join32(inode.get(inode::BLOCKS_LO), if huge { high.into() } else { 0 });
        let in_blocks = huge && inode.has(inode::HUGE_FILE_FLAG);
        let blocks = blocks.saturating_mul(self.volume.layout.cluster_blocks.into());
        let found = if in_blocks { blocks } else { self.volume.layout.sectors(blocks) };
        if stored != found || in_blocks && high != 0 {
            self.report(Place::Inode(number), Problem::Count { what: "blocks", stored, found });
        }
    }

    fn size(&mut self, number: u32, inode: &Inode, extents: bool, held: &Held) {
        let layout = &self.volume.layout;
        let block_size = u64::from(layout.block_size);
        let size = inode.size();
        let wrong = match inode.kind() {
            Some(FileKind::Symlink) => false,
            Some(FileKind::Directory) => {
                let (blocks, found) = (size / block_size, held.last.map_or(0, |last| last + 1));
                let spare = u64::from(self.volume.superblock.get(sb::PREALLOC_DIR_BLOCKS));
                !size.is_multiple_of(block_size) || blocks > found || found - blocks > spare
            }
            _ => {
                let past = held.last_written.is_some_and(|last| size < last.saturating_mul(block_size));
                let most = if extents { (block_size << 32) - 1 } else { most_mapped(block_size) };
                past && !inode.has(inode::VERITY_FLAG) || size > most
            }
        };
        if wrong {
            self.report(Place::Inode(number), Problem::Value { field: "size", value: size });
        }
    }

    /// Takes blocks for an inode; answers whether all of them were free.
    pub(super) fn claim(&mut self, number: u32, run: Run) -> bool {
        match self.usage.claim(run) {
            Some(taken) => {
                self.taken(Place::Inode(number), taken);
                false
            }
            None => true,
        }
    }

    /// Whether a block of a file lies in its cluster as it does in the file, and with its neighbours.
    pub(super) fn is_aligned(&self, held: &Held, logical: u64, place: BlockNumber) -> bool {
        let cluster = u64::from(self.volume.layout.cluster_blocks);
        let apart = |(last, before): (u64, BlockNumber)| {
            last / cluster == logical / cluster && before.0 / cluster != place.0 / cluster
        };
        logical % cluster == place.0 % cluster && !held.last.zip(held.place).is_some_and(apart)
    }

    /// Takes blocks of an inode's contents; a cluster that it shares with those before is taken already.
    pub(super) fn claim_contents(&mut self, number: u32, held: &mut Held, run: Run) -> bool {
        let cluster = u64::from(self.volume.layout.cluster_blocks);
        let first = run.start.0 / cluster;
        let shared = cluster > 1 && held.place.is_some_and(|place| place.0 / cluster == first);
        let start = (first + u64::from(shared)).saturating_mul(cluster);
        let start = if cluster > 1 { start } else { run.start.0 };
        let end = run.end().0;
        held.place = Some(BlockNumber(end.saturating_sub(1)));
        if start >= end {
            return true;
        }
        held.blocks = held.blocks.saturating_add((end - start).div_ceil(cluster));
        self.claim(number, Run { start: BlockNumber(start), len: end - start })
    }

    /// The blocks of the list of bad ones.
    pub(super) fn bad_blocks(&mut self, inode: &Inode) -> Result<(), Ext4Error> {
        let number = 1;
        let used = inode.get(inode::MODE) != 0
            || inode.get(inode::UID_LO) != 0
            || inode.get(inode::GID_LO) != 0
            || inode.get(inode::LINKS_COUNT) != 0
            || inode.get(inode::FILE_ACL_LO) != 0
            || inode.has(inode::INLINE_DATA_FLAG);
        if used {
            self.malformed(Place::Inode(number), "is for bad blocks, and holds something else");
        }
        let mut held = Held::default();
        if inode.has(inode::EXTENTS_FLAG) {
            self.extents(number, inode, &mut held)
        } else {
            self.mapped_blocks(number, inode, &mut held)
        }
    }
}

/// The largest size of a file without extents.
fn most_mapped(block_size: u64) -> u64 {
    let addresses = u64::from(low32(block_size / 4));
    (12 + addresses + addresses * addresses + addresses * addresses * addresses).saturating_mul(block_size)
}
