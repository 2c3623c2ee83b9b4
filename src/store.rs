//! The store: from an artifact's name to a verified file on this machine.
//!
//! Files come from the cache, from mirrors, from upstream, in this order; their digests come from a pin,
//! from the lock file or from the publisher's checksum file, and never from a mirror. What is in the cache
//! was verified on its way in and is not hashed again. A checksum file, or a file itself, is believed on its publisher's
//! signature where there is one, and else pinned on first use.

mod archive;
mod base;
mod cache;
mod checksums;
mod collect;
mod error;
mod fetch;
mod first_use;
mod http;
mod inventory;
mod keys;
mod location;
mod lock;
mod mirror;
mod part;
mod pins;
mod prune;
mod published;
mod rate;
mod signature;
mod sum;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::artifact::{Artifact, Digest};
use crate::disk::HostFile;
use crate::progress::Progress;

pub use archive::{Archive, Member, MemberKind};
pub use collect::Collected;
pub use error::{Cause, Mismatch, Missing, Origin, Replaced, StoreError};
pub use http::Patience;
pub use inventory::{CacheEntry, CacheKind, list_cache};
pub use keys::{KeySummary, Keys};
pub use mirror::Mirror;
pub use pins::{Pin, Pins};
pub use prune::{PruneOptions, Pruned, prune_cache};
pub use signature::SignatureError;
pub use verify::{CacheProblem, Damage, Verified, verify_cache};

use cache::Cache;
use fetch::Blob;
use first_use::FirstUse;
use http::{Client, Limits};
use location::{Location, Place};
use published::Listing;
use rate::Rate;

/// Version markers and checksum files are not longer than this.
const TEXT_LIMIT: u64 = 4 << 20;

/// Files are not longer than this: base images take a few GB.
const LONGEST: u64 = 32 << 30;

/// How a [`Store`] works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The cache folder; made where it is missing.
    pub cache: PathBuf,
    /// Tried in order, before upstream. Never trusted.
    pub mirrors: Vec<Mirror>,
    /// Never open a socket.
    pub offline: bool,
    /// Digests that the user's lock file holds.
    pub pins: Pins,
    /// What publishers' signatures are judged by.
    pub keys: Keys,
    /// When that is, in seconds since 1970. Before it is set no signature is believed: all come from the future.
    pub now: i64,
    /// Where the digests of what nobody signed are noted on first use.
    pub first_use: PathBuf,
    /// The proxy for HTTP and HTTPS. The library does not look at the environment:
    /// `ureq::Proxy::try_from_env` is the caller's.
    pub proxy: Option<ureq::Proxy>,
    /// Timeouts and retries.
    pub patience: Patience,
    /// Downloads at once.
    pub connections: usize,
    /// Bytes a second that all downloads together may take; none: as many as come.
    pub limit_rate: Option<u64>,
    /// Bytes of the longest file that is fetched: where a server does not say how long a file is, it must end somewhere.
    pub longest: u64,
}

impl StoreOptions {
    /// A store in the folder `cache`: online, no mirrors, no pins, no proxy, four downloads at once; the built-in keys
    /// only, and a time at which none of them is good.
    #[must_use]
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        let cache = cache.into();
        Self {
            keys: Keys::default(),
            now: 0,
            first_use: cache.join("first-use.yaml"),
            cache,
            mirrors: Vec::new(),
            offline: false,
            pins: Pins::default(),
            proxy: None,
            patience: Patience::default(),
            connections: 4,
            limit_rate: None,
            longest: LONGEST,
        }
    }
}

/// Gets artifacts, once, and keeps them.
#[derive(Debug)]
pub struct Store {
    cache: Cache,
    mirrors: Vec<Mirror>,
    offline: bool,
    pins: Pins,
    keys: Keys,
    now: i64,
    first_use: FirstUse,
    client: Client,
    connections: usize,
    /// The artifacts seen so far.
    found: Mutex<BTreeMap<Artifact, Blob>>,
    /// The same by the digests that were asked for.
    open: Mutex<BTreeMap<Digest, Blob>>,
    /// The publishers' checksum files seen so far, by URL and signature.
    checksum_files: Mutex<BTreeMap<String, Arc<Listing>>>,
    /// Publishers of which it was said that nothing of theirs is signed.
    unsigned: Mutex<BTreeSet<String>>,
}

