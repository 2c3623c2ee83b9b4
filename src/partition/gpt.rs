//! GPT, through the header and entry types of the gpt crate.
//!
//! The crate's own way to write a table is not used: it moves all entries to the front, so that partitions 14 and
//! 15 of a cloud image would become 2 and 3, and it rewrites names. Here entries are changed in place and copied
//! as bytes. The crate asserts on entry sizes and allocates by the header's word, hence the checks before.

use std::collections::BTreeMap;

use ::gpt::disk::LogicalBlockSize;
use ::gpt::header::{Header, HeaderBuilder, read_header_from_arbitrary_device};
use ::gpt::partition::{Partition as Entry, file_read_partitions};

use super::device::Device;
use super::{
    Guid, NewGptPartition, Partition, PartitionError, PartitionType, SECTOR, Table, TableKind, grown_end, mbr,
};
use crate::disk::{Disk, DiskMut};

const BLOCK: LogicalBlockSize = LogicalBlockSize::Lb512;
/// Bytes of an entry; the specification allows larger ones, nobody makes them.
const ENTRY: u64 = 128;
/// Entries that are believed.
const MOST_ENTRIES: u32 = 1024;
/// Offset of the last sector's number (`EndingLBA`) in an entry.
const ENDING_LBA: u64 = 40;
/// Attribute "legacy BIOS bootable".
const LEGACY_BOOTABLE: u64 = 1 << 2;
/// Sectors that a new table takes at the start (MBR, header, 128 entries) and at the end (entries, header).
const NEW_HEAD: u64 = 34;
const NEW_TAIL: u64 = 33;

/// Reads the table that the primary header describes.
pub(super) fn table(disk: &dyn Disk) -> Result<Table, PartitionError> {
    let header = read(disk)?;
    let partitions = entries(disk, &header)?
        .into_iter()
        .filter(|(_, entry)| entry.is_used())
        .map(|(number, entry)| partition(number, &entry))
        .collect::<Result<_, _>>()?;
    Ok(Table { kind: TableKind::Gpt, id: header.disk_guid.to_string(), partitions })
}

fn partition(number: u32, entry: &Entry) -> Result<Partition, PartitionError> {
    let corrupt = |why: &str| PartitionError::Corrupt(format!("partition {number} {why}"));
    let sectors = entry.last_lba.checked_sub(entry.first_lba).and_then(|len| len.checked_add(1));
    let len = sectors.and_then(|sectors| sectors.checked_mul(SECTOR));
    let len = len.ok_or_else(|| corrupt("ends before it starts"))?;
    let start = entry.first_lba.checked_mul(SECTOR).ok_or_else(|| corrupt("starts past every disk's end"))?;
    Ok(Partition {
        number,
        start,
        len,
        kind: PartitionType::Gpt(Guid(*entry.part_type_guid.guid.as_bytes())),
        partuuid: entry.part_guid.to_string(),
        name: entry.name.clone(),
        bootable: entry.flags & LEGACY_BOOTABLE != 0,
    })
}

/// The primary header, its own checksum good and its numbers believable.
fn read(disk: &dyn Disk) -> Result<Header, PartitionError> {
    // Read once for its own sake: the crate does not tell a host that fails from a header that is wrong.
    let signature = has_signature(disk, SECTOR)?;
    let header = match read_header_from_arbitrary_device(&mut Device::new(disk), BLOCK) {
        Ok(header) => header,
        Err(_) if !signature && has_signature(disk, 4096)? => {
            return Err(PartitionError::Unsupported("a GPT with 4096-byte sectors".to_owned()));
        }
        Err(_) => return Err(PartitionError::DamagedGpt { backup: has_backup(disk)? }),
    };
    if u64::from(header.part_size) != ENTRY || header.num_parts > MOST_ENTRIES || header.header_size_le != 92 {
        let (count, size) = (header.num_parts, header.part_size);
        return Err(PartitionError::Unsupported(format!("a GPT of {count} entries of {size} bytes")));
    }
    if header.current_lba != 1 || header.part_start < 2 || header.part_start > u64::from(u32::MAX) {
        return Err(PartitionError::Corrupt("the GPT header is not the one of this place".to_owned()));
    }
    Ok(header)
}

/// The entries that are not all zero, their checksum good.
fn entries(disk: &dyn Disk, header: &Header) -> Result<BTreeMap<u32, Entry>, PartitionError> {
    disk.read_at(header.part_start * SECTOR, &mut array(header))?;
    let damaged = || PartitionError::DamagedGpt { backup: has_backup(disk).unwrap_or(false) };
    file_read_partitions(&mut Device::new(disk), header, BLOCK).map_err(|_| damaged())
}

fn has_signature(disk: &dyn Disk, offset: u64) -> Result<bool, PartitionError> {
    let mut signature = [0; 8];
    if disk.size() < offset + 8 {
        return Ok(false);
    }
    disk.read_at(offset, &mut signature)?;
    Ok(&signature == b"EFI PART")
}

/// Whether a header is in the disk's last sector.
fn has_backup(disk: &dyn Disk) -> Result<bool, PartitionError> {
    has_signature(disk, (disk.size() / SECTOR).saturating_sub(1) * SECTOR)
}

/// Sectors that the entries take.
fn array_sectors(header: &Header) -> u64 {
    (u64::from(header.num_parts) * ENTRY).div_ceil(SECTOR)
}

