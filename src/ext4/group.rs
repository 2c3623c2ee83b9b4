//! A block group: its descriptor, and its bitmaps once somebody needs them.
//! Written from the kernel's Documentation/filesystems/ext4/group_descr.rst.

use super::bitmap::Bitmap;
use super::layout::{BlockNumber, Layout, Run};
use super::record::{Field, Number, fields, high16, high32, join16, join32, low16, low32};

/// The inode bitmap and table hold nothing yet.
pub(super) const INODE_UNINIT: u16 = 0x1;
/// The block bitmap is to be computed.
pub(super) const BLOCK_UNINIT: u16 = 0x2;
/// The inode table is zero where it is not in use.
pub(super) const ITABLE_ZEROED: u16 = 0x4;

fields! {
    0x00 BLOCK_BITMAP_LO: u32, "bg_block_bitmap_lo: block of the block bitmap";
    0x04 INODE_BITMAP_LO: u32, "bg_inode_bitmap_lo: block of the inode bitmap";
    0x08 INODE_TABLE_LO: u32, "bg_inode_table_lo: first block of the inode table";
    0x0c FREE_BLOCKS_COUNT_LO: u16, "bg_free_blocks_count_lo";
    0x0e FREE_INODES_COUNT_LO: u16, "bg_free_inodes_count_lo";
    0x10 USED_DIRS_COUNT_LO: u16, "bg_used_dirs_count_lo: directories among the inodes";
    0x12 FLAGS: u16, "bg_flags";
    0x18 BLOCK_BITMAP_CSUM_LO: u16, "bg_block_bitmap_csum_lo";
    0x1a INODE_BITMAP_CSUM_LO: u16, "bg_inode_bitmap_csum_lo";
    0x1c ITABLE_UNUSED_LO: u16, "bg_itable_unused_lo: inodes at the table's end that were never used";
    0x1e CHECKSUM: u16, "bg_checksum";
    0x20 BLOCK_BITMAP_HI: u32, "bg_block_bitmap_hi";
    0x24 INODE_BITMAP_HI: u32, "bg_inode_bitmap_hi";
    0x28 INODE_TABLE_HI: u32, "bg_inode_table_hi";
    0x2c FREE_BLOCKS_COUNT_HI: u16, "bg_free_blocks_count_hi";
    0x2e FREE_INODES_COUNT_HI: u16, "bg_free_inodes_count_hi";
    0x30 USED_DIRS_COUNT_HI: u16, "bg_used_dirs_count_hi";
    0x32 ITABLE_UNUSED_HI: u16, "bg_itable_unused_hi";
    0x38 BLOCK_BITMAP_CSUM_HI: u16, "bg_block_bitmap_csum_hi";
    0x3a INODE_BITMAP_CSUM_HI: u16, "bg_inode_bitmap_csum_hi";
}

/// One group, as it is to become.
#[derive(Debug, Clone)]
pub(super) struct Group {
    bytes: Vec<u8>,
    /// Which blocks are in use; loaded when needed.
    pub(super) blocks: Option<Bitmap>,
    /// Which inodes are in use; loaded when needed.
    pub(super) inodes: Option<Bitmap>,
    /// Inodes at the table's end that the disk holds nothing meaningful for.
    pub(super) unused_on_disk: u32,
    /// No inode before this place is free.
    pub(super) inode_cursor: u32,
}

impl Group {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut group = Self { bytes, blocks: None, inodes: None, unused_on_disk: 0, inode_cursor: 0 };
        group.unused_on_disk = group.unused_inodes();
        group
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn get<T: Number>(&self, field: Field<T>) -> T {
        field.get(&self.bytes)
    }

    pub(super) fn set<T: Number>(&mut self, field: Field<T>, value: T) {
        field.set(&mut self.bytes, value);
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.get(FLAGS) & flag != 0
    }

    pub(super) fn clear_flag(&mut self, flag: u16) {
        self.set(FLAGS, self.get(FLAGS) & !flag);
    }

    fn pair16(&self, low: Field<u16>, high: Field<u16>) -> u32 {
        join16(self.get(low), self.get(high))
    }

    fn set_pair16(&mut self, low: Field<u16>, high: Field<u16>, value: u32) {
        self.set(low, low16(value));
        self.set(high, high16(value));
    }

