//! Unpacking and writing out, as xz and cmp see them; what a killed bake leaves behind.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use imgbake::{DiskMut, FileDisk, FileRange, Format, HostFile, Overlay, Silent, Sink, unpack_image, write_image};

use super::{MIB, run, shell, text};

/// A sparse disk of 64 MiB with an MBR's signature, some data and long holes.
fn disk(dir: &Path) -> String {
    let path = text(&dir.join("disk.img")).to_owned();
    shell(&format!(
        "truncate -s 64M {path}; printf '\\125\\252' | dd of={path} bs=1 seek=510 conv=notrunc status=none
         head -c 3000000 /dev/urandom | dd of={path} bs=1M seek=10 conv=notrunc status=none
         seq 100000 | dd of={path} bs=1M seek=40 conv=notrunc status=none"
    ));
    path
}

fn unpacked(source: &str, to: &Path) {
    let out = File::create(to).unwrap();
    let source = HostFile::open(Path::new(source)).unwrap();
    assert_eq!(Format::detect(&source).unwrap(), Format::Xz);
    unpack_image(&source, &out, &Silent).unwrap();
}

#[test]
fn what_xz_packed_in_every_way_is_unpacked_with_its_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, out) = (disk(dir.path()), dir.path().join("out"));
    for how in ["-0", "-6 -T1", "-1 -T2 --block-size=1MiB", "-1 --check=crc32", "-1 --check=sha256", "-1 --check=none"]
    {
        run("xz-utils", "sh", &["-ec", &format!("xz {how} -k -c {disk} > {disk}.xz")]);
        unpacked(&format!("{disk}.xz"), &out);
        shell(&format!("cmp {disk} {out}; test $(du -k {out} | cut -f1) -lt 8000", out = text(&out)));
    }
    shell(&format!("cat {disk}.xz {disk}.xz > {disk}2.xz; cat {disk} {disk} > {disk}2"));
    unpacked(&format!("{disk}2.xz"), &out);
    shell(&format!("cmp {disk}2 {}", text(&out)));
}

fn patched(disk: &str) -> Overlay {
    let file = HostFile::open(Path::new(disk)).unwrap();
    let mut patched = Overlay::new(Arc::new(FileDisk::new(Arc::clone(&file))), 80 * MIB + 512);
    patched.write_at(11 * MIB + 1, b"changed").unwrap();
    patched.map(65 * MIB, FileRange::new(file, 12 * MIB, 3 * MIB).unwrap()).unwrap();
    patched.zero(15 * MIB, 100_000).unwrap();
    patched
}

#[test]
fn a_disk_is_the_same_as_a_file_and_through_a_fifo() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let path = |name: &str| dir.path().join(name);
    let bake = |to: &Path| {
        let mut sink = Sink::file(to).unwrap();
        write_image(&patched(&disk), &mut sink, &Silent).unwrap();
        sink.commit().unwrap();
    };
    // The same edits by other tools.
    shell(&format!(
        "cp {disk} {want}; truncate -s {size} {want}
         printf changed | dd of={want} bs=1 seek={at} conv=notrunc status=none
         dd if={disk} of={want} bs=1M skip=12 seek=65 count=3 conv=notrunc status=none
         dd if=/dev/zero of={want} bs=1 seek={zero} count=100000 conv=notrunc status=none",
        want = text(&path("want")),
        size = 80 * MIB + 512,
        at = 11 * MIB + 1,
        zero = 15 * MIB,
    ));
    bake(&path("file"));
    shell(&format!(
        "cmp {w} {f}; test $(du -k {f} | cut -f1) -lt 12000",
        w = text(&path("want")),
        f = text(&path("file"))
    ));
    let fifo = path("fifo");
    shell(&format!("mkfifo {}", text(&fifo)));
    let (from, to) = (text(&fifo).to_owned(), text(&path("piped")).to_owned());
    let reader = std::thread::spawn(move || shell(&format!("cat {from} > {to}")));
    bake(&fifo);
    reader.join().unwrap();
    shell(&format!("cmp {} {}", text(&path("want")), text(&path("piped"))));
    bake(Path::new("/dev/null"));
}
