//! Base images and archives in the cache.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgbake::{HostFile, MemberKind, Progress, Silent};

use super::server::Server;
use super::*;

const XZ: &[u8] = b"\xfd7zXZ\0 stands for an image";

/// Stands in for the image room's unpacker.
fn unpack(_packed: &Arc<HostFile>, raw: &mut File, _progress: &dyn Progress) -> io::Result<()> {
    raw.write_all(b"raw")?;
    raw.set_len(1 << 20)
}

fn never(_packed: &Arc<HostFile>, _raw: &mut File, _progress: &dyn Progress) -> io::Result<()> {
    panic!("unpacked a second time")
}

#[test]
fn a_packed_base_is_unpacked_once() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::of(XZ.to_vec());
    let artifact = pinned(server.url("a.img.xz"), XZ);
    let raw = store(cache.path()).base(&artifact, &Silent, unpack).unwrap();
    assert_eq!((raw.size(), &bytes(&raw)[..4]), (1 << 20, &b"raw\0"[..]));
    store(cache.path()).base(&artifact, &Silent, never).unwrap();
    assert_eq!(server.seen().len(), 1);
    assert_eq!(held(cache.path()), (1, 0));
}

#[test]
fn a_raw_base_is_used_as_it_is() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(5000);
    let server = Server::of(data.clone());
    let raw = store(cache.path()).base(&pinned(server.url("a.raw"), &data), &Silent, never).unwrap();
    assert_eq!(bytes(&raw), data);
}

#[test]
fn other_packings_are_refused_by_name() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (name, data, packing) in [
        ("a.qcow2", &b"QFI\xfb...."[..], "a qcow2 image"),
        ("a.tar.xz", XZ, "an xz-compressed tar archive"),
        ("a.img.gz", b"\x1f\x8b", "compressed with gzip"),
        ("a.tar", &tar, "a tar archive"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::of(data.to_vec());
        let url = server.url(name);
        let error = store(cache.path()).base(&pinned(&url, data), &Silent, never).unwrap_err();
        let hint = "hint: unpack it, or convert it with `qemu-img convert -O raw`, and use the result";
        assert_eq!(report(&error), format!("error: `{url}` is {packing}, which is not supported here\n{hint}"));
    }
}

#[test]
fn a_failed_unpacking_leaves_nothing_and_is_done_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::of(XZ.to_vec());
    let artifact = pinned(server.url("a.img.xz"), XZ);
    let broken = |_: &Arc<HostFile>, raw: &mut File, _: &dyn Progress| {
        raw.write_all(b"half").unwrap();
        Err(io::Error::other("the stream is damaged"))
    };
    let error = store(cache.path()).base(&artifact, &Silent, broken).unwrap_err();
    assert_eq!(report(&error), format!("error: cannot unpack `{}`\ncause: the stream is damaged", artifact.url));
    assert_eq!(held(cache.path()), (1, 0));
    store(cache.path()).base(&artifact, &Silent, unpack).unwrap();
}

#[test]
fn the_users_own_file_is_unpacked_once_for_each_content() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.img.xz");
    fs::write(&path, XZ).unwrap();
    let raw = store(cache.path()).unpacked(&path, &Silent, unpack).unwrap();
    assert_eq!(raw.size(), 1 << 20);
    store(cache.path()).unpacked(&path, &Silent, never).unwrap();
    let copy = folder.path().join("copy.img.xz");
    fs::copy(&path, &copy).unwrap();
    store(cache.path()).unpacked(&copy, &Silent, never).unwrap();

    fs::write(&path, [XZ, b"!"].concat()).unwrap();
    let other = |_: &Arc<HostFile>, raw: &mut File, _: &dyn Progress| raw.write_all(b"other");
    assert_eq!(bytes(&store(cache.path()).unpacked(&path, &Silent, other).unwrap()), b"other");

    let plain = folder.path().join("own.img");
    fs::write(&plain, noise(1000)).unwrap();
    assert_eq!(store(cache.path()).unpacked(&plain, &Silent, never).unwrap().path(), plain);
}

#[test]
fn a_file_that_changes_while_it_is_unpacked_is_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.img.xz");
    fs::write(&path, XZ).unwrap();
    let slow = |_: &Arc<HostFile>, raw: &mut File, _: &dyn Progress| {
        fs::write(&path, [XZ, b" and more"].concat())?;
        raw.write_all(b"raw")
    };
    let error = store(cache.path()).unpacked(&path, &Silent, slow).unwrap_err();
    let name = path.display();
    assert_eq!(
        report(&error),
        format!("error: `{name}` changed while it was being unpacked\nhint: wait until it is complete")
    );
    assert_eq!(fs::read_dir(cache.path().join("unpacked")).unwrap().count(), 0);
}

#[test]
fn a_missing_file_of_the_users_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let error = store(cache.path()).unpacked(Path::new("/nowhere/own.img"), &Silent, never).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/nowhere/own.img`");
}

#[test]
fn something_made_is_made_once_even_by_two() {
    let cache = tempfile::tempdir().unwrap();
    let store = store(cache.path());
    let made = AtomicUsize::new(0);
    let make = |path: &Path| {
        made.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::write(path, b"a base")
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(bytes(&store.made("debian-13-rpi", &Silent, make).unwrap()), b"a base"));
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
    store.discard_made("debian-13-rpi").unwrap();
    assert!(store.find_made("debian-13-rpi").unwrap().is_none());
}

#[test]
fn something_that_could_not_be_made_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let make = |path: &Path| {
        fs::create_dir(path).and_then(|()| fs::write(path.join("half"), b"half"))?;
        Err(io::Error::other("mmdebstrap failed"))
    };
    let error = store(cache.path()).made("debian-13-rpi", &Silent, make).unwrap_err();
    assert_eq!(report(&error), "error: cannot make `debian-13-rpi`\ncause: mmdebstrap failed");
    assert_eq!(held(cache.path()), (0, 0));
    let error = store(cache.path()).made("../x", &Silent, |_| io::Result::Ok(())).unwrap_err();
    assert_eq!(report(&error), "error: cannot make `../x`\ncause: its name has unusual characters");
}

#[test]
fn an_archive_is_decompressed_once_and_its_members_mapped() {
    let cache = tempfile::tempdir().unwrap();
    let tool = noise(100_000);
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(tool.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/tool", &tool[..]).unwrap();
    let packed = builder.into_inner().unwrap().finish().unwrap();
    let server = Server::of(packed.clone());
    let artifact = pinned(server.url("tools.tar.gz"), &packed);
    for _ in 0..2 {
        let archive = store(cache.path()).archive(&artifact, &Silent).unwrap();
        let member = archive.member("bin/tool").unwrap();
        let mut found = vec![0; tool.len()];
        member.range.read_at(0, &mut found).unwrap();
        assert_eq!((&member.kind, member.mode), (&MemberKind::File, 0o755));
        assert_eq!(found, tool);
    }
    assert_eq!(server.seen().len(), 1);
    assert_eq!(fs::read_dir(cache.path().join("unpacked")).unwrap().count(), 1);

    let half = &packed[..packed.len() / 2];
    let server = Server::of(half.to_vec());
    let error = store(cache.path()).archive(&pinned(server.url("tools.tgz"), half), &Silent).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(held(cache.path()).1, 0);
    let server = Server::of(tool.clone());
    let url = server.url("tools.tar.gz");
    let error = store(cache.path()).archive(&pinned(&url, &tool), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("archive `{url}` is damaged: it is not a tar archive"));
}
