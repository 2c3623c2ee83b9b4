//! What the user reads when it does not work: the whole of it.

use std::net::TcpListener;

use imgbake::{Pins, Silent, Store};

use super::server::{Server, reply};
use super::*;

const NETWORK: &str = "hint: check the network and the proxy (`https_proxy`), or use `--mirror DIR_OR_URL`; \
                       `--defer kubernetes` and `--runtime distro` need fewer downloads";

const BROKEN: &str = "hint: the server does not work as it should: look for a filter on this network, or use \
                      `--mirror DIR_OR_URL`";

fn error_of(artifact: &Artifact) -> String {
    let cache = tempfile::tempdir().unwrap();
    let report = report(&failure(&store(cache.path()), artifact));
    assert_eq!(held(cache.path()), (0, 0), "the cache holds something after: {report}");
    report
}

/// A URL that nobody listens at.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/tool", listener.local_addr().unwrap())
}

#[test]
fn wrong_checksum() {
    let server = Server::of(b"other bytes".to_vec());
    let url = server.url("kubeadm");
    let (wanted, came) = (sha256(b"the right bytes"), sha256(b"other bytes"));
    assert_eq!(
        error_of(&pinned(&url, b"the right bytes")),
        format!(
            "error: `{url}` has the wrong checksum: sha256 `{came}`, but its pin says `{wanted}`\n\
             hint: nothing of it was kept; try again, and if it stays like this do not use the file: \
             it is not the one that was published or pinned"
        )
    );
}

#[test]
fn wrong_checksum_by_the_publishers_own_file() {
    let wanted = sha512(b"the right bytes");
    let sums = format!("{wanted}  image\n");
    let server = Server::start(move |request| match request.path.as_str() {
        "/SHA512SUMS" => reply("200 OK", &[], sums.as_bytes()),
        _ => reply("200 OK", &["Content-Type: text/html; charset=utf-8"], b"<html>please log in</html>"),
    });
    let (url, file) = (server.url("image"), server.url("SHA512SUMS"));
    let came = sha512(b"<html>please log in</html>");
    assert_eq!(
        error_of(&listed(&url, &file)),
        format!(
            "error: `{url}` has the wrong checksum: sha512 `{came}`, but `{file}` says `{wanted}`\n\
             hint: the server sent a web page instead of the file: look for a login page or a filter on this network"
        )
    );
}

#[test]
fn unreachable() {
    let url = closed();
    let refused = std::net::TcpStream::connect(url.split('/').nth(2).unwrap()).unwrap_err();
    assert_eq!(error_of(&pinned(&url, b"x")), format!("error: cannot reach `{url}`\ncause: {refused}\n{NETWORK}"));
}

