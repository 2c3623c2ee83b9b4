//! What a publisher signs, and what nobody does, on the way into the cache.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use imgbake::{Keys, Mirror, Pins, Signature, Signed, Silent, Store};

use super::server::{Server, file, reply};
use super::signer::{Signer, armored, binary, now};
use super::*;

/// A publisher's site, whose files can be changed, and a machine that knows the publisher's keys.
pub struct Scene {
    folder: tempfile::TempDir,
    site: Site,
    pub server: Server,
}

type Site = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Scene {
    pub fn new(them: &Signer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/them.gpg"), them.ring()).unwrap();
        let site: Site = Arc::default();
        let served = Arc::clone(&site);
        let server = Server::start(move |request| {
            let site = served.lock().unwrap();
            match site.iter().rev().find(|(path, _)| *path == request.path) {
                Some((_, bytes)) => file(request, bytes),
                None => reply("404 Not Found", &[], b""),
            }
        });
        Self { folder, site, server }
    }

    pub fn serve(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.site.lock().unwrap().push((path.to_owned(), bytes.into()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn options(&self) -> StoreOptions {
        let mut options = options(&self.path("cache"));
        options.keys = Keys::new(Some(self.path("keys")));
        options.now = now();
        options.first_use = self.path("first-use.yaml");
        options
    }

    pub fn store(&self) -> Store {
        Store::open(self.options()).unwrap()
    }

    pub fn offline(&self) -> Store {
        Store::open(StoreOptions { offline: true, ..self.options() }).unwrap()
    }

    /// `image`, whose digest is in `SHA256SUMS`.
    pub fn image(&self, over: Option<Signed>) -> Artifact {
        let signature = over.map(|over| Signature { by: "them".to_owned(), over });
        Artifact { signature, ..listed(self.server.url("image"), self.server.url("SHA256SUMS")) }
    }

    pub fn signed_checksums(&self) -> Artifact {
        self.image(Some(Signed::Checksums(self.server.url("SHA256SUMS.gpg"))))
    }

    fn signed_image(&self) -> Artifact {
        self.image(Some(Signed::File(self.server.url("image.sig"))))
    }

    fn held(&self) -> (usize, usize) {
        held(&self.path("cache"))
    }

    pub fn paths(&self) -> Vec<String> {
        self.server.seen().into_iter().map(|request| request.path).collect()
    }

    fn report(&self, artifact: &Artifact) -> String {
        let report = report(&failure(&self.store(), artifact));
        let report = report.replace(&format!("http://{}", self.server.address()), "SITE");
        report.replace(&self.folder.path().display().to_string(), "FOLDER")
    }
}

pub fn sums(image: &[u8]) -> String {
    format!("{}  image\n", sha256(image))
}

#[test]
fn a_signed_checksum_file_is_checked_before_its_digests_count() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(100_000);
    scene.serve("/image", image.clone());
    scene.serve("/SHA256SUMS", sums(&image));
    scene.serve("/SHA256SUMS.gpg", armored(&them.sign(sums(&image).as_bytes())));
    let notes = Notes::default();
    scene.store().get(&scene.signed_checksums(), &notes).unwrap();
    assert_eq!(notes.lines(), [""; 0]);
    assert_eq!(scene.paths(), ["/SHA256SUMS", "/SHA256SUMS.gpg", "/image"]);
    assert!(!scene.path("first-use.yaml").exists());
    // With everything here nobody is asked, with or without the network.
    get(&scene.store(), &scene.signed_checksums());
    get(&scene.offline(), &scene.signed_checksums());
    assert_eq!(scene.paths().len(), 3);
}

#[test]
fn a_changed_checksum_file_is_refused_and_the_file_not_even_asked_for() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    scene.serve("/image", b"evil".to_vec());
    scene.serve("/SHA256SUMS", sums(b"evil"));
    scene.serve("/SHA256SUMS.gpg", binary(&them.sign(sums(b"good").as_bytes())));
    assert_eq!(
        scene.report(&scene.signed_checksums()),
        format!(
            "error: `SITE/SHA256SUMS` is not signed as it should be: the signature `SITE/SHA256SUMS.gpg` is refused\n\
             cause: it is wrong: the key `{}` did not sign these bytes\n\
             hint: nothing of it was kept; try again, and if it stays like this do not use the file: \
             it is not the one that was signed",
            them.fingerprint()
        )
    );
    assert_eq!(scene.paths(), ["/SHA256SUMS", "/SHA256SUMS.gpg"]);
    assert_eq!(scene.held(), (0, 0));
}

#[test]
fn a_signature_that_is_missing_is_no_reason_to_do_without() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"good".to_vec());
    scene.serve("/SHA256SUMS", sums(b"good"));
    assert_eq!(
        scene.report(&scene.signed_checksums()),
        "error: cannot get the signature of `SITE/SHA256SUMS`\n\
         cause: there is no file at `SITE/SHA256SUMS.gpg` (HTTP status 404)\n\
         hint: the publisher is known to sign it, so nothing unsigned is taken: try again, use `--mirror DIR_OR_URL` \
         that serves the signature too, or pin the file's digest in `imgbake.lock`"
    );
    assert_eq!(scene.held(), (0, 0));
}

