//! The cache folder: what lies where, how it gets there whole, and how several imgbakes share it.
//!
//! ```text
//! blobs/SHA256-SIZE            verified artifacts
//! unpacked/SHA256-SIZE.raw     base images, unpacked and sparse; by the digest of the packed file
//! unpacked/SHA256-SIZE.tar     archives, decompressed; likewise
//! made/KEY-SIZE.img            base images made here
//! index/…                      small texts; all but `sum-…` only save work: unreadable is as good as absent
//! index/sum-FOLDER-NAME        the digest that a file of `unpacked` or `made` had when it was finished
//! index/from-DIGEST-…          where a file came from, for people
//! temp/…                       what is being written; renamed when complete
//! locks/…                      one advisory lock per file in temp/; empty, and never removed
//! ```
//! A file appears under its final name by one rename, after its bytes have reached the disk: a final name
//! speaks the truth, and the size in it is checked at every use. Whoever has a finished file open holds a shared lock on
//! it, and what is locked is not pruned. A file's time of modification says when it was last used.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::sum::Sum;
use crate::artifact::Digest;
use crate::disk::HostFile;
use crate::progress::Progress;

/// Interrupted downloads are kept this long, to be resumed.
const RESUMABLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is written in one go and still unfinished after this long was interrupted.
const MOMENT: Duration = Duration::from_secs(60 * 60);

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
    pub(super) const ALL: [Self; 4] = [Self::Blob, Self::Raw, Self::Tar, Self::Made];

    /// Its folder and the ending of its names.
    pub(super) fn place(self) -> (&'static str, &'static str) {
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
    /// When it was opened by the file system's own clock, so that no other is asked; unknown if its disk is full.
    opened: Option<SystemTime>,
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
        let now = tempfile::tempfile_in(root.join("temp")).and_then(|file| file.metadata()?.modified());
        let cache = Self { root: root.to_owned(), opened: now.ok() };
        cache.sweep();
        let tag = root.join("CACHEDIR.TAG");
        if fs::read(&tag).ok().as_deref() != Some(TAG.as_bytes()) {
            cache.put(&tag, TAG, false)?;
        }
        Ok(cache)
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The finished file `stem` of `shelf`, if it is there and as long as its name says.
    pub(super) fn find(&self, shelf: Shelf, stem: &str) -> Result<Option<Arc<HostFile>>, StoreError> {
        for (path, size) in self.named(shelf, stem)? {
            match HostFile::open(&path) {
                Ok(file) if file.size() == size && self.lease(&file) => return Ok(Some(file)),
                Ok(file) if file.size() == size => {}
                // Somebody shortened or overwrote it: it is no longer what it was verified to be.
                Ok(_) => remove(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::cache("open", path)(error)),
            }
        }
        Ok(None)
    }

    /// Keeps `file` from being pruned for as long as it is open, and notes that it was used. False if it was pruned
    /// just before.
    fn lease(&self, file: &HostFile) -> bool {
        // Where the file system has no locks, what is open is still there after its name has gone.
        let _ = file.with_file(File::lock_shared);
        let modified = file.with_file(|file| file.metadata()?.modified());
        if let (Some(now), Ok(modified)) = (self.opened, modified)
            && now > modified
        {
            // In somebody else's cache the time stays as it is.
            let _ = file.with_file(|file| file.set_modified(now));
        }
        file.path().exists()
    }

    /// The paths of `stem` on `shelf` with the sizes in their names: one, usually.
    fn named(&self, shelf: Shelf, stem: &str) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let (folder, ending) = shelf.place();
        let folder = self.root.join(folder);
        let size = |name: &str| named_size(name.strip_prefix(stem)?.strip_prefix('-')?, ending);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(StoreError::cache("read", &folder))? {
            let entry = entry.map_err(StoreError::cache("read", &folder))?;
            if let Some(size) = entry.file_name().to_str().and_then(size) {
                found.push((entry.path(), size));
            }
        }
        Ok(found)
    }

    /// The right to write the temporary file `key`, unless somebody else has it.
    pub(super) fn try_claim(&self, key: &str) -> Option<Claim> {
        let lock = open_lock(&self.root.join("locks").join(key)).ok()?;
        lock.try_lock().ok()?;
        Some(Claim { _lock: lock, temp: self.root.join("temp").join(key) })
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
        progress: &dyn Progress,
    ) -> Result<Arc<HostFile>, StoreError> {
        let temp = claim.temp();
        file.sync_all().map_err(StoreError::cache("write", temp))?;
        let size = file.metadata().map_err(StoreError::cache("read", temp))?.len();
        if shelf != Shelf::Blob {
            // Before the file has its name: one that was finished has its digest noted.
            let whole = HostFile::open(temp).map_err(StoreError::cache("open", temp))?;
            let sum = Sum::of(&whole, "noting its digest", progress).map_err(StoreError::cache("read", temp))?;
            self.put(&self.sum_path(shelf, stem, size), &sum.to_string(), true)?;
        }
        // Until the caller closes it, so that nobody prunes it before it is in use.
        let _ = file.try_lock_shared();
        let outdated = self.named(shelf, stem)?;
        let (folder, ending) = shelf.place();
        let folder = self.root.join(folder);
        let path = folder.join(format!("{stem}-{size}{ending}"));
        fs::rename(temp, &path).map_err(StoreError::cache("rename", temp))?;
        // Not earlier: a run that is interrupted here must not leave a temporary file that the next one cannot write to.
        protect(&path).map_err(StoreError::cache("protect", &path))?;
        sync_folder(&folder).map_err(StoreError::cache("write", &folder))?;
        for (old, _) in outdated {
            if old != path {
                remove(&old)?;
            }
        }
        let file = HostFile::open(&path).map_err(StoreError::cache("open", &path))?;
        self.lease(&file);
        Ok(file)
    }

    /// The noted digest of a finished file that is not named by its own.
    pub(super) fn sum(&self, shelf: Shelf, stem: &str, size: u64) -> Option<Sum> {
        fs::read_to_string(self.sum_path(shelf, stem, size)).ok()?.parse().ok().map(Sum)
    }

    /// Where that is noted.
    pub(super) fn sum_path(&self, shelf: Shelf, stem: &str, size: u64) -> PathBuf {
        let (folder, ending) = shelf.place();
        self.root.join("index").join(format!("sum-{folder}-{stem}-{size}{ending}"))
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
        self.put(&self.root.join("index").join(key), text, false)
    }

    /// Notes for people that what has this digest comes from `place`. What cannot be noted is left out.
    pub(super) fn note_origin(&self, digest: &Digest, place: &str) {
        let hash = Digest::Sha256(Sha256::digest(place).into()).to_string();
        let key = format!("from-{digest}-{}", hash.get(..16).unwrap_or_default());
        if !self.root.join("index").join(&key).exists() {
            let _ = self.remember(&key, place);
        }
    }

    /// Writes a small text: all of it is there afterwards, or what was before. `lasting` is through a power cut.
    fn put(&self, path: &Path, text: &str, lasting: bool) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix("index-").tempfile_in(self.root.join("temp"))?;
            file.write_all(text.as_bytes())?;
            if lasting {
                file.as_file().sync_all()?;
            }
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(StoreError::cache("write", path))?;
        match path.parent().filter(|_| lasting) {
            Some(folder) => sync_folder(folder).map_err(StoreError::cache("write", folder)),
            None => Ok(()),
        }
    }

    /// Removes temporary files that nobody is writing, except downloads that can still be resumed.
    /// Never fails: what cannot be removed now is removed another time.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("temp")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let kept_for = match name.to_str() {
                Some(name) if name.starts_with("get-") => RESUMABLE,
                // Written without a lock, in one go.
                Some(name) if name.starts_with("index-") => MOMENT,
                Some(_) => Duration::ZERO,
                None => continue,
            };
            if !kept_for.is_zero() && !self.is_older(&entry, kept_for) {
                continue;
            }
            if let Some(claim) = name.to_str().and_then(|name| self.try_claim(name)) {
                let _ = remove(claim.temp());
            }
        }
    }

    /// Whether nobody changed it for `age` before the cache was opened.
    fn is_older(&self, entry: &fs::DirEntry, age: Duration) -> bool {
        let modified = entry.metadata().and_then(|data| data.modified()).ok();
        let passed = self.opened.zip(modified).and_then(|(now, modified)| now.duration_since(modified).ok());
        passed.is_some_and(|passed| passed > age)
    }
}

/// The size at the end of a finished file's name.
pub(super) fn named_size(text: &str, ending: &str) -> Option<u64> {
    let digits = text.strip_suffix(ending)?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
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
        cache.publish(&claim, &file, shelf, stem, &Silent).unwrap()
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
