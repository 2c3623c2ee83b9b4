//! Reading the cache again: whether every finished file still is what it was when it was finished.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::cache::{Cache, Shelf, remove};
use super::error::with_causes;
use super::inventory::{CacheEntry, Inventory, Place};
use super::part::sha256_of;
use super::sum::Sum;
use crate::artifact::Digest;
use crate::disk::HostFile;
use crate::progress::Progress;

/// What is wrong with a file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It is not as long as its name says.
    Size {
        /// The size in its name.
        named: u64,
        /// Its size.
        actual: u64,
    },
    /// It does not hold what it held when it was finished.
    Content {
        /// The digest it had.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Nothing tells what it should hold.
    Unknown,
    /// It cannot be read.
    Unreadable(String),
    /// imgbake did not put it there.
    Stray,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { named, actual } => write!(f, "it has {actual} bytes, its name says {named}"),
            Self::Content { expected, actual } => write!(f, "its digest is `{actual}`, it was `{expected}`"),
            Self::Unknown => write!(f, "nothing tells what it should hold"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::Stray => write!(f, "it does not belong there"),
        }
    }
}

/// A file in the cache that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
    /// Whether it was removed.
    pub removed: bool,
}

/// What reading a cache again brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many finished files were read.
    pub files: usize,
    /// How many unfinished ones there are. They are judged by their digests when they are complete.
    pub parts: usize,
    /// What is wrong.
    pub problems: Vec<CacheProblem>,
}

/// Reads every finished file of the cache in `folder`. With `repair` what is wrong is removed, so that it is fetched or
/// made anew.
///
/// # Errors
/// [`StoreError::Cache`], not for what is wrong with single files.
pub fn verify_cache(folder: &Path, repair: bool, progress: &dyn Progress) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    if !folder.exists() {
        return Ok(verified);
    }
    // What interrupted runs left behind is removed here, as it is by every bake.
    let cache = Cache::open(folder)?;
    let Inventory { entries, strays } = cache.inventory()?;
    let mut problems: Vec<_> = strays.into_iter().map(|path| (path, Damage::Stray)).collect();
    for (entry, place) in entries {
        let Place::Shelf(shelf, stem, size) = place else {
            verified.parts += 1;
            continue;
        };
        verified.files += 1;
        match cache.damage(&entry, shelf, &stem, size, progress) {
            Ok(None) => {}
            Ok(Some(damage)) => problems.push((entry.path, damage)),
            // Pruned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => verified.files -= 1,
            Err(error) => problems.push((entry.path, Damage::Unreadable(with_causes(&error)))),
        }
    }
    for (path, damage) in problems {
        if repair {
            remove(&path)?;
        }
        verified.problems.push(CacheProblem { path, damage, removed: repair });
    }
    Ok(verified)
}

impl Cache {
    /// What is wrong with a finished file, if anything is.
    fn damage(
        &self,
        entry: &CacheEntry,
        shelf: Shelf,
        stem: &str,
        named: u64,
        progress: &dyn Progress,
    ) -> io::Result<Option<Damage>> {
        let file = HostFile::open(&entry.path)?;
        let actual = file.size();
        if actual != named {
            return Ok(Some(Damage::Size { named, actual }));
        }
        let name = entry.names.first().map_or(stem, |name| name.rsplit('/').next().unwrap_or(name));
        let step = format!("read {name}");
        let (expected, actual) = match shelf {
            Shelf::Blob => {
                progress.begin(&step, Some(actual));
                let actual = File::open(&entry.path).and_then(|file| sha256_of(file, |read| progress.advance(read)));
                progress.end();
                (stem.parse().ok(), Digest::Sha256(actual?))
            }
            Shelf::Raw | Shelf::Tar | Shelf::Made => {
                let expected = self.sum(shelf, stem, named).map(|Sum(digest)| digest);
                (expected, Sum::of(&file, &step, progress)?.0)
            }
        };
        Ok(match expected {
            None => Some(Damage::Unknown),
            Some(expected) if expected != actual => Some(Damage::Content { expected, actual }),
            Some(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::progress::Silent;

    fn put(cache: &Cache, shelf: Shelf, stem: &str, bytes: &[u8]) -> PathBuf {
        let claim = cache.claim("raw-x", "it", &Silent).unwrap();
        let mut file = File::create(claim.temp()).unwrap();
        file.write_all(bytes).unwrap();
        cache.publish(&claim, &file, shelf, stem, &Silent).unwrap().path().to_owned()
    }

    /// As a failing disk would: the name stays.
    fn replace(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn whatever_is_damaged_is_found_named_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let digest = |bytes: &[u8]| Digest::Sha256(Sha256::digest(bytes).into());
        let stem = digest(b"good").to_string();
        let blob = put(&cache, Shelf::Blob, &stem, b"good");
        let raw = put(&cache, Shelf::Raw, &stem, &[7; 100_000]);
        let tar = put(&cache, Shelf::Tar, &stem, b"tar");
        let made = put(&cache, Shelf::Made, "debian.img", b"made");
        let healthy = verify_cache(folder.path(), false, &Silent).unwrap();
        assert_eq!(healthy, Verified { files: 4, parts: 0, problems: Vec::new() });

        replace(&blob, b"evil");
        replace(&raw, &[[7; 50_000], [8; 50_000]].concat());
        replace(&tar, b"ta");
        fs::remove_file(cache.sum_path(Shelf::Made, "debian.img", 4)).unwrap();
        fs::write(folder.path().join("blobs/notes.txt"), b"mine").unwrap();
        let found = verify_cache(folder.path(), true, &Silent).unwrap();
        let damage = |path: &Path| {
            let problem = found.problems.iter().find(|problem| problem.path == path).unwrap();
            assert!(problem.removed && !path.exists());
            problem.damage.clone()
        };
        assert_eq!(damage(&blob), Damage::Content { expected: digest(b"good"), actual: digest(b"evil") });
        assert!(matches!(damage(&raw), Damage::Content { .. }));
        assert_eq!(damage(&tar), Damage::Size { named: 3, actual: 2 });
        assert_eq!(damage(&made), Damage::Unknown);
        assert_eq!(damage(&folder.path().join("blobs/notes.txt")), Damage::Stray);
        assert_eq!(found.problems.len(), 5);
        assert_eq!(verify_cache(folder.path(), false, &Silent).unwrap(), Verified::default());
    }
}
