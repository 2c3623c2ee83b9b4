//! Servers that do not behave, one by one: the right bytes in the end, or an error that says what is wrong, and soon.

use std::time::{Duration, Instant};

use imgbake::{Silent, Store};

use super::server::{Act, Request, Server, cut, file, reply};
use super::*;

const NETWORK: &str = "hint: check the network and the proxy (`https_proxy`), or use `--mirror DIR_OR_URL`; \
                       `--defer kubernetes` and `--runtime distro` need fewer downloads";
const BROKEN: &str = "hint: the server does not work as it should: look for a filter on this network, or use \
                      `--mirror DIR_OR_URL`";

/// What the user reads when `answer` is all that a server says; nothing is kept of it. `URL` stands for the file's.
fn refusal(answer: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> String {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(answer);
    let url = server.url("tool");
    let mut options = options(cache.path());
    options.longest = 1 << 20;
    let report = report(&failure(&Store::open(options).unwrap(), &pinned(&url, b"the right bytes")));
    assert_eq!(held(cache.path()), (0, 0), "the cache holds something after: {report}");
    report.replace(&url, "URL")
}

/// Fetches a file of `size` bytes from `answer`, which gets it, and expects the right bytes and a tidy cache.
fn fetched(size: usize, answer: impl Fn(&Request, &[u8]) -> Vec<Act> + Send + Sync + 'static) -> Server {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(size);
    let served = data.clone();
    let server = Server::start(move |request| answer(request, &served));
    assert!(get(&store(cache.path()), &pinned(server.url("tool"), &data)) == data);
    assert_eq!(held(cache.path()), (1, 0));
    server
}

/// `count` bytes in one chunk.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn a_body_in_chunks_without_end_is_left() {
    let report = refusal(|_| {
        [reply("200 OK", &["Transfer-Encoding: chunked"], b""), vec![Act::Repeat(chunk(&[7; 4096]))]].concat()
    });
    assert_eq!(
        report,
        format!("error: `URL` is longer than 1048576 bytes, longer than any file that goes into an image\n{BROKEN}")
    );
}

#[test]
fn a_body_of_no_length_without_end_is_left() {
    let report = refusal(|_| [reply("200 OK", &[], b""), vec![Act::Repeat(vec![7; 4096])]].concat());
    assert!(report.starts_with("error: `URL` is longer than 1048576 bytes"), "{report}");
}

#[test]
fn a_length_beyond_all_files_is_refused_before_it_is_read() {
    // Whoever reads it finds a silent server, and says that.
    let length = format!("Content-Length: {}", 1u64 << 60);
    let report =
        refusal(move |_| [reply("200 OK", &[&length], b""), vec![Act::Wait(Duration::from_secs(60))]].concat());
    assert!(report.starts_with("error: `URL` is longer than 1048576 bytes"), "{report}");
}

#[test]
fn a_range_of_a_file_beyond_all_files_is_refused_and_what_came_before_forgotten() {
    let report = refusal(|request| match request.range {
        None => cut(request, &noise(5000), 1000),
        Some(_) => reply("206 Partial Content", &["Content-Range: bytes 1000-4999/99999999999"], b"x"),
    });
    assert!(report.starts_with("error: `URL` is longer than 1048576 bytes"), "{report}");
}

#[test]
fn headers_without_end_are_left() {
    let report =
        refusal(|_| vec![Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Repeat(b"X-More: of it\r\n".to_vec())]);
    assert!(report.starts_with("error: cannot reach `URL`\n"), "{report}");
    assert!(report.ends_with(NETWORK), "{report}");
}

#[test]
fn a_header_line_without_end_is_left() {
    let report = refusal(|_| vec![Act::Send(b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec()), Act::Repeat(vec![b'x'; 4096])]);
    assert!(report.starts_with("error: cannot reach `URL`\n"), "{report}");
}

#[test]
fn what_is_no_http_is_an_error_with_its_cause() {
    let report = refusal(|_| vec![Act::Send(b"SSH-2.0-OpenSSH_10.0\r\n".to_vec())]);
    assert!(report.starts_with("error: cannot reach `URL`\ncause: "), "{report}");
    assert!(report.ends_with(NETWORK), "{report}");
}

