//! What a file in the cache held when it was finished, so that damage is found later.
//!
//! Unpacked images are mostly holes. Only chunks that are not all zero are hashed, each with its offset, so that holes
//! are not read and the digest is the same whether a run of zeros is a hole or not.

use std::fmt;
use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::artifact::Digest;
use crate::disk::{Disk, DiskError, FileDisk, HostFile, Source};
use crate::progress::Progress;

/// Bytes that are hashed together, or skipped together.
const CHUNK: u64 = 64 << 10;

/// The digest of a file's size and of its chunks that are not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum(pub(super) Digest);

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Sum {
    /// The sum of `file`, of which only what is data is read; `step` is what the user is told.
    pub(super) fn of(file: &Arc<HostFile>, step: &str, progress: &dyn Progress) -> io::Result<Self> {
        progress.begin(step, Some(file.size()));
        let sum = Self::read(file, progress);
        progress.end();
        sum.map(Self).map_err(io::Error::other)
    }

    fn read(file: &Arc<HostFile>, progress: &dyn Progress) -> Result<Digest, DiskError> {
        let disk = FileDisk::new(Arc::clone(file));
        let size = disk.size();
        let mut hash = Sha256::new();
        hash.update(size.to_le_bytes());
        let mut buffer = Vec::new();
        // Up to here every chunk was looked at: a chunk can hold several pieces.
        let mut done = 0;
        for piece in disk.pieces(0..size)? {
            let end = piece.offset.saturating_add(piece.len);
            if matches!(piece.source, Source::Zero) {
                progress.advance(piece.len);
                continue;
            }
            let mut at = done.max(piece.offset - piece.offset % CHUNK);
            while at < end {
                let len = CHUNK.min(size.saturating_sub(at));
                buffer.resize(usize::try_from(len).unwrap_or_default(), 0);
                disk.read_at(at, &mut buffer)?;
                if buffer.iter().any(|byte| *byte != 0) {
                    hash.update(at.to_le_bytes());
                    hash.update(&buffer);
                }
                at = at.saturating_add(CHUNK);
            }
            done = at;
            progress.advance(piece.len);
        }
        Ok(Digest::Sha256(hash.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};

    use super::*;
    use crate::progress::Silent;

    fn sum(pieces: &[(u64, &[u8])], size: u64) -> Sum {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = File::create(&path).unwrap();
        for (at, bytes) in pieces {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file.set_len(size).unwrap();
        Sum::of(&HostFile::open(&path).unwrap(), "read", &Silent).unwrap()
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_all_else_is_not() {
        let size = 1 << 20;
        let whole = sum(&[(300_000, b"a"), (310_000, b"b"), (700_000, b"c")], size);
        let mut flat = vec![0; 1 << 20];
        (flat[300_000], flat[310_000], flat[700_000]) = (b'a', b'b', b'c');
        assert_eq!(whole, sum(&[(0, &flat)], size));
        assert_ne!(whole, sum(&[(300_000, b"a"), (310_000, b"b"), (700_001, b"c")], size));
        assert_ne!(whole, sum(&[(300_000, b"a"), (310_000, b"b"), (765_536, b"c")], size));
        assert_ne!(whole, sum(&[(300_000, b"a"), (310_000, b"b"), (700_000, b"c")], size + 1));
        assert_ne!(sum(&[], 0), sum(&[], 1));
    }
}
