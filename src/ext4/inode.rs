//! An inode: what a file is, and where its bytes are.
//! Written from the kernel's Documentation/filesystems/ext4/inodes.rst.

use super::checksum::{Checksums, crc32c};
use super::record::{Field, Number, fields, high16, high32, index, join16, join32, low16, low32};
use super::{FileKind, Timestamp};

/// The number of an inode, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct InodeNumber(pub(super) u32);

/// The root directory.
pub(super) const ROOT: InodeNumber = InodeNumber(2);
/// The owner of the descriptor blocks reserved for growth.
pub(super) const RESIZE: InodeNumber = InodeNumber(7);

/// The directory has a hash index.
pub(super) const INDEX_FLAG: u32 = 0x1000;
/// i_blocks counts blocks of the file system.
pub(super) const HUGE_FILE_FLAG: u32 = 0x4_0000;
/// The block field holds an extent tree.
pub(super) const EXTENTS_FLAG: u32 = 0x8_0000;
/// Flags of inodes whose contents we do not understand: compressed, encrypted, ea_inode, inline data, casefold.
const FOREIGN_FLAGS: &[(u32, &str)] = &[
    (0x200, "compressed"),
    (0x800, "encrypted"),
    (0x20_0000, "an extended attribute's value"),
    (0x1000_0000, "stored inline"),
    (0x4000_0000, "case-insensitive"),
];

/// Where the 60 bytes of i_block are.
const BLOCK: std::ops::Range<usize> = 0x28..0x64;
/// Bytes of i_block.
pub(super) const BLOCK_SIZE: usize = 60;
/// Bytes of the first inodes, and what i_extra_isize counts from.
pub(super) const BASE_SIZE: usize = 128;

fields! {
    0x00 MODE: u16, "i_mode: kind and permissions";
    0x02 UID_LO: u16, "i_uid";
    0x04 SIZE_LO: u32, "i_size_lo";
    0x08 ATIME: u32, "i_atime";
    0x0c CTIME: u32, "i_ctime";
    0x10 MTIME: u32, "i_mtime";
    0x14 DTIME: u32, "i_dtime: when it was deleted; of an orphan the next one on the list";
    0x18 GID_LO: u16, "i_gid";
    0x1a LINKS_COUNT: u16, "i_links_count";
    0x1c BLOCKS_LO: u32, "i_blocks_lo: in 512-byte units";
    0x20 FLAGS: u32, "i_flags";
    0x28 DEVICE_OLD: u32, "i_block[0] of a device: 8 bits each of major and minor";
    0x2c DEVICE_NEW: u32, "i_block[1] of a device: 12 bits of major, 20 of minor";
    0x5c DOUBLE_INDIRECT: u32, "i_block[13]: tree of two levels";
    0x64 GENERATION: u32, "i_generation";
    0x68 FILE_ACL_LO: u32, "i_file_acl_lo: block of extended attributes";
    0x6c SIZE_HIGH: u32, "i_size_high";
    0x74 BLOCKS_HIGH: u16, "l_i_blocks_high";
    0x76 FILE_ACL_HIGH: u16, "l_i_file_acl_high";
    0x78 UID_HIGH: u16, "l_i_uid_high";
    0x7a GID_HIGH: u16, "l_i_gid_high";
    0x7c CHECKSUM_LO: u16, "l_i_checksum_lo";
    0x80 EXTRA_ISIZE: u16, "i_extra_isize: bytes in use past the first 128";
    0x82 CHECKSUM_HI: u16, "i_checksum_hi";
    0x84 CTIME_EXTRA: u32, "i_ctime_extra: 30 bits of nanoseconds, 2 of seconds";
    0x88 MTIME_EXTRA: u32, "i_mtime_extra";
    0x8c ATIME_EXTRA: u32, "i_atime_extra";
    0x90 CRTIME: u32, "i_crtime: when it was made";
    0x94 CRTIME_EXTRA: u32, "i_crtime_extra";
}

/// An inode's bytes, as they are to become.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    bytes: Vec<u8>,
    pub(super) dirty: bool,
}

impl Inode {
    pub(super) fn from_disk(bytes: Vec<u8>) -> Self {
        Self { bytes, dirty: false }
    }

    /// One that is not in use: zeros.
    pub(super) fn free(size: u16) -> Self {
        Self { bytes: vec![0; index(size)], dirty: true }
    }