#[test]
fn a_server_that_hangs_up_without_a_word_is_tried_again() {
    let server = fetched(1000, |request, data| if request.before < 2 { Vec::new() } else { file(request, data) });
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_server_that_always_hangs_up_is_given_up() {
    let report = refusal(|_| Vec::new());
    assert!(report.starts_with("error: cannot reach `URL`\ncause: "), "{report}");
    assert!(report.ends_with(NETWORK), "{report}");
}

#[test]
fn a_server_that_stalls_in_the_middle_every_time_is_given_up_and_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| {
        [cut(request, &noise(5000), 100 * (1 + request.before)), vec![Act::Wait(Duration::from_secs(20))]].concat()
    });
    let url = server.url("tool");
    let report = report(&failure(&store(cache.path()), &pinned(&url, &noise(5000))));
    assert_eq!(report, format!("error: cannot reach `{url}`\ncause: it fell silent\n{NETWORK}"));
    // What came is kept, to be resumed.
    assert_eq!(held(cache.path()), (0, 1));
}

#[test]
fn chunks_that_are_cut_off_are_resumed() {
    let server = fetched(50_000, |request, data| match request.before {
        0 => {
            let body = [chunk(&data[..20_000]), b"7000\r\n".to_vec(), data[20_000..30_000].to_vec()].concat();
            reply("200 OK", &["Transfer-Encoding: chunked", "ETag: \"1\""], &body)
        }
        _ => file(request, data),
    });
    assert_eq!(server.seen()[1].range, Some(30_000));
}

#[test]
fn a_chunk_that_lies_about_its_length_ends_in_the_right_bytes() {
    fetched(50_000, |request, data| match request.before {
        0 => reply("200 OK", &["Transfer-Encoding: chunked"], &[b"10\r\n".to_vec(), data[..9000].to_vec()].concat()),
        _ => file(request, data),
    });
}

#[test]
fn a_byte_that_is_changed_on_the_way_is_found_and_both_digests_shown() {
    let report = refusal(|request| file(request, b"the rigHt bytes"));
    let (came, wanted) = (sha256(b"the rigHt bytes"), sha256(b"the right bytes"));
    assert_eq!(
        report,
        format!(
            "error: `URL` has the wrong checksum: sha256 `{came}`, but its pin says `{wanted}`\n\
             hint: nothing of it was kept; try again, and if it stays like this do not use the file: \
             it is not the one that was published or pinned"
        )
    );
}

#[test]
fn a_byte_that_is_changed_before_the_line_was_cut_is_found_and_the_file_fetched_whole() {
    let server = fetched(50_000, |request, data| match request.before {
        0 => {
            let mut data = data.to_vec();
            data[77] ^= 1;
            cut(request, &data, 20_000)
        }
        _ => file(request, data),
    });
    let ranges: Vec<_> = server.seen().iter().map(|request| request.range).collect();
    assert_eq!(ranges, [None, Some(20_000), None]);
}

#[test]
fn a_file_that_is_replaced_between_two_tries_is_fetched_whole() {
    let server = fetched(50_000, |request, data| match (request.before, request.range) {
        (0, _) => cut(request, &noise(60_000).split_off(10_000), 20_000),
        // If-Range does not hold: the whole of the new file.
        (1, Some(_)) => reply("200 OK", &["ETag: \"2\""], data),
        _ => file(request, data),
    });
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let report = refusal(|_| reply("206 Partial Content", &["Content-Range: bytes 0-4/15"], b"the r"));
    assert!(report.starts_with("error: `URL` is refused with HTTP status 206\n"), "{report}");
}

#[test]
fn a_total_in_the_range_that_lies_does_not_matter_when_the_bytes_are_right() {
    fetched(50_000, |request, data| match request.range {
        None => cut(request, data, 20_000),
        Some(from) => reply("206 Partial Content", &[&format!("Content-Range: bytes {from}-49999/7")], &data[from..]),
    });
}

#[test]
fn a_range_without_words_about_it_starts_over() {
    fetched(50_000, |request, data| match (request.range, request.before) {
        (None, 0) => cut(request, data, 20_000),
        (None, _) => file(request, data),
        (Some(from), _) => reply("206 Partial Content", &[], &data[from..]),
    });
}

#[test]
fn no_content_is_no_file() {
    let report = refusal(|_| reply("204 No Content", &[], b""));
    assert!(report.starts_with("error: `URL` is refused with HTTP status 204\n"), "{report}");
}

#[test]
fn a_redirect_to_itself_ends() {
    let report = refusal(|_| reply("301 Moved Permanently", &["Location: /tool"], b""));
    assert_eq!(report, format!("error: `URL` redirects too often\n{BROKEN}"));
}

