//! Every way a download goes wrong ends in the right bytes or in nothing.

use std::fs;
use std::time::{Duration, Instant};

use imgbake::{Mirror, Pins, Silent, Store};

use super::server::{Act, Server, cut, file, reply};
use super::*;

#[test]
fn a_file_is_fetched_once_and_then_opens_no_socket() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(300_000);
    let server = Server::of(data.clone());
    let artifact = pinned(server.url("tool"), &data);
    assert_eq!(get(&store(cache.path()), &artifact), data);
    assert_eq!(get(&store(cache.path()), &artifact), data);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(held(cache.path()), (1, 0));
}

#[test]
fn the_same_bytes_under_another_url_are_not_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let server = Server::of(data.clone());
    let store = store(cache.path());
    get(&store, &pinned(server.url("a"), &data));
    get(&store, &pinned(server.url("b"), &data));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_sha512_is_as_good_as_a_sha256() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(100_000);
    let server = Server::of(data.clone());
    let by_512 = Artifact { url: server.url("image"), checksum: Checksum::Pinned(sha512(&data)), signature: None };
    for artifact in [&by_512, &by_512, &pinned(server.url("image"), &data)] {
        assert_eq!(get(&store(cache.path()), artifact), data);
    }
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_cut_line_is_resumed_where_it_was_cut() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| cut(request, &served, 200_000));
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
    let ranges: Vec<_> = server.seen().into_iter().map(|request| (request.range, request.if_range)).collect();
    let etag = || Some("\"1\"".to_owned());
    assert_eq!(ranges, [(None, None), (Some(200_000), etag()), (Some(400_000), etag())]);
}

#[test]
fn a_line_cut_more_often_than_there_are_tries_is_still_resumed_while_it_moves() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(12 << 20);
    let served = data.clone();
    let server = Server::start(move |request| cut(request, &served, 2 << 20));
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn another_run_takes_up_what_one_left() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| match request.before {
        0 => cut(request, &served, 100_000),
        1..3 => reply("503 Service Unavailable", &[], b""),
        _ => file(request, &served),
    });
    let artifact = pinned(server.url("a"), &data);
    failure(&store(cache.path()), &artifact);
    assert_eq!(held(cache.path()), (0, 1));
    assert_eq!(get(&store(cache.path()), &artifact), data);
    assert_eq!(server.seen().last().unwrap().range, Some(100_000));
    assert_eq!(held(cache.path()), (1, 0));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| {
        let length = format!("Content-Length: {}", served.len());
        let end = if request.before == 0 { 100_000 } else { served.len() };
        reply("200 OK", &[&length], &served[..end])
    });
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_believed() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| match (request.range, request.before) {
        (None, 0) => cut(request, &served, 100_000),
        (None, _) => file(request, &served),
        (Some(_), _) => reply("206 Partial Content", &["Content-Range: bytes 5-499999/500000"], &served[5..]),
    });
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
}

#[test]
fn a_range_of_another_file_is_found_out_and_the_file_fetched_whole() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(500_000);
    let served = data.clone();
    let server = Server::start(move |request| match (request.range, request.before) {
        (None, 0) => cut(request, &served, 100_000),
        (None, _) => file(request, &served),
        (Some(_), _) => file(request, &vec![7; 500_000]),
    });
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
}

#[test]
fn a_length_that_is_too_long_does_not_matter_when_the_bytes_are_right() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let served = data.clone();
    let server = Server::start(move |_| reply("200 OK", &["Content-Length: 2000"], &served));
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_length_that_is_too_short_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let served = data.clone();
    let server = Server::start(move |_| reply("200 OK", &["Content-Length: 500"], &served));
    let error = failure(&store(cache.path()), &pinned(server.url("a"), &data));
    assert!(matches!(error, StoreError::Mismatch(_)), "{error}");
    assert_eq!(held(cache.path()), (0, 0));
}

