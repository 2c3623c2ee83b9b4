//! The resize inode: descriptor blocks kept for growth, listed with their copies in the backup groups.
//! Written from the description in e2fsprogs, lib/ext2fs/res_gdt.c and e2fsck/super.c: which entries e2fsck looks at.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::features;
use super::super::inode::{self, RESIZE};
use super::super::layout::BlockNumber;
use super::super::record::Number;
use super::super::resize_inode::reserved_slot;
use super::Check;
use super::findings::Place;

/// The place of the block of numbers of blocks of numbers in an inode's map.
const DOUBLE: usize = 13;

impl Check<'_, '_> {
    pub(super) fn resize_inode(&mut self) -> Result<(), Ext4Error> {
        let Some(inode) = self.peek(RESIZE.0)? else { return Ok(()) };
        let place = Place::Inode(RESIZE.0);
        let map: Vec<u32> = (0..inode.block().len() / 4).map(|slot| u32::load(inode.block(), slot * 4)).collect();
        if !self.volume.superblock.has_compat(features::RESIZE_INODE) {
            if map.iter().any(|block| *block != 0) {
                self.malformed(place, "holds blocks for growth, which the superblock knows nothing of");
            }
            return Ok(());
        }
        let double = BlockNumber(map.get(DOUBLE).copied().unwrap_or(0).into());
        let alone = map.iter().enumerate().all(|(slot, block)| slot == DOUBLE || *block == 0);
        let right = alone
            && double.0 != 0
            && inode.get(inode::LINKS_COUNT) != 0
            && inode.kind() == Some(FileKind::File)
            && self.volume.layout.contains(double, 1);
        if !right || !self.reserved_blocks_listed(double)? {
            self.malformed(place, "does not list the blocks kept for growth");
        }
        Ok(())
    }

    /// Whether the double block lists the first quarter of the reserved blocks, which is all that e2fsck looks at, and
    /// each of them its copies.
    fn reserved_blocks_listed(&self, double: BlockNumber) -> Result<bool, Ext4Error> {
        let layout = &self.volume.layout;
        let backups = layout.backup_groups();
        let list = self.volume.read_block(double)?;
        let first = layout.descriptor_blocks();
        for number in first..first + u64::from(layout.reserved_descriptor_blocks / 4) {
            let block = layout.leading_descriptor_block(0, number);
            let listed = u64::from(u32::load(&list, reserved_slot(layout, number)));
            if listed != block.0 || !layout.contains(block, 1) {
                return Ok(false);
            }
            let copies = self.volume.read_block(block)?;
            let listed = backups.iter().enumerate().all(|(slot, group)| {
                let copy = layout.leading_descriptor_block(*group, number);
                u64::from(u32::load(&copies, slot * 4)) == copy.0
            });
            if !listed {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
