//! xz, by liblzma's threaded decoder: files packed by `xz -T` consist of blocks that decode side by side.
//! Streams may follow each other, padded with zeros as the format allows; anything else behind them is an error.

use liblzma::stream::{Action, Error, MtStreamBuilder, Status, Stream};

use super::sparse::SparseWriter;
use super::{BUFFER, ImageError, unpack_error};
use crate::disk::HostFile;
use crate::progress::Progress;

/// What an xz stream begins with.
pub(super) const MAGIC: [u8; 6] = *b"\xfd7zXZ\0";
/// Above this, fewer threads are used.
const THREADS_MEMORY: u64 = 72 * 1024 * 1024;
/// Above this, one thread would need too much: `xz -9` needs 65 MiB.
const MOST_MEMORY: u64 = 80 * 1024 * 1024;

/// Decodes all of `source`.
pub(super) fn decode(source: &HostFile, out: &mut SparseWriter<'_>, progress: &dyn Progress) -> Result<(), ImageError> {
    let mut input = Input { source, read: 0, buffer: vec![0; BUFFER], start: 0, end: 0 };
    let mut output = vec![0; BUFFER];
    let mut first = true;
    while input.next_stream(first)? {
        decode_stream(&mut input, &mut output, out, progress)?;
        first = false;
    }
    Ok(())
}

fn decode_stream(
    input: &mut Input<'_>,
    output: &mut [u8],
    out: &mut SparseWriter<'_>,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(64));
    let mut builder = MtStreamBuilder::new();
    builder.threads(u32::try_from(threads).unwrap_or(1)).timeout_ms(300);
    builder.memlimit_threading(THREADS_MEMORY).memlimit_stop(MOST_MEMORY);
    let mut stream: Stream = builder.decoder().map_err(|error| input.error(error))?;
    loop {
        input.fill()?;
        let action = if input.at_end() { Action::Finish } else { Action::Run };
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let status = stream.process(input.bytes(), output, action).map_err(|error| input.error(error))?;
        let used = usize::try_from(stream.total_in() - before_in).unwrap_or(0);
        let made = usize::try_from(stream.total_out() - before_out).unwrap_or(0);
        input.start += used;
        progress.advance(used as u64);
        out.write(output.get(..made).unwrap_or_default()).map_err(|error| unpack_error(input.source, error))?;
        match status {
            Status::StreamEnd => return Ok(()),
            // liblzma's word for "no progress possible": all input is there and the end is not.
            Status::MemNeeded if input.at_end() && made == 0 => return Err(input.corrupt("it is truncated")),
            _ => {}
        }
    }
}

/// The file, read in pieces.
struct Input<'source> {
    source: &'source HostFile,
    /// Bytes read into the buffer so far.
    read: u64,
    buffer: Vec<u8>,
    /// The part of the buffer that is not used yet.
    start: usize,
    end: usize,
}

impl Input<'_> {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn at_end(&self) -> bool {
        self.read == self.source.size()
    }

    /// Reads more if nothing is left in the buffer.
    fn fill(&mut self) -> Result<(), ImageError> {
        if self.start < self.end || self.at_end() {
            return Ok(());
        }
        let len = usize::try_from(self.source.size() - self.read).unwrap_or(usize::MAX).min(BUFFER);
        let (part, _) = self.buffer.split_at_mut(len);
        self.source.read_at(self.read, part).map_err(ImageError::Disk)?;
        self.read += len as u64;
        (self.start, self.end) = (0, len);
        Ok(())
    }

    /// Skips padding; answers whether a stream begins here rather than the file ending.
    fn next_stream(&mut self, first: bool) -> Result<bool, ImageError> {
        let mut padding = 0_u64;
        loop {
            self.fill()?;
            match self.bytes() {
                [] if padding % 4 == 0 => return Ok(false),
                [0, ..] if !first => {
                    self.start += 1;
                    padding += 1;
                }
                [byte, ..] if *byte == MAGIC[0] && padding % 4 == 0 => return Ok(true),
                _ => return Err(self.corrupt("something follows the compressed data")),
            }
        }
    }

    fn corrupt(&self, what: &str) -> ImageError {
        ImageError::Corrupt { path: self.source.path().display().to_string(), what: what.to_owned() }
    }

    fn error(&self, error: Error) -> ImageError {
        match error {
            Error::MemLimit | Error::Mem => ImageError::Unsupported {
                path: self.source.path().display().to_string(),
                format: "compressed with a dictionary of more than 64 MiB",
                convert: "unxz IMAGE.xz",
            },
            // The first stream has its magic number, so it is a later one.
            Error::Format => self.corrupt("something follows the compressed data"),
            error => self.corrupt(&error.to_string()),
        }
    }
}
