//! `imgbake.lock`: every artifact by URL and digest, so that nothing is resolved anew.
//!
//! ```yaml
//! artifacts:
//!   - url: https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm
//!     sha256: 6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::StoreError;
use crate::artifact::Digest;

/// The digests that the user's lock file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    path: PathBuf,
    artifacts: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    artifacts: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: Spanned<String>,
    sha256: Option<Spanned<String>>,
    sha512: Option<Spanned<String>>,
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
        let mut artifacts = BTreeMap::new();
        for entry in file.artifacts {
            let at = entry.referenced;
            let Entry { url, sha256, sha512 } = entry.value;
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
            if artifacts.insert(url.value.clone(), digest).is_some() {
                return Err(error(url.referenced, format!("`{}` is listed twice", url.value)));
            }
        }
        Ok(Self { path: path.to_owned(), artifacts })
    }

    /// The digest of the artifact at `url`.
    #[must_use]
    pub fn digest(&self, url: &str) -> Option<&Digest> {
        self.artifacts.get(url)
    }

    /// These pins and more; of two for one URL the new one stays.
    pub(super) fn with(mut self, more: BTreeMap<String, Digest>) -> Self {
        self.artifacts.extend(more);
        self
    }

    /// The lock file's name in messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Pins {
    /// As a lock file has them, sorted by URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.artifacts.is_empty() {
            return writeln!(f, "artifacts: []");
        }
        writeln!(f, "artifacts:")?;
        // A JSON string is a YAML string, whatever is in it.
        self.artifacts.iter().try_for_each(|(url, digest)| {
            writeln!(f, "  - url: {}\n    {}: {digest}", serde_json::Value::from(url.as_str()), digest.algorithm())
        })
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
    fn a_lock_file_that_is_written_is_read_again() {
        let long = "ab".repeat(64);
        let more = [("https://a/b", HEX), ("https://a/\"quoted\": #x", long.as_str())];
        let more = more.map(|(url, digest)| (url.to_owned(), digest.parse().unwrap())).into();
        for pins in [Pins::default(), Pins::default().with(more)] {
            assert_eq!(Pins::parse(&pins.to_string(), Path::new("")).unwrap(), pins);
        }
    }

    #[test]
    fn a_malformed_lock_file_is_refused_with_line_and_column() {
        let start = "artifacts:\n  - url: https://a/b\n";
        for (text, expected) in [
            (format!("{start}    sha256: [\n"), "line 3, column 13: expected string scalar".to_owned()),
            (
                format!("{start}    md5: abc\n"),
                "line 3, column 5: unknown field `md5`, expected one of url, sha256, sha512".to_owned(),
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
                "line 1, column 1: unknown field `artifact`, expected one of artifacts".to_owned(),
            ),
        ] {
            assert_eq!(message(&text), format!("cannot parse `imgbake.lock`: {expected}"), "{text}");
        }
    }
}
