use std::sync::Arc;

use super::*;
use crate::disk::{Overlay, ZeroDisk};

const MIB: u64 = 1024 * 1024;

fn disk(size: u64) -> Overlay {
    Overlay::new(Arc::new(ZeroDisk::new(size)), size)
}

fn guid(last: u8) -> Guid {
    Guid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, last])
}

fn mbr_disk() -> Overlay {
    let mut disk = disk(64 * MIB);
    let new = |number, range, kind, bootable| NewMbrPartition { number, range, kind, bootable };
    let partitions = [new(1, MIB..9 * MIB, 0x0c, true), new(2, 9 * MIB..64 * MIB, 0x83, false)];
    create_mbr(&mut disk, 0x1234_abcd, &partitions).unwrap();
    disk
}

fn gpt_disk() -> Overlay {
    let mut disk = disk(64 * MIB);
    let new = |number, range, last, name: &str| NewGptPartition {
        number,
        range,
        kind: guid(0),
        guid: guid(last),
        name: name.to_owned(),
        attributes: u64::from(number == 14) << 2,
    };
    let partitions = [
        new(1, 9 * MIB..63 * MIB, 1, "root"),
        new(14, MIB..4 * MIB, 14, "bios"),
        new(15, 4 * MIB..9 * MIB, 15, "EFI \u{1f9ca}"),
    ];
    create_gpt(&mut disk, guid(99), &partitions).unwrap();
    disk
}

fn poke(disk: &mut Overlay, offset: u64, bytes: &[u8]) {
    disk.write_at(offset, bytes).unwrap();
}

#[test]
fn guids_are_read_and_shown_as_text() {
    let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    assert_eq!(text.parse::<Guid>().unwrap().to_string(), text);
    assert_eq!(text.to_uppercase().parse::<Guid>().unwrap().to_string(), text);
    for wrong in
        ["", "c12a7328f81f11d2ba4b00a0c93ec93b", "c12a7328-f81f-11d2-ba4b-00a0c93ec93g", "+12a7328-f81f-11d2-ba4b"]
    {
        assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
    }
}

#[test]
fn an_mbr_is_read_as_linux_shows_it() {
    let table = Table::read(&mbr_disk()).unwrap();
    assert_eq!((table.kind(), table.id()), (TableKind::Mbr, "1234abcd"));
    let boot = table.partition(1).unwrap();
    assert_eq!((boot.range(), boot.kind, boot.bootable), (MIB..9 * MIB, PartitionType::Mbr(0x0c), true));
    assert_eq!(table.last().unwrap().partuuid, "1234abcd-02");
}

#[test]
fn a_gpt_keeps_its_numbers_and_names() {
    let table = Table::read(&gpt_disk()).unwrap();
    assert_eq!(table.kind(), TableKind::Gpt);
    let seen: Vec<_> = table.partitions().iter().map(|p| (p.number, p.name.as_str(), p.bootable)).collect();
    assert_eq!(seen, [(1, "root", false), (14, "bios", true), (15, "EFI \u{1f9ca}", false)]);
    assert_eq!(table.partition(1).unwrap().partuuid, guid(1).to_string());
    assert_eq!(table.last().unwrap().number, 1);
}

#[test]
fn growing_reaches_the_end_and_keeps_the_ids() {
    for (mut disk, number, end) in [(mbr_disk(), 2, 96 * MIB), (gpt_disk(), 1, 95 * MIB)] {
        let before = Table::read(&disk).unwrap();
        disk.resize(96 * MIB).unwrap();
        let mut table = before.clone();
        let grown = table.grow(&mut disk, number).unwrap();
        assert_eq!(grown.range().end, end);
        assert_eq!(table.tail_bytes(), 96 * MIB - end);
        let mut expected = before;
        expected.partitions.iter_mut().filter(|p| p.number == number).for_each(|p| p.len = end - p.start);
        assert_eq!(Table::read(&disk).unwrap(), expected);
    }
}

#[test]
fn growing_to_the_same_size_changes_nothing() {
    for (mut disk, number) in [(mbr_disk(), 2), (gpt_disk(), 1)] {
        let mut before = vec![0; 64 * 1024 * 1024];
        disk.read_at(0, &mut before).unwrap();
        Table::read(&disk).unwrap().grow(&mut disk, number).unwrap();
        let mut after = vec![0; before.len()];
        disk.read_at(0, &mut after).unwrap();
        assert!(before == after);
    }
}

#[test]
fn only_the_last_partition_grows() {
    let mut disk = mbr_disk();
    disk.resize(96 * MIB).unwrap();
    let error = Table::read(&disk).unwrap().grow(&mut disk, 1).unwrap_err();
    assert_eq!(error.to_string(), "partition 1 cannot grow: partition 2 lies behind it");
    let error = Table::read(&disk).unwrap().grow(&mut disk, 3).unwrap_err();
    assert_eq!(error.to_string(), "the disk has no partition 3");
}

#[test]
fn an_mbr_partition_stops_at_two_tebibytes() {
    let mut disk = mbr_disk();
    disk.resize(3 << 40).unwrap();
    let error = Table::read(&disk).unwrap().grow(&mut disk, 2).unwrap_err();
    assert_eq!(error.to_string(), "partition 2 reaching past 2 TiB on an MBR disk is not supported");
}

