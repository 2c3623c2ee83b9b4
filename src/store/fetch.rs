//! Getting one artifact: which digest it must have, where it can come from, and into the cache with it
//! if it is the right one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::cache::Shelf;
use super::error::{shown, with_causes};
use super::location::{Location, Place};
use super::part::Part;
use super::published::FileSignature;
use super::{Mismatch, Missing, Origin, Store, StoreError};
use crate::artifact::{Artifact, Checksum, Digest};
use crate::disk::HostFile;
use crate::progress::Progress;

/// A verified artifact.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) file: Arc<HostFile>,
    pub(super) sha256: Digest,
}

/// What an artifact must be.
pub(super) struct Expected<'a> {
    pub(super) digest: Digest,
    pub(super) origin: Origin,
    /// A signature over the artifact itself, where the digest alone is not to be believed.
    pub(super) signature: Option<FileSignature<'a>>,
}

impl Store {
    /// The artifact; once found, nothing about it is looked up again.
    pub(super) fn blob(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<Blob, StoreError> {
        let found = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = found().get(artifact) {
            return Ok(blob.clone());
        }
        let blob = self.find(artifact, progress)?;
        found().insert(artifact.clone(), blob.clone());
        Ok(blob)
    }

    /// The artifact, from the cache or from where it can be had.
    fn find(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<Blob, StoreError> {
        let location = Location::parse(&artifact.url)?;
        let known = |digest, origin| Expected { digest, origin, signature: None };
        match (&artifact.checksum, self.locked(artifact)) {
            (_, Some((digest, origin))) => self.exactly(artifact, &location, &known(digest, origin), progress),
            (_, None) if self.pins.is_complete() => Err(self.not_locked(artifact)),
            (Checksum::Pinned(digest), None) => {
                self.exactly(artifact, &location, &known(digest.clone(), Origin::Pin), progress)
            }
            (Checksum::File { url }, None) => self.published(artifact, &location, url, progress),
        }
    }

    /// The artifact if it is as expected.
    pub(super) fn exactly(
        &self,
        artifact: &Artifact,
        location: &Location,
        expected: &Expected<'_>,
        progress: &dyn Progress,
    ) -> Result<Blob, StoreError> {
        let blob = match self.cached(&expected.digest)? {
            Some(blob) => blob,
            None => self.fetch(&artifact.url, location, expected, progress)?,
        };
        // It may have come into the cache under another name, for its digest only.
        self.check_file(&artifact.url, expected, blob.file.path(), progress)?;
        self.cache.note_origin(&blob.sha256, &shown(&artifact.url));
        Ok(blob)
    }

    /// Refuses an artifact that somebody else is to fetch if the lock file should hold it and does not.
    ///
    /// # Errors
    /// [`StoreError::NotLocked`].
    pub fn expect_locked(&self, artifact: &Artifact) -> Result<(), StoreError> {
        match self.locked(artifact) {
            None if self.pins.is_complete() => Err(self.not_locked(artifact)),
            _ => Ok(()),
        }
    }

    fn not_locked(&self, artifact: &Artifact) -> StoreError {
        StoreError::NotLocked { path: self.pins.path().to_owned(), url: artifact.url.clone() }
    }

    /// What the user's lock file says the artifact must be. It comes before what is built in, so that other builds of
    /// the same programs can be baked.
    fn locked(&self, artifact: &Artifact) -> Option<(Digest, Origin)> {
        let digest = self.pins.digest(&artifact.url)?.clone();
        Some((digest, Origin::LockFile(self.pins.path().to_owned())))
    }

    /// The artifact of this digest, if it is in the cache; found once, it stays open.
    pub(super) fn cached(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = open().get(digest) {
            return Ok(Some(blob.clone()));
        }
        let found = self.find_blob(digest)?;
        if let Some(blob) = &found {
            open().insert(digest.clone(), blob.clone());
        }
        Ok(found)
    }

    fn find_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let sha256 = match digest {
            Digest::Sha256(_) => digest.clone(),
            // Blobs are named by their sha256; the index knows which one has this sha512.
            Digest::Sha512(_) => match self.cache.recall(&format!("sha512-{digest}")).map(|text| text.parse()) {
                Some(Ok(sha256)) => sha256,
                _ => return Ok(None),
            },
        };
        let file = self.cache.find(Shelf::Blob, &sha256.to_string())?;
        Ok(file.map(|file| Blob { file, sha256 }))
    }

    /// Gets what is not in the cache from the first place that has it.
    fn fetch(
        &self,
        url: &str,
        location: &Location,
        expected: &Expected<'_>,
        progress: &dyn Progress,
    ) -> Result<Blob, StoreError> {
        let name = location.name();
        let claim = self.cache.claim(&format!("get-{}", expected.digest), &format!("`{name}`"), progress)?;
        if let Some(blob) = self.cached(&expected.digest)? {
            return Ok(blob);
        }
        // So that an interrupted download has a name.
        self.cache.note_origin(&expected.digest, &shown(url));
        let mut part = Part::open(claim.temp(), &expected.digest)?;
        let mut last = None;
        for (place, mirror) in self.places(location) {
            if part.is_complete() {
                break;
            }
            match self.fill(&mut part, &place, &name, expected, progress) {
                Ok(()) => break,
                Err(error) if error.is_local() => {
                    // A full disk is not to be kept full by what cannot be completed.
                    let _ = part.restart();
                    return Err(error.measured());
                }
                Err(error) => {
                    if mirror {
                        progress.note(&format!("mirror: {}", with_causes(&error)));
                    }
                    last = Some(error);
                }
            }
        }
        if !part.is_complete() {
            let missing = || vec![Missing { url: url.to_owned(), checksum_file: None }];
            return Err(last.unwrap_or_else(|| StoreError::Offline { missing: missing() }));
        }
        // Before it gets a name in the cache.
        part.file()?;
        if let Err(error) = self.check_file(url, expected, claim.temp(), progress) {
            if matches!(error, StoreError::Signature { .. }) {
                part.restart()?;
            }
            return Err(error);
        }
        let sha256 = Digest::Sha256(part.sha256());
        if matches!(expected.digest, Digest::Sha512(_)) {
            self.cache.remember(&format!("sha512-{}", expected.digest), &sha256.to_string())?;
        }
        let file = self.cache.publish(&claim, part.file()?, Shelf::Blob, &sha256.to_string(), progress)?;
        Ok(Blob { file, sha256 })
    }

    /// Where to look, and whether that is a mirror. A folder that does not have the file is passed over.
    pub(super) fn places(&self, location: &Location) -> Vec<(Place, bool)> {
        let mirrors = self.mirrors.iter().flat_map(|mirror| location.at(mirror)).map(|place| (place, true));
        let usable = |place: &Place, mirror: bool| match place {
            Place::File(path) => !mirror || path.is_file(),
            Place::Http(_) => !self.offline,
        };
        mirrors.chain([(location.upstream(), false)]).filter(|(place, mirror)| usable(place, *mirror)).collect()
    }

    /// Fills `part` from `place` with the right bytes; with wrong ones it is empty afterwards.
    fn fill(
        &self,
        part: &mut Part,
        place: &Place,
        name: &str,
        expected: &Expected<'_>,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let mut web_page = false;
        match place {
            Place::File(path) => copy(path, name, part, progress)?,
            Place::Http(url) => {
                web_page = self.client.download(url, name, part, progress)?;
                if !part.is_complete() && part.is_continued() {
                    // Put together from several answers: only one from a single answer can be judged.
                    part.restart()?;
                    web_page = self.client.download(url, name, part, progress)?;
                }
            }
        }
        if part.is_complete() {
            return Ok(());
        }
        let actual = part.digest();
        part.restart()?;
        let (expected, origin) = (expected.digest.clone(), expected.origin.clone());
        let mismatch = Mismatch { from: place.to_string(), expected, actual, origin, web_page };
        Err(StoreError::Mismatch(Box::new(mismatch)))
    }
}

/// Copies a local file. It is not linked: a link would change when its owner changes the file.
fn copy(path: &Path, name: &str, part: &mut Part, progress: &dyn Progress) -> Result<(), StoreError> {
    let error = |source| StoreError::Read { path: path.to_owned(), source };
    part.restart()?;
    let mut file = File::open(path).map_err(error)?;
    let size = file.metadata().ok().map(|data| data.len());
    part.expect(size);
    progress.begin(name, size);
    let mut buffer = vec![0; 1 << 20];
    let result = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(read) => {
                if let Err(error) = part.append(buffer.get(..read).unwrap_or_default()) {
                    break Err(error);
                }
                progress.advance(read as u64);
            }
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => break Err(error(source)),
        }
    };
    progress.end();
    result
}

/// A local file of at most `limit` bytes.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::TooLong { url: path.display().to_string(), limit });
    }
    Ok(bytes)
}
