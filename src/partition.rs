//! Partition tables: what is on a disk, and the last partition made to reach the end of a larger one.
//!
//! MBR as every PC firmware reads it (with logical partitions, read only) and GPT as UEFI 2.10, chapter 5
//! describes it, both with 512-byte sectors. Ids, PARTUUIDs, names, attributes and boot code stay as they are:
//! kernel command lines and fstabs name them. Of a hybrid (GPT with further MBR entries, as Debian's
//! Raspberry Pi images have for the boot ROM) the GPT counts. Damaged tables are refused, not repaired.

mod device;
mod gpt;
mod mbr;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::disk::{Disk, DiskError, DiskMut};

/// Bytes of the only sector size that is understood.
const SECTOR: u64 = 512;
/// Partitions that are grown end at a multiple of this, as the usual tools let them start.
const GRAIN: u64 = 1024 * 1024;

/// What is wrong with a partition table, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The disk below could not be read or written.
    #[error("cannot access the partition table")]
    Io(#[source] DiskError),
    /// Sector 0 holds no partition table.
    #[error("the disk has no partition table")]
    NoTable,
    /// Something legal that is not done here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The table contradicts itself.
    #[error("the partition table is damaged: {0}")]
    Corrupt(String),
    /// The first of GPT's two headers is damaged.
    #[error("the primary GPT is damaged{}", if *backup { ", the backup at the end of the disk is intact" } else { "" })]
    DamagedGpt {
        /// Whether the copy at the end of the disk is good.
        backup: bool,
    },
    /// A partition lies past the disk's end: the usual sign of a truncated image.
    #[error("partition {number} ends at byte {end}, but the disk has only {size} bytes")]
    PastEnd {
        /// The partition.
        number: u32,
        /// One past its last byte.
        end: u64,
        /// The disk's size in bytes.
        size: u64,
    },
    /// There is no partition of that number.
    #[error("the disk has no partition {0}")]
    NoSuchPartition(u32),
    /// The partition cannot grow, for another one is behind it.
    #[error("partition {number} cannot grow: partition {behind} lies behind it")]
    NotLast {
        /// The partition that was to grow.
        number: u32,
        /// The one in its way.
        behind: u32,
    },
    /// The disk has no room for the table or a partition.
    #[error("{what} does not fit: the disk has {size} bytes")]
    TooSmall {
        /// What does not fit.
        what: String,
        /// The disk's size in bytes.
        size: u64,
    },
}

impl PartitionError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoTable => "give the image of a whole disk, not of a single file system",
            Self::DamagedGpt { backup: true } => "repair the image with `sgdisk --load-backup` or gdisk's `b` command",
            Self::DamagedGpt { backup: false } | Self::Corrupt(_) | Self::PastEnd { .. } => {
                "the image is damaged or was not downloaded completely: get it again and compare its checksum"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<DiskError> for PartitionError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::OutOfBounds { end, size, .. } => {
                Self::Corrupt(format!("it needs {end} bytes of disk, there are {size}"))
            }
            error @ DiskError::Io { .. } => Self::Io(error),
        }
    }
}

/// The two kinds of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// The PC's, in sector 0.
    Mbr,
    /// UEFI's, with its backup at the end of the disk.
    Gpt,
}

/// A GUID, in the order of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

/// A string that is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GUID: expected 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct GuidError(String);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, byte)| {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")
        })
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let error = || GuidError(text.to_owned());
        if text.split('-').map(str::len).ne([8, 4, 4, 4, 12]) || !text.is_ascii() {
            return Err(error());
        }
        let digits = text.replace('-', "");
        let number = u128::from_str_radix(&digits, 16).map_err(|_| error())?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What a partition says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionType {
    /// MBR's type byte.
    Mbr(u8),
    /// GPT's type GUID.
    Gpt(Guid),
}

/// A partition as found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number as Linux counts: from 1, MBR's logical ones from 5.
    pub number: u32,
    /// First byte's offset on the disk.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
    /// What it says it holds.
    pub kind: PartitionType,
    /// `PARTUUID` as Linux shows it: lower case; for MBR disk id and number (`1234abcd-02`).
    pub partuuid: String,
    /// GPT's name of it; empty with MBR.
    pub name: String,
    /// MBR's active flag, GPT's "legacy BIOS bootable" attribute.
    pub bootable: bool,
}

impl Partition {
    /// The bytes of the disk that are the partition's.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.len)
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, PartitionType::Mbr(0x05 | 0x0f | 0x85))
    }
}

/// A disk's partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    kind: TableKind,
    id: String,
    partitions: Vec<Partition>,
}

impl Table {
    /// Reads the table of `disk`; a GPT counts only where the MBR protects it, as with Linux.
    ///
    /// # Errors
    /// [`PartitionError`]: no table, one that is damaged or not understood, a partition past the disk's end.
    pub fn read(disk: &dyn Disk) -> Result<Self, PartitionError> {
        let mbr = mbr::read(disk)?;
        let table = if mbr::protects_gpt(&mbr) { gpt::table(disk)? } else { mbr::table(disk, &mbr)? };
        for partition in &table.partitions {
            let end = partition.start.checked_add(partition.len);
            if end.is_none_or(|end| end > disk.size()) {
                let end = end.unwrap_or(u64::MAX);
                return Err(PartitionError::PastEnd { number: partition.number, end, size: disk.size() });
            }
        }
        Ok(table)
    }

    /// Which kind of table it is.
    #[must_use]
    pub fn kind(&self) -> TableKind {
        self.kind
    }

