//! What nobody signed is pinned on first use: from then on the digest that it had then counts.
//!
//! The pins are a text in the form of the lock file, so that an entry can be moved there, or removed by who knows that a
//! change is right.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Pins, StoreError};
use crate::artifact::Digest;

const HEAD: &str = "# Files that nobody signed, with the digests they had when imgbake first used them. A file that has\n\
                    # another digest now is refused. Remove an entry if you know that its file was rightly replaced.\n\
                    artifacts:\n";

/// The file of pins.
#[derive(Debug)]
pub(super) struct FirstUse {
    path: PathBuf,
    /// What was read of it, until it is written.
    read: Mutex<Option<Pins>>,
}

impl FirstUse {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The digest that the file at `url` had.
    pub(super) fn digest(&self, url: &str) -> Result<Option<Digest>, StoreError> {
        let mut read = self.read();
        let pins = match read.take() {
            Some(pins) => pins,
            None => self.parse()?,
        };
        Ok(read.insert(pins).digest(url).cloned())
    }

    /// Pins `digest`, unless there is a pin already; answers the one that stands. Nobody else may be writing the file.
    pub(super) fn pin(&self, url: &str, digest: &Digest) -> Result<Digest, StoreError> {
        *self.read() = None;
        if let Some(earlier) = self.parse()?.digest(url) {
            return Ok(earlier.clone());
        }
        let mut text = self.text()?.unwrap_or_else(|| HEAD.to_owned());
        if !text.ends_with('\n') {
            text.push('\n');
        }
        // A JSON string is a YAML string, whatever is in it.
        let quoted = serde_json::Value::from(url);
        text.push_str(&format!("  - url: {quoted}\n    {}: {digest}\n", digest.algorithm()));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(".first-use-").tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| StoreError::FirstUse { path: self.path.clone(), source })?;
        Ok(digest.clone())
    }

    fn read(&self) -> MutexGuard<'_, Option<Pins>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(&self) -> Result<Pins, StoreError> {
        // Without entries it is no list to the parser.
        match self.text()?.filter(|text| text.contains("\n  - ")) {
            Some(text) => Pins::parse(&text, &self.path),
            None => Ok(Pins::default()),
        }
    }

    fn text(&self) -> Result<Option<String>, StoreError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::FirstUse { path: self.path.clone(), source }),
        }
    }
}
