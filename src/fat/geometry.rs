//! The boot sector: where a FAT file system's parts lie. Every number is checked against the others and the size
//! of the partition, so that arithmetic further on stays within it.

use std::fmt;

use super::FatError;
use crate::disk::Disk;

/// FATs larger than this are not read into memory (16 times what a boot partition of 512 MiB has).
const MOST_FAT_BYTES: u64 = 32 * 1024 * 1024;

/// The bits of a FAT entry, which follow from the number of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FatKind {
    /// Fewer than 4085 clusters.
    Fat12,
    /// Fewer than 65525 clusters.
    Fat16,
    /// More clusters than that.
    Fat32,
}

impl fmt::Display for FatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        })
    }
}

impl From<FatKind> for fatfs::FatType {
    fn from(kind: FatKind) -> Self {
        match kind {
            FatKind::Fat12 => Self::Fat12,
            FatKind::Fat16 => Self::Fat16,
            FatKind::Fat32 => Self::Fat32,
        }
    }
}

/// Where the parts of the file system lie, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    pub kind: FatKind,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Data clusters, which are numbered from 2.
    pub clusters: u32,
    /// Offset of the first FAT.
    pub fat: u64,
    /// Bytes of one FAT.
    pub fat_len: u64,
    /// FATs, one after the other.
    pub fats: u64,
    /// Offset of the first cluster.
    pub data: u64,
    /// The root directory: a region before the clusters (FAT12, FAT16) or a chain's first cluster.
    pub root: Root,
    /// Offset of FAT32's information sector.
    pub info: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Region { offset: u64, len: u64 },
    Chain(u32),
}

impl Geometry {
    pub fn read(disk: &dyn Disk) -> Result<Self, FatError> {
        let mut sector = [0; 512];
        disk.read_at(0, &mut sector)?;
        Self::parse(&sector, disk.size())
    }

    /// Offsets as in the specification's tables of BPB_* and BS_* fields.
    pub fn parse(sector: &[u8], size: u64) -> Result<Self, FatError> {
        let corrupt = |what: &str| FatError::Corrupt(format!("its boot sector {what}"));
        let u8_at = |at: usize| sector.get(at).copied().map_or(0, u64::from);
        let u16_at = |at: usize| u8_at(at) | u8_at(at + 1) << 8;
        let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
        for (magic, name) in [(b"EXFAT   ", "exFAT"), (b"NTFS    ", "NTFS")] {
            if sector.get(3..11) == Some(magic) {
                return Err(FatError::Unsupported(format!("a boot partition with {name}")));
            }
        }
        if u16_at(510) != 0xaa55 {
            return Err(corrupt("has no signature"));
        }
        let (bytes_per_sector, sectors_per_cluster) = (u16_at(11), u8_at(13));
        if !matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096) {
            return Err(corrupt("gives an impossible sector size"));
        }
        if !sectors_per_cluster.is_power_of_two() || sectors_per_cluster > 128 {
            return Err(corrupt("gives an impossible cluster size"));
        }
        let (reserved, fats, root_entries) = (u16_at(14), u8_at(16), u16_at(17));
        if reserved == 0 || !matches!(fats, 1 | 2) {
            return Err(corrupt("has no FAT or too many"));
        }
        let small = u16_at(22) != 0;
        let fat_sectors = if small { u16_at(22) } else { u32_at(36) };
        let sectors = if u16_at(19) != 0 { u16_at(19) } else { u32_at(32) };
        if sectors * bytes_per_sector > size {
            let claimed = sectors * bytes_per_sector;
            return Err(FatError::Corrupt(format!("it claims {claimed} bytes, the partition has {size}")));
        }
        let root_sectors = (root_entries * 32).div_ceil(bytes_per_sector);
        let data_start = reserved + fats * fat_sectors + root_sectors;
        let clusters = sectors.checked_sub(data_start).ok_or_else(|| corrupt("leaves no room for data"))?;
        let clusters = u32::try_from(clusters / sectors_per_cluster).unwrap_or(u32::MAX);
        let (kind, bits) = match clusters {
            0 => return Err(corrupt("leaves no room for data")),
            1..4085 => (FatKind::Fat12, 12),
            4085..65525 => (FatKind::Fat16, 16),
            _ => (FatKind::Fat32, 32),
        };
        if (kind == FatKind::Fat32) == small || small == (root_entries == 0) {
            return Err(corrupt("contradicts its number of clusters"));
        }
        let fat_len = fat_sectors * bytes_per_sector;
        if ((u64::from(clusters) + 2) * bits).div_ceil(8) > fat_len {
            return Err(corrupt("gives a FAT too small for its clusters"));
        }
        if fat_len > MOST_FAT_BYTES {
            return Err(FatError::Unsupported(format!("a FAT of {fat_len} bytes")));
        }
        let (root, info) = if small {
            let offset = (reserved + fats * fat_sectors) * bytes_per_sector;
            (Root::Region { offset, len: root_entries * 32 }, None)
        } else {
            if u16_at(40) & 0x80 != 0 {
                return Err(FatError::Unsupported("a FAT that is not mirrored".to_owned()));
            }
            let (root, info, backup) = (u32_at(44), u16_at(48), u16_at(50));
            let root = u32::try_from(root).ok().filter(|root| (2..clusters + 2).contains(root));
            let root = root.ok_or_else(|| corrupt("gives an impossible root directory"))?;
            if info == 0 || info >= reserved || backup >= reserved {
                return Err(corrupt("gives an impossible information sector"));
            }
            (Root::Chain(root), Some(info * bytes_per_sector))
        };
        Ok(Self {
            kind,
            cluster: bytes_per_sector * sectors_per_cluster,
            clusters,
            fat: reserved * bytes_per_sector,
            fat_len,
            fats,
            data: data_start * bytes_per_sector,
            root,
            info,
        })
    }

    /// Offset of a data cluster.
    pub fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(2)) * self.cluster
    }

    /// Offset of the root directory's first entry.
    pub fn root_start(&self) -> u64 {
        match self.root {
            Root::Region { offset, .. } => offset,
            Root::Chain(cluster) => self.offset(cluster),
        }
    }
}
