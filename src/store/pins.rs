//! `imgbake.lock`: every artifact by URL and digest, and what each version asked for became, so that nothing is resolved
//! anew.
//!
//! ```yaml
//! version: 1
//! releases:
//!   - name: kubernetes
//!     asked: "1.36"
//!     release: 1.36.4
//! artifacts:
//!   - url: https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm
//!     name: kubernetes
//!     release: 1.36.4
//!     sha256: 6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad
//!     size: 70123456
//! ```
//!
//! `key` is the fingerprint of the key whose signature vouched. Only `artifacts`, `url` and a digest must be there: digests
//! written by hand pin what they speak of. With `version` the file holds all that its nodes need, and
//! what is not in it is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::StoreError;
use crate::artifact::{Digest, Locked};

/// The digests that the user's lock file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    path: PathBuf,
    /// Whether it is to hold all that is used.
    is_complete: bool,
    /// By component and by what was asked for.
    pub(super) releases: BTreeMap<(String, String), String>,
    /// By URL.
    pub(super) artifacts: BTreeMap<String, Pin>,
}

/// One artifact in a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The component or base image it belongs to.
    pub name: Option<String>,
    /// Which release of that it is.
    pub release: Option<String>,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as it was announced.
    pub size: Option<u64>,
    /// Fingerprint of the key whose signature vouched for the digest.
    pub key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    version: Option<Spanned<u64>>,
    #[serde(default)]
    releases: Vec<Release>,
    artifacts: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    name: String,
    asked: String,
    release: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: Spanned<String>,
    name: Option<String>,
    release: Option<String>,
    sha256: Option<Spanned<String>>,
    sha512: Option<Spanned<String>>,
    size: Option<u64>,
    key: Option<String>,
}

impl Pins {
    /// Reads the lock file at `path`.
    ///
    /// # Errors
    /// [`StoreError::Read`], and [`StoreError::LockFile`] as [`Pins::parse`].
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let text = fs::read_to_string(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Parses a lock file's text; `path` is its name in messages.
    ///
    /// # Errors
    /// [`StoreError::LockFile`] with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, StoreError> {
        let error = |at: serde_saphyr::Location, message: String| StoreError::LockFile {
            path: path.to_owned(),
            line: at.line(),
            column: at.column(),
            message,
        };
        let file: LockFile = serde_saphyr::from_str(text).map_err(|cause| {
            let at = cause.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
            error(at, UserMessageFormatter.format_message(cause.without_snippet()).escape_debug().to_string())
        })?;
        if let Some(version) = file.version.as_ref().filter(|version| version.value != 1) {
            let message = format!("version {} of the lock file is not known, only 1", version.value);
            return Err(error(version.referenced, message));
        }
        let mut artifacts = BTreeMap::new();
        for entry in file.artifacts {
            let at = entry.referenced;
            let Entry { url, name, release, sha256, sha512, size, key } = entry.value;
            let (algorithm, text) = match (sha256, sha512) {
                (Some(text), None) => ("sha256", text),
                (None, Some(text)) => ("sha512", text),
                _ => return Err(error(at, "expected one of `sha256` and `sha512`".to_owned())),
            };
            let digest: Digest = text.value.parse().map_err(|cause| error(text.referenced, format!("{cause}")))?;
            if digest.algorithm() != algorithm {
                return Err(error(
                    text.referenced,
                    format!("`{digest}` is a {}, not a {algorithm}", digest.algorithm()),
                ));
            }
            let pin = Pin { name, release, digest, size, key };
            if artifacts.insert(url.value.clone(), pin).is_some() {
                return Err(error(url.referenced, format!("`{}` is listed twice", url.value)));
            }
        }
        let releases = file.releases.into_iter().map(|entry| ((entry.name, entry.asked), entry.release)).collect();
        Ok(Self { path: path.to_owned(), is_complete: file.version.is_some(), releases, artifacts })
    }

