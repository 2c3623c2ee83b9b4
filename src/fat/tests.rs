use std::sync::Arc;

use super::*;
use crate::disk::{Disk, Overlay, ZeroDisk};

const MIB: u64 = 1024 * 1024;
/// 2026-11-21 08:53:20 UTC.
const TIME: u64 = 1_795_251_200;

fn formatted(size: u64, kind: FatKind) -> Overlay {
    let mut disk = Overlay::new(Arc::new(ZeroDisk::new(size)), size);
    let options = FormatOptions { label: "boot".into(), volume_id: 0x1234_abcd, kind, time: TIME };
    format(&mut disk, &options).unwrap();
    disk
}

fn edited(size: u64, kind: FatKind) -> Overlay {
    let mut disk = formatted(size, kind);
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    editor.write("cmdline.txt", b"root=LABEL=writable\n").unwrap();
    editor.write("/overlays/a long name.dtbo", &[7; 10_000]).unwrap();
    editor.finish().unwrap();
    disk
}

fn all(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size()).unwrap()];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

fn refusal(disk: &mut Overlay) -> String {
    match Editor::open(disk, TIME) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_written_is_read_back_without_regard_to_case() {
    for (size, kind) in [(2 * MIB, FatKind::Fat12), (16 * MIB, FatKind::Fat16), (48 * MIB, FatKind::Fat32)] {
        let mut disk = edited(size, kind);
        let editor = Editor::open(&mut disk, TIME).unwrap();
        assert_eq!(editor.label().unwrap().unwrap(), "BOOT");
        assert_eq!(editor.read("CMDLINE.TXT", 100).unwrap().unwrap(), b"root=LABEL=writable\n");
        assert_eq!(editor.read("Overlays/A Long Name.DTBO", 10_000).unwrap().unwrap(), [7; 10_000]);
        assert_eq!(editor.read("nothing", 1).unwrap(), None);
        assert!(editor.exists("overlays").unwrap());
        let names: Vec<_> = editor.read_dir("").unwrap().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["cmdline.txt", "overlays"]);
        assert_eq!(editor.read_dir("overlays").unwrap().unwrap().len(), 1);
    }
}

#[test]
fn the_same_edits_give_the_same_bytes_and_none_give_no_change() {
    let mut disk = edited(48 * MIB, FatKind::Fat32);
    let bytes = all(&disk);
    assert!(bytes == all(&edited(48 * MIB, FatKind::Fat32)));
    Editor::open(&mut disk, TIME + 100).unwrap().finish().unwrap();
    assert!(bytes == all(&disk));
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    editor.write("lost", b"never finished").unwrap();
    drop(editor);
    assert!(bytes == all(&disk));
}

#[test]
fn replacing_and_removing_give_their_clusters_back() {
    let mut disk = formatted(16 * MIB, FatKind::Fat16);
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    let free = editor.free_bytes().unwrap();
    editor.write("initrd.img", &vec![1; 5_000_000]).unwrap();
    editor.write("INITRD.IMG", b"short").unwrap();
    assert_eq!(editor.read("initrd.img", 10).unwrap().unwrap(), b"short");
    assert_eq!(editor.read_dir("").unwrap().unwrap().len(), 1);
    assert!(editor.remove("initrd.img").unwrap());
    assert!(!editor.remove("initrd.img").unwrap());
    assert_eq!(editor.free_bytes().unwrap(), free);
}

#[test]
fn what_cannot_be_written_is_named() {
    let mut disk = edited(2 * MIB, FatKind::Fat12);
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    let message = |result: Result<(), FatError>| result.unwrap_err().to_string();
    assert_eq!(message(editor.write("a/../b", b"")), "`a/../b` is not a path that FAT can hold");
    assert_eq!(message(editor.write("a:b", b"")), "`a:b` is not a path that FAT can hold");
    assert_eq!(message(editor.write("overlays", b"")), "`overlays` is a directory");
    assert_eq!(message(editor.write("cmdline.txt/x", b"")), "`cmdline.txt` is a file");
    assert_eq!(message(editor.remove("overlays").map(drop)), "`overlays` is a directory that is not empty");
    assert_eq!(
        editor.read("cmdline.txt", 3).unwrap_err().to_string(),
        "`cmdline.txt` has 20 bytes, more than the 3 expected"
    );
    let error = message(editor.write("big", &vec![1; 2_000_000 + 100_000]));
    assert!(error.starts_with("no room for `big`: it needs "), "{error}");
}

#[test]
fn the_fixed_root_directory_says_when_it_is_full() {
    let mut disk = formatted(2 * MIB, FatKind::Fat12);
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    let error = (0..600).find_map(|number| editor.write(&format!("file{number}"), b"").err()).unwrap();
    assert_eq!(error.to_string(), "no room for `file255`: the root directory is full");
}

