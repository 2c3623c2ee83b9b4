//! Where an image goes: standard output, a file, a device.
//!
//! A file gets its name when it is complete, a device its first MiB last; until [`Sink::commit`] neither can be
//! taken for a finished image. Holes stay holes and the kernel copies where the sink is a regular file, standard
//! output included (`> node.img`); a pipe gets a plain stream. The bytes are the same in all cases.
//! Nothing is forced to the disk after a file is written: like `cp`, unlike a database.

#[cfg(target_os = "linux")]
mod device;
mod target;

use std::fs::File;
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::path::Path;

use target::{Redirected, Target};

/// Bytes collected before they are written.
const BUFFER: usize = 1024 * 1024;
/// Fewer zeros than this are written rather than skipped.
const HOLE: u64 = 4096;
/// Fewer bytes than this are not worth a system call of their own.
const KERNEL_COPY: u64 = 128 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What keeps an image from being written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The reader of a pipe has gone.
    #[error("the reader of {name} has gone")]
    BrokenPipe {
        /// The pipe.
        name: String,
    },
    /// The file cannot be made or opened.
    #[error("cannot write to `{path}`")]
    Create {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// No room.
    #[error("no space left for {name}: the image has {size} bytes, {written} of them were reached")]
    Full {
        /// The sink.
        name: String,
        /// Bytes of the image, holes included.
        size: u64,
        /// How far it came.
        written: u64,
        /// The system's error.
        source: io::Error,
    },
    /// A device is smaller than the image.
    #[error("`{path}` has {has} bytes, the image {size}")]
    TooSmall {
        /// The device.
        path: String,
        /// Its size.
        has: u64,
        /// The image's.
        size: u64,
    },
    /// A device is in use.
    #[error("`{path}` is in use{}", mounted.as_ref().map(|at| format!(": it is mounted at `{at}`")).unwrap_or_default())]
    InUse {
        /// The device.
        path: String,
        /// Where it or a partition of it is mounted, if that is why.
        mounted: Option<String>,
    },
    /// The kind of file cannot be written to.
    #[error("cannot write an image to `{path}`: it is {what}")]
    Unsupported {
        /// The file.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// Writing failed.
    #[error("cannot write byte {written} of {name}")]
    Write {
        /// The sink.
        name: String,
        /// How far it came.
        written: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The finished file could not get its name.
    #[error("cannot give the finished image the name `{path}`")]
    Rename {
        /// The name.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl SinkError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Create { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("make the folder first, or choose another".into()),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("choose a folder you may write to".into())
                }
                _ => None,
            },
            Self::Full { size, .. } => Some(format!("choose a place with {} MiB free", size.div_ceil(1024 * 1024))),
            Self::InUse { mounted: Some(at), .. } => Some(format!("unmount it first: `umount {at}`")),
            Self::Unsupported { .. } => Some("name a file, as in `-o node.img`".into()),
            Self::TooSmall { .. } => Some("use a larger card, or a smaller `--size`".into()),
            _ => None,
        }
    }
}

/// Takes an image from its first byte to its last.
#[must_use = "the image gets its name with commit()"]
pub struct Sink {
    name: String,
    out: Out,
    /// Bytes collected that belong before `position`.
    buffer: Vec<u8>,
    /// Bytes of the image taken so far, those in the buffer and holes included.
    position: u64,
    size: u64,
}

enum Out {
    /// Bytes one after the other.
    Stream(Box<dyn Write + Send>, bool),
    /// A regular file, whose image begins at `base`; `at` is where its cursor stands.
    File { target: Target, base: u64, at: u64 },
    #[cfg(target_os = "linux")]
    Device(device::Device),
}