    /// A new one of `kind`, with `extra` bytes past the first 128 in use where there are any.
    pub(super) fn new(size: u16, extra: u16, kind: FileKind, permissions: u16) -> Self {
        let mut inode = Self::free(size);
        inode.set(MODE, kind.mode() | permissions & 0o7777);
        if usize::from(size) > BASE_SIZE {
            // 28 bytes reach past the creation time, and the kernel wants multiples of four.
            let most = size.saturating_sub(128);
            inode.set(EXTRA_ISIZE, if (28..=most).contains(&extra) && extra.is_multiple_of(4) { extra } else { 32 });
        }
        inode
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn get<T: Number>(&self, field: Field<T>) -> T {
        field.get(&self.bytes)
    }

    pub(super) fn set<T: Number>(&mut self, field: Field<T>, value: T) {
        field.set(&mut self.bytes, value);
        self.dirty = true;
    }

    pub(super) fn kind(&self) -> Option<FileKind> {
        FileKind::from_mode(self.get(MODE))
    }

    pub(super) fn permissions(&self) -> u16 {
        self.get(MODE) & 0o7777
    }

    pub(super) fn set_permissions(&mut self, permissions: u16) {
        self.set(MODE, self.get(MODE) & !0o7777 | permissions & 0o7777);
    }

    /// What makes the contents unreadable for us, if anything.
    pub(super) fn foreign(&self) -> Option<&'static str> {
        let flags = self.get(FLAGS);
        FOREIGN_FLAGS.iter().find(|(flag, _)| flags & flag != 0).map(|(_, name)| *name)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.get(FLAGS) & flag != 0
    }

    pub(super) fn set_flag(&mut self, flag: u32, on: bool) {
        let flags = self.get(FLAGS);
        self.set(FLAGS, if on { flags | flag } else { flags & !flag });
    }

    pub(super) fn size(&self) -> u64 {
        join32(self.get(SIZE_LO), self.get(SIZE_HIGH))
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.set(SIZE_LO, low32(size));
        self.set(SIZE_HIGH, high32(size));
    }

    pub(super) fn uid(&self) -> u32 {
        join16(self.get(UID_LO), self.get(UID_HIGH))
    }

