//! What `imgbake lock` writes, and that nothing is resolved anew by who has it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use imgbake::{
    BakeRequest, BuildOptions, Keys, LockRequest, LockSummary, Locked, Mirror, NodeRequest, Pin, Pins, Runtime,
    Signature, Signed, Silent, Sink, Store, Update,
};

use super::server::{Server, file, reply};
use super::signer::{Signer, armored, now};
use super::*;

/// Paths and what is served there; the last one of a path counts.
type Site = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A vendor of a base image and a mirror of the programs, on one server; and a machine that locks.
struct Scene {
    folder: tempfile::TempDir,
    site: Site,
    server: Server,
    them: Signer,
}

impl Scene {
    fn new() -> Self {
        let (folder, them) = (tempfile::tempdir().unwrap(), Signer::new(1));
        let site: Site = Arc::default();
        let served = Arc::clone(&site);
        let server = Server::start(move |request| {
            let site = served.lock().unwrap();
            match site.iter().rev().find(|(path, _)| *path == request.path) {
                Some((_, bytes)) => file(request, bytes),
                None if is_program(&request.path) => file(request, b"program"),
                None => reply("404 Not Found", &[], b""),
            }
        });
        let scene = Self { folder, site, server, them };
        fs::create_dir_all(scene.path("profiles/bases")).unwrap();
        fs::create_dir(scene.path("keys")).unwrap();
        fs::write(scene.path("keys/them.gpg"), scene.them.ring()).unwrap();
        let base = format!(
            "description: x\narchitecture: arm64\nfirmware: raspberry-pi\ndistribution: debian\nrelease: '13'\n\
             seed: boot-partition\nvendor:\n  url: {}\n  checksums: {}\n  format: raw\n",
            scene.server.url("image"),
            scene.server.url("SHA256SUMS")
        );
        let signature = format!("  signature: {{by: them, checksums: '{}'}}\n", scene.server.url("SHA256SUMS.gpg"));
        fs::write(scene.path("profiles/bases/own.yaml"), format!("{base}{signature}")).unwrap();
        fs::write(scene.path("profiles/bases/unsigned.yaml"), base).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.site.lock().unwrap().push((path.to_owned(), bytes.into()));
    }

    /// Publishes an image, its checksum file and the signature over that.
    fn publish(&mut self, image: &[u8]) {
        let sums = format!("{}  image\n", sha256(image));
        self.serve("/image", image);
        let signature = armored(&self.them.sign(sums.as_bytes()));
        self.serve("/SHA256SUMS.gpg", signature);
        self.serve("/SHA256SUMS", sums);
    }

    fn marker(&self, text: &str) {
        self.serve("/dl.k8s.io/release/stable-1.36.txt", text);
    }

    /// The paths that upstream was asked for after the first `since` requests, and the mirror for markers.
    fn asked(&self, since: usize) -> Vec<String> {
        let paths = self.server.seen().into_iter().skip(since).map(|request| request.path);
        let is_upstreams = |path: &String| !is_program(path) && !path.starts_with("/127.0.0.1");
        paths.filter(is_upstreams).collect()
    }

    fn node(&self, profile: &str, node: &str, base: Option<&str>) -> NodeRequest {
        NodeRequest {
            profile: profile.to_owned(),
            node: node.to_owned(),
            profiles_dir: Some(self.path("profiles")),
            clusters_dir: self.path("clusters"),
            base: base.map(str::to_owned),
            size: None,
            ssh_keys: Vec::new(),
            user: None,
            join: None,
            endpoint: None,
            kubernetes: None,
            containerd: None,
            runc: None,
            cni_plugins: None,
            crictl: None,
            locked: Locked::default(),
            runtime: Runtime::Upstream,
            defer: Vec::new(),
            now: 0,
            source_date_epoch: None,
        }
    }

    fn worker(&self, kubernetes: Option<&str>) -> NodeRequest {
        NodeRequest { kubernetes: kubernetes.map(str::to_owned), ..self.node("pi4", "node-2", Some("own")) }
    }

    fn pins(&self) -> Pins {
        let path = self.path("imgbake.lock");
        if path.exists() { Pins::read(&path).unwrap() } else { Pins::empty(&path) }
    }

    fn options(&self, pins: Pins) -> StoreOptions {
        StoreOptions {
            keys: Keys::new(Some(self.path("keys"))),
            now: now(),
            first_use: self.path("first-use.yaml"),
            mirrors: vec![Mirror::Http(format!("http://{}", self.server.address()))],
            pins,
            ..options(&self.path("cache"))
        }
    }