#[test]
fn a_signature_by_somebody_else_is_refused_and_the_keys_place_named() {
    let mut stranger = Signer::new(2);
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/SHA256SUMS", sums(b"good"));
    scene.serve("/SHA256SUMS.gpg", binary(&stranger.sign(sums(b"good").as_bytes())));
    assert_eq!(
        scene.report(&scene.signed_checksums()),
        format!(
            "error: `SITE/SHA256SUMS` is not signed as it should be: the signature `SITE/SHA256SUMS.gpg` is refused\n\
             cause: it was made by the key `{}`, which is none of `them`'s\n\
             hint: if the publisher has new keys, get them from where you trust them to be the publisher's and put them \
             into `keys/them.asc` in the configuration folder; `imgbake keys` shows those in use",
            stranger.fingerprint()
        )
    );
}

#[test]
fn a_publisher_without_keys_is_named() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/SHA256SUMS", sums(b"good"));
    scene.serve("/SHA256SUMS.gpg", b"x".to_vec());
    fs::remove_file(scene.path("keys/them.gpg")).unwrap();
    let report = scene.report(&scene.signed_checksums());
    assert!(report.contains("cause: there are no keys of `them`\nhint: put them into `keys/them.asc` in"), "{report}");
}

#[test]
fn a_checksum_file_may_be_a_clear_signed_message_and_only_the_message_counts() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    scene.serve("/image", b"good".to_vec());
    let message = them.clear_sign(&sums(b"good"));
    scene.serve("/SHA256SUMS", message.clone());
    let artifact = scene.image(Some(Signed::ClearSignedChecksums));
    assert_eq!(get(&scene.store(), &artifact), b"good");
    let scene = Scene::new(&them);
    scene.serve("/image", b"evil".to_vec());
    let artifact = scene.image(Some(Signed::ClearSignedChecksums));
    for message in [
        format!("{}\n{message}", sums(b"evil")),
        format!("{message}{}", sums(b"evil")),
        message.replace(&sha256(b"good").to_string(), &sha256(b"evil").to_string()),
        sums(b"evil"),
    ] {
        scene.serve("/SHA256SUMS", message);
        let report = scene.report(&artifact);
        let start =
            "error: `SITE/SHA256SUMS` is not signed as it should be: the signature `SITE/SHA256SUMS` is refused";
        assert!(report.starts_with(start), "{report}");
        assert_eq!(scene.held(), (0, 0));
    }
}