    pub(super) fn gid(&self) -> u32 {
        join16(self.get(GID_LO), self.get(GID_HIGH))
    }

    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) {
        self.set(UID_LO, low16(uid));
        self.set(UID_HIGH, high16(uid));
        self.set(GID_LO, low16(gid));
        self.set(GID_HIGH, high16(gid));
    }

    /// The block of extended attributes, if there is one.
    pub(super) fn xattr_block(&self) -> Option<u64> {
        let block = join32(self.get(FILE_ACL_LO), self.get(FILE_ACL_HIGH).into());
        (block != 0).then_some(block)
    }

    pub(super) fn set_xattr_block(&mut self, block: Option<u64>) {
        let block = block.unwrap_or(0);
        self.set(FILE_ACL_LO, low32(block));
        self.set(FILE_ACL_HIGH, low16(high32(block)));
    }

    /// Space in 512-byte units.
    pub(super) fn sectors(&self, block_size: u32) -> u64 {
        let count = join32(self.get(BLOCKS_LO), self.get(BLOCKS_HIGH).into());
        if self.has(HUGE_FILE_FLAG) { count.saturating_mul(u64::from(block_size / 512)) } else { count }
    }

    /// Sets the space in 512-byte units; one that needs the huge_file encoding gets it.
    pub(super) fn set_sectors(&mut self, sectors: u64, block_size: u32) {
        let huge = sectors >> 48 != 0;
        let count = if huge { sectors / u64::from(block_size / 512) } else { sectors };
        self.set_flag(HUGE_FILE_FLAG, huge);
        self.set(BLOCKS_LO, low32(count));
        self.set(BLOCKS_HIGH, low16(high32(count)));
    }

    /// The 60 bytes that hold an extent tree's root, block numbers or a short link's target.
    pub(super) fn block(&self) -> &[u8] {
        self.bytes.get(BLOCK).unwrap_or_default()
    }

    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        self.dirty = true;
        self.bytes.get_mut(BLOCK).unwrap_or_default()
    }

    /// Where the in-inode extended attributes are, if the inode has room for them.
    fn body(&self) -> Option<std::ops::Range<usize>> {
        let start = BASE_SIZE + usize::from(self.get(EXTRA_ISIZE));
        (self.bytes.len() > BASE_SIZE && self.get(EXTRA_ISIZE) >= 4 && start + 4 <= self.bytes.len())
            .then_some(start..self.bytes.len())
    }

    /// The bytes for extended attributes inside the inode; empty if it has none.
    pub(super) fn xattr_body(&self) -> &[u8] {
        self.body().and_then(|body| self.bytes.get(body)).unwrap_or_default()
    }

    pub(super) fn xattr_body_mut(&mut self) -> &mut [u8] {
        self.dirty = true;
        match self.body() {
            Some(body) => self.bytes.get_mut(body).unwrap_or_default(),
            None => &mut [],
        }
    }

    pub(super) fn mtime(&self) -> Timestamp {
        // The sign is what the low word means: seconds before 1970.
        let low = i64::from(self.get(MTIME).cast_signed());
        let extra = if self.wide_times() { self.get(MTIME_EXTRA) } else { 0 };
        Timestamp { seconds: low + (i64::from(extra & 3) << 32), nanoseconds: (extra >> 2).min(999_999_999) }
    }

    /// Sets modification and change time.
    pub(super) fn set_mtime(&mut self, time: Timestamp) {
        let (low, extra) = self.encode_time(time);
        self.set(MTIME, low);
        self.set(CTIME, low);
        self.set_extra(MTIME_EXTRA, extra);
        self.set_extra(CTIME_EXTRA, extra);
    }

    /// Sets all four times.
    pub(super) fn set_times(&mut self, time: Timestamp) {
        self.set_mtime(time);
        let (low, extra) = self.encode_time(time);
        self.set(ATIME, low);
        self.set_extra(ATIME_EXTRA, extra);
        self.set_extra(CRTIME, low);
        self.set_extra(CRTIME_EXTRA, extra);
    }

    fn set_extra(&mut self, field: Field<u32>, value: u32) {
        if self.wide_times() {
            self.set(field, value);
        }
    }

    /// Whether the fields of times reach as far as the last of them.
    fn wide_times(&self) -> bool {
        self.bytes.len() > BASE_SIZE && self.get(EXTRA_ISIZE) >= 24
    }

    /// A time as the disk has it; what does not fit becomes the nearest that does.
    fn encode_time(&self, time: Timestamp) -> (u32, u32) {
        let most = if self.wide_times() { (3i64 << 32) + i64::from(i32::MAX) } else { i32::MAX.into() };
        let seconds = time.seconds.clamp(i32::MIN.into(), most);
        let low = low32(seconds.cast_unsigned());
        let epoch = low32((seconds - i64::from(low.cast_signed())).cast_unsigned() >> 32) & 3;
        (low, epoch | time.nanoseconds.min(999_999_999) << 2)
    }

    pub(super) fn device(&self) -> (u32, u32) {
        match self.get(DEVICE_OLD) {
            0 => {
                let device = self.get(DEVICE_NEW);
                (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
            }
            device => (device >> 8 & 0xff, device & 0xff),
        }
    }

    pub(super) fn set_device(&mut self, major: u32, minor: u32) {
        if major < 256 && minor < 256 {
            self.set(DEVICE_OLD, major << 8 | minor);
        } else {
            self.set(DEVICE_NEW, minor & 0xff | major << 8 | (minor & !0xff) << 12);
        }
    }

    fn checksum(&self, number: InodeNumber, checksums: &Checksums) -> u32 {
        let seed = checksums.inode_seed(number, self.get(GENERATION));
        let mut copy = self.bytes.clone();
        CHECKSUM_LO.set(&mut copy, 0);
        if self.wide_checksum() {
            CHECKSUM_HI.set(&mut copy, 0);
        }
        crc32c(seed, &copy)
    }

    fn wide_checksum(&self) -> bool {
        self.bytes.len() > BASE_SIZE && self.get(EXTRA_ISIZE) >= 4
    }

    pub(super) fn checksum_is_right(&self, number: InodeNumber, checksums: &Checksums) -> bool {
        let checksum = self.checksum(number, checksums);
        self.get(CHECKSUM_LO) == low16(checksum) && (!self.wide_checksum() || self.get(CHECKSUM_HI) == high16(checksum))
    }

    pub(super) fn set_checksum(&mut self, number: InodeNumber, checksums: &Checksums) {
        // A free inode is all zeros, which counts as right.
        if checksums.metadata() && self.get(MODE) != 0 {
            let checksum = self.checksum(number, checksums);
            self.set(CHECKSUM_LO, low16(checksum));
            if self.wide_checksum() {
                self.set(CHECKSUM_HI, high16(checksum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_in_all_epochs() {
        for seconds in [0, 1, -1, -2_147_483_648, 2_147_483_647, 2_147_483_648, 1 << 33, 15_032_385_535] {
            let mut inode = Inode::new(256, 32, FileKind::File, 0o644);
            let time = Timestamp { seconds, nanoseconds: 999_999_999 };
            inode.set_times(time);
            assert_eq!(inode.mtime(), time);
        }
        let mut small = Inode::new(128, 0, FileKind::File, 0o644);
        small.set_times(Timestamp { seconds: 1 << 40, nanoseconds: 5 });
        assert_eq!(small.mtime(), Timestamp { seconds: i32::MAX.into(), nanoseconds: 0 });
    }

    #[test]
    fn device_numbers_survive() {
        for device in [(1, 3), (255, 255), (259, 1), (8, 256), (4095, 0xf_ffff)] {
            let mut inode = Inode::new(256, 32, FileKind::BlockDevice, 0o600);
            inode.set_device(device.0, device.1);
            assert_eq!(inode.device(), device);
        }
    }
}