/// Room for the entries as they lie on the disk.
fn array(header: &Header) -> Vec<u8> {
    // Small: `read` limits the number of entries.
    vec![0; usize::try_from(array_sectors(header) * SECTOR).unwrap_or(0)]
}

/// Lets `partition` end where the room for the backup begins, and moves the backup to the end of `disk`.
pub(super) fn grow(disk: &mut dyn DiskMut, partition: &Partition) -> Result<(), PartitionError> {
    let mut primary = read(disk)?;
    let array = array_sectors(&primary);
    let too_small = || PartitionError::TooSmall { what: "the backup GPT".to_owned(), size: disk.size() };
    let last = (disk.size() / SECTOR).checked_sub(1).ok_or_else(too_small)?;
    let usable_end =
        last.checked_sub(array).filter(|end| end * SECTOR >= partition.range().end).ok_or_else(too_small)?;
    let old_last = primary.backup_lba;
    mbr::grow_protective(disk, partition, old_last)?;

    let end = grown_end(partition, usable_end * SECTOR) / SECTOR;
    let entry = primary.part_start * SECTOR + u64::from(partition.number - 1) * ENTRY;
    disk.write_at(entry + ENDING_LBA, &(end - 1).to_le_bytes())?;

    erase_backup(disk, &primary, usable_end)?;
    let mut copy = self::array(&primary);
    disk.read_at(primary.part_start * SECTOR, &mut copy)?;
    disk.write_at(usable_end * SECTOR, &copy)?;
    primary.backup_lba = last;
    primary.last_usable = usable_end - 1;
    let backup = Header { current_lba: last, backup_lba: 1, part_start: usable_end, ..primary.clone() };
    write_headers(disk, primary, backup)
}

/// Takes the old backup away where it lies in what the partition may now use: left there, it would look like a
/// table to tools that search for one.
fn erase_backup(disk: &mut dyn DiskMut, primary: &Header, usable_end: u64) -> Result<(), PartitionError> {
    let header = primary.backup_lba;
    let Some(array) = header.checked_sub(array_sectors(primary)) else { return Ok(()) };
    if array <= primary.last_usable || header >= usable_end || !has_signature(disk, header * SECTOR)? {
        return Ok(());
    }
    Ok(disk.zero(array * SECTOR, (header - array + 1) * SECTOR)?)
}

fn write_headers(disk: &mut dyn DiskMut, mut primary: Header, mut backup: Header) -> Result<(), PartitionError> {
    let corrupt = |error: ::gpt::header::HeaderError| PartitionError::Corrupt(error.to_string());
    let mut device = Device::new(disk);
    primary.write_primary(&mut device, BLOCK).map_err(corrupt)?;
    backup.write_backup(&mut device, BLOCK).map_err(corrupt)?;
    Ok(())
}

/// The bytes that partitions of a new table can use.
pub(super) fn usable(disk: &dyn Disk) -> Result<std::ops::Range<u64>, PartitionError> {
    let sectors = disk.size() / SECTOR;
    let end = sectors.checked_sub(NEW_TAIL).filter(|end| *end > NEW_HEAD);
    let end = end.ok_or_else(|| PartitionError::TooSmall { what: "a GPT".to_owned(), size: disk.size() })?;
    Ok(NEW_HEAD * SECTOR..end * SECTOR)
}

/// Writes a new table, its backup and the protective MBR.
pub(super) fn create(disk: &mut dyn DiskMut, id: Guid, partitions: &[NewGptPartition]) -> Result<(), PartitionError> {
    let last = disk.size() / SECTOR - 1;
    let build = |primary: bool| -> Result<Header, PartitionError> {
        let unsupported = |error: ::gpt::header::HeaderError| PartitionError::Unsupported(error.to_string());
        let id = id.to_string().parse().map_err(|_| PartitionError::Unsupported(format!("the GUID {id}")))?;
        HeaderBuilder::new().disk_guid(id).backup_lba(last).primary(primary).build(BLOCK).map_err(unsupported)
    };
    let (primary, backup) = (build(true)?, build(false)?);
    mbr::create_protective(disk)?;
    for header in [&primary, &backup] {
        disk.write_at(header.part_start * SECTOR, &[0; (32 * SECTOR) as usize])?;
        for new in partitions {
            disk.write_at(header.part_start * SECTOR + u64::from(new.number - 1) * ENTRY, &entry_bytes(new)?)?;
        }
    }
    write_headers(disk, primary, backup)
}

/// UEFI 2.10, table 5-6.
fn entry_bytes(new: &NewGptPartition) -> Result<[u8; 128], PartitionError> {
    let name: Vec<u8> = new.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    if name.len() > 72 {
        let name = &new.name;
        return Err(PartitionError::Unsupported(format!("the partition name `{name}` of more than 36 UTF-16 units")));
    }
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(on_disk(new.kind));
    bytes.extend(on_disk(new.guid));
    bytes.extend((new.range.start / SECTOR).to_le_bytes());
    bytes.extend((new.range.end / SECTOR - 1).to_le_bytes());
    bytes.extend(new.attributes.to_le_bytes());
    bytes.extend(name);
    bytes.resize(128, 0);
    // Cannot fail: it was just made 128 bytes long.
    Ok(bytes.try_into().unwrap_or([0; 128]))
}

/// A GUID as it lies on the disk: its first three groups are little endian.
fn on_disk(guid: Guid) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid.0;
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}
