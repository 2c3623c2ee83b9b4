//! The FAT boot partition: FAT12, FAT16 and FAT32 with long names, through the fatfs crate.
//!
//! Written from Microsoft's "FAT32 File System Specification" 1.03. The whole file system is checked before fatfs
//! sees it, because fatfs overflows or runs for ever on cross-linked or looping chains, and once more when the
//! edits are done. Edits stay in memory until [`Editor::finish`]. Left out: exFAT, FATs that are not mirrored.

mod geometry;
mod pages;
mod survey;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use fatfs::{Dir, FileSystem, FsOptions};

use crate::disk::{DiskError, DiskMut};
pub use geometry::FatKind;
use geometry::Geometry;
use pages::{Handle, Pages};
use survey::Survey;

/// What is wrong with a FAT file system, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The disk below could not be read or written.
    #[error("cannot access the FAT file system")]
    Io(#[source] DiskError),
    /// Something legal that is not done here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The file system contradicts itself.
    #[error("the FAT file system is damaged: {0}")]
    Corrupt(String),
    /// A name that FAT cannot hold, or a path that leaves its place.
    #[error("`{0}` is not a path that FAT can hold")]
    BadPath(String),
    /// The path, or a part of it, is there as something else.
    #[error("`{path}` is {found}")]
    WrongType {
        /// The path.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// A file is larger than the caller allows.
    #[error("`{path}` has {size} bytes, more than the {limit} expected")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The file system is full.
    #[error("no room for `{path}`: it needs {needed} bytes, {free} are free")]
    NoSpace {
        /// The file.
        path: String,
        /// Bytes it needs, in whole clusters.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The fixed root directory of FAT12 and FAT16 is full.
    #[error("no room for `{0}`: the root directory is full")]
    RootFull(String),
}

impl FatError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Corrupt(_) => {
                Some("check the boot partition with `fsck.fat`, or get the image again and compare its checksum".into())
            }
            Self::NoSpace { .. } => Some("use a base image with a larger boot partition".into()),
            _ => None,
        }
    }
}

impl From<DiskError> for FatError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::OutOfBounds { end, size, .. } => {
                Self::Corrupt(format!("it needs {end} bytes, the partition has {size}"))
            }
            error @ DiskError::Io { .. } => Self::Io(error),
        }
    }
}

impl From<io::Error> for FatError {
    fn from(error: io::Error) -> Self {
        // What fatfs reports itself is about the image; what the disk reported went through it as it was.
        error.downcast::<DiskError>().map_or_else(|error| Self::Corrupt(error.to_string()), Self::from)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatEntry {
    /// Its long name, or the short one if it has none.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// A file's size in bytes.
    pub size: u64,
}

/// How a new file system is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatOptions {
    /// At most 11 characters, shown in upper case; empty for none.
    pub label: String,
    /// The serial number, of which Linux makes the UUID `1234-ABCD`.
    pub volume_id: u32,
    /// Its type, which the partition's size must allow.
    pub kind: FatKind,
    /// Seconds since 1970, the label's date.
    pub time: u64,
}

/// Edits a FAT file system. Paths are separated by `/`, relative to the root, and matched as FAT does: without
/// regard to case. Nothing reaches the disk before [`Editor::finish`].
#[must_use = "edits are lost without finish()"]
pub struct Editor<'disk> {
    fs: FileSystem<Handle<'disk>>,
    pages: Rc<RefCell<Pages<'disk>>>,
    geometry: Geometry,
    free_clusters: u32,
}

impl<'disk> Editor<'disk> {
    /// Checks and opens the file system on `disk`; what is written is dated `time` (seconds since 1970, shown as
    /// UTC).
    ///
    /// # Errors
    /// [`FatError::Unsupported`] and [`FatError::Corrupt`] by name, [`FatError::Io`].
    pub fn open(disk: &'disk mut dyn DiskMut, time: u64) -> Result<Self, FatError> {
        let geometry = Geometry::read(disk)?;
        let survey = Survey::take(&geometry, &|offset, bytes| disk.read_at(offset, bytes))?;
        let pages = Rc::new(RefCell::new(Pages::new(disk)));
        for tail in &survey.stale_tails {
            pages.borrow_mut().prepare_zero(tail.clone());
        }
        let options = FsOptions::new().time_provider(pages::clock(time));
        let fs = FileSystem::new(Handle::new(Rc::clone(&pages)), options)?;
        Ok(Self { fs, pages, geometry, free_clusters: survey.free_clusters })
    }

