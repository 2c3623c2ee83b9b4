//! The MBR in sector 0, through mbrman's header type, which keeps boot code and every field it does not change.
//!
//! mbrman's reader of whole tables is not used: it panics on tables whose only partition starts at sector 0 and on
//! logical partitions whose sector numbers overflow.

use mbrman::{CHS, MBRHeader, MBRPartitionEntry};

use super::device::Device;
use super::{NewMbrPartition, Partition, PartitionError, PartitionType, SECTOR, Table, TableKind, grown_end};
use crate::disk::{Disk, DiskMut};

/// Type byte of a protective entry: "all of this belongs to a GPT".
const PROTECTIVE: u8 = 0xee;
/// The protective entry's last cylinder, head and sector, whatever the size (UEFI 2.10, table 5-4).
const PROTECTIVE_END: CHS = CHS { cylinder: 1023, head: 255, sector: 63 };
/// Logical partitions that are followed; Linux stops at 255 partitions as well.
const MOST_LOGICAL: u32 = 250;
/// The geometry that everybody assumes since disks have none.
const HEADS: u8 = 255;
const SECTORS: u8 = 63;

/// Reads sector 0.
pub(super) fn read(disk: &dyn Disk) -> Result<MBRHeader, PartitionError> {
    let mut sector = [0; 512];
    if disk.size() < SECTOR {
        return Err(PartitionError::NoTable);
    }
    disk.read_at(0, &mut sector)?;
    parse(&sector).ok_or(PartitionError::NoTable)
}

/// The four entries of a sector that ends in the boot signature and whose boot flags are flags; a file system's
/// boot sector ends in the same signature but has code where the flags would be.
fn parse(sector: &[u8; 512]) -> Option<MBRHeader> {
    MBRHeader::read_from(&mut std::io::Cursor::new(sector)).ok()
}

/// Whether an entry says that a GPT follows.
pub(super) fn protects_gpt(mbr: &MBRHeader) -> bool {
    mbr.iter().any(|(_, entry)| entry.sys == PROTECTIVE)
}

/// The partitions that `mbr` lists.
pub(super) fn table(disk: &dyn Disk, mbr: &MBRHeader) -> Result<Table, PartitionError> {
    let id = u32::from_le_bytes(mbr.disk_signature);
    let mut partitions = Vec::new();
    let mut number = 0;
    let mut extended = None;
    for (_, entry) in mbr.iter() {
        number += 1;
        if entry.is_unused() || entry.sectors == 0 {
            continue;
        }
        if entry.starting_lba == 0 {
            return Err(PartitionError::Corrupt(format!("partition {number} starts at sector 0")));
        }
        if entry.is_extended() && extended.replace(entry).is_some() {
            return Err(PartitionError::Corrupt("it has two extended partitions".to_owned()));
        }
        partitions.push(partition(id, number, entry, 0));
    }
    if let Some(extended) = extended {
        read_logical(disk, id, extended, &mut partitions)?;
    }
    Ok(Table { kind: TableKind::Mbr, id: format!("{id:08x}"), partitions })
}

fn partition(id: u32, number: u32, entry: &MBRPartitionEntry, base: u64) -> Partition {
    Partition {
        number,
        start: (base + u64::from(entry.starting_lba)) * SECTOR,
        len: u64::from(entry.sectors) * SECTOR,
        kind: PartitionType::Mbr(entry.sys),
        partuuid: format!("{id:08x}-{number:02x}"),
        name: String::new(),
        bootable: entry.is_active(),
    }
}

/// Follows the chain of boot records within the extended partition: the first entry of each is a partition
/// (counted from the record), the second the next record (counted from the extended partition).
fn read_logical(
    disk: &dyn Disk,
    id: u32,
    extended: &MBRPartitionEntry,
    partitions: &mut Vec<Partition>,
) -> Result<(), PartitionError> {
    let start = u64::from(extended.starting_lba);
    let mut record = start;
    for number in 5..5 + MOST_LOGICAL {
        let mut sector = [0; 512];
        disk.read_at(record * SECTOR, &mut sector)?;
        let Some(ebr) = parse(&sector) else {
            // An extended partition without any logical one need not have a record.
            let what = format!("the record of logical partition {number} is missing");
            return if record == start { Ok(()) } else { Err(PartitionError::Corrupt(what)) };
        };
        if ebr.partition_1.is_used() && ebr.partition_1.sectors > 0 {
            partitions.push(partition(id, number, &ebr.partition_1, record));
        }
        let next = start + u64::from(ebr.partition_2.starting_lba);
        if ebr.partition_2.is_unused() || next == start {
            return Ok(());
        }
        if next <= record || next >= start + u64::from(extended.sectors) {
            return Err(PartitionError::Corrupt("its logical partitions do not follow each other".to_owned()));
        }
        record = next;
    }
    Err(PartitionError::Unsupported(format!("a disk with more than {MOST_LOGICAL} logical partitions")))
}

