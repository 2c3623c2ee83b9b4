//! The superblock: 1024 bytes at byte 1024, and copies of it in the backup groups.
//! Written from the kernel's Documentation/filesystems/ext4/super.rst.

use super::checksum::crc32c;
use super::error::Ext4Error;
use super::features;
use super::record::{Field, Number, fields, high32, join32, low32};

/// Bytes of a superblock.
pub(super) const SIZE: usize = 1024;
/// Where the primary one is.
pub(super) const OFFSET: u64 = 1024;

const MAGIC: u16 = 0xef53;
const STATE_CLEAN: u16 = 0x1;
const STATE_ERRORS: u16 = 0x2;
const STATE_ORPHANS: u16 = 0x4;
const STATE_FAST_COMMITS: u16 = 0x20;

fields! {
    0x00 INODES_COUNT: u32, "s_inodes_count: all inodes";
    0x04 BLOCKS_COUNT_LO: u32, "s_blocks_count_lo: all blocks";
    0x08 R_BLOCKS_COUNT_LO: u32, "s_r_blocks_count_lo: blocks kept for root";
    0x0c FREE_BLOCKS_COUNT_LO: u32, "s_free_blocks_count_lo: free blocks";
    0x10 FREE_INODES_COUNT: u32, "s_free_inodes_count: free inodes";
    0x14 FIRST_DATA_BLOCK: u32, "s_first_data_block: 1 with 1 KiB blocks, else 0";
    0x18 LOG_BLOCK_SIZE: u32, "s_log_block_size: block size is 1024 shifted by this";
    0x20 BLOCKS_PER_GROUP: u32, "s_blocks_per_group";
    0x28 INODES_PER_GROUP: u32, "s_inodes_per_group";
    0x30 WTIME: u32, "s_wtime: last write, seconds";
    0x38 MAGIC_NUMBER: u16, "s_magic: 0xef53";
    0x3a STATE: u16, "s_state: clean, errors, orphans";
    0x4c REV_LEVEL: u32, "s_rev_level: 1 has the fields below";
    0x54 FIRST_INO: u32, "s_first_ino: first inode that is not reserved";
    0x58 INODE_SIZE: u16, "s_inode_size: bytes";
    0x5a BLOCK_GROUP_NR: u16, "s_block_group_nr: group of this copy";
    0x5c FEATURE_COMPAT: u32, "s_feature_compat";
    0x60 FEATURE_INCOMPAT: u32, "s_feature_incompat";
    0x64 FEATURE_RO_COMPAT: u32, "s_feature_ro_compat";
    0xce RESERVED_GDT_BLOCKS: u16, "s_reserved_gdt_blocks: descriptor blocks kept for growth";
    0xe0 JOURNAL_INUM: u32, "s_journal_inum: the journal's inode";
    0xe8 LAST_ORPHAN: u32, "s_last_orphan: head of the list of deleted but open files";
    0xec HASH_SEED_0: u32, "s_hash_seed, first word";
    0xf0 HASH_SEED_1: u32, "s_hash_seed, second word";
    0xf4 HASH_SEED_2: u32, "s_hash_seed, third word";
    0xf8 HASH_SEED_3: u32, "s_hash_seed, fourth word";
    0xfc DEF_HASH_VERSION: u8, "s_def_hash_version: for new directory indexes";
    0xfe DESC_SIZE: u16, "s_desc_size: bytes of a group descriptor with 64bit";
    0x104 FIRST_META_BG: u32, "s_first_meta_bg: blocks of descriptors outside of meta groups, with meta_bg";
    0x150 BLOCKS_COUNT_HI: u32, "s_blocks_count_hi";
    0x154 R_BLOCKS_COUNT_HI: u32, "s_r_blocks_count_hi";
    0x158 FREE_BLOCKS_COUNT_HI: u32, "s_free_blocks_count_hi";
    0x15e WANT_EXTRA_ISIZE: u16, "s_want_extra_isize: extra bytes that new inodes use";
    0x160 FLAGS: u32, "s_flags: 1 signed, 2 unsigned directory hash";
    0x175 CHECKSUM_TYPE: u8, "s_checksum_type: 1 is crc32c";
    0x248 OVERHEAD_CLUSTERS: u32, "s_overhead_clusters: 0 makes the kernel count";
    0x24c BACKUP_BGS_0: u32, "s_backup_bgs, first: with sparse_super2";
    0x250 BACKUP_BGS_1: u32, "s_backup_bgs, second: with sparse_super2";
    0x270 CHECKSUM_SEED: u32, "s_checksum_seed: with metadata_csum_seed";
    0x274 WTIME_HI: u8, "s_wtime_hi";
    0x280 ORPHAN_FILE_INUM: u32, "s_orphan_file_inum: with orphan_file";
    0x3fc CHECKSUM: u32, "s_checksum: crc32c of the bytes before";
}
const UUID: usize = 0x68;
const VOLUME_NAME: usize = 0x78;