    fn pair32(&self, low: Field<u32>, high: Field<u32>) -> BlockNumber {
        BlockNumber(join32(self.get(low), self.get(high)))
    }

    fn set_pair32(&mut self, low: Field<u32>, high: Field<u32>, value: BlockNumber) {
        self.set(low, low32(value.0));
        self.set(high, high32(value.0));
    }

    pub(super) fn block_bitmap(&self) -> BlockNumber {
        self.pair32(BLOCK_BITMAP_LO, BLOCK_BITMAP_HI)
    }

    pub(super) fn inode_bitmap(&self) -> BlockNumber {
        self.pair32(INODE_BITMAP_LO, INODE_BITMAP_HI)
    }

    pub(super) fn inode_table(&self) -> BlockNumber {
        self.pair32(INODE_TABLE_LO, INODE_TABLE_HI)
    }

    pub(super) fn set_places(&mut self, blocks: BlockNumber, inodes: BlockNumber, table: BlockNumber) {
        self.set_pair32(BLOCK_BITMAP_LO, BLOCK_BITMAP_HI, blocks);
        self.set_pair32(INODE_BITMAP_LO, INODE_BITMAP_HI, inodes);
        self.set_pair32(INODE_TABLE_LO, INODE_TABLE_HI, table);
    }

    pub(super) fn free_blocks(&self) -> u32 {
        self.pair16(FREE_BLOCKS_COUNT_LO, FREE_BLOCKS_COUNT_HI)
    }

    pub(super) fn set_free_blocks(&mut self, value: u32) {
        self.set_pair16(FREE_BLOCKS_COUNT_LO, FREE_BLOCKS_COUNT_HI, value);
    }

    pub(super) fn free_inodes(&self) -> u32 {
        self.pair16(FREE_INODES_COUNT_LO, FREE_INODES_COUNT_HI)
    }

    pub(super) fn set_free_inodes(&mut self, value: u32) {
        self.set_pair16(FREE_INODES_COUNT_LO, FREE_INODES_COUNT_HI, value);
    }

    pub(super) fn used_directories(&self) -> u32 {
        self.pair16(USED_DIRS_COUNT_LO, USED_DIRS_COUNT_HI)
    }

    pub(super) fn set_used_directories(&mut self, value: u32) {
        self.set_pair16(USED_DIRS_COUNT_LO, USED_DIRS_COUNT_HI, value);
    }

    pub(super) fn unused_inodes(&self) -> u32 {
        self.pair16(ITABLE_UNUSED_LO, ITABLE_UNUSED_HI)
    }

    pub(super) fn set_unused_inodes(&mut self, value: u32) {
        self.set_pair16(ITABLE_UNUSED_LO, ITABLE_UNUSED_HI, value);
    }

    /// The low half of a checksum, and the high half where the descriptor has room for one.
    pub(super) fn set_bitmap_checksums(&mut self, blocks: Option<u32>, inodes: Option<u32>) {
        if let Some(checksum) = blocks {
            self.set_pair16(BLOCK_BITMAP_CSUM_LO, BLOCK_BITMAP_CSUM_HI, checksum);
        }
        if let Some(checksum) = inodes {
            self.set_pair16(INODE_BITMAP_CSUM_LO, INODE_BITMAP_CSUM_HI, checksum);
        }
    }

    pub(super) fn block_bitmap_checksum_is(&self, checksum: u32) -> bool {
        self.same(self.pair16(BLOCK_BITMAP_CSUM_LO, BLOCK_BITMAP_CSUM_HI), checksum)
    }

    pub(super) fn inode_bitmap_checksum_is(&self, checksum: u32) -> bool {
        self.same(self.pair16(INODE_BITMAP_CSUM_LO, INODE_BITMAP_CSUM_HI), checksum)
    }

    fn same(&self, stored: u32, checksum: u32) -> bool {
        let mask = if self.bytes.len() > 0x3a { u32::MAX } else { 0xffff };
        stored == checksum & mask
    }

    /// What the group's metadata takes, here or in other groups; superblock and descriptors first.
    pub(super) fn places(&self, number: u32, layout: &Layout) -> [Run; 4] {
        [
            Run { start: layout.group_start(number), len: layout.base_blocks(number) },
            Run { start: self.block_bitmap(), len: 1 },
            Run { start: self.inode_bitmap(), len: 1 },
            Run { start: self.inode_table(), len: layout.inode_table_blocks() },
        ]
    }
}
