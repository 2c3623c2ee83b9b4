//! A file's bytes, wherever they are: in blocks, in the inode, or nowhere because they are zeros.

use super::FileKind;
use super::error::Ext4Error;
use super::features;
use super::inode::{self, InodeNumber};
use super::layout::Run;
use super::record::{count, index};
use super::volume::Volume;

impl Volume<'_> {
    /// The first `size` bytes of what is stored for inode `number`; the caller bounds `size`.
    pub(super) fn read_contents(&mut self, number: InodeNumber, size: usize) -> Result<Vec<u8>, Ext4Error> {
        let mut bytes = vec![0; size];
        if self.inode(number)?.has(inode::INLINE_DATA_FLAG) {
            let contents = self.inline_contents(number)?;
            let len = contents.len().min(size);
            if let (Some(slot), Some(source)) = (bytes.get_mut(..len), contents.get(..len)) {
                slot.copy_from_slice(source);
            }
            return Ok(bytes);
        }
        let block_size = index(self.layout.block_size);
        for extent in self.file_blocks(number)?.extents {
            if extent.uninitialised {
                continue;
            }
            for block in 0..extent.run.len {
                let start = self.layout.bytes(extent.logical + block);
                if start >= count(size) {
                    break;
                }
                let end = index(start).saturating_add(block_size).min(size);
                let source = self.read_block(extent.run.start.plus(block))?;
                if let Some(slot) = bytes.get_mut(index(start)..end) {
                    slot.copy_from_slice(source.get(..slot.len()).unwrap_or_default());
                }
            }
        }
        Ok(bytes)
    }

    /// Whether inode `number` is a symbolic link whose target stands where others have their map of blocks.
    pub(super) fn is_short_link(&mut self, number: InodeNumber) -> Result<bool, Ext4Error> {
        // Values outside count as space of the link's own, so where there can be some the size decides.
        let by_size = self.superblock.has_incompat(features::EA_INODE);
        let block_size = self.layout.block_size;
        let inode = self.inode(number)?;
        if inode.kind() != Some(FileKind::Symlink) || inode.has(inode::INLINE_DATA_FLAG) {
            return Ok(false);
        }
        let attributes = if inode.xattr_block().is_some() { u64::from(block_size / 512) } else { 0 };
        Ok(if by_size { inode.size() < count(inode::BLOCK_SIZE) } else { inode.sectors(block_size) <= attributes })
    }

    /// Gives inode `number`, which has no blocks now, those in `runs` from its start on.
    pub(super) fn set_blocks(&mut self, number: InodeNumber, runs: &[Run]) -> Result<(), Ext4Error> {
        if self.layout.extents { self.set_extents(number, runs) } else { self.set_map(number, runs) }
    }

    /// Counts the space of inode `number`: `blocks` for contents and their map, and what its attributes take.
    pub(super) fn count_space(&mut self, number: InodeNumber, blocks: u64) -> Result<(), Ext4Error> {
        let block_size = self.layout.block_size;
        let attributes = self.attribute_sectors(number)?;
        let sectors = self.layout.sectors(blocks).saturating_add(attributes);
        self.inode(number)?.set_sectors(sectors, block_size);
        Ok(())
    }
}