#[test]
fn not_found_is_not_tried_twice() {
    let server = Server::start(|_| reply("404 Not Found", &[], b"<html>"));
    let url = server.url("release/v1.99.0/kubeadm");
    assert_eq!(
        error_of(&pinned(&url, b"x")),
        format!(
            "error: there is no file at `{url}` (HTTP status 404)\n\
             hint: check that this version exists for this architecture"
        )
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn always_busy() {
    let server = Server::start(|_| reply("503 Service Unavailable", &[], b""));
    let url = server.url("a");
    assert_eq!(
        error_of(&pinned(&url, b"x")),
        format!("error: `{url}` is refused with HTTP status 503\nhint: try again later, or use `--mirror DIR_OR_URL`")
    );
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn redirects_in_a_circle() {
    let server = Server::start(|request| {
        let other = if request.path == "/a" { "Location: /b" } else { "Location: /a" };
        reply("302 Found", &[other], b"")
    });
    let url = server.url("a");
    assert_eq!(error_of(&pinned(&url, b"x")), format!("error: `{url}` redirects too often\n{BROKEN}"));
    assert!(server.seen().len() < 20);
}

#[test]
fn truncated_every_time() {
    let server = Server::start(|_| reply("200 OK", &["Content-Length: 100"], &[7; 60]));
    let url = server.url("a");
    let cache = tempfile::tempdir().unwrap();
    let error = failure(&store(cache.path()), &pinned(&url, b"x"));
    assert_eq!(report(&error), format!("error: `{url}` ended after 60 of 100 bytes\n{NETWORK}"));
}

#[test]
fn offline_names_all_that_is_missing_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.offline = true;
    let server = Server::of(Vec::new());
    options.mirrors = vec![server.url("mirror").parse().unwrap()];
    let store = Store::open(options).unwrap();
    let missing = [
        pinned("https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm", b"x"),
        listed("https://example.org/b.img.xz", "https://example.org/SHA256SUMS"),
    ];
    let error = store.get_all(&missing, &Silent).unwrap_err();
    assert_eq!(
        report(&error),
        "error: offline, and 2 files are neither in the cache nor in a mirror folder:\n  \
         `https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm`\n  \
         `https://example.org/b.img.xz` (checksum unknown: only `https://example.org/SHA256SUMS` has it)\n\
         hint: run once without `--offline`, or use `--mirror DIR` where the file is \
         `DIR/dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm`, with `--lock FILE` for what nobody signs; \
         `imgbake fetch --to DIR` makes such a folder where there is a network"
    );
    assert!(server.seen().is_empty());
}

#[test]
fn not_in_the_checksum_file() {
    let server = Server::start(|_| reply("200 OK", &[], format!("{}  other\n", sha256(b"x")).as_bytes()));
    let file = server.url("SHA256SUMS");
    assert_eq!(
        error_of(&listed(server.url("a%2Bb.img"), &file)),
        format!(
            "error: checksum file `{file}` does not list `a+b.img`\n\
             hint: check the URL's file name, or pin the file's digest in `imgbake.lock`"
        )
    );
}

#[test]
fn no_checksum_file() {
    let (url, file) = ("https://example.org/image", closed());
    let refused = std::net::TcpStream::connect(file.split('/').nth(2).unwrap()).unwrap_err();
    assert_eq!(
        error_of(&listed(url, &file)),
        format!(
            "error: cannot learn the checksum of `{url}` from its publisher\n\
             cause: cannot reach `{file}`\ncause: {refused}\n\
             hint: checksums that nobody signed are taken from the publisher only, never from a mirror: \
             pin the file's digest in `imgbake.lock` to do without"
        )
    );
}

#[test]
fn several_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| reply("404 Not Found", &[], b""));
    let (a, b) = (server.url("a"), server.url("b"));
    let error = store(cache.path()).get_all(&[pinned(&a, b"x"), pinned(&b, b"y")], &Silent).unwrap_err();
    assert_eq!(
        report(&error),
        format!(
            "error: 2 files cannot be had\n  there is no file at `{a}` (HTTP status 404)\n  \
             there is no file at `{b}` (HTTP status 404)\n\
             hint: check that this version exists for this architecture"
        )
    );
}

#[test]
fn malformed_lock_file() {
    let error = Pins::parse("artifacts:\n  - url: https://a\n    sha256: 12\n", "imgbake.lock".as_ref()).unwrap_err();
    assert_eq!(
        report(&error),
        "error: cannot parse `imgbake.lock`: line 3, column 13: `12` is not a digest: \
         expected 64 (sha256) or 128 (sha512) hexadecimal digits"
    );
}

#[test]
fn the_users_lock_file_comes_before_what_is_built_in() {
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    let url = format!("file://{}", cache.path().join("own").display());
    std::fs::write(cache.path().join("own"), b"b").unwrap();
    let lock = format!("artifacts:\n  - url: {url}\n    sha256: {}\n", sha256(b"b"));
    options.pins = Pins::parse(&lock, "imgbake.lock".as_ref()).unwrap();
    let file = Store::open(options).unwrap().get(&pinned(&url, b"a"), &Silent).unwrap();
    assert_eq!(file.size(), 1);
}

#[test]
fn a_checksum_file_without_end_is_refused() {
    let server = Server::start(|_| reply("200 OK", &[], &vec![b'a'; 5 << 20]));
    let (url, file) = (server.url("a"), server.url("SUMS"));
    let report = error_of(&listed(&url, &file));
    let cause = format!("cause: `{file}` is longer than 4194304 bytes, too long for such a text");
    assert_eq!(report.lines().nth(1), Some(cause.as_str()));
}
