//! `sha256sum`, `tar` and `openssl` judge the store: digests, archives as GNU tar writes them, and TLS.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use imgbake::{Artifact, Checksum, MemberKind, Patience, Silent, Store, StoreError, StoreOptions};

/// Runs a tool; `package` is what to install where it is missing.
fn run(package: &str, command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}: install the package `{package}`"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn store(cache: &Path) -> Store {
    let mut options = StoreOptions::new(cache);
    options.patience = Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(5),
        tries: 2,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(10),
    };
    Store::open(options).unwrap()
}

/// `file://` URLs of `name` and of the checksum file that sha256sum makes for it.
fn published(folder: &Path, name: &str) -> Artifact {
    let sums = run("coreutils", Command::new("sha256sum").arg(name).current_dir(folder));
    fs::write(folder.join("SHA256SUMS"), sums).unwrap();
    let url = |name| format!("file://{}/{name}", folder.display());
    Artifact { url: url(name), checksum: Checksum::File { url: url("SHA256SUMS") }, signature: None }
}

#[test]
fn gnu_tars_archives_are_read_as_gnu_tar_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let deep = tree.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::create_dir_all(&deep).unwrap();
    fs::write(tree.join("bin/tool"), vec![7; 70_000]).unwrap();
    fs::write(deep.join("a file with spaces"), b"x").unwrap();
    run("coreutils", Command::new("ln").args(["-s", "../share/x", "bin/soft"]).current_dir(&tree));
    run("coreutils", Command::new("ln").args(["bin/tool", "bin/tool2"]).current_dir(&tree));
    for format in ["gnu", "posix", "ustar"] {
        let archive = folder.path().join(format!("{format}.tar.gz"));
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--format", format, "-czf"]).arg(&archive).arg("-C").arg(&tree);
        if format == "ustar" {
            // Its names are too short for the deep ones.
            command.arg("bin");
        } else {
            command.arg(".");
        }
        run("tar", &mut command);
        let listed = run("tar", Command::new("tar").arg("-tf").arg(&archive));
        let expected: Vec<_> = listed
            .lines()
            .map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        let cache = tempfile::tempdir().unwrap();
        let artifact = published(folder.path(), &format!("{format}.tar.gz"));
        let found = store(cache.path()).archive(&artifact, &Silent).unwrap();
        let paths: Vec<_> = found.members().iter().map(|member| member.path.clone()).collect();
        assert_eq!(paths, expected, "{format}");
        let contents = |path: &str| {
            let range = &found.member(path).unwrap().range;
            let mut bytes = vec![0; usize::try_from(range.len()).unwrap()];
            range.read_at(0, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(contents("bin/tool"), vec![7; 70_000]);
        assert_eq!(found.member("bin/soft").unwrap().kind, MemberKind::Symlink("../share/x".to_owned()));
        assert_eq!(found.member("bin/tool2").unwrap().kind, MemberKind::HardLink("bin/tool".to_owned()));
    }
}

#[test]
fn what_is_in_the_cache_has_the_digest_in_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 3 << 20];
    bytes[1 << 20..][..1000].fill(9);
    fs::write(folder.path().join("disk.raw"), &bytes).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let file = store(cache.path()).get(&published(folder.path(), "disk.raw"), &Silent).unwrap();
    let sum = run("coreutils", Command::new("sha256sum").arg(file.path()));
    let name = file.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("{}-{}", &sum[..64], bytes.len()));
}

/// An HTTPS server that ends with the test.
struct Secure {
    child: Child,
    address: String,
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secure {
    /// Serves the files of `folder` with the certificate `cert.pem`, made here, which nobody signed; `mode` is `-WWW` for
    /// plain files, `-HTTP` for whole answers, headers included.
    fn start(folder: &Path, mode: &str) -> Self {
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        make.args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=test"]);
        make.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
        make.args(["-addext", "extendedKeyUsage=serverAuth"]);
        run("openssl", make.current_dir(folder));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", mode, "-key", "key.pem", "-cert", "cert.pem", "-accept", &address])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        for _ in 0..200 {
            if TcpStream::connect(&server.address).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("openssl s_server does not listen at {}", server.address);
    }
}

#[test]
fn a_certificate_that_nobody_signed_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tool"), b"bytes").unwrap();
    let checksum = published(folder.path(), "tool").checksum;
    let server = Secure::start(folder.path(), "-WWW");
    let cache = tempfile::tempdir().unwrap();
    let artifact = Artifact { url: format!("https://{}/tool", server.address), checksum, signature: None };
    let error = store(cache.path()).get(&artifact, &Silent).unwrap_err();
    assert!(matches!(error, StoreError::Insecure { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("no secure connection to `{}`", artifact.url));
    assert!(error.hint().unwrap().contains("package `ca-certificates`"));
}

/// Where the certificates of this system would be, the next test puts its own.
const TASK: &str = "IMGBAKE_TEST_HTTPS_URL";

#[test]
fn a_certificate_that_the_system_knows_is_accepted() {
    if let Ok(url) = env::var(TASK) {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(store(cache.path()).unverified_text(&url, &Silent).unwrap(), "bytes");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tool"), b"bytes").unwrap();
    let server = Secure::start(folder.path(), "-WWW");
    again(folder.path(), "a_certificate_that_the_system_knows_is_accepted", &server);
}

/// Runs one test in a process of its own, where the system knows the server's certificate: the variable is read once for
/// each process.
fn again(folder: &Path, test: &str, server: &Secure) {
    let status = Command::new(env::current_exe().unwrap())
        .args([test, "--nocapture"])
        .env("SSL_CERT_FILE", folder.join("cert.pem"))
        .env(TASK, format!("https://{}/tool", server.address))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_redirect_from_https_to_plain_http_is_refused() {
    if let Ok(url) = env::var(TASK) {
        let cache = tempfile::tempdir().unwrap();
        let error = store(cache.path()).unverified_text(&url, &Silent).unwrap_err();
        assert!(matches!(error, StoreError::Insecure { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "it redirects from https to plain http");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there, and nobody is to find out.
    let answer = "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/tool\r\nContent-Length: 0\r\n\r\n";
    fs::write(folder.path().join("tool"), answer).unwrap();
    let server = Secure::start(folder.path(), "-HTTP");
    again(folder.path(), "a_redirect_from_https_to_plain_http_is_refused", &server);
}