#[test]
fn a_gpt_whose_old_end_becomes_free_loses_the_old_backup() {
    let mut disk = gpt_disk();
    disk.resize(96 * MIB).unwrap();
    Table::read(&disk).unwrap().grow(&mut disk, 1).unwrap();
    let mut old = [1; 512];
    disk.read_at(64 * MIB - 512, &mut old).unwrap();
    assert_eq!(old, [0; 512]);
}

#[test]
fn a_hybrid_that_lists_the_grown_partition_is_refused() {
    let mut disk = gpt_disk();
    disk.resize(96 * MIB).unwrap();
    let mut entry = [0; 16];
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&u32::try_from(9 * MIB / 512).unwrap().to_le_bytes());
    entry[12] = 1;
    poke(&mut disk, 446 + 16, &entry);
    let error = Table::read(&disk).unwrap().grow(&mut disk, 1).unwrap_err();
    assert_eq!(error.to_string(), "growing partition 1, which a hybrid MBR lists as well, is not supported");
}

#[test]
fn damaged_tables_are_named() {
    let message = |disk: &Overlay| Table::read(disk).unwrap_err().to_string();
    assert_eq!(message(&disk(MIB)), "the disk has no partition table");
    assert_eq!(message(&disk(100)), "the disk has no partition table");

    let mut one = gpt_disk();
    poke(&mut one, 512 + 60, b"x");
    assert_eq!(message(&one), "the primary GPT is damaged, the backup at the end of the disk is intact");
    let mut one = gpt_disk();
    poke(&mut one, 1024 + 60, b"x");
    assert_eq!(message(&one), "the primary GPT is damaged, the backup at the end of the disk is intact");
    poke(&mut one, 64 * MIB - 512, b"x");
    assert_eq!(message(&one), "the primary GPT is damaged");

    let mut one = gpt_disk();
    poke(&mut one, 512, &[0; 512]);
    poke(&mut one, 4096, b"EFI PART");
    assert_eq!(message(&one), "a GPT with 4096-byte sectors is not supported");

    let mut one = mbr_disk();
    one.resize(63 * MIB).unwrap();
    assert_eq!(message(&one), "partition 2 ends at byte 67108864, but the disk has only 66060288 bytes");
    assert!(Table::read(&one).unwrap_err().hint().unwrap().contains("checksum"));

    let mut one = mbr_disk();
    poke(&mut one, 446 + 8, &[0; 4]);
    assert_eq!(message(&one), "the partition table is damaged: partition 1 starts at sector 0");
}

#[test]
fn logical_partitions_are_read_and_not_grown() {
    let mut disk = mbr_disk();
    poke(&mut disk, 446 + 16 + 4, &[0x05]);
    let start = 9 * MIB;
    let mut record = [0; 512];
    record[446 + 4] = 0x83;
    record[446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 0, 16, 0, 0]);
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    poke(&mut disk, start, &record);
    let mut table = Table::read(&disk).unwrap();
    assert_eq!(table.partition(5).unwrap().range(), start + MIB..start + 3 * MIB);
    let error = table.grow(&mut disk, 5).unwrap_err();
    assert_eq!(error.to_string(), "growing partition 5, an extended or logical one, is not supported");

    record[462 + 4] = 0x05;
    record[462 + 8..462 + 16].copy_from_slice(&[0xff; 8]);
    poke(&mut disk, start, &record);
    let error = Table::read(&disk).unwrap_err();
    assert_eq!(error.to_string(), "the partition table is damaged: its logical partitions do not follow each other");
}

#[test]
fn a_new_table_takes_no_nonsense() {
    let new = |number, range| NewMbrPartition { number, range, kind: 0x83, bootable: false };
    let message =
        |partitions: &[NewMbrPartition]| create_mbr(&mut disk(4 * MIB), 1, partitions).unwrap_err().to_string();
    assert_eq!(message(&[new(5, MIB..2 * MIB)]), "partition number 5 (1 to 4 are possible) is not supported");
    assert_eq!(
        message(&[new(1, MIB..8 * MIB)]),
        "partition 1 (bytes 1048576 to 8388608) does not fit: the disk has 4194304 bytes"
    );
    assert_eq!(
        message(&[new(1, MIB..3 * MIB), new(2, 2 * MIB..4 * MIB)]),
        "partition 2 overlapping partition 1 is not supported"
    );
}

#[test]
fn no_byte_of_the_table_makes_the_reader_panic() {
    for good in [mbr_disk(), gpt_disk()] {
        let mut start = vec![0; 2048];
        good.read_at(0, &mut start).unwrap();
        let mut seen = 0;
        for at in 0..start.len() {
            for value in [0, 0x7f, 0xff] {
                let mut disk = Overlay::new(Arc::new(ZeroDisk::new(64 * MIB)), 64 * MIB);
                disk.write_at(0, &start).unwrap();
                poke(&mut disk, at as u64, &[value]);
                seen += usize::from(Table::read(&disk).is_ok());
            }
        }
        assert!(seen > 0);
    }
}