    /// The volume's label: the root directory's, else the boot sector's.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn label(&self) -> Result<Option<String>, FatError> {
        let label = self.fs.read_volume_label_from_root_dir()?.unwrap_or_else(|| self.fs.volume_label());
        let label = label.trim_end_matches([' ', '\0']);
        Ok((!label.is_empty() && label != "NO NAME").then(|| label.to_owned()))
    }

    /// Bytes in free clusters.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn free_bytes(&self) -> Result<u64, FatError> {
        let pages = self.pages.borrow();
        let free = survey::free_clusters(&self.geometry, &|offset, bytes| pages.read(offset, bytes))?;
        Ok(u64::from(free) * self.geometry.cluster)
    }

    /// Whether there is a file or directory at `path`.
    ///
    /// # Errors
    /// [`FatError::BadPath`], [`FatError::Io`].
    pub fn exists(&self, path: &str) -> Result<bool, FatError> {
        Ok(self.find(path)?.is_some())
    }

    /// The bytes of the file at `path`, if there is one.
    ///
    /// # Errors
    /// [`FatError::TooLarge`] if it has more than `limit` bytes, [`FatError::WrongType`] if it is a directory.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FatError> {
        let Some(entry) = self.find(path)? else { return Ok(None) };
        let path = path.to_owned();
        if entry.is_dir {
            return Err(FatError::WrongType { path, found: "a directory" });
        }
        if entry.size > limit {
            return Err(FatError::TooLarge { path, size: entry.size, limit });
        }
        let mut bytes = Vec::new();
        self.fs.root_dir().open_file(&joined(&path)?)?.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The entries of the directory at `path` (empty for the root) in their order on the disk, if there is one.
    ///
    /// # Errors
    /// [`FatError::WrongType`] if it is a file.
    pub fn read_dir(&self, path: &str) -> Result<Option<Vec<FatEntry>>, FatError> {
        let components = components(path)?;
        match self.find(path)? {
            None => Ok(None),
            Some(entry) if !entry.is_dir => Err(FatError::WrongType { path: path.to_owned(), found: "a file" }),
            Some(_) => entries(&self.dir(&components)?).map(Some),
        }
    }

    /// Makes the file at `path` hold `bytes`; directories on the way are made where they are missing.
    ///
    /// # Errors
    /// [`FatError::NoSpace`], [`FatError::RootFull`], [`FatError::WrongType`], [`FatError::BadPath`].
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), FatError> {
        let components = components(path)?;
        let Some((name, parents)) = components.split_last() else {
            return Err(FatError::BadPath(path.to_owned()));
        };
        let old = self.find(path)?;
        if old.as_ref().is_some_and(|entry| entry.is_dir) {
            return Err(FatError::WrongType { path: path.to_owned(), found: "a directory" });
        }
        self.reserve(path, bytes.len() as u64, old.map_or(0, |entry| entry.size), components.len())?;
        self.make_dirs(parents)?;
        if parents.is_empty() {
            self.make_room_in_root(name)?;
        }
        let mut file = self.dir(parents)?.create_file(name)?;
        file.truncate()?;
        file.write_all(bytes)?;
        Ok(file.flush()?)
    }

    /// Makes the directory at `path` and those on the way, where they are missing.
    ///
    /// # Errors
    /// As [`Editor::write`].
    pub fn create_dir(&mut self, path: &str) -> Result<(), FatError> {
        let components = components(path)?;
        self.reserve(path, 0, 0, components.len())?;
        self.make_dirs(&components)
    }

    /// Removes the file or empty directory at `path`; answers whether there was one.
    ///
    /// # Errors
    /// [`FatError::WrongType`] for a directory that is not empty.
    pub fn remove(&mut self, path: &str) -> Result<bool, FatError> {
        let components = components(path)?;
        let Some(entry) = self.find(path)? else { return Ok(false) };
        if components.is_empty() || entry.is_dir && !entries(&self.dir(&components)?)?.is_empty() {
            return Err(FatError::WrongType { path: path.to_owned(), found: "a directory that is not empty" });
        }
        self.fs.root_dir().remove(&joined(path)?)?;
        Ok(true)
    }

    /// Checks the result and puts all edits on the disk; without edits nothing is written.
    ///
    /// # Errors
    /// [`FatError::Io`]; [`FatError::Corrupt`] would mean that the edits went wrong, and writes nothing.
    pub fn finish(self) -> Result<(), FatError> {
        let Self { fs, pages, geometry, .. } = self;
        fs.unmount()?;
        let mut pages = pages.borrow_mut();
        if !pages.is_dirty() {
            return Ok(());
        }
        let survey = Survey::take(&geometry, &|offset, bytes| pages.read(offset, bytes))?;
        for directory in &survey.dotted {
            pages.straighten_dots(&geometry, *directory)?;
        }
        pages.settle(&geometry, survey.free_clusters)?;
        pages.flush()
    }

    fn find(&self, path: &str) -> Result<Option<FatEntry>, FatError> {
        let components = components(path)?;
        let mut dir = self.fs.root_dir();
        let mut found = FatEntry { name: String::new(), is_dir: true, size: 0 };
        for (at, name) in components.iter().enumerate() {
            if !found.is_dir {
                let path = components.get(..at).unwrap_or_default().join("/");
                return Err(FatError::WrongType { path, found: "a file" });
            }
            let Some(entry) = lookup(&dir, name)? else { return Ok(None) };
            if entry.is_dir {
                dir = dir.open_dir(name)?;
            }
            found = entry;
        }
        Ok(Some(found))
    }

    fn dir<'fs>(&'fs self, components: &[&str]) -> Result<Dir<'fs, Handle<'disk>>, FatError> {
        let root = self.fs.root_dir();
        Ok(if components.is_empty() { root } else { root.open_dir(&components.join("/"))? })
    }

    fn make_dirs(&self, components: &[&str]) -> Result<(), FatError> {
        for (at, name) in components.iter().enumerate() {
            let parents = components.get(..at).unwrap_or_default();
            match lookup(&self.dir(parents)?, name)? {
                Some(entry) if entry.is_dir => {}
                Some(_) => {
                    let path = components.get(..=at).unwrap_or_default().join("/");
                    return Err(FatError::WrongType { path, found: "a file" });
                }
                None => {
                    if parents.is_empty() {
                        self.make_room_in_root(name)?;
                    }
                    self.dir(parents)?.create_dir(name)?;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that `len` bytes and the directories of a path of `depth` components find room.
    fn reserve(&mut self, path: &str, len: u64, old: u64, depth: usize) -> Result<(), FatError> {
        let clusters = |bytes: u64| bytes.div_ceil(self.geometry.cluster);
        // Each component may need a new directory, and its parent one more cluster for the entry.
        let needed = clusters(len) + 2 * depth as u64;
        if len > u64::from(u32::MAX) {
            return Err(FatError::Unsupported(format!("`{path}` of {len} bytes, more than FAT's 4 GiB,")));
        }
        if needed > u64::from(self.free_clusters) {
            // Only an estimate until here: files that were replaced or removed have not been counted.
            self.free_clusters = u32::try_from(self.free_bytes()? / self.geometry.cluster).unwrap_or(u32::MAX);
        }
        if needed > u64::from(self.free_clusters) + clusters(old) {
            let cluster = self.geometry.cluster;
            let free = (u64::from(self.free_clusters) + clusters(old)) * cluster;
            return Err(FatError::NoSpace { path: path.to_owned(), needed: needed * cluster, free });
        }
        self.free_clusters = self.free_clusters.saturating_sub(u32::try_from(needed).unwrap_or(u32::MAX));
        Ok(())
    }

    /// fatfs does not clear a cluster by which it extends the root directory, so that stale bytes would become
    /// entries: the root directory is extended here before it can become full.
    fn make_room_in_root(&self, name: &str) -> Result<(), FatError> {
        let slots = name.encode_utf16().count().div_ceil(13) as u64 + 1;
        let mut pages = self.pages.borrow_mut();
        let room = survey::room_in_root(&self.geometry, &|offset, bytes| pages.read(offset, bytes))?;
        match room {
            room if room.slots > slots => Ok(()),
            survey::RootRoom { last_cluster: None, .. } => Err(FatError::RootFull(name.to_owned())),
            survey::RootRoom { last_cluster: Some(last), .. } => pages.extend_chain(&self.geometry, last),
        }
    }
}

fn lookup(dir: &Dir<'_, Handle<'_>>, name: &str) -> Result<Option<FatEntry>, FatError> {
    for entry in dir.iter() {
        let entry = entry?;
        let same = |held: &str| held.chars().flat_map(char::to_uppercase).eq(name.chars().flat_map(char::to_uppercase));
        if same(&entry.file_name()) || same(&entry.short_file_name()) {
            return Ok(Some(FatEntry { name: entry.file_name(), is_dir: entry.is_dir(), size: entry.len() }));
        }
    }
    Ok(None)
}

fn entries(dir: &Dir<'_, Handle<'_>>) -> Result<Vec<FatEntry>, FatError> {
    let mut entries = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.short_file_name_as_bytes(), b"." | b"..") {
            entries.push(FatEntry { name: entry.file_name(), is_dir: entry.is_dir(), size: entry.len() });
        }
    }
    Ok(entries)
}

/// The names in `path`, all of them such as FAT can hold.
fn components(path: &str) -> Result<Vec<&str>, FatError> {
    let good = |name: &&str| {
        let characters = name.chars().all(|c| {
            c.is_ascii_alphanumeric() || "$%'-_@~`!(){}^#&.+,;=[] ".contains(c) || ('\u{80}'..='\u{ffff}').contains(&c)
        });
        characters && name.len() <= 255 && !name.ends_with(['.', ' ']) && !name.starts_with(' ')
    };
    let components: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if components.iter().all(good) { Ok(components) } else { Err(FatError::BadPath(path.to_owned())) }
}

fn joined(path: &str) -> Result<String, FatError> {
    Ok(components(path)?.join("/"))
}

/// Makes an empty file system on all of `disk`.
///
/// # Errors
/// [`FatError::Unsupported`] if `disk` has no size for that type, [`FatError::BadPath`] for an impossible label.
pub fn format(disk: &mut dyn DiskMut, options: &FormatOptions) -> Result<(), FatError> {
    let mut label = options.label.to_ascii_uppercase().into_bytes();
    if label.len() > 11
        || label.iter().any(|byte| !(b' '..=b'~').contains(byte) || b"\"*+,./:;<=>?[\\]|".contains(byte))
    {
        return Err(FatError::BadPath(options.label.clone()));
    }
    label.resize(11, b' ');
    let mut volume = fatfs::FormatVolumeOptions::new().volume_id(options.volume_id).fat_type(options.kind.into());
    if let (false, Ok(label)) = (options.label.is_empty(), <[u8; 11]>::try_from(label)) {
        volume = volume.volume_label(label);
    }
    let size = disk.size();
    let unsupported = || FatError::Unsupported(format!("{} on a partition of {size} bytes", options.kind));
    let pages = Rc::new(RefCell::new(Pages::new(disk)));
    fatfs::format_volume(Handle::new(Rc::clone(&pages)), volume).map_err(|error| match FatError::from(error) {
        error @ FatError::Io(_) => error,
        _ => unsupported(),
    })?;
    let mut pages = pages.borrow_mut();
    let geometry = Geometry::parse(&pages.bytes(0, 512)?, size)?;
    if geometry.kind != options.kind {
        return Err(unsupported());
    }
    if !options.label.is_empty() {
        let root = geometry.root_start();
        pages.date_entry(root, options.time)?;
    }
    let survey = Survey::take(&geometry, &|offset, bytes| pages.read(offset, bytes))?;
    pages.settle(&geometry, survey.free_clusters)?;
    pages.flush()
}

#[cfg(test)]
mod tests;
