use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::disk::{DiskMut, FileRange, Overlay, ZeroDisk};
use crate::progress::Silent;

fn file(dir: &Path, name: &str, bytes: &[u8]) -> Arc<HostFile> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    HostFile::open(&path).unwrap()
}

fn raw() -> Vec<u8> {
    let mut disk = vec![0; 3_000_000];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[1_000_001] = 1;
    disk[2_500_000..].fill(9);
    disk
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut packed).unwrap();
    packed
}

/// What `source` unpacks to, or the message.
fn unpacked(dir: &Path, source: &HostFile) -> Result<Vec<u8>, String> {
    let out = File::create(dir.join("out")).unwrap();
    let size = unpack(source, &out, &Silent).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(dir.join("out")).unwrap();
    assert_eq!(bytes.len() as u64, size);
    Ok(bytes)
}

#[test]
fn formats_are_told_by_their_magic_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let detect = |bytes: &[u8]| Format::detect(&file(dir.path(), "x", bytes)).map_err(|error| error.to_string());
    assert_eq!(detect(&raw()), Ok(Format::Raw));
    assert_eq!(detect(&packed(b"x")), Ok(Format::Xz));
    let path = dir.path().join("x");
    let path = path.display();
    assert_eq!(detect(b"QFI\xfb....").unwrap_err(), format!("`{path}` is a qcow2 image, which is not supported yet"));
    assert_eq!(detect(b"hello\n").unwrap_err(), format!("`{path}` is not a disk image"));
    assert_eq!(detect(b"").unwrap_err(), format!("`{path}` is not a disk image"));
    let error = Format::detect(&file(dir.path(), "x", b"\x1f\x8b")).unwrap_err();
    assert_eq!(error.hint().unwrap(), "convert it first: `gunzip IMAGE.gz`");
}

#[test]
fn what_was_packed_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    assert!(unpacked(dir.path(), &file(dir.path(), "raw", &raw())).unwrap() == raw());
    let streams = [packed(&raw()), vec![0; 8], packed(b"more"), vec![0; 4]].concat();
    let both = unpacked(dir.path(), &file(dir.path(), "xz", &streams)).unwrap();
    assert!(both == [raw(), b"more".to_vec()].concat());
}

#[test]
fn damaged_xz_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = packed(&raw());
    let message = |bytes: &[u8]| {
        let error = unpacked(dir.path(), &file(dir.path(), "xz", bytes)).unwrap_err();
        error.split_once("is damaged: ").unwrap().1.to_owned()
    };
    for len in [6, 12, good.len() / 2, good.len() - 20, good.len() - 1] {
        assert_eq!(message(&good[..len]), "it is truncated", "{len} of {}", good.len());
    }
    assert_eq!(message(&[&good[..], b"garbage"].concat()), "something follows the compressed data");
    assert_eq!(message(&[&good[..], &[0; 3]].concat()), "something follows the compressed data");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    assert_eq!(message(&flipped), "lzma data error");
}

#[test]
fn zero_blocks_become_holes_wherever_the_pieces_end() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = raw();
    for step in [1000, 4096, 5000, 1_000_000] {
        let path = dir.path().join("sparse");
        let out = File::create(&path).unwrap();
        let mut writer = SparseWriter::new(&out);
        bytes.chunks(step).for_each(|part| writer.write(part).unwrap());
        assert_eq!(writer.finish().unwrap(), bytes.len() as u64);
        assert!(std::fs::read(&path).unwrap() == bytes);
        #[cfg(target_os = "linux")]
        assert!(std::os::unix::fs::MetadataExt::blocks(&out.metadata().unwrap()) * 512 < 600_000);
    }
}

/// A disk of all kinds of pieces, none of them aligned, and its bytes.
fn patchwork(dir: &Path) -> (Overlay, Vec<u8>) {
    let base: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let component: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 241) as u8).collect();
    let base = crate::disk::FileDisk::new(file(dir, "base", &base));
    let component = file(dir, "component", &component);
    let mut disk = Overlay::new(Arc::new(base), 40_000_123);
    disk.write_at(100, &[1; 5000]).unwrap();
    disk.zero(9_000, 700_001).unwrap();
    disk.map(1_000_003, FileRange::whole(Arc::clone(&component))).unwrap();
    disk.map(20_000_000, FileRange::new(component, 777, 1_500_000).unwrap()).unwrap();
    disk.write_at(33_000_000, &vec![3; 2_500_000]).unwrap();
    let mut bytes = vec![0; 40_000_123];
    disk.read_at(0, &mut bytes).unwrap();
    (disk, bytes)
}

#[test]
fn a_file_and_a_stream_get_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, bytes) = patchwork(dir.path());
    let path = dir.path().join("image");
    let mut sink = Sink::file(&path).unwrap();
    write(&disk, &mut sink, &Silent).unwrap();
    assert!(!path.exists());
    sink.commit().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    #[cfg(target_os = "linux")]
    assert!(std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512 < 10_000_000);

    let stream = dir.path().join("stream");
    let mut sink = Sink::stream("a stream", File::create(&stream).unwrap());
    write(&disk, &mut sink, &Silent).unwrap();
    sink.commit().unwrap();
    assert!(std::fs::read(&stream).unwrap() == bytes);
}

/// A disk that cannot say what it is made of.
struct Opaque(ZeroDisk);

impl Disk for Opaque {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        buffer.fill(5);
        Ok(())
    }

    fn pieces(&self, range: std::ops::Range<u64>) -> Result<Vec<crate::disk::Piece>, DiskError> {
        Ok(vec![crate::disk::Piece { offset: range.start, len: range.end - range.start, source: Source::Opaque }])
    }
}

#[test]
fn an_opaque_disk_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("image");
    let mut sink = Sink::file(&path).unwrap();
    write(&Opaque(ZeroDisk::new(20_000_000)), &mut sink, &Silent).unwrap();
    sink.commit().unwrap();
    assert!(std::fs::read(&path).unwrap() == vec![5; 20_000_000]);
}
