//! What a publisher says of its files: by a checksum file, by a signature over that or over the file itself; and where it
//! signs nothing, by what it said first.
//!
//! Checksum files come from the publisher only. Signatures may come from a mirror: they speak for themselves.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use sha2::{Digest as _, Sha256};

use super::error::{shown, with_causes};
use super::fetch::{Blob, Expected};
use super::location::{Location, Place, is_http};
use super::{Missing, Origin, Replaced, SignatureError, Store, StoreError, checksums};
use crate::artifact::{Artifact, Digest, Signature, Signed};
use crate::progress::Progress;

/// Signature files are not longer than this.
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// A signature over an artifact itself.
#[derive(Clone, Copy)]
pub(super) struct FileSignature<'a> {
    /// The publisher's name.
    by: &'a str,
    /// The signature's URL.
    url: &'a str,
}

impl Store {
    /// The artifact whose digest `checksum_file` has.
    pub(super) fn published(
        &self,
        artifact: &Artifact,
        location: &Location,
        checksum_file: &str,
        progress: &dyn Progress,
    ) -> Result<Blob, StoreError> {
        let url = &artifact.url;
        let signature = match &artifact.signature {
            Some(Signature { by, over: Signed::File(url) }) => Some(FileSignature { by, url }),
            _ => None,
        };
        let expect = |digest: Digest, origin| Expected { digest, origin, signature };
        // A file on this machine is its owner's word.
        let unsigned = artifact.signature.is_none() && is_http(checksum_file);
        let noted = if unsigned { self.first_use.digest(url)? } else { None };
        let key = checksum_key(artifact, checksum_file);
        let remembered = noted.clone().or_else(|| self.cache.recall(&key)?.parse().ok());
        let suffices = match &remembered {
            Some(digest) => self.offline || self.cached(digest)?.is_some(),
            None => false,
        };
        let expected = match (remembered, &noted) {
            (Some(digest), Some(_)) if suffices => expect(digest, Origin::FirstUse(self.first_use.path().to_owned())),
            (Some(digest), None) if suffices => expect(digest, Origin::ChecksumFile(checksum_file.to_owned())),
            _ => {
                let text = self.checksum_file(artifact, checksum_file, progress)?;
                let name = location.name();
                let digest = checksums::digest_for(&text, &name)
                    .ok_or_else(|| StoreError::NotListed { file: checksum_file.to_owned(), name })?;
                let expected = match noted.clone() {
                    // Another algorithm: the bytes will tell.
                    Some(then) if then.algorithm() != digest.algorithm() => {
                        expect(then, Origin::FirstUse(self.first_use.path().to_owned()))
                    }
                    Some(then) if then != digest => {
                        return Err(self.replaced(url, checksum_file, digest, then));
                    }
                    _ => expect(digest, Origin::ChecksumFile(checksum_file.to_owned())),
                };
                self.cache.remember(&key, &expected.digest.to_string())?;
                expected
            }
        };
        if unsigned && noted.is_none() {
            self.say_unsigned(checksum_file, progress);
        }
        let blob = self.exactly(artifact, location, &expected, progress)?;
        if unsigned && noted.is_none() {
            let _claim = self.cache.claim("first-use", "the note of what nobody signed", progress)?;
            let stands = self.first_use.pin(url, &expected.digest)?;
            // Another imgbake was first.
            if stands != expected.digest && stands.algorithm() == expected.digest.algorithm() {
                return Err(self.replaced(url, checksum_file, expected.digest, stands));
            }
        }
        Ok(blob)
    }

    fn replaced(&self, url: &str, checksum_file: &str, now: Digest, then: Digest) -> StoreError {
        let (url, checksum_file) = (url.to_owned(), checksum_file.to_owned());
        let noted = self.first_use.path().to_owned();
        StoreError::Replaced(Box::new(Replaced { url, checksum_file, now, then, noted }))
    }