    fn request(&self, node: NodeRequest, update: Update) -> LockRequest {
        LockRequest { node, store: self.options(self.pins()), file: self.path("imgbake.lock"), update }
    }

    fn lock(&self, node: NodeRequest, update: Update) -> LockSummary {
        imgbake::lock(&self.request(node, update), &Silent).unwrap()
    }

    fn text(&self) -> String {
        let text = fs::read_to_string(self.path("imgbake.lock")).unwrap();
        text.replace(&format!("http://{}", self.server.address()), "SITE")
    }

    /// Locks the programs of a release of which this machine knows no digest.
    fn know_programs(&self, release: &str) {
        let mut pins = self.pins();
        for program in ["kubeadm", "kubelet", "kubectl"] {
            let url = format!("https://dl.k8s.io/release/v{release}/bin/linux/arm64/{program}");
            let (name, release) = (Some("kubernetes".to_owned()), Some(release.to_owned()));
            pins.insert(&url, Pin { name, release, digest: sha256(b"program"), size: None, key: None });
        }
        pins.save(&self.path("imgbake.lock")).unwrap();
    }
}

/// Upstream's files below the mirror's prefix; markers are not among them.
fn is_program(path: &str) -> bool {
    (path.starts_with("/dl.k8s.io/") || path.starts_with("/github.com/")) && !path.ends_with(".txt")
}

const PROGRAMS: &str = r#"  - url: "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm"
    name: "kubernetes"
    release: "1.36.4"
    sha256: "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad"
    size: 7
  - url: "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubectl"
    name: "kubernetes"
    release: "1.36.4"
    sha256: "0ecf44450ee6063bf19dd166a103ee6df4a9034455c2abce626e6eea657d73fb"
    size: 7
  - url: "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubelet"
    name: "kubernetes"
    release: "1.36.4"
    sha256: "fd53ea3fcbd077844f50a3c67e9b52f62972a563674956bab0c0f4fb7ea37d50"
    size: 7
  - url: "https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-static-2.3.4-linux-arm64.tar.gz"
    name: "containerd"
    release: "2.3.4"
    sha256: "ad21f456a69bca9c183a8bde892a7576d5d09ae88b3e376a47bde4a886037ab3"
    size: 7
  - url: "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz"
    name: "cni-plugins"
    release: "1.9.1"
    sha256: "56171987d3947707c3563db2f4001bccaf50fd63468611b9f3cbecb1375ee7ec"
    size: 7
  - url: "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-arm64.tar.gz"
    name: "crictl"
    release: "1.36.0"
    sha256: "68328594ccf780a80ae2b092d9f6ce484eec7cf540c275242e8fd954bfd95332"
    size: 7
  - url: "https://github.com/opencontainers/runc/releases/download/v1.4.3/runc.arm64"
    name: "runc"
    release: "1.4.3"
    sha256: "633301e2e32f8a5ad54031aab4901eb00308bec677dd15faa2751e8f9dab5ca4"
    size: 7
"#;

#[test]
fn a_lock_file_says_where_from_what_how_long_and_who_vouched() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.marker("v1.36.4\n");
    let summary = scene.lock(scene.worker(Some("1.36")), Update::Missing);
    assert_eq!(summary, LockSummary { resolved: 8, kept: 0, warnings: Vec::new() });
    let expected = format!(
        r#"# Made by imgbake: `imgbake lock` adds to it, and with `--update` renews it. Nothing that is here is resolved anew.
version: 1
releases:
  - name: "cni-plugins"
    asked: "default"
    release: "1.9.1"
  - name: "containerd"
    asked: "default"
    release: "2.3.4"
  - name: "crictl"
    asked: "default"
    release: "1.36.0"
  - name: "kubernetes"
    asked: "1.36"
    release: "1.36.4"
  - name: "runc"
    asked: "default"
    release: "1.4.3"
artifacts:
  - url: "SITE/image"
    name: "own"
    sha256: "{}"
    size: 8
    key: "{}"
{PROGRAMS}"#,
        sha256(b"an image"),
        scene.them.fingerprint()
    );
    assert_eq!(scene.text(), expected);
    assert_eq!(scene.asked(0), ["/dl.k8s.io/release/stable-1.36.txt", "/SHA256SUMS", "/SHA256SUMS.gpg", "/image"]);
    assert!(!scene.path("clusters").exists(), "locking makes no secrets");
}