/// Lets `partition`, a primary one, end where `disk` does.
pub(super) fn grow(disk: &mut dyn DiskMut, partition: &Partition) -> Result<(), PartitionError> {
    let end = grown_end(partition, disk.size());
    let mut mbr = read(disk)?;
    let entry = usize::try_from(partition.number).ok().and_then(|number| mbr.get_mut(number));
    let entry = entry.ok_or(PartitionError::NoSuchPartition(partition.number))?;
    entry.sectors = sectors(partition.number, end - partition.start)?;
    let last = sectors(partition.number, end)? - 1;
    entry.last_chs = chs(last);
    write(disk, &mbr)
}

/// Makes the protective entry cover a disk that has grown: the one that reached the old end, `old_last`.
/// Entries for single partitions (a hybrid) stay as they are.
///
/// # Errors
/// If a hybrid's entry stands for `grown`: it would then say something else than the GPT.
pub(super) fn grow_protective(disk: &mut dyn DiskMut, grown: &Partition, old_last: u64) -> Result<(), PartitionError> {
    let new_last = disk.size() / SECTOR - 1;
    let mut mbr = read(disk)?;
    let used = mbr.iter().filter(|(_, entry)| entry.is_used()).count();
    for (_, entry) in mbr.iter_mut().filter(|(_, entry)| entry.is_used()) {
        let start = u64::from(entry.starting_lba);
        if entry.sys != PROTECTIVE && start * SECTOR == grown.start {
            let number = grown.number;
            return Err(PartitionError::Unsupported(format!(
                "growing partition {number}, which a hybrid MBR lists as well,"
            )));
        }
        if entry.sys == PROTECTIVE && (used == 1 || start + u64::from(entry.sectors) > old_last) {
            entry.sectors = u32::try_from(new_last.saturating_sub(start) + 1).unwrap_or(u32::MAX);
            entry.last_chs = PROTECTIVE_END;
        }
    }
    write(disk, &mbr)
}

/// Writes a new table; boot code that is there stays.
pub(super) fn create(disk: &mut dyn DiskMut, id: u32, partitions: &[NewMbrPartition]) -> Result<(), PartitionError> {
    let mut mbr = blank(disk, id.to_le_bytes())?;
    for new in partitions {
        let start = sectors(new.number, new.range.start)?;
        let len = sectors(new.number, new.range.end - new.range.start)?;
        let end = sectors(new.number, new.range.end)?;
        let entry = usize::try_from(new.number).ok().and_then(|number| mbr.get_mut(number));
        *entry.ok_or(PartitionError::NoSuchPartition(new.number))? = MBRPartitionEntry {
            boot: if new.bootable { mbrman::BOOT_ACTIVE } else { mbrman::BOOT_INACTIVE },
            first_chs: chs(start),
            sys: new.kind,
            last_chs: chs(end - 1),
            starting_lba: start,
            sectors: len,
        };
    }
    write(disk, &mbr)
}

/// Writes the MBR that tells old tools that all of the disk is taken.
pub(super) fn create_protective(disk: &mut dyn DiskMut) -> Result<(), PartitionError> {
    let last = u32::try_from(disk.size() / SECTOR - 1).unwrap_or(u32::MAX);
    let mut mbr = blank(disk, [0; 4])?;
    mbr.partition_1 = MBRPartitionEntry {
        boot: mbrman::BOOT_INACTIVE,
        first_chs: chs(1),
        sys: PROTECTIVE,
        last_chs: PROTECTIVE_END,
        starting_lba: 1,
        sectors: last,
    };
    write(disk, &mbr)
}

/// A table without partitions, with the boot code that is on the disk.
fn blank(disk: &dyn Disk, id: [u8; 4]) -> Result<MBRHeader, PartitionError> {
    let mut mbr = MBRHeader::new(id);
    disk.read_at(0, &mut mbr.bootstrap_code)?;
    Ok(mbr)
}

fn write(disk: &mut dyn DiskMut, mbr: &MBRHeader) -> Result<(), PartitionError> {
    let written = mbr.write_into(&mut Device::new(disk));
    written.map_err(|error| PartitionError::Corrupt(error.to_string()))
}

/// `bytes` in sectors, which MBR counts in 32 bits.
fn sectors(number: u32, bytes: u64) -> Result<u32, PartitionError> {
    let unsupported = |_| PartitionError::Unsupported(format!("partition {number} reaching past 2 TiB on an MBR disk"));
    u32::try_from(bytes / SECTOR).map_err(unsupported)
}

/// A sector's cylinder, head and sector; the largest that can be said for all sectors past about 8 GB.
fn chs(sector: u32) -> CHS {
    CHS::from_lba_exact(sector, 1023, HEADS, SECTORS).unwrap_or(CHS::new(1023, HEADS - 1, SECTORS))
}
