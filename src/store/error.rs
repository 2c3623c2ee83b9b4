//! What can go wrong on the way from an artifact's name to a verified local file, and what the user can
//! do about it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::SignatureError;
use crate::artifact::Digest;

/// An error of somebody else's making: a network, an unpacker, a base image's builder.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why an artifact cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache folder cannot be used.
    #[error("cannot {action} `{}` in the cache", path.display())]
    Cache {
        /// What was tried: `create`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The cache's disk is full. What could not be completed was removed.
    #[error("no space left for `{}` in the cache: {}", path.display(), room(*needed, *free))]
    Full {
        /// The file.
        path: PathBuf,
        /// How many bytes it has, where that is known.
        needed: Option<u64>,
        /// How many bytes are free without it, where the system tells.
        free: Option<u64>,
        /// The system's or the unpacker's error.
        source: Cause,
    },
    /// A file outside the cache cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A URL that this store cannot use.
    #[error("`{}` is not a URL that can be fetched: {reason}", shown(url))]
    BadUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached, or falls silent.
    #[error("cannot reach `{}`", shown(url))]
    Unreachable {
        /// The URL.
        url: String,
        /// The last try's error.
        source: Cause,
    },
    /// The server's certificate or TLS is not acceptable.
    #[error("no secure connection to `{}`", shown(url))]
    Insecure {
        /// The URL.
        url: String,
        /// The TLS library's error.
        source: Cause,
    },
    /// The server has an answer, but not the file.
    #[error("{}", status_line(url, *status))]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// Redirects lead nowhere.
    #[error("`{}` redirects too often", shown(url))]
    Redirects {
        /// The URL.
        url: String,
    },
    /// The server ended the file early, every time.
    #[error("`{}` ended after {got} of {promised} bytes", shown(url))]
    Truncated {
        /// The URL.
        url: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        promised: u64,
    },
    /// A server that answers another range than the one asked for.
    #[error("`{}` answered a request for bytes {asked}- with `{answer}`", shown(url))]
    Range {
        /// The URL.
        url: String,
        /// First byte asked for.
        asked: u64,
        /// The answer's `Content-Range`.
        answer: String,
    },
    /// A text that should be small is not.
    #[error("`{}` is longer than {limit} bytes, too long for such a text", shown(url))]
    TooLong {
        /// The URL.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that does not end where every file has ended. Nothing of it was kept.
    #[error("`{}` is longer than {limit} bytes, longer than any file that goes into an image", shown(url))]
    Endless {
        /// The URL.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The user's list of mirrors is not what it should be.
    #[error("cannot parse `{}`: line {line}, column {column}: {message}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// The folder that files are collected in cannot be written.
    #[error("cannot write `{}`", path.display())]
    Collect {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The bytes are not those that were asked for. Nothing of them was kept.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// The checksum file does not name the artifact.
    #[error("checksum file `{}` does not list `{name}`", shown(file))]
    NotListed {
        /// The checksum file's URL.
        file: String,
        /// The artifact's file name.
        name: String,
    },
    /// The publisher's checksum file cannot be had, so nothing can be verified.
    #[error("cannot learn the checksum of `{}` from its publisher", shown(url))]
    NoChecksum {
        /// The artifact's URL.
        url: String,
        /// Why the checksum file cannot be had.
        source: Box<StoreError>,
    },
    /// The publisher's signature is not to be believed, or not over these bytes. Nothing of them was kept.
    #[error("`{}` is not signed as it should be: the signature `{}` is refused", shown(file), shown(signature))]
    Signature {
        /// What is signed: the artifact's or the checksum file's URL.
        file: String,
        /// Where the signature came from.
        signature: String,
        /// Why.
        source: SignatureError,
    },
    /// The publisher's signature cannot be had, so nothing can be verified.
    #[error("cannot get the signature of `{}`", shown(file))]
    NoSignature {
        /// What is signed: the artifact's or the checksum file's URL.
        file: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// Nobody signed the artifact, and it is not the one that it was on first use.
    #[error("{0}")]
    Replaced(Box<Replaced>),
    /// The note of what was used first cannot be read or written.
    #[error("cannot keep in `{}` what nobody signed", path.display())]
    FirstUse {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `imgbake.lock` is not what it should be.
    #[error("cannot parse `{}`: line {line}, column {column}: {message}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// A lock file does not hold what is to be used.
    #[error("`{}` does not hold `{}`", path.display(), shown(url))]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// What is to be used.
        url: String,
    },
    /// The lock file cannot be written.
    #[error("cannot write `{}`", path.display())]
    WriteLock {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Files that only the network has, and the network is off.
    #[error("offline, and {}", missing_list(missing))]
    Offline {
        /// What is missing.
        missing: Vec<Missing>,
    },
    /// More than one artifact cannot be had. Each error's causes are part of its line: a list has no
    /// single source.
    #[error("{} files cannot be had{}", failures.len(), failure_list(failures))]
    Several {
        /// One error per artifact.
        failures: Vec<StoreError>,
    },
    /// A packing that this imgbake does not open.
    #[error("`{}` is {packing}, which is not supported here", shown(name))]
    Unsupported {
        /// The file or URL.
        name: String,
        /// The packing's name, with its article.
        packing: &'static str,
    },
    /// An archive is damaged.
    #[error("archive `{}` is damaged: {reason}", shown(name))]
    Corrupt {
        /// The file or URL.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An archive's member wants to be somewhere else.
    #[error("archive `{}` holds the unsafe path `{member}`", shown(name))]
    UnsafePath {
        /// The file or URL.
        name: String,
        /// The member's path, or the target of a hard link.
        member: String,
    },
    /// Unpacking failed.
    #[error("cannot unpack `{}`", shown(name))]
    Unpack {
        /// The file or URL.
        name: String,
        /// The unpacker's error.
        source: Cause,
    },
    /// The user's file changed while it was being read.
    #[error("`{}` changed while it was being unpacked", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Making a file locally failed.
    #[error("cannot make `{key}`")]
    Make {
        /// What was to be made.
        key: String,
        /// The maker's error.
        source: Cause,
    },
}

/// What came, and what should have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where the bytes came from.
    pub from: String,
    /// The digest they should have.
    pub expected: Digest,
    /// The digest they have, by the same algorithm.
    pub actual: Digest,
    /// Who says what it should be.
    pub origin: Origin,
    /// Whether the server said that it sent a web page.
    pub web_page: bool,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, expected, actual, origin, .. } = self;
        let (from, algorithm) = (shown(from), expected.algorithm());
        write!(f, "`{from}` has the wrong checksum: {algorithm} `{actual}`, but {origin} says `{expected}`")
    }
}

/// An artifact that nobody signed, then and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The artifact's URL.
    pub url: String,
    /// The publisher's checksum file.
    pub checksum_file: String,
    /// The digest that it has there now.
    pub now: Digest,
    /// The digest that it had on first use.
    pub then: Digest,
    /// The file that says so.
    pub noted: PathBuf,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (url, file, noted) = (shown(&self.url), shown(&self.checksum_file), self.noted.display());
        let (now, then, algorithm) = (&self.now, &self.then, self.now.algorithm());
        write!(
            f,
            "`{url}` was replaced since its first use: `{file}` says {algorithm} `{now}`, `{noted}` says `{then}`"
        )
    }
}

/// Who says which digest an artifact should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The artifact's own pin.
    Pin,
    /// The user's lock file.
    LockFile(PathBuf),
    /// The publisher's checksum file, by URL.
    ChecksumFile(String),
    /// The note of the artifact's first use.
    FirstUse(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin => write!(f, "its pin"),
            Self::LockFile(path) | Self::FirstUse(path) => write!(f, "`{}`", path.display()),
            Self::ChecksumFile(url) => write!(f, "`{}`", shown(url)),
        }
    }
}