#[test]
fn with_a_lock_neither_markers_nor_checksum_files_are_asked_for() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.marker("v1.36.4\n");
    scene.lock(scene.worker(Some("1.36")), Update::Missing);
    let (before, text) = (scene.server.seen().len(), scene.text());
    // Upstream moves on.
    scene.marker("v1.36.9\n");
    scene.serve("/SHA256SUMS", "");
    // Locking again changes nothing and asks nobody.
    let summary = scene.lock(scene.worker(Some("1.36")), Update::Missing);
    assert_eq!((summary.resolved, summary.kept), (0, 8));
    assert_eq!((scene.server.seen().len(), scene.text()), (before, text));
    // A bake asks for the image alone, which is no disk.
    let pins = scene.pins();
    let request = BakeRequest {
        node: NodeRequest { locked: pins.locked(), ..scene.worker(Some("1.36")) },
        store: scene.options(pins),
        archive: BuildOptions::new(scene.path("work")),
    };
    let sink = Sink::file(&scene.path("node.img")).unwrap();
    let error = imgbake::bake(&request, &mut |bytes| bytes.fill(7), sink, &Silent);
    assert_eq!(error.unwrap_err().to_string(), "cannot use `own` as a base image");
    assert_eq!(scene.asked(before), ["/image"]);
    assert_eq!(scene.server.seen().len(), before + 2, "the mirror and its vendor are asked for the image, once each");
}

#[test]
fn update_renews_all_or_only_what_is_named() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.marker("v1.36.4\n");
    scene.lock(scene.worker(Some("1.36")), Update::Missing);
    scene.publish(b"another image");
    scene.marker("v1.36.9\n");
    scene.know_programs("1.36.9");
    let before = scene.server.seen().len();

    let summary = scene.lock(scene.worker(Some("1.36")), Update::Only("own".to_owned()));
    assert_eq!((summary.resolved, summary.kept), (1, 7));
    assert_eq!(scene.asked(before), ["/SHA256SUMS", "/SHA256SUMS.gpg", "/image"]);
    let image = |scene: &Scene| scene.pins().digest(&scene.server.url("image")).cloned();
    assert_eq!(image(&scene), Some(sha256(b"another image")));
    let kubelet = |release| format!("https://dl.k8s.io/release/v{release}/bin/linux/arm64/kubelet");
    assert_eq!(scene.pins().locked().release("kubernetes", "1.36"), Some("1.36.4"));

    // The newer release's digests are upstream's alone, which a test does not ask: the refusal shows that they were to be had.
    let mut request = scene.request(scene.worker(Some("1.36")), Update::Only("kubernetes".to_owned()));
    request.store.mirrors = vec![Mirror::Folder(scene.path("mirror"))];
    request.store.offline = true;
    fs::create_dir_all(scene.path("mirror/dl.k8s.io/release")).unwrap();
    fs::write(scene.path("mirror/dl.k8s.io/release/stable-1.36.txt"), "v1.36.9\n").unwrap();
    let text = scene.text();
    let error = imgbake::lock(&request, &Silent).unwrap_err();
    let line = |program: &str| {
        let url = format!("https://dl.k8s.io/release/v1.36.9/bin/linux/arm64/{program}");
        format!("\n  `{url}` (checksum unknown: only `{url}.sha256` has it)")
    };
    let lines: String = ["kubeadm", "kubelet", "kubectl"].map(line).concat();
    assert_eq!(
        error.to_string(),
        format!("offline, and 3 files are neither in the cache nor in a mirror folder:{lines}")
    );
    assert_eq!(scene.text(), text, "a failed update leaves the lock file alone");

    // Where they are locked already, choosing the release again drops those of the old one.
    let mut pins = scene.pins();
    pins.choose("kubernetes", "1.36", "1.36.9");
    assert!(pins.pin(&kubelet("1.36.4")).is_none() && pins.pin(&kubelet("1.36.9")).is_some());

    let error =
        imgbake::lock(&scene.request(scene.worker(None), Update::Only("kubelet".to_owned())), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "nothing that comes from upstream for this node is called `kubelet`");
    assert_eq!(
        error.hint().unwrap(),
        "`--update` takes one of these: own, kubernetes, containerd, runc, cni-plugins, crictl"
    );
}

#[test]
fn a_newer_patch_is_found_by_upstreams_marker() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.marker("v1.36.9\n");
    scene.know_programs("1.36.9");
    scene.lock(scene.worker(Some("1.36")), Update::Missing);
    assert_eq!(scene.pins().locked().release("kubernetes", "1.36"), Some("1.36.9"));
    // One that leads back, or elsewhere, does not.
    for marker in ["v1.36.1\n", "v1.37.1\n", "<html>\n"] {
        fs::remove_file(scene.path("imgbake.lock")).unwrap();
        scene.marker(marker);
        scene.lock(scene.worker(Some("1.36")), Update::Missing);
        assert_eq!(scene.pins().locked().release("kubernetes", "1.36"), Some("1.36.4"), "{marker}");
    }
}