#[test]
fn a_body_without_length_and_one_in_chunks_are_read() {
    let data = b"0123456789";
    let chunked = reply("200 OK", &["Transfer-Encoding: chunked"], b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n");
    for answer in [reply("200 OK", &[], data), chunked] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::start(move |_| answer.clone());
        assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), data)), data);
    }
}

#[test]
fn a_silent_server_is_given_up_and_tried_again() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(100_000);
    let served = data.clone();
    let server = Server::start(move |request| match request.before {
        0 => vec![Act::Wait(Duration::from_secs(20))],
        1 => [cut(request, &served, 50_000), vec![Act::Wait(Duration::from_secs(20))]].concat(),
        _ => file(request, &served),
    });
    let begin = Instant::now();
    let (notes, url) = (Notes::default(), server.url("a"));
    assert_eq!(bytes(&store(cache.path()).get(&pinned(&url, &data), &notes).unwrap()), data);
    assert_eq!(
        notes.lines(),
        [
            format!("cannot reach `{url}`: it does not answer; trying again in 0.001 s (try 2 of 3)"),
            format!("cannot reach `{url}`: it fell silent; trying again in 0.002 s (try 3 of 3)"),
        ]
    );
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(server.seen().last().unwrap().range, Some(50_000));
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in ["503 Service Unavailable", "429 Too Many Requests", "500 Internal Server Error"] {
        let cache = tempfile::tempdir().unwrap();
        let data = noise(1000);
        let served = data.clone();
        let server = Server::start(move |request| match request.before {
            0 => reply(status, &["Retry-After: 1"], b"busy"),
            _ => file(request, &served),
        });
        let notes = Notes::default();
        let store = store(cache.path());
        let artifact = pinned(server.url("a"), &data);
        assert_eq!(bytes(&store.get(&artifact, &notes).unwrap()), data);
        let (url, status) = (&artifact.url, &status[..3]);
        let note = format!("`{url}` is refused with HTTP status {status}; trying again in 0.02 s (try 2 of 3)");
        assert_eq!(notes.lines(), [note]);
    }
}

#[test]
fn redirects_are_followed() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let served = data.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/a" => reply("302 Found", &["Location: /b"], b""),
        "/b" => reply("307 Temporary Redirect", &["Location: /c"], b""),
        _ => file(request, &served),
    });
    assert_eq!(get(&store(cache.path()), &pinned(server.url("a"), &data)), data);
}

#[test]
fn the_publishers_checksum_file_is_asked_once_for_all_and_not_again_for_what_is_cached() {
    let cache = tempfile::tempdir().unwrap();
    let (a, b) = (noise(1000), noise(2000));
    let sums = format!("{}  a\n{} *b%2Bc\n", sha256(&a), sha512(&b));
    let (served_a, served_b) = (a.clone(), b.clone());
    let server = Server::start(move |request| match request.path.as_str() {
        "/SUMS" => reply("200 OK", &[], sums.as_bytes()),
        "/a" => file(request, &served_a),
        _ => file(request, &served_b),
    });
    let artifacts = [listed(server.url("a"), server.url("SUMS")), listed(server.url("b+c"), server.url("SUMS"))];
    let mut options = options(cache.path());
    options.connections = 1;
    for _ in 0..2 {
        let files = Store::open(options.clone()).unwrap().get_all(&artifacts, &Silent).unwrap();
        assert_eq!(files.iter().map(|file| bytes(file)).collect::<Vec<_>>(), [a.clone(), b.clone()]);
    }
    options.offline = true;
    Store::open(options).unwrap().get_all(&artifacts, &Silent).unwrap();
    let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/SUMS", "/a", "/b+c"]);
}

#[test]
fn the_lock_file_does_away_with_the_checksum_file() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let server = Server::of(data.clone());
    let url = server.url("a");
    let mut options = options(cache.path());
    let lock = format!("artifacts:\n  - url: {url}\n    sha512: {}\n", sha512(&data));
    options.pins = Pins::parse(&lock, "imgbake.lock".as_ref()).unwrap();
    let store = Store::open(options).unwrap();
    assert_eq!(get(&store, &listed(url, "http://127.0.0.1:1/none")), data);
}

