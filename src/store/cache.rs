//! The cache folder: what lies where, how it gets there whole, and how several imgbakes share it.
//!
//! ```text
//! blobs/SHA256-SIZE            verified artifacts
//! unpacked/SHA256-SIZE.raw     base images, unpacked and sparse; by the digest of the packed file
//! unpacked/SHA256-SIZE.tar     archives, decompressed; likewise
//! made/KEY-SIZE.img            base images made here
//! index/…                      small texts that only save work; unreadable is as good as absent
//! temp/…                       what is being written; renamed when complete
//! locks/…                      one advisory lock per file in temp/; empty, and never removed
//! ```
//! A file appears under its final name by one rename, after its bytes have reached the disk: a final name
//! speaks the truth, and the size in it is checked at every use.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StoreError;
use crate::disk::HostFile;
use crate::progress::Progress;

/// Interrupted downloads are kept this long, to be resumed.
const RESUMABLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # This folder is a cache of imgbake; it can be deleted at any time.\n";

/// What kind of finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Blob,
    Raw,
    Tar,
    Made,
}

impl Shelf {
    /// Its folder and the ending of its names.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Blob => ("blobs", ""),
            Self::Raw => ("unpacked", ".raw"),
            Self::Tar => ("unpacked", ".tar"),
            Self::Made => ("made", ".img"),
        }
    }
}

/// The cache folder.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// The right to write one file of `temp/`; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
    temp: PathBuf,
}

impl Claim {
    /// The file that may be written.
    pub(super) fn temp(&self) -> &Path {
        &self.temp
    }
}

impl Cache {
    /// Makes the folders where they are missing and removes what interrupted runs left behind.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for folder in ["blobs", "unpacked", "made", "index", "temp", "locks"] {
            let path = root.join(folder);
            builder.create(&path).map_err(StoreError::cache("create", path))?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            fs::write(&tag, TAG).map_err(StoreError::cache("write", tag))?;
        }
        let cache = Self { root: root.to_owned() };
        cache.sweep();
        Ok(cache)
    }

    /// The finished file `stem` of `shelf`, if it is there and as long as its name says.
    pub(super) fn find(&self, shelf: Shelf, stem: &str) -> Result<Option<Arc<HostFile>>, StoreError> {
        for (path, size) in self.named(shelf, stem)? {
            match HostFile::open(&path) {
                Ok(file) if file.size() == size => return Ok(Some(file)),
                // Somebody shortened or overwrote it: it is no longer what it was verified to be.
                Ok(_) => remove(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::cache("open", path)(error)),
            }
        }
        Ok(None)
    }

    /// The paths of `stem` on `shelf` with the sizes in their names: one, usually.
    fn named(&self, shelf: Shelf, stem: &str) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let (folder, ending) = shelf.place();
        let folder = self.root.join(folder);
        let size = |name: &str| {
            let digits = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?;
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(StoreError::cache("read", &folder))? {
            let entry = entry.map_err(StoreError::cache("read", &folder))?;
            if let Some(size) = entry.file_name().to_str().and_then(size) {
                found.push((entry.path(), size));
            }
        }
        Ok(found)
    }

    /// Waits until nobody else writes the temporary file `key`. `what` is its name for the user.
    pub(super) fn claim(&self, key: &str, what: &str, progress: &dyn Progress) -> Result<Claim, StoreError> {
        let path = self.root.join("locks").join(key);
        let lock = open_lock(&path).map_err(StoreError::cache("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("waiting for another imgbake that is at work on {what}"));
                lock.lock().map_err(StoreError::cache("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::cache("lock", &path)(error)),
        }
        Ok(Claim { _lock: lock, temp: self.root.join("temp").join(key) })
    }

    /// Gives the claimed file, complete and open as `file`, its final name.
    pub(super) fn publish(
        &self,
        claim: &Claim,
        file: &File,
        shelf: Shelf,
        stem: &str,
    ) -> Result<Arc<HostFile>, StoreError> {
        let temp = claim.temp();
        file.sync_all().map_err(StoreError::cache("write", temp))?;
        let size = file.metadata().map_err(StoreError::cache("read", temp))?.len();
        protect(temp).map_err(StoreError::cache("protect", temp))?;
        let outdated = self.named(shelf, stem)?;
        let (folder, ending) = shelf.place();
        let folder = self.root.join(folder);
        let path = folder.join(format!("{stem}-{size}{ending}"));
        fs::rename(temp, &path).map_err(StoreError::cache("rename", temp))?;
        sync_folder(&folder).map_err(StoreError::cache("write", &folder))?;
        for (old, _) in outdated {
            if old != path {
                remove(&old)?;
            }
        }
        HostFile::open(&path).map_err(StoreError::cache("open", path))
    }

    /// Removes the finished file `stem` of `shelf`.
    pub(super) fn discard(&self, shelf: Shelf, stem: &str) -> Result<(), StoreError> {
        self.named(shelf, stem)?.iter().try_for_each(|(path, _)| remove(path))
    }

    /// A text that was remembered under `key`.
    pub(super) fn recall(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.root.join("index").join(key)).ok()
    }

    /// Remembers `text` under `key`.
    pub(super) fn remember(&self, key: &str, text: &str) -> Result<(), StoreError> {
        let path = self.root.join("index").join(key);
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix("index-").tempfile_in(self.root.join("temp"))?;
            file.write_all(text.as_bytes())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(StoreError::cache("write", &path))
    }

    /// Removes temporary files that nobody is writing, except downloads that can still be resumed.
    /// Never fails: what cannot be removed now is removed another time.
    fn sweep(&self) {
        let temp = self.root.join("temp");
        // The file system's own idea of now, so that no clock is asked.
        let now = tempfile::tempfile_in(&temp).and_then(|file| file.metadata()).and_then(|data| data.modified());
        let (Ok(now), Ok(entries)) = (now, fs::read_dir(&temp)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let resumable = name.to_str().is_none_or(|name| name.starts_with("get-") || name.starts_with("index-"));
            if resumable && !is_older(&entry, now, RESUMABLE) {
                continue;
            }
            let lock = open_lock(&self.root.join("locks").join(&name));
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = remove(&entry.path());
            }
        }
    }
}