    /// Says once for each publisher that nothing of its is signed.
    fn say_unsigned(&self, checksum_file: &str, progress: &dyn Progress) {
        let bare = shown(checksum_file);
        let host = bare.split('/').nth(2).unwrap_or_default();
        if self.unsigned.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned()) {
            progress.note(&format!(
                "no signature is known for what `{host}` serves: its checksums are taken on trust this first time and noted in \
                 `{}`, and from now on a change is refused",
                self.first_use.path().display()
            ));
        }
    }

    /// The publisher's checksum file, asked for once, with its signature checked where it has one.
    fn checksum_file(&self, artifact: &Artifact, file: &str, progress: &dyn Progress) -> Result<Arc<str>, StoreError> {
        let key = format!("{file} {:?}", artifact.signature);
        let seen = || self.checksum_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = seen().get(&key) {
            return Ok(Arc::clone(text));
        }
        if artifact.signature.is_none() && is_open_to_forgery(file) {
            progress.note(&format!("`{}` comes over plain http: anybody on the way can change it", shown(file)));
        }
        let bytes = self.upstream(file, progress).map_err(|error| match error {
            StoreError::Offline { .. } => {
                let missing = Missing { url: artifact.url.clone(), checksum_file: Some(file.to_owned()) };
                StoreError::Offline { missing: vec![missing] }
            }
            source => StoreError::NoChecksum { url: artifact.url.clone(), source: Box::new(source) },
        })?;
        let text = match &artifact.signature {
            Some(Signature { by, over: Signed::ClearSignedChecksums }) => {
                self.keys.check_message(by, &bytes, self.now).map_err(|source| refused(file, file, source))?
            }
            Some(Signature { by, over: Signed::Checksums(url) }) => {
                let check = |signature: &[u8]| self.keys.check(by, signature, self.now, || Ok(bytes.as_slice()));
                self.check_signature(file, url, &check, progress)?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(Signature { over: Signed::File(_), .. }) | None => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let text: Arc<str> = text.into();
        seen().insert(key, Arc::clone(&text));
        Ok(text)
    }

    /// Checks the signature over the artifact at `url` itself, whose bytes are in `path` and have the expected digest;
    /// once for each digest and publisher.
    pub(super) fn check_file(
        &self,
        url: &str,
        expected: &Expected<'_>,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let Some(signature) = expected.signature else { return Ok(()) };
        let mark = format!("signed-{}", hash(&[signature.by, &expected.digest.to_string()]));
        if self.cache.recall(&mark).is_some() {
            return Ok(());
        }
        let size = path.metadata().ok().map(|data| data.len());
        progress.begin(&format!("check the signature of {}", shown(url)), size);
        let open = || Ok(Watched { file: File::open(path)?, progress });
        let check = |bytes: &[u8]| self.keys.check(signature.by, bytes, self.now, open);
        let result = self.check_signature(url, signature.url, &check, progress);
        progress.end();
        self.cache.remember(&mark, &result?)
    }

    /// Gets the signature at `url` from the first place that has a good one, by `check`.
    fn check_signature(
        &self,
        file: &str,
        url: &str,
        check: &dyn Fn(&[u8]) -> Result<String, SignatureError>,
        progress: &dyn Progress,
    ) -> Result<String, StoreError> {
        let mut last = None;
        for (place, mirror) in self.places(&Location::parse(url)?) {
            match self.signature_at(file, &place, check, progress) {
                Ok(fingerprint) => return Ok(fingerprint),
                Err(error) => {
                    if mirror {
                        progress.note(&format!("mirror: {}", with_causes(&error)));
                    }
                    last = Some(error);
                }
            }
        }
        let missing = || vec![Missing { url: url.to_owned(), checksum_file: None }];
        Err(last.unwrap_or_else(|| StoreError::Offline { missing: missing() }))
    }

    fn signature_at(
        &self,
        file: &str,
        place: &Place,
        check: &dyn Fn(&[u8]) -> Result<String, SignatureError>,
        progress: &dyn Progress,
    ) -> Result<String, StoreError> {
        let bytes = self
            .small(place, SIGNATURE_LIMIT, progress)
            .map_err(|source| StoreError::NoSignature { file: file.to_owned(), source: Box::new(source) })?;
        check(&bytes).map_err(|source| refused(file, &place.to_string(), source))
    }
}

fn refused(file: &str, signature: &str, source: SignatureError) -> StoreError {
    StoreError::Signature { file: file.to_owned(), signature: signature.to_owned(), source }
}

/// A file that is being read for its signature.
struct Watched<'a> {
    file: File,
    progress: &'a dyn Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// What the index calls the digest that `checksum_file` had for the artifact. What was believed without the signature
/// is not found by who asks for one.
fn checksum_key(artifact: &Artifact, checksum_file: &str) -> String {
    let signature = artifact.signature.as_ref().map(|signature| format!("{signature:?}"));
    let mut parts = vec![artifact.url.as_str(), checksum_file];
    parts.extend(signature.as_deref());
    format!("checksum-{}", hash(&parts))
}

fn hash(parts: &[&str]) -> Digest {
    Digest::Sha256(Sha256::digest(parts.join("\n")).into())
}

/// Whether a checksum file's URL lets anybody between here and there write the digests.
fn is_open_to_forgery(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    host.is_some_and(|host| host != "localhost" && !host.starts_with("127."))
}
