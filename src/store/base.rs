//! Base images as raw files: as they came, unpacked once, or made here.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use super::cache::{Shelf, remove};
use super::error::{is_full, shown};
use super::part::sha256_of;
use super::{Cause, Store, StoreError};
use crate::artifact::{Artifact, Digest};
use crate::disk::{FileRange, HostFile};
use crate::progress::Progress;

/// What a file's first bytes say about how it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Nothing known: as raw as it looks.
    None,
    Xz,
    Gzip,
    Tar,
    /// Not opened here; named with its article.
    Other(&'static str),
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "a raw file",
            Self::Xz => "compressed with xz",
            Self::Gzip => "compressed with gzip",
            Self::Tar => "a tar archive",
            Self::Other(name) => name,
        }
    }
}

/// Offset, bytes, meaning.
const MAGIC: &[(usize, &[u8], Packing)] = &[
    (0, b"\xfd7zXZ\0", Packing::Xz),
    (0, b"\x1f\x8b", Packing::Gzip),
    (257, b"ustar", Packing::Tar),
    (0, b"\x28\xb5\x2f\xfd", Packing::Other("compressed with zstd")),
    (0, b"BZh", Packing::Other("compressed with bzip2")),
    (0, b"PK\x03\x04", Packing::Other("a zip archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Packing::Other("a 7z archive")),
    (0, b"QFI\xfb", Packing::Other("a qcow2 image")),
    (0, b"KDMV", Packing::Other("a VMDK image")),
    (0, b"# Disk DescriptorFile", Packing::Other("a VMDK image")),
    (0, b"vhdxfile", Packing::Other("a VHDX image")),
    (0, b"conectix", Packing::Other("a VHD image")),
    (64, b"\x7f\x10\xda\xbe", Packing::Other("a VDI image")),
];

/// How `file` is packed.
pub(super) fn packing(file: &Arc<HostFile>) -> Result<Packing, StoreError> {
    let mut start = vec![0; usize::try_from(file.size()).unwrap_or(usize::MAX).min(512)];
    FileRange::whole(Arc::clone(file))
        .read_at(0, &mut start)
        .map_err(|error| StoreError::Unpack { name: file.path().display().to_string(), source: error.into() })?;
    let matches = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Ok(MAGIC.iter().find(|(offset, magic, _)| matches(*offset, magic)).map_or(Packing::None, |entry| entry.2))
}

impl Store {
    /// The artifact as a raw image. An `.xz` is unpacked once, by `unpack` into an empty file that it may
    /// leave holes in; it is kept beside the packed one. Anything else that is packed is refused.
    ///
    /// # Errors
    /// As [`Store::get`], [`StoreError::Unsupported`], and [`StoreError::Unpack`] with `unpack`'s error.
    pub fn base<E: Into<Cause>>(
        &self,
        artifact: &Artifact,
        progress: &dyn Progress,
        unpack: impl FnOnce(&Arc<HostFile>, &mut File, &dyn Progress) -> Result<(), E>,
    ) -> Result<Arc<HostFile>, StoreError> {
        let blob = self.blob(artifact, progress)?;
        if !needs_unpacking(&blob.file, &artifact.url)? {
            return Ok(blob.file);
        }
        self.raw(&blob.file, &artifact.url, &blob.sha256, progress, unpack)
    }

    /// The user's own file as a raw image: a raw one as it is, where it is; an `.xz` unpacked into the
    /// cache, once for each content.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Changed`], and as [`Store::base`].
    pub fn unpacked<E: Into<Cause>>(
        &self,
        path: &Path,
        progress: &dyn Progress,
        unpack: impl FnOnce(&Arc<HostFile>, &mut File, &dyn Progress) -> Result<(), E>,
    ) -> Result<Arc<HostFile>, StoreError> {
        let error = |source| StoreError::Read { path: path.to_owned(), source };
        let file = HostFile::open(path).map_err(error)?;
        let name = path.display().to_string();
        if !needs_unpacking(&file, &name)? {
            return Ok(file);
        }
        let state = file.with_file(|file| state(path, file)).map_err(error)?;
        let known = self.cache.recall(&state).and_then(|text| text.parse().ok());
        let digest = match known {
            Some(digest) => digest,
            None => {
                progress.begin(&format!("read {name}"), Some(file.size()));
                let input = File::open(path);
                let digest = input.and_then(|input| sha256_of(input, |read| progress.advance(read)));
                progress.end();
                Digest::Sha256(digest.map_err(error)?)
            }
        };
        let is_same = || File::open(path).and_then(|file| self::state(path, &file)).is_ok_and(|now| now == state);
        let raw = self.raw(&file, &name, &digest, progress, |file, output, progress| {
            unpack(file, output, progress).map_err(Into::into)?;
            // Not what was hashed: the result must not get that name.
            if is_same() { Ok(()) } else { Err(Cause::from(StoreError::Changed { path: path.to_owned() })) }
        })?;
        self.cache.remember(&state, &digest.to_string())?;
        Ok(raw)
    }

    /// A file that is made here, once: `make` writes it to the path it is given. `key` is its name, of
    /// letters, digits, `.`, `_` and `-`. Two imgbakes do not make the same file at the same time.
    ///
    /// # Errors
    /// [`StoreError::Make`] with `make`'s error, [`StoreError::Cache`].
    pub fn made<E: Into<Cause>>(
        &self,
        key: &str,
        progress: &dyn Progress,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Arc<HostFile>, StoreError> {
        let error = |source: Cause| StoreError::Make { key: key.to_owned(), source };
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(error("its name has unusual characters".into()));
        }
        if let Some(file) = self.find_made(key)? {
            return Ok(file);
        }
        let claim = self.cache.claim(&format!("made-{key}"), &format!("`{key}`"), progress)?;
        if let Some(file) = self.find_made(key)? {
            return Ok(file);
        }
        let path = claim.temp();
        remove(path)?;
        let made =
            make(path).map_err(Into::into).and_then(|()| Ok(File::options().read(true).write(true).open(path)?));
        match made {
            Ok(file) => self.cache.publish(&claim, &file, Shelf::Made, key, progress).map_err(|error| {
                let _ = remove(path);
                error.measured()
            }),
            Err(source) => {
                let _ = remove(path);
                Err(error(source))
            }
        }
    }

    /// The file that [`Store::made`] would find.
    ///
    /// # Errors
    /// [`StoreError::Cache`].
    pub fn find_made(&self, key: &str) -> Result<Option<Arc<HostFile>>, StoreError> {
        self.cache.find(Shelf::Made, key)
    }

    /// Removes a file that was made, so that it is made anew.
    ///
    /// # Errors
    /// [`StoreError::Cache`].
    pub fn discard_made(&self, key: &str) -> Result<(), StoreError> {
        self.cache.discard(Shelf::Made, key)
    }

    /// `packed`, unpacked into the cache.
    fn raw<E: Into<Cause>>(
        &self,
        packed: &Arc<HostFile>,
        name: &str,
        digest: &Digest,
        progress: &dyn Progress,
        unpack: impl FnOnce(&Arc<HostFile>, &mut File, &dyn Progress) -> Result<(), E>,
    ) -> Result<Arc<HostFile>, StoreError> {
        let stem = digest.to_string();
        if let Some(file) = self.cache.find(Shelf::Raw, &stem)? {
            return Ok(file);
        }
        let claim = self.cache.claim(&format!("raw-{stem}"), &format!("`{name}`"), progress)?;
        if let Some(file) = self.cache.find(Shelf::Raw, &stem)? {
            return Ok(file);
        }
        let path = claim.temp();
        remove(path)?;
        let mut output = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)
            .map_err(StoreError::cache("create", path))?;
        let unpacked = unpack(packed, &mut output, progress).map_err(|error| {
            let source = error.into();
            match source.downcast::<StoreError>() {
                Ok(error) => *error,
                Err(source) if is_full(&*source) => StoreError::full(path, None, source),
                Err(source) => StoreError::Unpack { name: name.to_owned(), source },
            }
        });
        let published = unpacked.and_then(|()| {
            self.cache.note_origin(digest, &shown(name));
            self.cache.publish(&claim, &output, Shelf::Raw, &stem, progress)
        });
        published.map_err(|error| {
            drop(output);
            let _ = remove(path);
            error.measured()
        })
    }
}

/// Whether the image is packed in the one way that is unpacked; other ways are refused.
fn needs_unpacking(file: &Arc<HostFile>, name: &str) -> Result<bool, StoreError> {
    let refused = |packing| Err(StoreError::Unsupported { name: name.to_owned(), packing });
    match packing(file)? {
        Packing::None => Ok(false),
        Packing::Xz if name.ends_with(".tar.xz") || name.ends_with(".txz") => refused("an xz-compressed tar archive"),
        Packing::Xz => Ok(true),
        other => refused(other.name()),
    }
}

/// A name for a file's content as long as nobody touches the file.
fn state(path: &Path, file: &File) -> std::io::Result<String> {
    let data = file.metadata()?;
    let modified = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    #[cfg(unix)]
    let unix = {
        use std::os::unix::fs::MetadataExt;
        format!("{} {} {} {}", data.dev(), data.ino(), data.ctime(), data.ctime_nsec())
    };
    #[cfg(not(unix))]
    let unix = "";
    let text = format!("{}\n{} {modified} {unix}", fs::canonicalize(path)?.display(), data.len());
    Ok(format!("file-{}", Digest::Sha256(Sha256::digest(text).into())))
}
