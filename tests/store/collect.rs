//! What is collected in a folder is enough for a machine that has neither cache nor network.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::slice;

use imgbake::{Collected, Mirror, Pins, Signature, Signed, Silent, Store};

use super::server::{Server, cut, file, reply};
use super::signer::{Signer, armored};
use super::trust::{Scene, sums};
use super::*;

/// All files below a folder, by their paths there.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A store without network and with an empty cache, for which `folder` is all there is.
fn elsewhere(cache: &Path, folder: &Path, options: StoreOptions) -> Store {
    let mirrors = vec![Mirror::Folder(folder.to_owned())];
    let first_use = cache.join("first-use.yaml");
    Store::open(StoreOptions { cache: cache.to_owned(), mirrors, offline: true, first_use, ..options }).unwrap()
}

/// Collects, and adds the digests to the folder's lock file; answers what was collected beside that.
fn collect(
    store: &Store,
    artifacts: &[Artifact],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Collected>, StoreError> {
    let path = folder.join("imgbake.lock");
    let mut pins = if path.exists() { Pins::read(&path)? } else { Pins::empty(&path) };
    let collected = store.collect(artifacts, folder, &mut pins, progress)?;
    pins.save(&path)?;
    Ok(collected)
}

#[test]
fn a_folder_gets_files_under_host_and_path_and_a_lock_file() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (noise(100_000), noise(2000));
    let (served_a, served_b) = (a.clone(), b.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/x/a" => file(request, &served_a),
        "/b%2Bc.sha512" => reply("200 OK", &[], sha512(&served_b).to_string().as_bytes()),
        _ => file(request, &served_b),
    });
    let artifacts = [pinned(server.url("x/a"), &a), listed(server.url("b%2Bc"), server.url("b%2Bc.sha512"))];
    let to = folder.path().join("not/there");
    let collected = collect(&store(cache.path()), &artifacts, &to, &Silent).unwrap();
    let host = server.address();
    let files = tree(&to);
    let expected = [format!("{host}/b+c"), format!("{host}/x/a"), "imgbake.lock".to_owned()];
    assert_eq!(files.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!((&files[&expected[0]], &files[&expected[1]]), (&b, &a));
    for (entry, path) in collected.iter().zip(&expected) {
        assert_eq!((&entry.path, &entry.sha256), (&to.join(path), &sha256(&files[path])));
        assert_eq!(fs::metadata(&entry.path).unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(collected.len(), 2);

    let other = tempfile::tempdir().unwrap();
    let pins = Pins::read(&to.join("imgbake.lock")).unwrap();
    let files = elsewhere(other.path(), &to, StoreOptions { pins, ..options(other.path()) });
    assert_eq!(files.get_all(&artifacts, &Silent).unwrap().iter().map(|file| bytes(file)).collect::<Vec<_>>(), [a, b]);
}

#[test]
fn what_is_there_already_stays_and_what_is_broken_is_made_good() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = noise(100_000);
    let server = Server::of(data.clone());
    let (a, b) = (pinned(server.url("a"), &data), pinned(server.url("b"), &data));
    collect(&store(cache.path()), slice::from_ref(&a), folder.path(), &Silent).unwrap();
    let path = folder.path().join(server.address()).join("a");
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    collect(&store(cache.path()), &[a.clone(), b], folder.path(), &Silent).unwrap();
    assert_eq!(modified(), before, "it was written again");
    let pins = Pins::read(&folder.path().join("imgbake.lock")).unwrap();
    assert_eq!(
        ["a", "b"].map(|name| pins.digest(&server.url(name)).cloned()),
        [Some(sha256(&data)), Some(sha256(&data))]
    );
    let mut broken = data.clone();
    broken[5000] ^= 1;
    for wrong in [&broken[..], &data[..99_999], b""] {
        fs::write(&path, wrong).unwrap();
        collect(&store(cache.path()), slice::from_ref(&a), folder.path(), &Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), data);
    }
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_interrupted_collection_is_taken_up_where_it_ended() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| match request.before {
        0 => cut(request, &served, 300_000),
        1..3 => Vec::new(),
        _ => file(request, &served),
    });
    let artifacts = [pinned(server.url("a"), &data)];
    collect(&store(cache.path()), &artifacts, folder.path(), &Silent).unwrap_err();
    assert!(tree(folder.path()).is_empty());
    collect(&store(cache.path()), &artifacts, folder.path(), &Silent).unwrap();
    assert_eq!(server.seen().last().unwrap().range, Some(300_000));
    assert_eq!(tree(folder.path()).len(), 2);
}

