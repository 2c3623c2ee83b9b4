//! FAT file systems that we edited or made, as fsck.fat and mtools see them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use imgbake::{FatEditor, FatKind, FormatOptions, Overlay, format_fat};

use super::{MIB, blank, over, run, save, shell, text};

const TIME: u64 = 1_795_251_200;

fn assert_clean(path: &Path) {
    let said = run("dosfstools", "fsck.fat", &["-n", "-v", text(path)]);
    for complaint in ["Dirty bit", "wrong", "uninitialized", "differ", "Orphaned", "Reclaimed", "Bad"] {
        assert!(!said.contains(complaint), "{said}");
    }
}

/// What mtools copies out of the image, as one checksum per file.
fn contents(path: &Path, to: &Path) -> String {
    let (image, to) = (text(path), text(to));
    shell(&format!(
        "rm -rf {to}; mkdir {to}; MTOOLS_SKIP_CHECK=1 mcopy -s -n -Q -i {image} '::*' {to}/
         cd {to}; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"
    ))
}

/// An image that dosfstools and mtools made, with files and a directory of several clusters.
fn foreign(path: &Path, arguments: &str) {
    let image = text(path);
    shell(&format!(
        "mkfs.fat {arguments} {image}
         cd $(mktemp -d); mkdir -p overlays/deep EFI/BOOT
         for n in $(seq 150); do echo file $n > overlays/a-rather-long-name-number-$n.dtbo; done
         head -c 700000 /dev/urandom > vmlinuz; head -c 100000 /dev/urandom > EFI/BOOT/BOOTAA64.EFI
         echo 'console=tty1 root=LABEL=writable' > cmdline.txt; echo '[all]' > config.txt; echo x > overlays/deep/file
         MTOOLS_SKIP_CHECK=1 mcopy -s -m -Q -i {image} ./* ::
         MTOOLS_SKIP_CHECK=1 mdel -i {image} ::/overlays/a-rather-long-name-number-7.dtbo; rm -r \"$PWD\""
    ));
}

fn edit(disk: &mut Overlay) {
    let mut editor = FatEditor::open(disk, TIME).unwrap();
    editor.write("cmdline.txt", b"console=tty1 root=LABEL=writable cgroup_enable=memory\n").unwrap();
    editor.write("user-data", b"#cloud-config\n").unwrap();
    editor.write("overlays/new.dtbo", &[1; 9000]).unwrap();
    editor.write("a new/directory/with a file.txt", b"hello").unwrap();
    editor.write("a new/empty", b"").unwrap();
    assert!(editor.remove("config.txt").unwrap());
    for number in 0..60 {
        editor.write(&format!("a new/one of many files, number {number}"), b"many").unwrap();
    }
    editor.finish().unwrap();
}

#[test]
fn edits_of_foreign_file_systems_are_clean_and_leave_the_other_files_alone() {
    for (mib, arguments) in [(8, "-F 12"), (64, "-F 16"), (300, "-F 32"), (300, "-F 32 -s 8 -R 64")] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        File::create(&old).unwrap().set_len(mib * MIB).unwrap();
        foreign(&old, &format!("{arguments} -n system-boot -i 1234abcd"));
        assert_clean(&old);
        let mut disk = over(&old, std::fs::metadata(&old).unwrap().len());
        edit(&mut disk);
        save(&disk, &new);
        assert_clean(&new);
        let (before, after) = (contents(&old, &dir.path().join("a")), contents(&new, &dir.path().join("b")));
        let kept = |line: &&str| !["cmdline.txt", "config.txt"].iter().any(|name| line.ends_with(name));
        assert!(before.lines().count() > 150);
        for line in before.lines().filter(kept) {
            assert!(after.lines().any(|other| other == line), "lost: {line}");
        }
        assert_eq!(after.lines().count(), before.lines().count() - 1 + 64);
        let said = shell(&format!(
            "mtype -i {image} ::/cmdline.txt; mtype -i {image} '::/a new/directory/with a file.txt'",
            image = text(&new)
        ));
        assert!(said.contains("cgroup_enable=memory") && said.ends_with("hello"), "{said}");
    }
}

#[test]
fn new_file_systems_are_clean_and_have_their_label_and_id() {
    for (size, kind, name) in
        [(3, FatKind::Fat12, "FAT12"), (124, FatKind::Fat16, "FAT16"), (512, FatKind::Fat32, "FAT32")]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let mut disk = blank(size * MIB);
        let options = FormatOptions { label: "RASPIFIRM".into(), volume_id: 0x89ab_cdef, kind, time: TIME };
        format_fat(&mut disk, &options).unwrap();
        save(&disk, &path);
        assert_clean(&path);
        let said = run("util-linux", "blkid", &["-p", text(&path)]);
        let words = [format!("VERSION=\"{name}\""), "LABEL=\"RASPIFIRM\"".into(), "UUID=\"89AB-CDEF\"".into()];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        edit_new(&mut disk);
        save(&disk, &path);
        assert_clean(&path);
        let said = shell(&format!("mdir -i {} -/ -a ::", text(&path)));
        assert!(said.contains("2026-11-21") && said.contains("a long directory name"), "{said}");
    }
}

fn edit_new(disk: &mut Overlay) {
    let mut editor = FatEditor::open(disk, TIME).unwrap();
    editor.write("a long directory name/sub/file", &[5; 300_000]).unwrap();
    editor.create_dir("EFI/BOOT").unwrap();
    editor.write("EFI/BOOT/grub.cfg", b"configfile\n").unwrap();
    editor.finish().unwrap();
}

/// A generator that repeats itself: the test must fail the same way twice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn hundreds_of_random_edits_leave_what_a_map_would_hold() {
    for (seed, mib, kind) in
        [(1, 3, FatKind::Fat12), (2, 20, FatKind::Fat16), (3, 40, FatKind::Fat32), (4, 40, FatKind::Fat32)]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("random");
        let mut dice = Dice(seed);
        let mut disk = blank(mib * MIB);
        format_fat(&mut disk, &FormatOptions { label: String::new(), volume_id: 1, kind, time: TIME }).unwrap();
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for _ in 0..4 {
            let mut editor = FatEditor::open(&mut disk, TIME).unwrap();
            for _ in 0..60 {
                let folder = ["", "", "overlays/", "EFI/boot/", "a deep/and long/folder name/"][dice.roll(5) as usize];
                let file = format!("{folder}{} {}.bin", "n".repeat(dice.roll(40) as usize + 1), dice.roll(12));
                if dice.roll(3) == 0 {
                    assert_eq!(editor.remove(&file).unwrap(), model.remove(&file).is_some());
                } else {
                    let bytes = vec![dice.roll(256) as u8; dice.roll(20_000) as usize];
                    editor.write(&file, &bytes).unwrap();
                    model.insert(file, bytes);
                }
            }
            editor.finish().unwrap();
            save(&disk, &path);
            assert_clean(&path);
            let editor = FatEditor::open(&mut disk, TIME).unwrap();
            for (file, bytes) in &model {
                assert!(editor.read(file, 20_000).unwrap().as_ref() == Some(bytes), "{file}");
            }
            drop(editor);
            assert_eq!(contents(&path, &dir.path().join("out")).lines().count(), model.len());
        }
    }
}
