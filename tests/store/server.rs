//! A small HTTP server on 127.0.0.1 that misbehaves to order.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    /// First byte of the range, if one was asked for.
    pub range: Option<usize>,
    pub if_range: Option<String>,
    /// How many requests for this path came before.
    pub before: usize,
}

/// What the server does on a connection, in order; then it hangs up.
#[derive(Debug, Clone)]
pub enum Act {
    Send(Vec<u8>),
    /// Sends this again and again until the client hangs up.
    Repeat(Vec<u8>),
    Wait(Duration),
}

/// Runs until the process ends.
pub struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    busy: Arc<Busy>,
}

/// How many requests are being answered at a time.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let busy = Arc::new(Busy::default());
        let (log, count, answer) = (Arc::clone(&seen), Arc::clone(&busy), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, count, answer) = (Arc::clone(&log), Arc::clone(&count), Arc::clone(&answer));
                thread::spawn(move || {
                    let now = count.now.fetch_add(1, Ordering::SeqCst) + 1;
                    count.most.fetch_max(now, Ordering::SeqCst);
                    serve(&stream, &log, &*answer);
                    count.now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, busy }
    }

    /// A server that serves `bytes` under every path, ranges included.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self::start(move |request| file(request, &bytes))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The most requests that were answered at a time.
    pub fn most_at_once(&self) -> usize {
        self.busy.most.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Vec<Act>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, range: None, if_range: None, before: 0 };
    while let Some(Ok(line)) = lines.next() {
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    {
        let mut log = log.lock().unwrap();
        request.before = log.iter().filter(|earlier| earlier.path == request.path).count();
        log.push(request.clone());
    }
    for act in answer(&request) {
        match act {
            Act::Send(bytes) if stream.write_all(&bytes).is_err() => return,
            Act::Send(_) => {}
            Act::Repeat(bytes) => while stream.write_all(&bytes).is_ok() {},
            Act::Wait(time) => thread::sleep(time),
        }
    }
}

/// A whole answer.
pub fn reply(status: &str, headers: &[&str], body: &[u8]) -> Vec<Act> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    vec![Act::Send(bytes)]
}

/// The file as a good server serves it.
pub fn file(request: &Request, bytes: &[u8]) -> Vec<Act> {
    cut(request, bytes, usize::MAX)
}

/// The file as a good server serves it, whose line is cut after `count` bytes of the body.
pub fn cut(request: &Request, bytes: &[u8], count: usize) -> Vec<Act> {
    let etag = "ETag: \"1\"";
    match request.range {
        Some(from) if from >= bytes.len() => {
            reply("416 Range Not Satisfiable", &[&format!("Content-Range: bytes */{}", bytes.len())], b"")
        }
        Some(from) => {
            let range = format!("Content-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let length = format!("Content-Length: {}", bytes.len() - from);
            reply(
                "206 Partial Content",
                &[&range, &length, etag],
                &bytes[from..bytes.len().min(from.saturating_add(count))],
            )
        }
        None => {
            let length = format!("Content-Length: {}", bytes.len());
            reply("200 OK", &[&length, etag], &bytes[..bytes.len().min(count)])
        }
    }
}