/// A file that is not to be had without the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The artifact's URL.
    pub url: String,
    /// The checksum file that would have to be asked first, if the digest is not known either.
    pub checksum_file: Option<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.checksum_file {
            Some(file) => write!(f, "`{}` (checksum unknown: only `{}` has it)", shown(&self.url), shown(file)),
            None => write!(f, "`{}`", shown(&self.url)),
        }
    }
}

impl StoreError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if is_full(self) {
            let ways = "free some space, for example with `imgbake cache prune --max-size SIZE`, or use a cache folder on \
                        another disk (`--cache-dir DIR`)";
            return Some(ways.to_owned());
        }
        let hint = match self {
            Self::Cache { .. } => "use a cache folder that you may write to",
            Self::Unreachable { .. } | Self::Truncated { .. } | Self::Range { .. } => {
                "check the network and the proxy (`https_proxy`), or use `--mirror DIR_OR_URL`; \
                 `--defer kubernetes` and `--runtime distro` need fewer downloads"
            }
            Self::Insecure { .. } => {
                "check that this machine has its CA certificates (package `ca-certificates`) and the right time; \
                 a proxy that opens TLS needs its own certificate there"
            }
            Self::Status { status: 404 | 410, .. } => "check that this version exists for this architecture",
            Self::Status { status: 401 | 403 | 407 | 451, .. } => {
                "the server or a proxy on the way refuses to serve it: use `--mirror DIR_OR_URL`"
            }
            Self::Status { .. } => "try again later, or use `--mirror DIR_OR_URL`",
            Self::Mismatch(mismatch) if mismatch.web_page => {
                "the server sent a web page instead of the file: look for a login page or a filter on this network"
            }
            Self::Mismatch(_) => {
                "nothing of it was kept; try again, and if it stays like this do not use the file: \
                 it is not the one that was published or pinned"
            }
            Self::Signature { source, .. } => return source.hint(),
            Self::NoSignature { .. } => {
                "the publisher is known to sign it, so nothing unsigned is taken: try again, use `--mirror DIR_OR_URL` \
                 that serves the signature too, or pin the file's digest in `imgbake.lock`"
            }
            Self::Redirects { .. } | Self::Endless { .. } => {
                "the server does not work as it should: look for a filter on this network, or use `--mirror DIR_OR_URL`"
            }
            Self::Configuration { .. } => {
                "`mirrors:` is a list of `- {prefix: https://dl.k8s.io/, to: https://mirror.example/k8s/}`; \
                 without `prefix` an entry is like `--mirror`"
            }
            Self::Collect { .. } => "use a folder that you may write to, on a disk with room",
            Self::Replaced(replaced) => {
                return Some(format!(
                    "find out from its publisher whether that is right; then remove its entry from `{}`, \
                     or pin the digest that you trust in `imgbake.lock`",
                    replaced.noted.display()
                ));
            }
            Self::FirstUse { .. } => "use a configuration folder that you may write to (`--config-dir DIR`)",
            Self::NotLocked { .. } => "`imgbake lock PROFILE NODE` with this node's options adds what is missing",
            Self::WriteLock { .. } => "lock into a folder that you may write to (`--lock FILE`)",
            Self::NotListed { .. } => "check the URL's file name, or pin the file's digest in `imgbake.lock`",
            Self::NoChecksum { .. } => {
                "checksums that nobody signed are taken from the publisher only, never from a mirror: \
                 pin the file's digest in `imgbake.lock` to do without"
            }
            Self::Offline { missing } => return Some(offline_hint(missing)),
            Self::Several { failures } => return failures.iter().find_map(Self::hint),
            Self::Unsupported { .. } => "unpack it, or convert it with `qemu-img convert -O raw`, and use the result",
            Self::Changed { .. } => "wait until it is complete",
            Self::Read { .. } => "check the path and its permissions",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether this host is at fault, so that another source would not help.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Cache { .. } | Self::Full { .. } | Self::FirstUse { .. })
    }

    pub(super) fn full(path: &Path, needed: Option<u64>, source: Cause) -> Self {
        Self::Full { path: path.to_owned(), needed, free: free_bytes(path), source }
    }

    /// With the free bytes that there are now, after what could not be completed was removed.
    pub(super) fn measured(self) -> Self {
        match self {
            Self::Full { path, needed, source, .. } => Self::full(&path, needed, source),
            other => other,
        }
    }

    pub(super) fn cache(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match is_full(&source) {
            true => Self::full(&path, None, source.into()),
            false => Self::Cache { action, path, source },
        }
    }
}

