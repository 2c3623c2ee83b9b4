//! Files for a site without network: a folder that holds them under upstream's host and path, as a mirror does.
//!
//! Beside the artifacts it gets the signed checksum files with their signatures, which speak for themselves. The digest of
//! every artifact is for a lock file. That does not: whoever uses it trusts whoever brings the folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::shown;
use super::fetch::Blob;
use super::location::Location;
use super::part::sha256_of;
use super::{Pin, Pins, Store, StoreError, checksums};
use crate::artifact::{Artifact, Checksum, Digest, Signed};
use crate::progress::Progress;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collected {
    /// Where it is now.
    pub path: PathBuf,
    /// Its sha256.
    pub sha256: Digest,
}

impl Collected {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    /// [`StoreError::Collect`].
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let sha256 = File::open(path).and_then(|file| sha256_of(file, |_| ())).map_err(collect_error(path))?;
        Ok(Self { path: path.to_owned(), sha256: Digest::Sha256(sha256) })
    }
}

impl Store {
    /// Gets `artifacts` into the cache. The result is in their order.
    ///
    /// # Errors
    /// As [`Store::get_all`].
    pub fn warm(&self, artifacts: &[Artifact], progress: &dyn Progress) -> Result<Vec<Collected>, StoreError> {
        let _held = self.get_all(artifacts, progress)?;
        let collected = |artifact| {
            let Blob { file, sha256 } = self.blob(artifact, progress)?;
            Ok(Collected { path: file.path().to_owned(), sha256 })
        };
        artifacts.iter().map(collected).collect()
    }

    /// Gets `artifacts` into the cache and from there into `folder`, which can be a mirror from then on, with what it
    /// takes to recognise them; `pins` get the digests. What is there already and right stays. The result is sorted by
    /// path.
    ///
    /// # Errors
    /// As [`Store::get_all`], and [`StoreError::Collect`].
    pub fn collect(
        &self,
        artifacts: &[Artifact],
        folder: &Path,
        pins: &mut Pins,
        progress: &dyn Progress,
    ) -> Result<Vec<Collected>, StoreError> {
        let _held = self.get_all(artifacts, progress)?;
        fs::create_dir_all(folder).map_err(collect_error(folder))?;
        let mut collected = Vec::new();
        for artifact in artifacts {
            let blob = self.blob(artifact, progress)?;
            let url = shown(&artifact.url);
            let Some(path) = Location::parse(&artifact.url)?.below(folder) else {
                progress.note(&format!("`{url}` is a file of this machine: it is not copied"));
                continue;
            };
            copy(&blob, &path, progress)?;
            collected.push(Collected { path, sha256: blob.sha256.clone() });
            let (checksums, key) = self.collect_checksums(artifact, &blob, folder, progress)?;
            collected.extend(checksums);
            // A name and password in a URL are nobody else's business.
            if url == artifact.url {
                let known = pins.pin(&url).or(self.pins.pin(&url)).filter(|pin| pin.digest == blob.sha256);
                let (name, release, known_key) =
                    known.cloned().map_or((None, None, None), |pin| (pin.name, pin.release, pin.key));
                let key = key.or_else(|| self.file_signer(artifact, &blob.sha256)).or(known_key);
                let size = Some(blob.file.size());
                pins.insert(&url, Pin { name, release, digest: blob.sha256, size, key });
            }
        }
        collected.sort();
        collected.dedup();
        Ok(collected)
    }

    /// The artifact's signed checksum file, and the signature, if they speak of the bytes in `blob`; and the fingerprint of
    /// the key.
    fn collect_checksums(
        &self,
        artifact: &Artifact,
        blob: &Blob,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(Vec<Collected>, Option<String>), StoreError> {
        let nothing = || Ok((Vec::new(), None));
        let (Checksum::File { url }, Some(signature)) = (&artifact.checksum, &artifact.signature) else {
            return nothing();
        };
        let signed = match signature.over {
            Signed::File(_) => return nothing(),
            Signed::Checksums(_) | Signed::ClearSignedChecksums => {
                self.signed_checksums(&artifact.url, url, signature, progress)
            }
        };
        let signed = match signed {
            Ok(signed) => signed,
            // The lock file has the digest.
            Err(StoreError::Offline { .. }) => return nothing(),
            Err(error) => return Err(error),
        };
        let name = Location::parse(&artifact.url)?.name();
        let listed = checksums::digest_for(&signed.text, &name).map(|digest| self.cached(&digest)).transpose()?;
        if listed.flatten().is_none_or(|listed| listed.sha256 != blob.sha256) {
            progress.note(&format!(
                "`{}` is another file than the one that `{}` lists now: only the lock file knows it",
                shown(&artifact.url),
                shown(url)
            ));
            return nothing();
        }
        let mut collected = Vec::new();
        for (url, bytes) in [(url.clone(), signed.bytes)].into_iter().chain(signed.signature) {
            if let Some(path) = Location::parse(&url)?.below(folder) {
                collected.push(write(&path, &bytes)?);
            }
        }
        Ok((collected, Some(signed.key)))
    }
}

/// Copies `blob` to `path` unless it is there already.
fn copy(blob: &Blob, path: &Path, progress: &dyn Progress) -> Result<(), StoreError> {
    let read = |source| StoreError::Read { path: blob.file.path().to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    progress.begin(&format!("copy {name}"), Some(blob.file.size()));
    let is_there = fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == blob.file.size())
        && File::open(path).and_then(|file| sha256_of(file, |_| ())).is_ok_and(|sha256| blob.sha256.bytes() == sha256);
    let result = if is_there {
        Ok(())
    } else {
        // Opened anew: the shared handle has one position for all.
        File::open(blob.file.path()).map_err(read).and_then(|mut from| {
            place(path, |to| {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let read = from.read(&mut buffer)?;
                    if read == 0 {
                        return Ok(());
                    }
                    to.write_all(buffer.get(..read).unwrap_or_default())?;
                    progress.advance(read as u64);
                }
            })
        })
    };
    progress.end();
    result
}

/// Writes `bytes` to `path` unless they are there already.
fn write(path: &Path, bytes: &[u8]) -> Result<Collected, StoreError> {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        place(path, |file| file.write_all(bytes))?;
    }
    let sha256 = sha256_of(bytes, |_| ()).map_err(collect_error(path))?;
    Ok(Collected { path: path.to_owned(), sha256: Digest::Sha256(sha256) })
}

/// Makes the file at `path`, whole or not at all.
fn place(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let make = || {
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        // Carried to another machine, it is read by whoever uses it there.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = builder.prefix(".imgbake-").tempfile_in(folder)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    make().map_err(collect_error(path))
}

fn collect_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Collect { path, source }
}