#[test]
fn a_mirror_is_asked_before_upstream() {
    let data = noise(1000);
    let upstream = Server::of(data.clone());
    let mirror = Server::of(data.clone());
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.mirrors = vec![mirror.url("prefix/").parse().unwrap()];
    get(&Store::open(options).unwrap(), &pinned(upstream.url("x/a"), &data));
    assert_eq!(mirror.seen()[0].path, format!("/prefix/{}/x/a", upstream.address()));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_mirror_that_lies_is_passed_over_and_said_so() {
    let data = noise(1000);
    let upstream = Server::of(data.clone());
    let mirror = Server::of(noise(999));
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.mirrors = vec![mirror.url("m").parse().unwrap()];
    let notes = Notes::default();
    let artifact = pinned(upstream.url("a"), &data);
    let file = Store::open(options).unwrap().get(&artifact, &notes).unwrap();
    assert_eq!(bytes(&file), data);
    let from = mirror.url(&format!("m/{}/a", upstream.address()));
    let (actual, expected) = (sha256(&noise(999)), sha256(&data));
    assert_eq!(
        notes.lines(),
        [format!("mirror: `{from}` has the wrong checksum: sha256 `{actual}`, but its pin says `{expected}`")]
    );
}

#[test]
fn a_folder_serves_without_the_network_and_is_verified_all_the_same() {
    let data = noise(100_000);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("dl.k8s.io/release/v1.36.4/bin/linux/arm64");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("kubeadm"), &data).unwrap();
    fs::write(place.join("kubelet"), b"something else").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    options.mirrors = vec![Mirror::Folder("/nowhere".into()), Mirror::Folder(folder.path().to_owned())];
    options.offline = true;
    let store = Store::open(options).unwrap();
    let url = |name| format!("https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/{name}");
    let file = store.get(&pinned(url("kubeadm"), &data), &Silent).unwrap();
    fs::write(place.join("kubeadm"), b"changed later").unwrap();
    assert_eq!(bytes(&file), data);
    let error = failure(&store, &pinned(url("kubelet"), b"the right bytes"));
    assert!(matches!(error, StoreError::Mismatch(_)), "{error}");
    assert_eq!(held(cache.path()), (1, 0));
}

#[test]
fn a_file_url_is_copied_and_verified() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = noise(5000);
    fs::write(folder.path().join("a b"), &data).unwrap();
    fs::write(folder.path().join("SUMS"), format!("{}  a b\n", sha256(&data))).unwrap();
    let url = |name| format!("file://{}/{name}", folder.path().display());
    assert_eq!(get(&store(cache.path()), &listed(url("a%20b"), url("SUMS"))), data);
}

#[test]
fn a_text_is_what_its_publisher_says_now() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| reply("200 OK", &[], format!("v1.36.{}", request.before).as_bytes()));
    let store = store(cache.path());
    assert_eq!(store.unverified_text(&server.url("stable-1.36.txt"), &Silent).unwrap(), "v1.36.0");
    assert_eq!(store.unverified_text(&server.url("stable-1.36.txt"), &Silent).unwrap(), "v1.36.1");
}

#[test]
fn the_proxy_that_is_given_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1000);
    let served = data.clone();
    let proxy = Server::start(move |request| {
        // A tunnel first, then the file through it, once it has been asked for.
        let tunnel = Act::Send(b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec());
        [vec![tunnel, Act::Wait(Duration::from_millis(100))], file(request, &served)].concat()
    });
    let mut options = options(cache.path());
    options.proxy = Some(ureq::Proxy::new(&format!("http://{}", proxy.address())).unwrap());
    assert_eq!(get(&Store::open(options).unwrap(), &pinned("http://example.invalid/a", &data)), data);
    assert_eq!(proxy.seen()[0].path, "example.invalid:80");
}