fn room(needed: Option<u64>, free: Option<u64>) -> String {
    match (needed, free) {
        (Some(needed), Some(free)) => format!("it needs {needed} bytes, and {free} are free"),
        (Some(needed), None) => format!("it needs {needed} bytes"),
        (None, Some(free)) => format!("it needs more than the {free} bytes that are free"),
        (None, None) => "its disk is full".to_owned(),
    }
}

/// What an ordinary user may still write to the disk that holds `path`.
#[cfg(target_os = "linux")]
fn free_bytes(path: &Path) -> Option<u64> {
    let data = rustix::fs::statvfs(path.parent()?).ok()?;
    data.f_bavail.checked_mul(data.f_frsize)
}

#[cfg(not(target_os = "linux"))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

fn offline_hint(missing: &[Missing]) -> String {
    let place = missing.first().map_or("HOST/PATH".to_owned(), |missing| shown(&missing.url).into_owned());
    let place = place.split_once("://").map_or(place.as_str(), |(_, rest)| rest);
    let lock = match missing.iter().any(|missing| missing.checksum_file.is_some()) {
        true => ", with `--lock FILE` for what nobody signs",
        false => "",
    };
    format!(
        "run once without `--offline`, or use `--mirror DIR` where the file is `DIR/{place}`{lock}; \
         `imgbake fetch --to DIR` makes such a folder where there is a network"
    )
}