#[test]
fn a_signed_file_is_checked_before_it_enters_the_cache() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(3_000_000);
    scene.serve("/image", image.clone());
    scene.serve("/SHA256SUMS", sums(&image));
    scene.serve("/image.sig", binary(&them.sign(b"another image")));
    let report = scene.report(&scene.signed_image());
    let start = "error: `SITE/image` is not signed as it should be: the signature `SITE/image.sig` is refused\n\
                 cause: it is wrong: the key `";
    assert!(report.starts_with(start), "{report}");
    assert_eq!(scene.held(), (0, 0));
    scene.serve("/image.sig", binary(&them.sign(&image)));
    assert_eq!(get(&scene.store(), &scene.signed_image()), image);
    let asked = scene.paths().len();
    get(&scene.store(), &scene.signed_image());
    get(&scene.offline(), &scene.signed_image());
    assert_eq!(scene.paths().len(), asked);
}

#[test]
fn a_signed_checksum_that_has_changed_upstream_is_learnt_anew_when_the_file_is_gone() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let mut publish = |image: &[u8]| {
        scene.serve("/image", image);
        scene.serve("/SHA256SUMS", sums(image));
        scene.serve("/SHA256SUMS.gpg", binary(&them.sign(sums(image).as_bytes())));
    };
    publish(b"old");
    let first = scene.store().get(&scene.signed_checksums(), &Silent).unwrap();
    publish(b"new");
    assert_eq!(get(&scene.store(), &scene.signed_checksums()), b"old");
    fs::remove_file(first.path()).unwrap();
    assert_eq!(get(&scene.store(), &scene.signed_checksums()), b"new");
}

#[test]
fn a_download_whose_signature_cannot_be_had_now_is_resumed_later() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    let image = noise(100_000);
    scene.serve("/image", image.clone());
    scene.serve("/SHA256SUMS", sums(&image));
    assert!(scene.report(&scene.signed_image()).starts_with("error: cannot get the signature of `SITE/image`"));
    assert_eq!(scene.held(), (0, 1));
    scene.serve("/image.sig", binary(&them.sign(&image)));
    assert_eq!(get(&scene.store(), &scene.signed_image()), image);
    assert_eq!(scene.paths().iter().filter(|path| *path == "/image").count(), 1);
    assert_eq!(scene.held(), (1, 0));
}

#[test]
fn what_came_into_the_cache_by_its_digest_only_is_checked_when_it_is_wanted_signed() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"evil".to_vec());
    scene.serve("/SHA256SUMS", sums(b"evil"));
    get(&scene.store(), &pinned(scene.server.url("image"), b"evil"));
    let report = scene.report(&scene.signed_image());
    assert!(report.starts_with("error: cannot get the signature of `SITE/image`"), "{report}");
    let report = scene.report(&scene.signed_checksums());
    assert!(report.starts_with("error: cannot get the signature of `SITE/SHA256SUMS`"), "{report}");
}

#[test]
fn a_pin_or_a_lock_counts_without_any_signature() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"good".to_vec());
    let mut artifact = scene.signed_image();
    let text = format!("artifacts:\n  - url: {}\n    sha256: {}\n", artifact.url, sha256(b"good"));
    let pins = Pins::parse(&text, Path::new("imgbake.lock")).unwrap();
    let store = Store::open(StoreOptions { pins, ..scene.options() }).unwrap();
    assert_eq!(get(&store, &artifact), b"good");
    artifact.checksum = Checksum::Pinned(sha256(b"good"));
    assert_eq!(get(&scene.store(), &artifact), b"good");
    assert_eq!(scene.paths(), ["/image"]);
}

#[test]
fn a_mirror_may_serve_the_signature_and_a_wrong_one_there_does_no_harm() {
    let mut them = Signer::new(1);
    let scene = Scene::new(&them);
    scene.serve("/image", b"good".to_vec());
    scene.serve("/SHA256SUMS", sums(b"good"));
    let folder = scene.path("mirror").join(scene.server.address());
    fs::create_dir_all(&folder).unwrap();
    let mirrored = || StoreOptions { mirrors: vec![Mirror::Folder(scene.path("mirror"))], ..scene.options() };
    fs::write(folder.join("SHA256SUMS.gpg"), binary(&them.sign(sums(b"good").as_bytes()))).unwrap();
    assert_eq!(get(&Store::open(mirrored()).unwrap(), &scene.signed_checksums()), b"good");
    assert_eq!(scene.paths(), ["/SHA256SUMS", "/image"]);

    fs::remove_dir_all(scene.path("cache")).unwrap();
    fs::write(folder.join("SHA256SUMS.gpg"), binary(&them.sign(b"old"))).unwrap();
    scene.serve("/SHA256SUMS.gpg", binary(&them.sign(sums(b"good").as_bytes())));
    let notes = Notes::default();
    Store::open(mirrored()).unwrap().get(&scene.signed_checksums(), &notes).unwrap();
    assert!(matches!(&notes.lines()[..], [one] if one.starts_with("mirror: ")), "{:?}", notes.lines());
}