    /// The disk's id as `blkid` shows it (`PTUUID`): eight hexadecimal digits or a GUID.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The partitions, by number.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition of that number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// The partition that lies last on the disk, the only one that can grow.
    #[must_use]
    pub fn last(&self) -> Option<&Partition> {
        self.partitions.iter().filter(|partition| !partition.is_extended()).max_by_key(|partition| partition.start)
    }

    /// Bytes that a disk needs behind its last partition: if the partition ends at a multiple of 1 MiB and the disk
    /// is this much larger, [`Table::grow`] lets the partition keep exactly that end.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        match self.kind {
            TableKind::Mbr => 0,
            TableKind::Gpt => GRAIN,
        }
    }

    /// Makes partition `number` reach to the end of `disk` (a multiple of 1 MiB), which has been enlarged since,
    /// and answers the partition as it is now. It never becomes smaller. GPT's backup moves to the new end.
    ///
    /// # Errors
    /// [`PartitionError`]: no such partition, another one behind it, a logical or extended one, more than MBR's 2 TiB.
    pub fn grow(&mut self, disk: &mut dyn DiskMut, number: u32) -> Result<Partition, PartitionError> {
        let partition = self.partition(number).ok_or(PartitionError::NoSuchPartition(number))?.clone();
        if self.kind == TableKind::Mbr && (partition.is_extended() || number > 4) {
            return Err(PartitionError::Unsupported(format!(
                "growing partition {number}, an extended or logical one,"
            )));
        }
        let behind = self.partitions.iter().filter(|other| other.number != number);
        if let Some(other) = behind.filter(|other| other.range().end > partition.start).min_by_key(|other| other.start)
        {
            return Err(PartitionError::NotLast { number, behind: other.number });
        }
        match self.kind {
            TableKind::Mbr => mbr::grow(disk, &partition)?,
            TableKind::Gpt => gpt::grow(disk, &partition)?,
        }
        *self = Self::read(disk)?;
        self.partition(number).cloned().ok_or(PartitionError::NoSuchPartition(number))
    }
}

/// Where a partition ends that may use the bytes up to `limit`: never before its present end.
fn grown_end(partition: &Partition, limit: u64) -> u64 {
    (limit / GRAIN * GRAIN).max(partition.range().end)
}

/// A partition of a new MBR table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMbrPartition {
    /// 1 to 4.
    pub number: u32,
    /// Bytes of the disk, whole sectors.
    pub range: Range<u64>,
    /// The type byte.
    pub kind: u8,
    /// Whether it is marked active.
    pub bootable: bool,
}

/// A partition of a new GPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGptPartition {
    /// 1 to 128.
    pub number: u32,
    /// Bytes of the disk, whole sectors.
    pub range: Range<u64>,
    /// The type.
    pub kind: Guid,
    /// The partition's own GUID, its `PARTUUID`.
    pub guid: Guid,
    /// At most 36 UTF-16 units.
    pub name: String,
    /// Attribute bits; bit 2 is "legacy BIOS bootable".
    pub attributes: u64,
}

/// Writes a new MBR table to `disk`; boot code that is there stays.
///
/// # Errors
/// [`PartitionError::Unsupported`] for partitions that cannot be written down, [`PartitionError::TooSmall`] if they
/// do not fit the disk.
pub fn create_mbr(disk: &mut dyn DiskMut, id: u32, partitions: &[NewMbrPartition]) -> Result<Table, PartitionError> {
    check_layout(disk, partitions.iter().map(|new| (new.number, &new.range)), 4, SECTOR..disk.size())?;
    mbr::create(disk, id, partitions)?;
    Table::read(disk)
}

/// Writes a new GPT with its backup and a protective MBR to `disk`; boot code that is there stays.
///
/// # Errors
/// As [`create_mbr`].
pub fn create_gpt(disk: &mut dyn DiskMut, id: Guid, partitions: &[NewGptPartition]) -> Result<Table, PartitionError> {
    let usable = gpt::usable(disk)?;
    check_layout(disk, partitions.iter().map(|new| (new.number, &new.range)), 128, usable)?;
    gpt::create(disk, id, partitions)?;
    Table::read(disk)
}

/// Whether partitions have numbers up to `most`, whole sectors, lie within `usable` and do not overlap.
fn check_layout<'new>(
    disk: &dyn Disk,
    partitions: impl Iterator<Item = (u32, &'new Range<u64>)>,
    most: u32,
    usable: Range<u64>,
) -> Result<(), PartitionError> {
    let mut seen: Vec<(u32, &Range<u64>)> = Vec::new();
    for (number, range) in partitions {
        if number == 0 || number > most {
            return Err(PartitionError::Unsupported(format!("partition number {number} (1 to {most} are possible)")));
        }
        if range.start % SECTOR != 0 || range.end % SECTOR != 0 || range.end <= range.start {
            return Err(PartitionError::Unsupported(format!(
                "partition {number}, which is not made of whole sectors,"
            )));
        }
        if range.start < usable.start || range.end > usable.end {
            let what = format!("partition {number} (bytes {} to {})", range.start, range.end);
            return Err(PartitionError::TooSmall { what, size: disk.size() });
        }
        let clash =
            seen.iter().find(|(other, held)| *other == number || held.start < range.end && range.start < held.end);
        if let Some((other, _)) = clash {
            return Err(PartitionError::Unsupported(format!("partition {number} overlapping partition {other}")));
        }
        seen.push((number, range));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
