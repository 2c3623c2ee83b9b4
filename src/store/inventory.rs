//! What the cache holds: finished files, interrupted downloads, and what does not belong there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::StoreError;
use super::cache::{Cache, Shelf, named_size};
use crate::artifact::Digest;

/// What a file in the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// An artifact as it was published.
    Download,
    /// A base image, unpacked.
    UnpackedBase,
    /// An archive of programs, decompressed.
    UnpackedArchive,
    /// A base image that was made here.
    MadeBase,
    /// Something unfinished: a download to be resumed, or what another imgbake is writing.
    Part,
}

/// A file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// What it is.
    pub kind: CacheKind,
    /// Where it is.
    pub path: PathBuf,
    /// Where it is known to come from, sorted: URLs, paths of the user's own files, a home-made base's name.
    pub names: Vec<String>,
    /// Its size in bytes, holes included.
    pub size: u64,
    /// The bytes that it takes on the disk.
    pub on_disk: u64,
    /// When a bake last used it; a part: when it was last written to.
    pub used: Option<SystemTime>,
}

/// Where an entry has its name from.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A finished file: shelf, stem and the size in its name.
    Shelf(Shelf, String, u64),
    /// A temporary file and its key.
    Temp(String),
}

/// Everything in the cache.
pub(super) struct Inventory {
    pub(super) entries: Vec<(CacheEntry, Place)>,
    /// Files whose names imgbake does not give.
    pub(super) strays: Vec<PathBuf>,
}

/// What the cache in `folder` holds, the least recently used first. Nothing is changed; a folder that is not there
/// holds nothing.
///
/// # Errors
/// [`StoreError::Cache`].
pub fn list_cache(folder: &Path) -> Result<Vec<CacheEntry>, StoreError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let inventory = Inventory::of(folder)?;
    Ok(inventory.entries.into_iter().map(|(entry, _)| entry).collect())
}

impl Inventory {
    pub(super) fn of(root: &Path) -> Result<Self, StoreError> {
        let origins = origins(root)?;
        let mut inventory = Self { entries: Vec::new(), strays: Vec::new() };
        let folders: BTreeSet<&str> = Shelf::ALL.into_iter().map(|shelf| shelf.place().0).collect();
        for folder in folders {
            for (name, entry) in files(&root.join(folder))? {
                match finished(folder, &name) {
                    Some((shelf, stem, size)) => {
                        let names = match shelf {
                            Shelf::Made => vec![stem.clone()],
                            _ => origins.get(&stem).cloned().unwrap_or_default(),
                        };
                        inventory.add(kind(shelf), names, &entry, Place::Shelf(shelf, stem, size));
                    }
                    None => inventory.strays.push(entry.path()),
                }
            }
        }
        for (name, entry) in files(&root.join("temp"))? {
            match name.split_once('-') {
                Some(("get" | "raw" | "tar", digest)) => {
                    let names = origins.get(digest).cloned().unwrap_or_default();
                    inventory.add(CacheKind::Part, names, &entry, Place::Temp(name));
                }
                Some(("made", key)) => {
                    inventory.add(CacheKind::Part, vec![key.to_owned()], &entry, Place::Temp(name.clone()));
                }
                // A text on its way, or a file that never gets a name: gone in a moment.
                Some(("index", _)) => {}
                _ if name.starts_with(".tmp") => {}
                _ => inventory.strays.push(entry.path()),
            }
        }
        inventory.entries.sort_by(|(left, _), (right, _)| (left.used, &left.path).cmp(&(right.used, &right.path)));
        inventory.strays.sort();
        Ok(inventory)
    }

    /// Adds a file, unless it has gone meanwhile.
    fn add(&mut self, kind: CacheKind, names: Vec<String>, entry: &DirEntry, place: Place) {
        let Ok(data) = entry.metadata() else { return };
        let (size, on_disk) = (data.len(), on_disk(&data));
        let entry = CacheEntry { kind, path: entry.path(), names, size, on_disk, used: data.modified().ok() };
        self.entries.push((entry, place));
    }
}

impl Cache {
    /// Everything in the cache.
    pub(super) fn inventory(&self) -> Result<Inventory, StoreError> {
        Inventory::of(self.root())
    }
}

fn kind(shelf: Shelf) -> CacheKind {
    match shelf {
        Shelf::Blob => CacheKind::Download,
        Shelf::Raw => CacheKind::UnpackedBase,
        Shelf::Tar => CacheKind::UnpackedArchive,
        Shelf::Made => CacheKind::MadeBase,
    }
}

/// What a name in `folder` says.
fn finished(folder: &str, name: &str) -> Option<(Shelf, String, u64)> {
    let shelves = Shelf::ALL.into_iter().filter(|shelf| shelf.place().0 == folder);
    let mut found = shelves.filter_map(|shelf| {
        let (stem, rest) = name.rsplit_once('-')?;
        let size = named_size(rest, shelf.place().1)?;
        let digest = matches!(stem.parse(), Ok(Digest::Sha256(_)));
        (digest || shelf == Shelf::Made).then(|| (shelf, stem.to_owned(), size))
    });
    found.next()
}

/// Where files come from, by digest.
fn origins(root: &Path) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let mut origins: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, entry) in files(&root.join("index"))? {
        let digest = name.strip_prefix("from-").and_then(|rest| rest.split('-').next());
        if let (Some(digest), Ok(place)) = (digest, fs::read_to_string(entry.path())) {
            origins.entry(digest.to_owned()).or_default().push(place);
        }
    }
    origins.values_mut().for_each(|places| places.sort());
    Ok(origins)
}

/// The names in a folder; none if it is not there.
fn files(folder: &Path) -> Result<Vec<(String, DirEntry)>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::cache("read", folder))?,
    };
    let named = |entry: DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry);
    let all: Result<Vec<_>, _> = entries.map(|entry| entry.map(named)).collect();
    all.map_err(StoreError::cache("read", folder))
}

#[cfg(unix)]
fn on_disk(data: &Metadata) -> u64 {
    // In units of 512 bytes, whatever the file system's blocks are.
    std::os::unix::fs::MetadataExt::blocks(data).saturating_mul(512)
}

#[cfg(not(unix))]
fn on_disk(data: &Metadata) -> u64 {
    data.len()
}
