//! Making room in the cache: what was not used for long goes first, and what anybody uses now stays.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::StoreError;
use super::cache::{Cache, Shelf, remove};
use super::inventory::{CacheEntry, Place};

/// What is to be removed from a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Now.
    pub now: SystemTime,
    /// Whatever was not used for longer than this.
    pub older_than: Option<Duration>,
    /// The least recently used, until no more bytes than these are taken on the disk.
    pub max_size: Option<u64>,
    /// Only tell what would be removed.
    pub dry_run: bool,
}

/// What was removed from a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What was removed, the least recently used first.
    pub removed: Vec<CacheEntry>,
    /// What would have been removed, were it not in use.
    pub in_use: Vec<CacheEntry>,
    /// The bytes that the rest takes on the disk.
    pub left: u64,
}

/// Removes from the cache in `folder` what `options` say. A bake that goes on meanwhile loses nothing that it uses.
///
/// # Errors
/// [`StoreError::Cache`].
pub fn prune_cache(folder: &Path, options: &PruneOptions) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    if !folder.exists() {
        return Ok(pruned);
    }
    let cache = Cache::open(folder)?;
    let entries = cache.inventory()?.entries;
    pruned.left = entries.iter().map(|(entry, _)| entry.on_disk).sum();
    for (entry, place) in entries {
        let age = entry.used.and_then(|used| options.now.duration_since(used).ok()).unwrap_or_default();
        let is_old = options.older_than.is_some_and(|limit| age > limit);
        if !is_old && options.max_size.is_none_or(|limit| pruned.left <= limit) {
            continue;
        }
        if cache.remove_unused(&entry.path, &place, options.dry_run)? {
            pruned.left = pruned.left.saturating_sub(entry.on_disk);
            pruned.removed.push(entry);
        } else {
            pruned.in_use.push(entry);
        }
    }
    Ok(pruned)
}

impl Cache {
    /// Removes a file unless it is in use; answers whether it was not.
    fn remove_unused(&self, path: &Path, place: &Place, dry_run: bool) -> Result<bool, StoreError> {
        // Whoever makes the same file anew has this claim, so that its digest is not removed after it was noted.
        let key = match place {
            Place::Shelf(Shelf::Blob, ..) => None,
            Place::Shelf(Shelf::Raw, stem, _) => Some(format!("raw-{stem}")),
            Place::Shelf(Shelf::Tar, stem, _) => Some(format!("tar-{stem}")),
            Place::Shelf(Shelf::Made, stem, _) => Some(format!("made-{stem}")),
            Place::Temp(key) => Some(key.clone()),
        };
        let claim = key.as_deref().map(|key| self.try_claim(key));
        if matches!(claim, Some(None)) {
            return Ok(false);
        }
        let Place::Shelf(shelf, stem, size) = place else {
            return if dry_run { Ok(true) } else { remove(path).map(|()| true) };
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => file.map_err(StoreError::cache("open", path))?,
        };
        if file.try_lock().is_err() {
            return Ok(false);
        }
        if !dry_run {
            remove(path)?;
            let _ = fs::remove_file(self.sum_path(*shelf, stem, *size));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::disk::HostFile;
    use crate::progress::Silent;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn stem(name: u8) -> String {
        format!("{name:064x}")
    }

    /// Puts a file of 8192 bytes on a shelf, last used `days` ago.
    fn put(cache: &Cache, shelf: Shelf, name: u8, days: u32) -> Arc<HostFile> {
        let claim = cache.claim(&format!("raw-{}", stem(name)), "it", &Silent).unwrap();
        let mut file = File::create(claim.temp()).unwrap();
        file.write_all(&[name; 8192]).unwrap();
        let file = cache.publish(&claim, &file, shelf, &stem(name), &Silent).unwrap();
        file.with_file(|file| file.set_modified(SystemTime::now() - DAY * days)).unwrap();
        file
    }

    fn options() -> PruneOptions {
        PruneOptions { now: SystemTime::now(), older_than: None, max_size: None, dry_run: false }
    }

    fn names(entries: &[CacheEntry]) -> Vec<char> {
        let name = |entry: &CacheEntry| entry.path.file_name().unwrap().to_string_lossy().chars().nth(63).unwrap();
        entries.iter().map(name).collect()
    }

    #[test]
    fn the_old_goes_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let used = put(&cache, Shelf::Blob, 1, 40);
        drop(put(&cache, Shelf::Raw, 2, 50));
        drop(put(&cache, Shelf::Blob, 3, 20));
        let older_than = Some(DAY * 30);
        let told = prune_cache(folder.path(), &PruneOptions { older_than, dry_run: true, ..options() }).unwrap();
        assert_eq!((names(&told.removed), names(&told.in_use)), (vec!['2'], vec!['1']));
        let done = prune_cache(folder.path(), &PruneOptions { older_than, ..options() }).unwrap();
        assert_eq!(done, told);
        assert!(cache.find(Shelf::Raw, &stem(2)).unwrap().is_none());
        assert!(cache.sum(Shelf::Raw, &stem(2), 8192).is_none());
        assert_eq!(used.size(), 8192);
        assert!(used.path().exists());
    }

    #[test]
    fn the_least_recently_used_goes_until_the_rest_fits() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for (name, days) in [(1, 1), (2, 3), (3, 2), (4, 4)] {
            drop(put(&cache, Shelf::Blob, name, days));
        }
        // Using the oldest makes it the youngest.
        drop(cache.find(Shelf::Blob, &stem(4)).unwrap().unwrap());
        let done = prune_cache(folder.path(), &PruneOptions { max_size: Some(16384), ..options() }).unwrap();
        assert_eq!((names(&done.removed), done.left), (vec!['2', '3'], 16384));
    }

    #[test]
    fn a_part_that_nobody_writes_can_go() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let claim = cache.claim(&format!("get-{}", stem(1)), "it", &Silent).unwrap();
        fs::write(claim.temp(), [1; 5000]).unwrap();
        let all = PruneOptions { max_size: Some(0), ..options() };
        assert_eq!(prune_cache(folder.path(), &all).unwrap().in_use.len(), 1);
        let temp = claim.temp().to_owned();
        drop(claim);
        assert_eq!(prune_cache(folder.path(), &all).unwrap().removed.len(), 1);
        assert!(!temp.exists());
    }
}