impl Store {
    /// Opens the cache folder; several stores, in several processes, may have it open.
    ///
    /// # Errors
    /// [`StoreError::Cache`] if the folder cannot be made.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Ok(Self {
            cache: Cache::open(&options.cache)?,
            client: Client::new(
                options.patience,
                options.proxy,
                Limits { rate: Rate::new(options.limit_rate), longest: options.longest, now: options.now },
            ),
            mirrors: options.mirrors,
            offline: options.offline,
            pins: options.pins,
            keys: options.keys,
            now: options.now,
            first_use: FirstUse::new(options.first_use),
            connections: options.connections,
            found: Mutex::default(),
            open: Mutex::default(),
            checksum_files: Mutex::default(),
            unsigned: Mutex::default(),
        })
    }

    /// The artifact as a verified local file, which stays as it is for as long as it is open.
    ///
    /// # Errors
    /// Any [`StoreError`] but those of archives and bases.
    pub fn get(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<Arc<HostFile>, StoreError> {
        Ok(self.blob(artifact, progress)?.file)
    }

    /// Several artifacts, some at a time; the result is in the order of `artifacts`.
    ///
    /// # Errors
    /// As [`Store::get`]. All are tried: offline, one error names all that is missing; otherwise more than
    /// one failure is a [`StoreError::Several`].
    pub fn get_all(&self, artifacts: &[Artifact], progress: &dyn Progress) -> Result<Vec<Arc<HostFile>>, StoreError> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        let work = || {
            while let Some((index, artifact)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                artifacts.get(index).map(|artifact| (index, artifact))
            } {
                let result = self.get(artifact, progress);
                results.lock().unwrap_or_else(PoisonError::into_inner).insert(index, result);
            }
        };
        progress.begin_all(artifacts.len());
        thread::scope(|scope| {
            for _ in 1..self.connections.min(artifacts.len()) {
                scope.spawn(work);
            }
            work();
        });
        progress.end_all();
        let mut files = Vec::new();
        let mut failures = Vec::new();
        for result in results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
            match result {
                Ok(file) => files.push(file),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() { Ok(files) } else { Err(together(failures)) }
    }

    /// A small text as the first mirror that has it, or its publisher, serves it now, such as `stable-1.36.txt`. It is
    /// not cached. Nothing tells whether it is the right one: it may only choose among what is verified otherwise.
    ///
    /// # Errors
    /// [`StoreError::Offline`] without the network and a mirror folder that has it, and those of fetching.
    pub fn unverified_text(&self, url: &str, progress: &dyn Progress) -> Result<String, StoreError> {
        let mut last = StoreError::Offline { missing: vec![Missing { url: url.to_owned(), checksum_file: None }] };
        for (place, _) in self.places(&Location::parse(url)?) {
            match self.small(&place, TEXT_LIMIT, progress) {
                Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A small file as its publisher serves it now.
    fn upstream(&self, url: &str, progress: &dyn Progress) -> Result<Vec<u8>, StoreError> {
        match Location::parse(url)?.upstream() {
            Place::Http(_) if self.offline => {
                Err(StoreError::Offline { missing: vec![Missing { url: url.to_owned(), checksum_file: None }] })
            }
            place => self.small(&place, TEXT_LIMIT, progress),
        }
    }

    /// A file of at most `limit` bytes.
    fn small(&self, place: &Place, limit: u64, progress: &dyn Progress) -> Result<Vec<u8>, StoreError> {
        match place {
            Place::Http(url) => self.client.small(url, limit, progress),
            Place::File(path) => fetch::read_small(path, limit),
        }
    }
}

/// One error of several: the one there is, or a list.
fn together(mut failures: Vec<StoreError>) -> StoreError {
    if failures.iter().all(|failure| matches!(failure, StoreError::Offline { .. })) {
        let mut all: Vec<Missing> = Vec::new();
        for failure in failures {
            if let StoreError::Offline { missing } = failure {
                all.extend(missing);
            }
        }
        all.dedup();
        return StoreError::Offline { missing: all };
    }
    match failures.pop() {
        Some(only) if failures.is_empty() => only,
        last => {
            failures.extend(last);
            StoreError::Several { failures }
        }
    }
}