#[test]
fn what_nobody_signs_is_said_once_and_noted() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"one".to_vec());
    scene.serve("/other", b"two".to_vec());
    scene.serve("/SHA256SUMS", format!("{}{}  other\n", sums(b"one"), sha256(b"two")));
    let (notes, store) = (Notes::default(), scene.store());
    let (image, other) = (scene.image(None), listed(scene.server.url("other"), scene.server.url("SHA256SUMS")));
    for artifact in [&image, &other, &image] {
        store.get(artifact, &notes).unwrap();
    }
    scene.store().get(&image, &notes).unwrap();
    let place = scene.path("first-use.yaml");
    let said = format!(
        "no signature is known for what `{}` serves: its checksums are taken on trust this first time and noted in `{}`, \
         and from now on a change is refused",
        scene.server.address(),
        place.display()
    );
    assert_eq!(notes.lines(), [said]);
    let pins = Pins::read(&place).unwrap();
    assert_eq!(pins.digest(&image.url), Some(&sha256(b"one")));
    assert_eq!(pins.digest(&other.url), Some(&sha256(b"two")));
}

#[test]
fn what_nobody_signed_may_not_change() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"first".to_vec());
    scene.serve("/SHA256SUMS", sums(b"first"));
    let image = scene.image(None);
    get(&scene.store(), &image);
    scene.serve("/image", b"second".to_vec());
    scene.serve("/SHA256SUMS", sums(b"second"));
    // The cache may go; what was noted stays.
    assert_eq!(get(&scene.store(), &image), b"first");
    fs::remove_dir_all(scene.path("cache")).unwrap();
    assert_eq!(
        scene.report(&image),
        format!(
            "error: `SITE/image` was replaced since its first use: `SITE/SHA256SUMS` says sha256 `{}`, \
             `FOLDER/first-use.yaml` says `{}`\n\
             hint: find out from its publisher whether that is right; then remove its entry from \
             `FOLDER/first-use.yaml`, or pin the digest that you trust in `imgbake.lock`",
            sha256(b"second"),
            sha256(b"first")
        )
    );
    assert_eq!(scene.held(), (0, 0));
    // Another algorithm says nothing of the old digest, so the bytes are asked.
    scene.serve("/SHA256SUMS", format!("{}  image\n", sha512(b"second")));
    let report = scene.report(&image);
    let words = format!("but `FOLDER/first-use.yaml` says `{}`", sha256(b"first"));
    assert!(report.contains(&words), "{report}");
    // Who knows better removes the entry.
    let text = fs::read_to_string(scene.path("first-use.yaml")).unwrap();
    let head: String = text.lines().take_while(|line| !line.contains("url")).map(|line| format!("{line}\n")).collect();
    fs::write(scene.path("first-use.yaml"), head).unwrap();
    assert_eq!(get(&scene.store(), &image), b"second");
    assert_eq!(Pins::read(&scene.path("first-use.yaml")).unwrap().digest(&image.url), Some(&sha512(b"second")));
}

#[test]
fn a_failed_first_use_is_none() {
    let scene = Scene::new(&Signer::new(1));
    scene.serve("/image", b"damaged".to_vec());
    scene.serve("/SHA256SUMS", sums(b"whole"));
    scene.store().get(&scene.image(None), &Silent).unwrap_err();
    assert!(!scene.path("first-use.yaml").exists());
}