/// The superblock's bytes.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    bytes: Vec<u8>,
}

impl Superblock {
    /// Checks that `bytes` are a superblock that we can work with.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, Ext4Error> {
        let superblock = Self { bytes };
        let found = superblock.get(MAGIC_NUMBER);
        if found != MAGIC {
            return Err(Ext4Error::NotExt4 { found });
        }
        if superblock.get(REV_LEVEL) != 1 {
            return Err(Ext4Error::unsupported(format!("revision {}", superblock.get(REV_LEVEL))));
        }
        features::check_readable(&superblock)?;
        if superblock.has_ro_compat(features::METADATA_CSUM) {
            if superblock.get(CHECKSUM_TYPE) != 1 {
                return Err(Ext4Error::unsupported(format!("checksums of type {}", superblock.get(CHECKSUM_TYPE))));
            }
            if superblock.get(CHECKSUM) != superblock.checksum() {
                return Err(Ext4Error::corrupt("the superblock's checksum is wrong"));
            }
        }
        Ok(superblock)
    }

    /// Refuses a file system that its last user left in need of repair.
    pub(super) fn check_state(&self) -> Result<(), Ext4Error> {
        let state = self.get(STATE);
        let what = if self.has_errors() {
            "recorded errors"
        } else if state & STATE_FAST_COMMITS != 0 {
            "fast commits that were replayed in part"
        } else if state & STATE_CLEAN == 0 {
            "changes that were never finished (it was not unmounted cleanly)"
        } else {
            return Ok(());
        };
        Err(Ext4Error::Unsupported { what: what.into(), hint: Some("run `e2fsck -fy` on a copy of the image") })
    }

    /// Whether somebody found the file system damaged.
    pub(super) fn has_errors(&self) -> bool {
        self.get(STATE) & STATE_ERRORS != 0
    }

    /// Adds what the journal or an older superblock knows about errors.
    pub(super) fn record_errors(&mut self, errors: bool) {
        self.set(STATE, self.get(STATE) | if errors { STATE_ERRORS } else { 0 });
    }

    /// Forgets the orphans: all were dealt with.
    pub(super) fn clear_orphans(&mut self) {
        self.set(STATE, self.get(STATE) & !STATE_ORPHANS);
        self.set(LAST_ORPHAN, 0);
        self.set(FEATURE_RO_COMPAT, self.get(FEATURE_RO_COMPAT) & !features::ORPHAN_PRESENT);
    }

    pub(super) fn get<T: Number>(&self, field: Field<T>) -> T {
        field.get(&self.bytes)
    }

    pub(super) fn set<T: Number>(&mut self, field: Field<T>, value: T) {
        field.set(&mut self.bytes, value);
    }

    /// The bytes of the copy for `group`, its checksum included.
    pub(super) fn encode(&self, group: u32) -> Vec<u8> {
        let mut copy = self.clone();
        copy.set(BLOCK_GROUP_NR, u16::try_from(group & 0xffff).unwrap_or_default());
        if self.has_ro_compat(features::METADATA_CSUM) {
            copy.set(CHECKSUM, copy.checksum());
        }
        copy.bytes
    }

    fn checksum(&self) -> u32 {
        crc32c(!0, self.bytes.get(..SIZE - 4).unwrap_or_default())
    }

    pub(super) fn has_compat(&self, feature: u32) -> bool {
        self.get(FEATURE_COMPAT) & feature != 0
    }

    pub(super) fn has_incompat(&self, feature: u32) -> bool {
        self.get(FEATURE_INCOMPAT) & feature != 0
    }

    pub(super) fn has_ro_compat(&self, feature: u32) -> bool {
        self.get(FEATURE_RO_COMPAT) & feature != 0
    }

    pub(super) fn uuid(&self) -> [u8; 16] {
        self.bytes.get(UUID..UUID + 16).and_then(|uuid| uuid.try_into().ok()).unwrap_or_default()
    }

    pub(super) fn label(&self) -> String {
        let name = self.bytes.get(VOLUME_NAME..VOLUME_NAME + 16).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned()
    }

    pub(super) fn blocks(&self) -> u64 {
        join32(self.get(BLOCKS_COUNT_LO), self.high(BLOCKS_COUNT_HI))
    }

    pub(super) fn set_blocks(&mut self, blocks: u64) {
        self.set(BLOCKS_COUNT_LO, low32(blocks));
        self.set_high(BLOCKS_COUNT_HI, high32(blocks));
    }

    pub(super) fn reserved_blocks(&self) -> u64 {
        join32(self.get(R_BLOCKS_COUNT_LO), self.high(R_BLOCKS_COUNT_HI))
    }

    pub(super) fn set_reserved_blocks(&mut self, blocks: u64) {
        self.set(R_BLOCKS_COUNT_LO, low32(blocks));
        self.set_high(R_BLOCKS_COUNT_HI, high32(blocks));
    }

    pub(super) fn set_free_blocks(&mut self, blocks: u64) {
        self.set(FREE_BLOCKS_COUNT_LO, low32(blocks));
        self.set_high(FREE_BLOCKS_COUNT_HI, high32(blocks));
    }

    /// The high half of a count, which only `64bit` file systems have.
    fn high(&self, field: Field<u32>) -> u32 {
        if self.has_incompat(features::BITS64) { self.get(field) } else { 0 }
    }

    fn set_high(&mut self, field: Field<u32>, value: u32) {
        if self.has_incompat(features::BITS64) {
            self.set(field, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Vec<u8> {
        let mut superblock = Superblock { bytes: vec![0; SIZE] };
        superblock.set(MAGIC_NUMBER, MAGIC);
        superblock.set(REV_LEVEL, 1);
        superblock.set(STATE, 1);
        superblock.set(FEATURE_INCOMPAT, features::EXTENTS);
        superblock.set(FEATURE_RO_COMPAT, features::METADATA_CSUM);
        superblock.set(CHECKSUM_TYPE, 1);
        superblock.encode(0)
    }

    #[test]
    fn a_wrong_magic_is_no_ext4() {
        let mut bytes = good();
        bytes[0x38] = 0;
        assert!(matches!(Superblock::parse(bytes), Err(Ext4Error::NotExt4 { found: 0xef00 })));
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_checksum() {
        let mut bytes = good();
        bytes[0x80] ^= 1;
        let error = Superblock::parse(bytes).unwrap_err();
        assert_eq!(error.to_string(), "the ext4 file system is damaged: the superblock's checksum is wrong");
    }

    #[test]
    fn features_are_refused_by_name() {
        let mut superblock = Superblock::parse(good()).unwrap();
        superblock.set(FEATURE_INCOMPAT, features::EXTENTS | 0x8000 | 0x8000_0000);
        superblock.set(FEATURE_RO_COMPAT, 0x200);
        let error = features::check_writable(&superblock).unwrap_err();
        let want =
            "an ext4 file system with the features `inline_data`, `incompat:0x80000000`, `bigalloc` is not supported";
        assert_eq!(error.to_string(), want);
        let error = Superblock::parse(superblock.encode(0)).unwrap_err();
        assert_eq!(error.to_string(), "an ext4 file system with the feature `incompat:0x80000000` is not supported");
    }

    #[test]
    fn recorded_errors_are_refused_with_a_hint() {
        let mut superblock = Superblock::parse(good()).unwrap();
        for state in [0, 2, 3, 0x21] {
            superblock.set(STATE, state);
            let error = superblock.check_state().unwrap_err();
            assert_eq!(error.hint().as_deref(), Some("run `e2fsck -fy` on a copy of the image"));
        }
    }
}