fn missing_list(missing: &[Missing]) -> String {
    let count = match missing.len() {
        1 => "1 file is".to_owned(),
        count => format!("{count} files are"),
    };
    let lines: String = missing.iter().map(|missing| format!("\n  {missing}")).collect();
    format!("{count} neither in the cache nor in a mirror folder:{lines}")
}

fn failure_list(failures: &[StoreError]) -> String {
    failures.iter().map(|failure| format!("\n  {}", with_causes(failure))).collect()
}

/// An error and its causes on one line.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

fn status_line(url: &str, status: u16) -> String {
    let url = shown(url);
    match status {
        404 | 410 => format!("there is no file at `{url}` (HTTP status {status})"),
        _ => format!("`{url}` is refused with HTTP status {status}"),
    }
}

/// A URL without the user name and password it may hold.
pub(super) fn shown(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..end).and_then(|host| host.rfind('@')).and_then(|at| rest.get(at + 1..)) {
        Some(bare) => format!("{scheme}://{bare}").into(),
        None => url.into(),
    }
}

/// Whether a full disk, or a full share of it, is behind the error.
pub(super) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(StoreError::Full { .. })) || error.downcast_ref().is_some_and(full) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_password() {
        let url = "https://me:s3cret@h:8443/a@b".to_owned();
        let errors = [
            StoreError::Unreachable { url: url.clone(), source: "x".into() },
            StoreError::Status { url: url.clone(), status: 404 },
            StoreError::Offline { missing: vec![Missing { url: url.clone(), checksum_file: Some(url.clone()) }] },
            StoreError::NotListed { file: url.clone(), name: "x".to_owned() },
        ];
        for error in errors {
            let text = format!("{error} {:?}", error.hint());
            assert!(!text.contains("s3cret"), "{text}");
            assert!(text.contains("h:8443/a@b"), "{text}");
        }
    }

    #[test]
    fn a_full_disk_has_a_hint_however_deep_it_lies() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let cache = StoreError::cache("write", "/c")(full());
        let unpack = StoreError::Unpack { name: "x".to_owned(), source: full().into() };
        for error in [cache, unpack] {
            let hint = error.hint().unwrap();
            assert!(hint.contains("imgbake cache prune") && hint.contains("--cache-dir"), "{hint}");
        }
    }
}
