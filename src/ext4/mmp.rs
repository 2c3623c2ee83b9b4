//! Protection against several users at once (the feature `mmp`): a block that says who has the file system
//! in use. We read it before editing and leave it alone: an image is nobody else's meanwhile.
//! Written from the kernel's Documentation/filesystems/ext4/mmp.rst.

use super::checksum::crc32c;
use super::error::{Ext4Error, show};
use super::features;
use super::layout::BlockNumber;
use super::record::fields;
use super::superblock;
use super::volume::Volume;

const MAGIC: u32 = 0x004d_4d50;
/// Nobody uses it.
const CLEAN: u32 = 0xff4d_4d50;
/// A file system check runs, or was cut off.
const CHECKED: u32 = 0xe24d_4d50;
const NODE_NAME: std::ops::Range<usize> = 0x10..0x50;
const CHECKSUM_OFFSET: usize = 0x3fc;

fields! {
    0x0 MAGIC_NUMBER: u32, "mmp_magic: 0x004d4d50";
    0x4 SEQUENCE: u32, "mmp_seq: a number that changes while in use, or one of those above";
    0x3fc CHECKSUM: u32, "mmp_checksum";
}

impl Volume<'_> {
    /// Whether magic number and checksum are those of the block, whatever it says.
    pub(super) fn is_mmp_block(&self, bytes: &[u8]) -> bool {
        let checked = bytes.get(..CHECKSUM_OFFSET).unwrap_or_default();
        let right = !self.checksums.metadata() || CHECKSUM.get(bytes) == crc32c(self.checksums.seed(), checked);
        right && MAGIC_NUMBER.get(bytes) == MAGIC
    }

    /// Refuses a file system that somebody has in use.
    pub(super) fn check_unused(&self) -> Result<(), Ext4Error> {
        if !self.superblock.has_incompat(features::MMP) {
            return Ok(());
        }
        let place = BlockNumber(self.superblock.get(superblock::MMP_BLOCK));
        let bytes = self.read_block(place)?;
        if !self.is_mmp_block(&bytes) {
            return Err(Ext4Error::corrupt(format!("the `mmp` block {} is malformed", place.0)));
        }
        let name = bytes.get(NODE_NAME).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        let (what, hint) = match SEQUENCE.get(&bytes) {
            CLEAN => return Ok(()),
            CHECKED => (
                format!("an `mmp` block by which e2fsck is checking it on `{}`", show(name)),
                "let e2fsck finish; if it was cut off, run `tune2fs -f -E clear_mmp` on a copy of the image",
            ),
            _ => (
                format!("an `mmp` block by which `{}` has it in use", show(name)),
                "unmount it there; if that machine failed, run `e2fsck -fy` on a copy of the image",
            ),
        };
        Err(Ext4Error::Unsupported { what, hint: Some(hint) })
    }
}