fn is_older(entry: &fs::DirEntry, now: SystemTime, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|data| data.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|passed| passed > age))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Removes a file, or whatever a builder made of it; gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let result = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::cache("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A verified file is not to be written to, not even by its owner's slip.
#[cfg(unix)]
fn protect(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o444))
}

#[cfg(not(unix))]
fn protect(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes a rename in `folder` last through a power cut.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn put(cache: &Cache, shelf: Shelf, stem: &str, bytes: &[u8]) -> Arc<HostFile> {
        let claim = cache.claim(&format!("raw-{stem}"), stem, &Silent).unwrap();
        let mut file = File::create(claim.temp()).unwrap();
        file.write_all(bytes).unwrap();
        cache.publish(&claim, &file, shelf, stem).unwrap()
    }

    #[test]
    fn a_published_file_is_found_by_its_stem_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("a/b")).unwrap();
        put(&cache, Shelf::Raw, "abc", b"12345");
        put(&cache, Shelf::Raw, "abc-1", b"1");
        let found = cache.find(Shelf::Raw, "abc").unwrap().unwrap();
        assert_eq!(found.path(), folder.path().join("a/b/unpacked/abc-5.raw"));
        assert!(cache.find(Shelf::Tar, "abc").unwrap().is_none());
        assert!(cache.find(Shelf::Raw, "ab").unwrap().is_none());
        cache.discard(Shelf::Raw, "abc").unwrap();
        assert!(cache.find(Shelf::Raw, "abc").unwrap().is_none());
    }

    #[test]
    fn a_file_of_another_size_than_its_name_says_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let path = put(&cache, Shelf::Blob, "abc", b"12345").path().to_owned();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"1234").unwrap();
        assert!(cache.find(Shelf::Blob, "abc").unwrap().is_none());
        assert!(!path.exists());
    }

    #[test]
    fn a_new_version_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        put(&cache, Shelf::Made, "debian", b"12345");
        put(&cache, Shelf::Made, "debian", b"123");
        let names: Vec<_> = fs::read_dir(folder.path().join("made")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["debian-3.img"]);
    }

    #[test]
    fn opening_removes_what_nobody_writes_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let temp = folder.path().join("temp");
        let claim = cache.claim("raw-busy", "it", &Silent).unwrap();
        let old = SystemTime::now() - RESUMABLE - Duration::from_secs(60);
        for (name, age) in [("raw-busy", None), ("raw-dead", None), ("get-young", None), ("get-old", Some(old))] {
            let file = File::create(temp.join(name)).unwrap();
            age.iter().for_each(|age| file.set_modified(*age).unwrap());
        }
        fs::create_dir(temp.join("made-folder")).unwrap();
        Cache::open(folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["get-young", "raw-busy"]);
        drop(claim);
    }

    #[cfg(unix)]
    #[test]
    fn the_folders_are_the_users_own() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("cache");
        let cache = Cache::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        let blob = put(&cache, Shelf::Blob, "abc", b"1");
        assert_eq!(fs::metadata(blob.path()).unwrap().permissions().mode() & 0o777, 0o444);
    }

    #[test]
    fn a_cache_that_is_no_folder_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::open(file.path()).unwrap_err();
        let path = file.path().join("blobs");
        assert_eq!(error.to_string(), format!("cannot create `{}` in the cache", path.display()));
        assert_eq!(error.hint().as_deref(), Some("use a cache folder that you may write to"));
    }
}
