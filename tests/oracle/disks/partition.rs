//! Tables that we made or grew, as sfdisk and sgdisk see them.

use std::path::Path;

use imgbake::{DiskMut, NewGptPartition, NewMbrPartition, Overlay, Table, create_gpt, create_mbr};

use super::{MIB, blank, over, run, save, shell, text};

const ROOT: &str = "b921b045-1df0-41c3-af44-4c6f280d3fae";
const BIOS: &str = "21686148-6449-6e6f-744e-656564454649";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

fn sfdisk(arguments: &[&str]) -> String {
    run("fdisk", "sfdisk", arguments)
}

fn assert_clean(path: &Path) {
    let said = sfdisk(&["--verify", text(path)]);
    assert!(said.contains("No errors detected"), "{said}");
    if sfdisk(&["--dump", text(path)]).contains("label: gpt") {
        let said = run("gdisk", "sgdisk", &["-v", text(path)]);
        assert!(said.contains("No problems found"), "{said}");
    }
}

fn gpt_partitions(size: u64) -> [NewGptPartition; 3] {
    let new = |number, range, kind: &str, name: &str, attributes| NewGptPartition {
        number,
        range,
        kind: kind.parse().unwrap(),
        guid: format!("11111111-2222-3333-4444-{number:012}").parse().unwrap(),
        name: name.to_owned(),
        attributes,
    };
    [
        new(1, 128 * MIB..size - MIB, ROOT, "root", 0),
        new(14, MIB..4 * MIB, BIOS, "", 4),
        new(15, 4 * MIB..128 * MIB, ESP, "EFI system", 0),
    ]
}

fn new_gpt(size: u64) -> Overlay {
    let mut disk = blank(size);
    create_gpt(&mut disk, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee".parse().unwrap(), &gpt_partitions(size)).unwrap();
    disk
}

#[test]
fn a_new_gpt_is_what_sfdisk_makes_of_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    save(&new_gpt(256 * MIB), &ours);
    assert_clean(&ours);
    shell(&format!(
        "truncate -s 256M {theirs}; sfdisk -q {theirs} <<EOT\n\
         label: gpt\nlabel-id: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\nfirst-lba: 34\n\
         1: start=262144, size=260096, type={ROOT}, uuid=11111111-2222-3333-4444-000000000001, name=root\n\
         14: start=2048, size=6144, type={BIOS}, uuid=11111111-2222-3333-4444-000000000014, attrs=LegacyBIOSBootable\n\
         15: start=8192, size=253952, type={ESP}, uuid=11111111-2222-3333-4444-000000000015, name=\"EFI system\"\nEOT\n\
         cmp {ours} {theirs}",
        theirs = text(&theirs),
        ours = text(&ours),
    ));
}

#[test]
fn a_grown_gpt_keeps_everything_but_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    save(&new_gpt(256 * MIB), &old);
    for size in [300 * MIB, 300 * MIB + 512 * 12] {
        let mut disk = over(&old, size);
        let grown = Table::read(&disk).unwrap().grow(&mut disk, 1).unwrap();
        assert_eq!(grown.range(), 128 * MIB..299 * MIB);
        save(&disk, &new);
        assert_clean(&new);
        let kept = |path: &Path| sfdisk(&["--dump", text(path)]).replace(text(path), "");
        let expected = kept(&old).replace("size=      260096", "size=      350208");
        let last = format!("last-lba: {}", size / 512 - 34);
        assert_eq!(kept(&new), expected.replace("last-lba: 524254", &last));
        let said = run("gdisk", "sgdisk", &["-i", "15", text(&new)]);
        assert!(said.contains("Partition name: 'EFI system'"), "{said}");
    }
}

#[test]
fn a_table_that_sfdisk_made_grows_as_sfdisk_grows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    for (size, label) in [(200, "gpt"), (200, "dos"), (9_000, "dos")] {
        shell(&format!(
            "truncate -s 64M {theirs}; printf 'label: {label}\\nstart=2048,size=16384\\nstart=18432\\n' | sfdisk -q {theirs}
             truncate -s {size}M {theirs}; cp --sparse=auto {theirs} {ours}
             end=$(({size} * 2048 - $([ {label} = gpt ] && echo 2048 || echo 0)))
             echo \",$((end - 18432))\" | sfdisk -q -N 2 {theirs}",
            theirs = text(&theirs),
            ours = text(&ours),
        ));
        let mut disk = over(&ours, size * MIB);
        Table::read(&disk).unwrap().grow(&mut disk, 2).unwrap();
        save(&disk, &dir.path().join("grown"));
        assert_clean(&dir.path().join("grown"));
        let dump = |path: &Path| sfdisk(&["--dump", text(path)]).replace(text(path), "");
        assert_eq!(dump(&dir.path().join("grown")), dump(&theirs));
        if label == "dos" {
            shell(&format!("cmp -n 1048576 {} {}", text(&dir.path().join("grown")), text(&theirs)));
        }
        std::fs::remove_file(&theirs).unwrap();
    }
}

#[test]
fn a_new_mbr_is_what_sfdisk_makes_of_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let size = 9_000 * MIB;
    let mut disk = blank(size);
    let new = |number, range, kind, bootable| NewMbrPartition { number, range, kind, bootable };
    let partitions = [new(1, 4 * MIB..516 * MIB, 0x0c, true), new(2, 516 * MIB..size, 0x83, false)];
    create_mbr(&mut disk, 0x89ab_cdef, &partitions).unwrap();
    save(&disk, &ours);
    assert_clean(&ours);
    shell(&format!(
        "truncate -s 9000M {theirs}; sfdisk -q {theirs} <<EOT\nlabel: dos\nlabel-id: 0x89abcdef\n\
         start=8192, size=1048576, type=c, bootable\nstart=1056768, type=83\nEOT\ncmp -n 1048576 {ours} {theirs}",
        theirs = text(&theirs),
        ours = text(&ours),
    ));
}

#[test]
fn the_hybrid_mbr_of_a_raspberry_pi_image_stays_coherent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hybrid");
    save(&new_gpt(256 * MIB), &path);
    // As Debian's image recipe does it: the ESP is an MBR partition as well, for the boot ROM.
    run("gdisk", "sgdisk", &["--hybrid=15", text(&path)]);
    let mut disk = over(&path, 512 * MIB);
    assert_eq!(Table::read(&disk).unwrap().partitions().len(), 3);
    let grown = Table::read(&disk).unwrap().grow(&mut disk, 1).unwrap();
    assert_eq!(grown.range().end, 511 * MIB);
    let grown = dir.path().join("grown");
    save(&disk, &grown);
    assert_clean(&grown);
    let said = sfdisk(&["--label-nested", "dos", "--dump", text(&grown)]);
    assert!(said.contains("size=      253952, type=ef") || said.contains("size=      253952, type=c"), "{said}");
}

#[test]
fn a_damaged_gpt_is_refused_where_sgdisk_finds_it_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged");
    let mut disk = new_gpt(256 * MIB);
    disk.write_at(1024 + 56, b"x").unwrap();
    save(&disk, &path);
    let (_, said) = super::try_run("gdisk", "sgdisk", &["-v", text(&path)]);
    assert!(said.contains("CRC"), "{said}");
    let error = Table::read(&disk).unwrap_err();
    assert!(error.hint().unwrap().contains("sgdisk"), "{error}");
}
