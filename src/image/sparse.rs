//! Writes a file and leaves out what is zero.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Blocks of this size are left out: the block size of nearly every file system.
const BLOCK: usize = 4096;

/// A file written from its beginning, with holes.
pub(super) struct SparseWriter<'file> {
    file: &'file File,
    /// Bytes taken.
    position: u64,
    /// Where the file's cursor stands.
    cursor: u64,
}

impl<'file> SparseWriter<'file> {
    /// Over `file`, which is empty and whose cursor stands at its beginning.
    pub fn new(file: &'file File) -> Self {
        Self { file, position: 0, cursor: 0 }
    }

    /// Takes the next bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (zeros, rest) = bytes.split_at(leading(bytes, self.position, true));
            self.position += zeros.len() as u64;
            let (data, rest) = rest.split_at(leading(rest, self.position, false));
            if !data.is_empty() {
                if self.cursor != self.position {
                    self.cursor = self.file.seek(SeekFrom::Start(self.position))?;
                }
                self.file.write_all(data)?;
                self.position += data.len() as u64;
                self.cursor = self.position;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Gives the file its size, which it answers.
    pub fn finish(self) -> io::Result<u64> {
        self.file.set_len(self.position)?;
        Ok(self.position)
    }
}

/// How many of `bytes`, which begin at `position` of the file, belong to blocks that are all zero, or are not.
fn leading(bytes: &[u8], position: u64, zero: bool) -> usize {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let within = usize::try_from((position + done as u64) % BLOCK as u64).unwrap_or(0);
        let (block, _) = rest.split_at((BLOCK - within).min(rest.len()));
        if is_zero(block) != zero {
            break;
        }
        done += block.len();
    }
    done
}

/// In words of 16 bytes, which the compiler makes vector instructions of.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}
