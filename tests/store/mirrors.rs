//! Mirrors as prefix rewrites, their order, and what they may and may not speak for.

use imgbake::{Mirror, Silent, Store};

use super::server::{Server, file, reply};
use super::*;

fn rewrite(prefix: &str, to: &str) -> Mirror {
    Mirror::Rewrite { prefix: prefix.to_owned(), to: Box::new(to.parse().unwrap()) }
}

#[test]
fn mirrors_are_tried_in_order_and_upstream_last() {
    let data = noise(1000);
    let served = data.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/first/a" => reply("404 Not Found", &[], b""),
        "/second/a" => reply("200 OK", &[], b"something else"),
        "/up/a" => file(request, &served),
        _ => reply("500 Internal Server Error", &[], b""),
    });
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    let (up, elsewhere) = (server.url("up"), server.url("other"));
    options.mirrors = vec![
        rewrite(&elsewhere, &server.url("never")),
        rewrite(&up, folder.path().to_str().unwrap()),
        rewrite(&up, &server.url("first")),
        rewrite(&up, &server.url("second")),
    ];
    let notes = Notes::default();
    Store::open(options).unwrap().get(&pinned(format!("{up}/a"), &data), &notes).unwrap();
    let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/first/a", "/second/a", "/up/a"]);
    let lines = notes.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], format!("mirror: there is no file at `{}` (HTTP status 404)", server.url("first/a")));
    assert!(lines[1].starts_with(&format!("mirror: `{}` has the wrong checksum", server.url("second/a"))), "{lines:?}");
}

#[test]
fn a_proxy_takes_the_whole_url_behind_its_own() {
    let data = noise(1000);
    let server = Server::of(data.clone());
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.mirrors = vec![rewrite("https://github.example", &server.url("https://github.example"))];
    get(&Store::open(options).unwrap(), &pinned("https://github.example/a/b?c=d", &data));
    assert_eq!(server.seen()[0].path, "/https://github.example/a/b?c=d");
}

#[test]
fn a_rewrite_to_a_folder_serves_offline() {
    let data = noise(1000);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("v1")).unwrap();
    fs::write(folder.path().join("v1/kubeadm"), &data).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.offline = true;
    options.mirrors = vec![rewrite("https://dl.k8s.io/release", folder.path().to_str().unwrap())];
    get(&Store::open(options).unwrap(), &pinned("https://dl.k8s.io/release/v1/kubeadm", &data));
}

#[test]
fn a_checksum_file_that_nobody_signed_is_not_taken_from_a_mirror() {
    let data = noise(1000);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("example.org");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a"), &data).unwrap();
    fs::write(place.join("SUMS"), format!("{}  a\n", sha256(&data))).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.offline = true;
    options.mirrors = vec![Mirror::Folder(folder.path().to_owned())];
    let artifact = listed("https://example.org/a", "https://example.org/SUMS");
    let error = Store::open(options).unwrap().get(&artifact, &Silent).unwrap_err();
    assert!(matches!(&error, StoreError::Offline { missing } if missing.len() == 1), "{error}");
}