impl Sink {
    /// Standard output.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let out = match target::redirected_stdout() {
            Some((file, base)) => Out::File { target: Target::Foreign(Redirected::new(file, base)), base, at: base },
            None => Out::Stream(Box::new(io::stdout()), terminal),
        };
        Self::new("standard output".to_owned(), out)
    }

    /// Any stream.
    pub fn stream(name: &str, stream: impl Write + Send + 'static) -> Self {
        Self::new(name.to_owned(), Out::Stream(Box::new(stream), false))
    }

    /// What `path` is: `-` for standard output, a file that is made or replaced, a pipe or character device that
    /// takes a stream, a block device (Linux only). A new file is readable by its owner only: images hold secrets.
    ///
    /// # Errors
    /// [`SinkError::Create`], [`SinkError::Unsupported`], [`SinkError::InUse`].
    pub fn file(path: &Path) -> Result<Self, SinkError> {
        if path == Path::new("-") {
            return Ok(Self::stdout());
        }
        let name = format!("`{}`", path.display());
        let create = |source| SinkError::Create { path: path.display().to_string(), source };
        let out = match kind(path).map_err(create)? {
            Kind::Regular => Out::File { target: Target::create(path).map_err(create)?, base: 0, at: 0 },
            Kind::Stream => {
                let file = File::options().write(true).open(path).map_err(create)?;
                let terminal = file.is_terminal();
                Out::Stream(Box::new(file), terminal)
            }
            #[cfg(target_os = "linux")]
            Kind::Block => Out::Device(device::Device::open(path)?),
            Kind::Other(what) => return Err(SinkError::Unsupported { path: path.display().to_string(), what }),
        };
        Ok(Self::new(name, out))
    }

    fn new(name: String, out: Out) -> Self {
        Self { name, out, buffer: Vec::new(), position: 0, size: 0 }
    }

    /// Whether a person would see the image's bytes.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.out, Out::Stream(_, true))
    }

    /// Says how large the image will be.
    ///
    /// # Errors
    /// [`SinkError::TooSmall`] for a device.
    pub fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        self.size = size;
        match &self.out {
            #[cfg(target_os = "linux")]
            Out::Device(device) => device.fits(size),
            _ => Ok(()),
        }
    }

    /// Takes the image's next bytes.
    ///
    /// # Errors
    /// [`SinkError::BrokenPipe`], [`SinkError::Full`], [`SinkError::Write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.position += bytes.len() as u64;
            return self.put(self.position - bytes.len() as u64, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Takes `len` zeros: a hole where there can be one.
    ///
    /// # Errors
    /// As [`Sink::write`].
    pub fn zeros(&mut self, mut len: u64) -> Result<(), SinkError> {
        if len >= HOLE && matches!(self.out, Out::File { .. }) {
            self.flush()?;
            self.position += len;
            return Ok(());
        }
        while len > 0 {
            let (zeros, _) = ZEROS.split_at(usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len()));
            self.write(zeros)?;
            len -= zeros.len() as u64;
        }
        Ok(())
    }

    /// Lets the kernel copy the image's next `len` bytes from `offset` of `file`, and answers how many it did copy:
    /// the caller hands over the others. None where the sink is no regular file or the file systems do not agree.
    ///
    /// # Errors
    /// As [`Sink::write`].
    pub fn copy(&mut self, file: &File, offset: u64, len: u64) -> Result<u64, SinkError> {
        if len < KERNEL_COPY || !matches!(self.out, Out::File { .. }) {
            return Ok(0);
        }
        self.flush()?;
        let Out::File { target, base, .. } = &self.out else { return Ok(0) };
        let copied = target::kernel_copy(file, offset, target.file(), base + self.position, len);
        self.position += copied;
        Ok(copied)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let start = self.position - buffer.len() as u64;
        let result = if buffer.is_empty() { Ok(()) } else { self.put(start, &buffer) };
        buffer.clear();
        self.buffer = buffer;
        result
    }

    /// Writes `bytes`, which begin at `start` of the image.
    fn put(&mut self, start: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let written = match &mut self.out {
            Out::Stream(stream, _) => stream.write_all(bytes),
            Out::File { target, base, at } => put_at(target.file(), at, *base + start, bytes),
            #[cfg(target_os = "linux")]
            Out::Device(device) => device.write(start, bytes),
        };
        written.map_err(|source| self.error(start, source))
    }

    fn error(&self, written: u64, source: io::Error) -> SinkError {
        let name = self.name.clone();
        match source.kind() {
            io::ErrorKind::BrokenPipe => SinkError::BrokenPipe { name },
            io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => {
                SinkError::Full { name, size: self.size, written, source }
            }
            _ => SinkError::Write { name, written, source },
        }
    }

    /// Completes the image: the file gets its name, the device its beginning, the pipe its last bytes.
    ///
    /// # Errors
    /// As [`Sink::write`]; [`SinkError::Rename`].
    pub fn commit(mut self) -> Result<(), SinkError> {
        self.flush()?;
        let end = self.position;
        let done = match &mut self.out {
            Out::Stream(stream, _) => stream.flush(),
            Out::File { target, base, .. } => finish(target.file(), *base + end),
            #[cfg(target_os = "linux")]
            Out::Device(device) => device.finish(),
        };
        done.map_err(|source| self.error(end, source))?;
        match self.out {
            Out::File { target, .. } => target.name(),
            _ => Ok(()),
        }
    }
}

fn put_at(mut file: &File, at: &mut u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    if *at != offset {
        *at = file.seek(SeekFrom::Start(offset))?;
    }
    file.write_all(bytes)?;
    *at += bytes.len() as u64;
    Ok(())
}

/// Lets a file end at `end`, even where it ends in a hole, and its cursor stand there.
fn finish(mut file: &File, end: u64) -> io::Result<()> {
    if file.metadata()?.len() < end {
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end)).map(drop)
}

enum Kind {
    Regular,
    Stream,
    #[cfg(target_os = "linux")]
    Block,
    Other(&'static str),
}

fn kind(path: &Path) -> io::Result<Kind> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kind::Regular),
        Err(error) => return Err(error),
    };
    if kind.is_file() {
        return Ok(Kind::Regular);
    }
    if kind.is_dir() {
        return Ok(Kind::Other("a folder"));
    }
    Ok(special(kind))
}

#[cfg(unix)]
fn special(kind: std::fs::FileType) -> Kind {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        kind if kind.is_fifo() || kind.is_char_device() => Kind::Stream,
        #[cfg(target_os = "linux")]
        kind if kind.is_block_device() => Kind::Block,
        kind if kind.is_block_device() => Kind::Other("a device, which only Linux hosts can write"),
        _ => Kind::Other("no regular file"),
    }
}

#[cfg(not(unix))]
fn special(_kind: std::fs::FileType) -> Kind {
    Kind::Other("a device, which only Linux hosts can write")
}

#[cfg(test)]
mod tests;