#[test]
fn a_redirect_to_ever_new_places_ends() {
    let report = refusal(|request| reply("302 Found", &[&format!("Location: {}x", request.path)], b""));
    assert_eq!(report, format!("error: `URL` redirects too often\n{BROKEN}"));
}

#[test]
fn a_redirect_that_leads_to_no_server_is_an_error() {
    for place in ["file:///etc/passwd", "ftp://127.0.0.1/tool", "//", "http://"] {
        let location = format!("Location: {place}");
        let report = refusal(move |_| reply("302 Found", &[&location], b""));
        assert!(report.starts_with("error: "), "{place}: {report}");
    }
    let report = refusal(|_| reply("302 Found", &[], b""));
    assert!(report.starts_with("error: "), "{report}");
}

#[test]
fn a_resumed_file_is_resumed_through_a_redirect() {
    let server = fetched(50_000, |request, data| match request.path.as_str() {
        "/tool" => reply("302 Found", &["Location: /elsewhere"], b""),
        _ => cut(request, data, 20_000),
    });
    let ranges: Vec<_> = server.seen().iter().map(|request| request.range).collect();
    assert_eq!(ranges, [None, None, Some(20_000), Some(20_000), Some(40_000), Some(40_000)]);
}

#[test]
fn a_busy_server_may_say_until_when_by_a_date() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.before {
        // The two of them are seven seconds apart; the options allow 20 ms.
        0 => reply(
            "429 Too Many Requests",
            &["Date: Sun, 06 Nov 1994 08:49:30 GMT", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"],
            b"",
        ),
        // Over already: the usual pause.
        1 => reply("503 Service Unavailable", &["Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"], b""),
        _ => file(request, b"x"),
    });
    let notes = Notes::default();
    let mut options = options(cache.path());
    options.now = 2_000_000_000;
    let url = server.url("tool");
    Store::open(options).unwrap().get(&pinned(&url, b"x"), &notes).unwrap();
    assert_eq!(
        notes.lines(),
        [
            format!("`{url}` is refused with HTTP status 429; trying again in 0.02 s (try 2 of 3)"),
            format!("`{url}` is refused with HTTP status 503; trying again in 0.002 s (try 3 of 3)"),
        ]
    );
}

#[test]
fn a_server_that_is_always_busy_is_given_up() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let report = refusal(move |_| reply(status, &["Retry-After: 86400"], b""));
        let status = &status[..3];
        assert_eq!(
            report,
            format!(
                "error: `URL` is refused with HTTP status {status}\n\
                 hint: try again later, or use `--mirror DIR_OR_URL`"
            )
        );
    }
}

#[test]
fn no_more_connections_than_allowed_are_open_at_a_time() {
    for (connections, most) in [(1, 1), (3, 3)] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::start(|request| {
            [vec![Act::Wait(Duration::from_millis(30))], file(request, request.path.as_bytes())].concat()
        });
        let names = (0..9).map(|index| format!("file-{index}"));
        let artifacts: Vec<_> = names.map(|name| pinned(server.url(&name), format!("/{name}").as_bytes())).collect();
        let mut options = options(cache.path());
        options.connections = connections;
        Store::open(options).unwrap().get_all(&artifacts, &Silent).unwrap();
        assert!((1..=most).contains(&server.most_at_once()), "{} of {most}", server.most_at_once());
    }
}

#[test]
fn a_limit_on_the_rate_holds_for_all_downloads_together() {
    let cache = tempfile::tempdir().unwrap();
    let size = 64 << 10;
    let server = Server::start(move |request| {
        let mut data = noise(size);
        data[..2].copy_from_slice(&request.path.as_bytes()[..2]);
        file(request, &data)
    });
    let artifact = |name: &str| {
        let mut data = noise(size);
        data[..2].copy_from_slice(format!("/{name}").as_bytes());
        pinned(server.url(name), &data)
    };
    let mut options = options(cache.path());
    options.limit_rate = Some(512 << 10);
    let begin = Instant::now();
    Store::open(options).unwrap().get_all(&["a", "b", "c", "d"].map(artifact), &Silent).unwrap();
    // 256 KiB at 512 KiB/s. It may take longer for other reasons, but never shorter.
    assert!(begin.elapsed() >= Duration::from_millis(490), "{:?}", begin.elapsed());
}
