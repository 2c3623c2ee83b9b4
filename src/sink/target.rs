//! A regular file that gets its name when it is complete, and what only Linux can do with one.
//!
//! On Linux the file has no name at all before (`O_TMPFILE`), so that not even `kill -9` leaves one behind; where
//! the file system cannot do that, and elsewhere, it has a hidden name beside the final one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::SinkError;

/// Where a regular file's bytes go.
pub(super) enum Target {
    /// An open file that has its name already: standard output.
    Foreign(Redirected),
    /// A new file without a name.
    #[cfg(target_os = "linux")]
    Nameless(File, PathBuf),
    /// A new file with a hidden name, removed on drop.
    Hidden(File, TempPath, PathBuf),
}

impl Target {
    /// A new file that is to be called `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        // A link is followed: what it leads to is replaced, not the link.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let present = std::fs::metadata(&path).ok();
        if present.as_ref().is_some_and(|metadata| metadata.permissions().readonly()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let target = match nameless(&folder) {
            #[cfg(target_os = "linux")]
            Some(file) => Self::Nameless(file, path),
            _ => {
                let made = tempfile::Builder::new().prefix(&prefix(&path)).tempfile_in(&folder);
                // The hidden name in tempfile's message means nothing to the user, who gave another.
                let (file, hidden) = made.map_err(|error| io::Error::from(error.kind()))?.into_parts();
                Self::Hidden(file, hidden, path)
            }
        };
        if let Some(metadata) = present {
            target.file().set_permissions(metadata.permissions())?;
        }
        Ok(target)
    }

    pub fn file(&self) -> &File {
        match self {
            Self::Foreign(output) => &output.file,
            Self::Hidden(file, ..) => file,
            #[cfg(target_os = "linux")]
            Self::Nameless(file, _) => file,
        }
    }

    /// Gives the file its name, in the place of what had it.
    pub fn name(self) -> Result<(), SinkError> {
        let error = |path: &Path, source| SinkError::Rename { path: path.display().to_string(), source };
        match self {
            Self::Foreign(mut output) => {
                output.complete = true;
                Ok(())
            }
            #[cfg(target_os = "linux")]
            Self::Nameless(file, path) => link(&file, &path).map_err(|source| error(&path, source)),
            Self::Hidden(_, hidden, path) => hidden.persist(&path).map_err(|failed| error(&path, failed.error)),
        }
    }
}

/// Standard output that leads to a file. Its name cannot wait, so at least half an image does not stay in it.
pub(super) struct Redirected {
    file: File,
    base: u64,
    complete: bool,
}

impl Redirected {
    /// `file`, whose image is to begin at `base`, its end.
    pub fn new(file: File, base: u64) -> Self {
        Self { file, base, complete: false }
    }
}

impl Drop for Redirected {
    fn drop(&mut self) {
        if !self.complete {
            // The failure that led here is the one to report.
            let _ = self.file.set_len(self.base);
        }
    }
}

/// What the hidden name begins with.
pub(super) fn prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::os::fd::AsRawFd;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR).ok()?);
    // Its way to a name leads through /proc, which may be missing in a container.
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()).exists().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path) -> Option<File> {
    None
}

/// Links the nameless file under a hidden name and renames it, for a link cannot replace a file.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let open = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    let process = std::process::id();
    for attempt in 0..100 {
        let hidden = path.with_file_name(format!("{}{process}-{attempt}", prefix(path)));
        match linkat(CWD, &open, CWD, &hidden, AtFlags::SYMLINK_FOLLOW) {
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                return std::fs::rename(&hidden, path).inspect_err(|_| {
                    // The rename's error is the one to report.
                    let _ = std::fs::remove_file(&hidden);
                });
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Standard output as a file, and where its cursor stands, if it is a regular file with nothing behind the cursor:
/// then holes can be left out.
#[cfg(target_os = "linux")]
pub(super) fn redirected_stdout() -> Option<(File, u64)> {
    use std::io::Seek;
    use std::os::fd::AsFd;
    let mut file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let appends = rustix::fs::fcntl_getfl(&file).ok()?.contains(rustix::fs::OFlags::APPEND);
    let metadata = file.metadata().ok()?;
    let at = file.stream_position().ok()?;
    (metadata.is_file() && !appends && metadata.len() <= at).then_some((file, at))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn redirected_stdout() -> Option<(File, u64)> {
    None
}

/// Copies within the kernel, as a shared extent where the file system can, and answers how many bytes; whatever
/// the reason for fewer, the plain way will either work or tell it.
#[cfg(target_os = "linux")]
pub(super) fn kernel_copy(from: &File, offset: u64, to: &File, at: u64, len: u64) -> u64 {
    let (mut source, mut target) = (offset, at);
    let end = offset.saturating_add(len);
    while source < end {
        let part = usize::try_from(end - source).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), part) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    source - offset
}

#[cfg(not(target_os = "linux"))]
pub(super) fn kernel_copy(_from: &File, _offset: u64, _to: &File, _at: u64, _len: u64) -> u64 {
    0
}