#[test]
fn several_nodes_add_to_one_lock_file() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.lock(scene.worker(None), Update::Missing);
    let first = scene.text();
    let file = NodeRequest {
        endpoint: Some("k8s.example.org".to_owned()),
        ..scene.node("vps-amd64", "node-3", Some("disk.img"))
    };
    let summary = scene.lock(file.clone(), Update::Missing);
    assert_eq!((summary.resolved, summary.kept), (7, 0));
    let both = scene.text();
    for line in first.lines().filter(|line| line.contains("url:")) {
        assert!(both.contains(line), "{line}");
    }
    assert_eq!(both.matches("url:").count(), 15);
    // The order of nodes does not show.
    fs::remove_file(scene.path("imgbake.lock")).unwrap();
    scene.lock(file, Update::Missing);
    scene.lock(scene.worker(None), Update::Missing);
    assert_eq!(scene.text(), both);
}

#[test]
fn what_is_not_in_the_lock_file_is_refused() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    scene.lock(scene.worker(None), Update::Missing);
    let before = scene.server.seen().len();
    let store = Store::open(scene.options(scene.pins())).unwrap();
    let error = failure(&store, &pinned("https://dl.k8s.io/release/v1.35.0/bin/linux/arm64/kubelet", b"x"));
    assert_eq!(
        report(&error).replace(&scene.folder.path().display().to_string(), "FOLDER"),
        "error: `FOLDER/imgbake.lock` does not hold `https://dl.k8s.io/release/v1.35.0/bin/linux/arm64/kubelet`\n\
         hint: `imgbake lock PROFILE NODE` with this node's options adds what is missing"
    );
    assert_eq!(scene.server.seen().len(), before);
    // A file of digests by hand pins those, and nothing else.
    fs::write(scene.path("imgbake.lock"), "artifacts: []\n").unwrap();
    let store = Store::open(scene.options(scene.pins())).unwrap();
    assert_eq!(get(&store, &pinned(scene.server.url("image"), b"an image")), b"an image");
}

#[test]
fn what_nobody_signed_is_noted_when_it_is_locked() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    let unsigned = || scene.node("pi4", "node-2", Some("unsigned"));
    scene.lock(unsigned(), Update::Missing);
    assert_eq!(scene.pins().pin(&scene.server.url("image")).unwrap().key, None);
    assert!(fs::read_to_string(scene.path("first-use.yaml")).unwrap().contains(&sha256(b"an image").to_string()));
    scene.serve("/SHA256SUMS", format!("{}  image\n", sha256(b"evil")));
    let error = imgbake::lock(&scene.request(unsigned(), Update::All), &Silent).unwrap_err();
    assert!(error.to_string().contains("was replaced since its first use"), "{error}");
}

#[test]
fn a_file_whose_size_nobody_tells_is_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| reply("200 OK", &[], b"bytes"));
    let pins = store(cache.path()).learn_all(&[pinned(server.url("a"), b"bytes")], &Silent).unwrap();
    let expected = Pin { name: None, release: None, digest: sha256(b"bytes"), size: Some(5), key: None };
    assert_eq!(pins, [expected]);
    assert_eq!(held(cache.path()), (1, 0));
}

#[test]
fn a_file_that_is_signed_itself_is_fetched_for_its_signature() {
    let mut scene = Scene::new();
    scene.publish(b"an image");
    let signature = armored(&scene.them.sign(b"an image"));
    scene.serve("/image.sig", signature);
    let store = store_anew(&scene);
    let over = Signed::File(scene.server.url("image.sig"));
    let signature = Some(Signature { by: "them".to_owned(), over });
    let image = Artifact { signature, ..listed(scene.server.url("image"), scene.server.url("SHA256SUMS")) };
    let pins = store.learn_all(std::slice::from_ref(&image), &Silent).unwrap();
    assert_eq!(pins[0].key, Some(scene.them.fingerprint()));
    assert_eq!(scene.asked(0), ["/SHA256SUMS", "/image", "/image.sig"]);
    // What is locked now is refused if it is signed by nobody known.
    scene.publish(b"evil");
    let error = store_anew(&scene).learn_all(&[image], &Silent).unwrap_err();
    assert!(matches!(error, StoreError::Signature { .. }), "{error}");
    assert_eq!(held(&scene.path("cache")), (1, 0));
}

/// A store that has asked for no checksum file yet.
fn store_anew(scene: &Scene) -> Store {
    Store::open(scene.options(Pins::default())).unwrap()
}
