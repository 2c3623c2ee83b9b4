//! Files of the host: read at offsets from any thread, with their holes known where the host tells
//! (`SEEK_DATA`, Linux; elsewhere a file is one run of data).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Disk, DiskError, Piece, Source, check};

/// A host file to be read, shared by everything that maps it.
#[derive(Debug)]
pub struct HostFile {
    path: PathBuf,
    handle: Handle,
    size: u64,
}

#[derive(Debug)]
enum Handle {
    Kept(File),
    /// Opened for each use, if it was last modified at this time.
    Reopened(SystemTime),
}

impl HostFile {
    /// Opens the file at `path` and keeps it open: what happens to its name does not matter from now on.
    ///
    /// # Errors
    /// The system's, if the file cannot be opened or is no regular file.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Arc::new(Self { path: path.to_owned(), handle: Handle::Kept(file), size }))
    }

    /// The file at `path`, opened anew for each use: for trees of more files than a process may have open. It
    /// has to stay as it is; a file of another size or time of modification is an error when it is used.
    ///
    /// # Errors
    /// As [`HostFile::open`].
    pub fn reopened(path: &Path) -> io::Result<Arc<Self>> {
        let metadata = File::open(path)?.metadata()?;
        let handle = Handle::Reopened(metadata.modified()?);
        Ok(Arc::new(Self { path: path.to_owned(), handle, size: metadata.len() }))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hands `action` the open file, for the system calls that copy between files.
    ///
    /// # Errors
    /// Those of `action`; the system's if the file cannot be opened again.
    pub fn with_file<T>(&self, action: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let modified = match &self.handle {
            Handle::Kept(file) => return action(file),
            Handle::Reopened(modified) => modified,
        };
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.len() != self.size || metadata.modified()? != *modified {
            return Err(io::Error::other("the file was changed while it was in use"));
        }
        action(&file)
    }

    /// Fills `buffer` from `offset` of the file.
    ///
    /// # Errors
    /// [`DiskError::Io`], also if the file is shorter.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.with_file(|file| read_exact_at(file, offset, buffer)).map_err(|source| DiskError::Io {
            path: self.path.display().to_string(),
            offset,
            len: buffer.len() as u64,
            source,
        })
    }

    /// The runs of data within `range`, in order; everything between them reads as zero.
    fn data_runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        // A file that cannot be opened again is data: who reads it learns why.
        self.with_file(|file| Ok(data_runs(file, range.clone()))).unwrap_or_else(|_| vec![range])
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                offset += read as u64;
                buffer = buffer.split_at_mut(read).1;
            }
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn data_runs(file: &File, range: Range<u64>) -> Vec<Range<u64>> {
    use rustix::fs::{SeekFrom, seek};
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        // An error other than "no more data" means that the file system cannot tell: all of it is data.
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.max(at),
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        if start >= range.end {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(range.end).clamp(start + 1, range.end);
        runs.push(start..end);
        at = end;
    }
    runs
}

#[cfg(not(target_os = "linux"))]
fn data_runs(_file: &File, range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

/// A run of bytes in a host file.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Arc<HostFile>,
    offset: u64,
    len: u64,
}

impl FileRange {
    /// `len` bytes from `offset` of `file`.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if the file is shorter.
    pub fn new(file: Arc<HostFile>, offset: u64, len: u64) -> Result<Self, DiskError> {
        check(offset, len, file.size)?;
        Ok(Self { file, offset, len })
    }

    /// All of `file`.
    #[must_use]
    pub fn whole(file: Arc<HostFile>) -> Self {
        let len = file.size;
        Self { file, offset: 0, len }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<HostFile> {
        &self.file
    }

    /// First byte's offset in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `skip` bytes into this range.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if this range is shorter.
    pub fn slice(&self, skip: u64, len: u64) -> Result<Self, DiskError> {
        check(skip, len, self.len)?;
        Ok(Self { file: Arc::clone(&self.file), offset: self.offset + skip, len })
    }

    /// Fills `buffer` from `skip` bytes into this range.
    ///
    /// # Errors
    /// [`DiskError::OutOfBounds`] if this range is shorter, [`DiskError::Io`] if the host fails.
    pub fn read_at(&self, skip: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check(skip, buffer.len() as u64, self.len)?;
        self.file.read_at(self.offset + skip, buffer)
    }

    /// What this range is made of, its first byte placed at `at` of a disk.
    pub(super) fn pieces(&self, at: u64) -> Vec<Piece> {
        let end = self.offset + self.len;
        let mut pieces = Vec::new();
        let mut done = self.offset;
        let zero =
            |from: u64, to: u64| Piece { offset: at + (from - self.offset), len: to - from, source: Source::Zero };
        for run in self.file.data_runs(self.offset..end) {
            if run.start > done {
                pieces.push(zero(done, run.start));
            }
            let len = run.end - run.start;
            let range = Self { file: Arc::clone(&self.file), offset: run.start, len };
            pieces.push(Piece { offset: at + (run.start - self.offset), len, source: Source::File(range) });
            done = run.end;
        }
        if done < end {
            pieces.push(zero(done, end));
        }
        pieces
    }
}

/// A raw disk image in a file.
#[derive(Debug, Clone)]
pub struct FileDisk {
    range: FileRange,
}

impl FileDisk {
    /// The disk whose bytes are those of `file`.
    #[must_use]
    pub fn new(file: Arc<HostFile>) -> Self {
        Self { range: FileRange::whole(file) }
    }
}

impl Disk for FileDisk {
    fn size(&self) -> u64 {
        self.range.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.range.read_at(offset, buffer)
    }

    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError> {
        let len = range.end.saturating_sub(range.start);
        Ok(self.range.slice(range.start, len)?.pieces(range.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_file_must_stay_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let (kept, reopened) = (HostFile::open(&path).unwrap(), HostFile::reopened(&path).unwrap());
        let mut buffer = [0; 2];
        reopened.read_at(1, &mut buffer).unwrap();
        assert_eq!(&buffer, b"bc");
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        assert!(kept.read_at(0, &mut buffer).is_ok());
        assert!(reopened.read_at(0, &mut buffer).is_err());
        std::fs::write(&path, b"abcd").unwrap();
        let error = reopened.read_at(0, &mut buffer).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the file was changed while it was in use");
    }
}