#[test]
fn a_growing_root_directory_does_not_see_stale_clusters() {
    let mut disk = formatted(48 * MIB, FatKind::Fat32);
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    editor.write("stale", &vec![b'x'; 5_000_000]).unwrap();
    editor.remove("stale").unwrap();
    editor.finish().unwrap();
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    for number in 0..100 {
        editor.write(&format!("a file with a long name {number}"), b"1").unwrap();
    }
    assert_eq!(editor.read_dir("").unwrap().unwrap().len(), 100);
    editor.finish().unwrap();
    assert_eq!(Editor::open(&mut disk, TIME).unwrap().read_dir("").unwrap().unwrap().len(), 100);
}

#[test]
fn dirty_marks_are_taken_away_by_an_edit() {
    let mut disk = edited(48 * MIB, FatKind::Fat32);
    let fat = Geometry::read(&disk).unwrap().fat;
    disk.write_at(65, &[1]).unwrap();
    disk.write_at(fat + 7, &[0x07]).unwrap();
    let len = Geometry::read(&disk).unwrap().fat_len;
    disk.write_at(fat + len + 7, &[0x07]).unwrap();
    let mut editor = Editor::open(&mut disk, TIME).unwrap();
    editor.write("x", b"x").unwrap();
    editor.finish().unwrap();
    let bytes = all(&disk);
    assert_eq!((bytes[65], bytes[usize::try_from(fat).unwrap() + 7] & 0x08), (0, 0x08));
}

#[test]
fn damaged_file_systems_are_refused_by_name() {
    let with = |edits: &[(u64, &[u8])]| {
        let mut disk = edited(16 * MIB, FatKind::Fat16);
        edits.iter().for_each(|(offset, bytes)| disk.write_at(*offset, bytes).unwrap());
        refusal(&mut disk)
    };
    let geometry = Geometry::read(&edited(16 * MIB, FatKind::Fat16)).unwrap();
    let fats = |cluster: u64, value: u16| [0, geometry.fat_len].map(|copy| (geometry.fat + copy + cluster * 2, value));
    let with_fat = |cluster: u64, value: u16| {
        let edits = fats(cluster, value).map(|(offset, value)| (offset, value.to_le_bytes()));
        with(&edits.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect::<Vec<_>>())
    };
    let damaged = |what: &str| format!("the FAT file system is damaged: {what}");
    assert_eq!(with(&[(510, b"xx")]), damaged("its boot sector has no signature"));
    assert_eq!(with(&[(11, b"xx")]), damaged("its boot sector gives an impossible sector size"));
    assert_eq!(with(&[(13, &[3])]), damaged("its boot sector gives an impossible cluster size"));
    assert_eq!(with(&[(22, &[1, 0])]), damaged("its boot sector gives a FAT too small for its clusters"));
    assert_eq!(with(&[(3, b"EXFAT   ")]), "a boot partition with exFAT is not supported");
    assert_eq!(with(&[(19, &[0xff, 0xff])]), damaged("it claims 33553920 bytes, the partition has 16777216"));
    assert_eq!(with(&[(geometry.fat + 20, &[9])]), damaged("its two FATs differ"));
    // Cluster 2 holds `cmdline.txt`, 3 the directory, 4 and on the file in it.
    assert_eq!(with_fat(2, 5), damaged("two chains lead to cluster 5"));
    assert_eq!(with_fat(2, 1), damaged("a chain leads to cluster 1, which does not exist"));
    assert_eq!(with_fat(2, 900), damaged("a chain leads to cluster 900, which is not in use"));
    assert_eq!(with_fat(2, 0), damaged("`CMDLINE TXT` uses a cluster that is marked free or bad"));
    assert_eq!(with_fat(4, 0xffff), damaged("`ALONGN~1DTB` is longer than its clusters"));
    assert_eq!(with_fat(3, 3), damaged("`OVERLAYS` shares clusters with another file"));
}

#[test]
fn no_byte_of_the_file_system_makes_an_edit_panic() {
    let good = Arc::new(edited(2 * MIB, FatKind::Fat12));
    let geometry = Geometry::read(&*good).unwrap();
    let root = geometry.root_start();
    let spots =
        (0..64).chain(510..512).chain(512..530).chain(root..root + 256).chain(geometry.data..geometry.data + 1200);
    let (mut opened, mut refused) = (0, 0);
    for at in spots {
        for value in [0, 1, 0x10, 0xe5, 0xff] {
            let mut disk = Overlay::new(good.clone(), 2 * MIB);
            disk.write_at(at, &[value]).unwrap();
            let Ok(mut editor) = Editor::open(&mut disk, TIME) else {
                refused += 1;
                continue;
            };
            opened += 1;
            drop(editor.read("overlays/a long name.dtbo", 20_000));
            drop(editor.write("overlays/new/file", &[1; 5000]));
            drop(editor.write("cmdline.txt", &[1; 5000]));
            drop(editor.remove("overlays/a long name.dtbo"));
            drop(editor.finish());
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} {refused}");
}