    /// A lock file of `imgbake lock` that holds nothing yet; `path` is its name in messages.
    #[must_use]
    pub fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), is_complete: true, ..Self::default() }
    }

    /// What it says, for those who choose by it.
    #[must_use]
    pub fn locked(&self) -> Locked {
        let digests = self.artifacts.iter().map(|(url, pin)| (url.clone(), pin.digest.clone()));
        Locked { releases: self.releases.clone(), digests: digests.collect() }
    }

    /// What it says of the artifact at `url`.
    #[must_use]
    pub fn pin(&self, url: &str) -> Option<&Pin> {
        self.artifacts.get(url)
    }

    /// Sets what it says of the artifact at `url`.
    pub fn insert(&mut self, url: &str, pin: Pin) {
        self.artifacts.insert(url.to_owned(), pin);
    }

    /// Sets what asking for `asked` leads to. Where that was another release, which nothing else leads to, its artifacts are
    /// dropped.
    pub fn choose(&mut self, name: &str, asked: &str, release: &str) {
        let key = (name.to_owned(), asked.to_owned());
        let Some(old) = self.releases.insert(key, release.to_owned()).filter(|old| old != release) else { return };
        if !self.releases.iter().any(|((of, _), release)| of == name && *release == old) {
            self.artifacts.retain(|_, pin| pin.name.as_deref() != Some(name) || pin.release.as_ref() != Some(&old));
        }
    }

    /// Whether what it does not hold is refused.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Says whether what it does not hold is refused.
    pub fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// The digest of the artifact at `url`.
    #[must_use]
    pub fn digest(&self, url: &str) -> Option<&Digest> {
        self.artifacts.get(url).map(|pin| &pin.digest)
    }

    /// The lock file's name in messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad";

    fn message(text: &str) -> String {
        Pins::parse(text, Path::new("imgbake.lock")).unwrap_err().to_string()
    }

    #[test]
    fn pins_are_found_by_url() {
        let text = format!("artifacts:\n  - url: https://a/b\n    sha256: {HEX}\n");
        let pins = Pins::parse(&text, Path::new("imgbake.lock")).unwrap();
        assert_eq!(pins.digest("https://a/b").map(Digest::to_string).as_deref(), Some(HEX));
        assert_eq!(pins.digest("https://a/c"), None);
    }

    #[test]
    fn a_malformed_lock_file_is_refused_with_line_and_column() {
        let start = "artifacts:\n  - url: https://a/b\n";
        for (text, expected) in [
            (format!("{start}    sha256: [\n"), "line 3, column 13: expected string scalar".to_owned()),
            (
                format!("{start}    md5: abc\n"),
                "line 3, column 5: unknown field `md5`, expected one of url, name, release, sha256, sha512, size, key"
                    .to_owned(),
            ),
            (start.to_owned(), "line 2, column 5: expected one of `sha256` and `sha512`".to_owned()),
            (
                format!("{start}    sha256: abc\n"),
                "line 3, column 13: `abc` is not a digest: expected 64 (sha256) or 128 (sha512) hexadecimal digits"
                    .to_owned(),
            ),
            (format!("{start}    sha512: {HEX}\n"), format!("line 3, column 13: `{HEX}` is a sha256, not a sha512")),
            (
                format!("{start}    sha256: {HEX}\n  - url: https://a/b\n    sha256: {HEX}\n"),
                "line 4, column 10: `https://a/b` is listed twice".to_owned(),
            ),
            (
                "artifact: []\n".to_owned(),
                "line 1, column 1: unknown field `artifact`, expected one of version, releases, artifacts".to_owned(),
            ),
            (
                "version: 2\nartifacts: []\n".to_owned(),
                "line 1, column 10: version 2 of the lock file is not known, only 1".to_owned(),
            ),
        ] {
            assert_eq!(message(&text), format!("cannot parse `imgbake.lock`: {expected}"), "{text}");
        }
    }
}
