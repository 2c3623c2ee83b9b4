//! A file on its way into the cache: written front to back, hashed while it is written, resumable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256, Sha512};

use super::StoreError;
use super::cache;
use super::error::is_full;
use crate::artifact::Digest;

/// Runs of zeros become holes in pieces of this size: a file system's usual block.
const BLOCK: usize = 4096;

/// A digest being computed. Every blob is named by its sha256; some are pinned by a sha512.
#[derive(Clone)]
struct Hashes {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hashes {
    fn new(want: &Digest) -> Self {
        Self { sha256: Sha256::new(), sha512: matches!(want, Digest::Sha512(_)).then(Sha512::new) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }
}

/// The sha256 of all that `reader` gives; `seen` is told of every piece.
pub(super) fn sha256_of(mut reader: impl Read, mut seen: impl FnMut(u64)) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        seen(read as u64);
    }
}

/// The file and what is known of its bytes so far. An empty one removes itself when dropped; one that holds
/// bytes stays, to be resumed.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hashes: Hashes,
    want: Digest,
    continued: bool,
    /// How long it will be, by who sends it.
    expected: Option<u64>,
}

impl Part {
    /// Opens the file at `path`, with what an earlier run left in it.
    pub(super) fn open(path: &Path, want: &Digest) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(StoreError::cache("create", path))?;
        let mut hashes = Hashes::new(want);
        let mut len = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(StoreError::cache("read", path))?;
            if read == 0 {
                break;
            }
            hashes.update(buffer.get(..read).unwrap_or_default());
            len += read as u64;
        }
        Ok(Self { path: path.to_owned(), file, len, hashes, want: want.clone(), continued: len > 0, expected: None })
    }

    /// Notes how long the file will be, if that is known.
    pub(super) fn expect(&mut self, size: Option<u64>) {
        self.expected = size;
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the bytes come from more than one answer, so that a wrong digest may be nobody's fault.
    pub(super) fn is_continued(&self) -> bool {
        self.continued
    }

    /// Notes that what follows comes from another answer than what is there.
    pub(super) fn resume(&mut self) {
        self.continued |= self.len > 0;
    }

    /// Forgets all bytes.
    pub(super) fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(StoreError::cache("write", &self.path))?;
        self.len = 0;
        self.hashes = Hashes::new(&self.want);
        self.continued = false;
        Ok(())
    }

    /// Appends `bytes`, leaving holes where whole blocks are zero.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hashes.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let to_boundary = BLOCK - usize::try_from(self.len % BLOCK as u64).unwrap_or_default();
            let (zero, run) = run(rest, to_boundary);
            let (now, later) = rest.split_at(run);
            if !zero {
                self.file
                    .seek(SeekFrom::Start(self.len))
                    .and_then(|_| self.file.write_all(now))
                    .map_err(|error| self.cannot_write(error))?;
            }
            self.len += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn cannot_write(&self, error: io::Error) -> StoreError {
        match is_full(&error) {
            true => StoreError::full(&self.path, self.expected, error.into()),
            false => StoreError::cache("write", &self.path)(error),
        }
    }

    /// The digest so far, by the algorithm that is wanted.
    pub(super) fn digest(&self) -> Digest {
        match &self.hashes.sha512 {
            Some(sha512) => Digest::Sha512(sha512.clone().finalize().into()),
            None => Digest::Sha256(self.sha256()),
        }
    }

    /// The sha256 so far.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hashes.sha256.clone().finalize().into()
    }

    /// Whether the bytes are those that are wanted.
    pub(super) fn is_complete(&self) -> bool {
        self.digest() == self.want
    }

    /// The file at its full length, to be published.
    pub(super) fn file(&self) -> Result<&File, StoreError> {
        self.file.set_len(self.len).map_err(|error| self.cannot_write(error))?;
        Ok(&self.file)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.len == 0 {
            let _ = cache::remove(&self.path);
        }
    }
}

/// Whether `bytes` begin with zeros, and how far that stays so in steps that end on block boundaries.
fn run(bytes: &[u8], first: usize) -> (bool, usize) {
    let step = |from: usize, size: usize| bytes.get(from..from.saturating_add(size).min(bytes.len()));
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut end = first.min(bytes.len());
    let zero = is_zero(step(0, end).unwrap_or_default());
    while let Some(block) = step(end, BLOCK) {
        if block.is_empty() || is_zero(block) != zero {
            break;
        }
        end += block.len();
    }
    (zero, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(bytes: &[u8]) -> Digest {
        Digest::Sha256(Sha256::digest(bytes).into())
    }

    #[test]
    fn bytes_come_out_as_they_went_in_and_zeros_become_holes() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 300_000];
        bytes[5] = 1;
        bytes[200_000..200_010].fill(7);
        let mut part = Part::open(&folder.path().join("p"), &want(&bytes)).unwrap();
        let mut rest = &bytes[..];
        for size in [1, 4095, 4096, 10_000, 1, 7777, 100_000, 1_000_000] {
            let (now, later) = rest.split_at(size.min(rest.len()));
            part.append(now).unwrap();
            rest = later;
        }
        assert!(part.is_complete());
        part.file().unwrap();
        assert_eq!(std::fs::read(folder.path().join("p")).unwrap(), bytes);
        #[cfg(target_os = "linux")]
        {
            let blocks = std::os::unix::fs::MetadataExt::blocks(&part.file().unwrap().metadata().unwrap());
            assert!(blocks * 512 < 100_000, "{blocks} blocks");
        }
    }

    #[test]
    fn an_interrupted_file_is_taken_up_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        let bytes: Vec<u8> = (0..=255).cycle().take(50_000).collect();
        let mut part = Part::open(&path, &want(&bytes)).unwrap();
        part.append(&bytes[..20_000]).unwrap();
        drop(part);
        let mut part = Part::open(&path, &want(&bytes)).unwrap();
        assert_eq!((part.len(), part.is_continued()), (20_000, true));
        part.append(&bytes[20_000..]).unwrap();
        assert!(part.is_complete());
        part.restart().unwrap();
        drop(part);
        assert!(!path.exists());
    }
}
