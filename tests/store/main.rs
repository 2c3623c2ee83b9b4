//! The store against a server that cuts, stalls, lies and redirects, and against itself in another process.

mod bases;
mod collect;
#[cfg(target_os = "linux")]
mod crash;
mod fetch;
#[cfg(target_os = "linux")]
mod kitchen;
mod locking;
mod messages;
mod mirrors;
mod misbehaviour;
mod server;
mod several;
mod signatures;
mod signer;
mod trust;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use imgbake::{Artifact, Checksum, Digest, HostFile, Patience, Progress, Silent, Store, StoreError, StoreOptions};
use sha2::{Digest as _, Sha256, Sha512};

/// Enough bytes to be cut in the middle, none of them alike for long.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::Sha256(Sha256::digest(bytes).into())
}

fn sha512(bytes: &[u8]) -> Digest {
    Digest::Sha512(Sha512::digest(bytes).into())
}

fn pinned(url: impl Into<String>, bytes: &[u8]) -> Artifact {
    Artifact { url: url.into(), checksum: Checksum::Pinned(sha256(bytes)), signature: None }
}

fn listed(url: impl Into<String>, file: impl Into<String>) -> Artifact {
    Artifact { url: url.into(), checksum: Checksum::File { url: file.into() }, signature: None }
}

/// Options that do not keep a test waiting.
fn options(cache: &Path) -> StoreOptions {
    let mut options = StoreOptions::new(cache);
    options.patience = Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_millis(300),
        tries: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
    };
    options
}

fn store(cache: &Path) -> Store {
    Store::open(options(cache)).unwrap()
}

fn get(store: &Store, artifact: &Artifact) -> Vec<u8> {
    bytes(&store.get(artifact, &Silent).unwrap())
}

fn failure(store: &Store, artifact: &Artifact) -> StoreError {
    store.get(artifact, &Silent).unwrap_err()
}

fn bytes(file: &HostFile) -> Vec<u8> {
    fs::read(file.path()).unwrap()
}

/// What the user reads: the error, its causes, the hint.
fn report(error: &StoreError) -> String {
    let mut lines = vec![format!("error: {error}")];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(format!("cause: {error}"));
        cause = error.source();
    }
    lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

/// How many finished and unfinished files the cache holds.
fn held(cache: &Path) -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(cache.join(folder)).unwrap().count();
    (count("blobs"), count("temp"))
}

/// Progress that remembers its notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _step: &str, _total: Option<u64>) {}
    fn advance(&self, _amount: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

impl Notes {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