#[test]
fn a_signed_checksum_file_comes_along_and_needs_no_lock_file() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(100_000);
    scene.serve("/image", image.clone());
    scene.serve("/SHA256SUMS", sums(&image));
    scene.serve("/SHA256SUMS.gpg", armored(&them.sign(sums(&image).as_bytes())));
    let to = scene.path("usb");
    collect(&scene.store(), &[scene.signed_checksums()], &to, &Silent).unwrap();
    let host = scene.server.address().to_owned();
    let names: Vec<_> = tree(&to).into_keys().collect();
    let expected = ["SHA256SUMS", "SHA256SUMS.gpg", "image"].map(|name| format!("{host}/{name}"));
    assert_eq!(names, [&expected[..], &["imgbake.lock".to_owned()]].concat());
    let asked = scene.paths().len();
    let there = elsewhere(&scene.path("other"), &to, scene.options());
    assert_eq!(get(&there, &scene.signed_checksums()), image);

    // The folder has no say in what is right.
    let evil = noise(50_000);
    fs::write(to.join(&expected[0]), sums(&evil)).unwrap();
    fs::write(to.join(&expected[2]), &evil).unwrap();
    let there = elsewhere(&scene.path("third"), &to, scene.options());
    let error = failure(&there, &scene.signed_checksums());
    assert!(matches!(error, StoreError::Signature { .. }), "{error}");
    assert_eq!(scene.paths().len(), asked);
}

#[test]
fn a_clear_signed_checksum_file_comes_along_as_it_is() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(1000);
    scene.serve("/image", image.clone());
    let message = them.clear_sign(&sums(&image));
    scene.serve("/SHA256SUMS", message.clone());
    let to = scene.path("usb");
    let artifact = scene.image(Some(Signed::ClearSignedChecksums));
    collect(&scene.store(), slice::from_ref(&artifact), &to, &Silent).unwrap();
    assert_eq!(tree(&to)[&format!("{}/SHA256SUMS", scene.server.address())], message.into_bytes());
    assert_eq!(get(&elsewhere(&scene.path("other"), &to, scene.options()), &artifact), image);
}

#[test]
fn the_publisher_is_asked_for_signed_checksums_before_a_mirror_that_may_be_old() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let (old, new) = (noise(1000), noise(2000));
    let to = scene.path("usb");
    for image in [&old, &new] {
        scene.serve("/image", image.clone());
        scene.serve("/SHA256SUMS", sums(image));
        scene.serve("/SHA256SUMS.gpg", armored(&them.sign(sums(image).as_bytes())));
        if image == &old {
            collect(&scene.store(), &[scene.signed_checksums()], &to, &Silent).unwrap();
        }
    }
    let mirrors = vec![Mirror::Folder(to)];
    let cache = scene.path("other");
    let store = Store::open(StoreOptions { cache, mirrors, ..scene.options() }).unwrap();
    assert_eq!(get(&store, &scene.signed_checksums()), new);
}

#[test]
fn a_cache_whose_file_was_replaced_upstream_is_collected_with_its_own_digest() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let (old, new) = (noise(1000), noise(2000));
    for image in [&old, &new] {
        scene.serve("/image", image.clone());
        scene.serve("/SHA256SUMS", sums(image));
        scene.serve("/SHA256SUMS.gpg", armored(&them.sign(sums(image).as_bytes())));
        if image == &old {
            get(&scene.store(), &scene.signed_checksums());
        }
    }
    let (to, notes) = (scene.path("usb"), Notes::default());
    collect(&scene.store(), &[scene.signed_checksums()], &to, &notes).unwrap();
    assert_eq!(notes.lines().len(), 1, "{:?}", notes.lines());
    assert_eq!(tree(&to).len(), 2);
    let pins = Pins::read(&to.join("imgbake.lock")).unwrap();
    let there = elsewhere(&scene.path("other"), &to, StoreOptions { pins, ..scene.options() });
    assert_eq!(get(&there, &scene.signed_checksums()), old);
}

#[test]
fn a_password_in_a_url_is_not_written_down() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::of(b"x".to_vec());
    let url = server.url("a").replace("://", "://me:secret@");
    let collected = collect(&store(cache.path()), &[pinned(url, b"x")], folder.path(), &Silent).unwrap();
    assert!(!format!("{collected:?}").contains("secret"));
    assert!(tree(folder.path())["imgbake.lock"].ends_with(b"artifacts: []\n"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::of(b"x".to_vec());
    let to = folder.path().join("file");
    fs::write(&to, b"in the way").unwrap();
    let error = collect(&store(cache.path()), &[pinned(server.url("a"), b"x")], &to, &Silent).unwrap_err();
    assert!(matches!(error, StoreError::Collect { .. }), "{error}");
    assert_eq!(error.hint().as_deref(), Some("use a folder that you may write to, on a disk with room"));
}

#[test]
fn a_signature_over_the_file_itself_is_done_without_by_the_lock_file() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(1000);
    scene.serve("/image", image.clone());
    scene.serve("/SHA256SUMS", sums(&image));
    scene.serve("/image.sig", armored(&them.sign(&image)));
    let signature = Signature { by: "them".to_owned(), over: Signed::File(scene.server.url("image.sig")) };
    let artifact = Artifact { signature: Some(signature), ..scene.image(None) };
    let to = scene.path("usb");
    collect(&scene.store(), slice::from_ref(&artifact), &to, &Silent).unwrap();
    let pins = Pins::read(&to.join("imgbake.lock")).unwrap();
    assert_eq!(get(&elsewhere(&scene.path("other"), &to, StoreOptions { pins, ..scene.options() }), &artifact), image);
}
