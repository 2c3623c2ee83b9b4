//! What a publisher says of its files: by a checksum file, by a signature over that or over the file itself; and where it
//! signs nothing, by what it said first.
//!
//! Checksum files that nobody signed come from the publisher only. Signatures, and what they are over, may come from a
//! mirror: they speak for themselves. The publisher is asked first all the same, as a mirror's may be out of date.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use sha2::{Digest as _, Sha256};

use super::error::{shown, with_causes};
use super::fetch::{Blob, Expected};
use super::location::{Location, Place, is_http};
use super::{Missing, Origin, Replaced, SignatureError, Store, StoreError, TEXT_LIMIT, checksums};
use crate::artifact::{Artifact, Digest, Signature, Signed};
use crate::progress::Progress;

/// Signature files are not longer than this.
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// A checksum file that may be believed.
#[derive(Debug)]
pub(super) struct Listing {
    text: String,
    /// Fingerprint of the key that signed it.
    key: Option<String>,
}

/// A signature over an artifact itself.
#[derive(Clone, Copy)]
pub(super) struct FileSignature<'a> {
    /// The publisher's name.
    by: &'a str,
    /// The signature's URL.
    url: &'a str,
}

/// A checksum file whose signature is good.
pub(super) struct SignedChecksums {
    /// What was signed of it.
    pub(super) text: String,
    /// The file itself.
    pub(super) bytes: Vec<u8>,
    /// The signature's URL and bytes, where that is another file.
    pub(super) signature: Option<(String, Vec<u8>)>,
    /// Fingerprint of the key that made it.
    pub(super) key: String,
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
        // A file on this machine is its owner's word.
        let unsigned = artifact.signature.is_none() && is_http(checksum_file);
        let noted = if unsigned { self.first_use.digest(url)? } else { None };
        let is_first_use = unsigned && noted.is_none();
        let expected = self.expected(artifact, location, checksum_file, noted, progress)?;
        if is_first_use {
            self.say_unsigned(checksum_file, progress);
        }
        let blob = self.exactly(artifact, location, &expected, progress)?;
        if is_first_use {
            let _claim = self.cache.claim("first-use", "the note of what nobody signed", progress)?;
            let stands = self.first_use.pin(url, &expected.digest)?;
            // Another imgbake was first.
            if stands != expected.digest && stands.algorithm() == expected.digest.algorithm() {
                return Err(self.replaced(url, checksum_file, expected.digest, stands));
            }
        }
        Ok(blob)
    }

    /// What the artifact must be: as it was `noted` or remembered if the cache has that, or the network is off; else as its
    /// publisher says now, if that does not go against the note.
    fn expected<'a>(
        &self,
        artifact: &'a Artifact,
        location: &Location,
        checksum_file: &str,
        noted: Option<Digest>,
        progress: &dyn Progress,
    ) -> Result<Expected<'a>, StoreError> {
        let signature = match &artifact.signature {
            Some(Signature { by, over: Signed::File(url) }) => Some(FileSignature { by, url }),
            _ => None,
        };
        let as_noted =
            |digest| Expected { digest, origin: Origin::FirstUse(self.first_use.path().to_owned()), signature };
        let as_listed = |digest| Expected { digest, origin: Origin::ChecksumFile(checksum_file.to_owned()), signature };
        let suffices = |digest: &Digest| Ok(self.offline || self.cached(digest)?.is_some());
        let key = checksum_key(artifact, checksum_file);
        if let Some(noted) = &noted {
            if suffices(noted)? {
                return Ok(as_noted(noted.clone()));
            }
        } else if let Some(remembered) = self.cache.recall(&key).and_then(|text| text.parse().ok())
            && suffices(&remembered)?
        {
            return Ok(as_listed(remembered));
        }
        let (listed, _) = self.listed(artifact, location, checksum_file, progress)?;
        match noted {
            // By another algorithm: the bytes will tell.
            Some(noted) if noted.algorithm() != listed.algorithm() => Ok(as_noted(noted)),
            Some(noted) if noted != listed => Err(self.replaced(&artifact.url, checksum_file, listed, noted)),
            _ => {
                self.cache.remember(&key, &listed.to_string())?;
                Ok(as_listed(listed))
            }
        }
    }

    /// The artifact's digest as its publisher says now, whatever was remembered of it, and the fingerprint of the key whose
    /// signature vouches for it. What nobody signed is noted as in a first use.
    pub(super) fn published_now(
        &self,
        artifact: &Artifact,
        checksum_file: &str,
        progress: &dyn Progress,
    ) -> Result<(Digest, Option<String>), StoreError> {
        let (location, url) = (Location::parse(&artifact.url)?, &artifact.url);
        let (digest, key) = self.listed(artifact, &location, checksum_file, progress)?;
        match &artifact.signature {
            Some(Signature { by, over: Signed::File(signature) }) => {
                let signature = FileSignature { by, url: signature };
                let origin = Origin::ChecksumFile(checksum_file.to_owned());
                let expected = Expected { digest, origin, signature: Some(signature) };
                self.exactly(artifact, &location, &expected, progress)?;
                let key = self.file_signer(artifact, &expected.digest);
                return Ok((expected.digest, key));
            }
            None if is_http(checksum_file) => {
                if self.first_use.digest(url)?.is_none() {
                    self.say_unsigned(checksum_file, progress);
                }
                let _claim = self.cache.claim("first-use", "the note of what nobody signed", progress)?;
                let stands = self.first_use.pin(url, &digest)?;
                if stands != digest && stands.algorithm() == digest.algorithm() {
                    return Err(self.replaced(url, checksum_file, digest, stands));
                }
            }
            Some(_) | None => {}
        }
        self.cache.remember(&checksum_key(artifact, checksum_file), &digest.to_string())?;
        Ok((digest, key))
    }

    /// The digest that the publisher's checksum file has for the artifact now, and the key that signed the file.
    fn listed(
        &self,
        artifact: &Artifact,
        location: &Location,
        checksum_file: &str,
        progress: &dyn Progress,
    ) -> Result<(Digest, Option<String>), StoreError> {
        let listing = self.checksum_file(artifact, checksum_file, progress)?;
        let name = location.name();
        let listed = checksums::digest_for(&listing.text, &name)
            .ok_or_else(|| StoreError::NotListed { file: checksum_file.to_owned(), name })?;
        Ok((listed, listing.key.clone()))
    }

    fn replaced(&self, url: &str, checksum_file: &str, now: Digest, then: Digest) -> StoreError {
        let (url, checksum_file) = (url.to_owned(), checksum_file.to_owned());
        let noted = self.first_use.path().to_owned();
        StoreError::Replaced(Box::new(Replaced { url, checksum_file, now, then, noted }))
    }

    /// Says once for each publisher that nothing of its is signed.
    fn say_unsigned(&self, checksum_file: &str, progress: &dyn Progress) {
        let publisher = publisher(&shown(checksum_file));
        if self.unsigned.lock().unwrap_or_else(PoisonError::into_inner).insert(publisher.clone()) {
            progress.note(&format!(
                "no signature is known for what `{publisher}` serves: its checksums are taken on trust this first time and \
                 noted in `{}`, and from now on a change is refused",
                self.first_use.path().display()
            ));
        }
    }

    /// The publisher's checksum file, asked for once, with its signature checked where it has one.
    fn checksum_file(
        &self,
        artifact: &Artifact,
        file: &str,
        progress: &dyn Progress,
    ) -> Result<Arc<Listing>, StoreError> {
        let key = format!("{file} {:?}", artifact.signature);
        let seen = || self.checksum_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = seen().get(&key) {
            return Ok(Arc::clone(listing));
        }
        let (text, signer) = match &artifact.signature {
            Some(signature) if !matches!(signature.over, Signed::File(_)) => {
                let signed = self.signed_checksums(&artifact.url, file, signature, progress)?;
                (signed.text, Some(signed.key))
            }
            signature => {
                if signature.is_none() && is_open_to_forgery(file) {
                    progress
                        .note(&format!("`{}` comes over plain http: anybody on the way can change it", shown(file)));
                }
                let bytes = self.upstream(file, progress).map_err(|error| no_checksum(&artifact.url, file, error))?;
                (String::from_utf8_lossy(&bytes).into_owned(), None)
            }
        };
        let listing = Arc::new(Listing { text, key: signer });
        seen().insert(key, Arc::clone(&listing));
        Ok(listing)
    }

    /// The checksum file `file` with a good signature, from its publisher, else from the first mirror that has one.
    pub(super) fn signed_checksums(
        &self,
        url: &str,
        file: &str,
        signature: &Signature,
        progress: &dyn Progress,
    ) -> Result<SignedChecksums, StoreError> {
        let (mirrors, upstream): (Vec<_>, Vec<_>) =
            self.places(&Location::parse(file)?).into_iter().partition(|(_, mirror)| *mirror);
        let mut first = None;
        for (place, mirror) in upstream.into_iter().chain(mirrors) {
            match self.signed_checksums_at(url, file, &place, signature, progress) {
                Ok(checksums) => return Ok(checksums),
                Err(error) => {
                    if mirror {
                        progress.note(&format!("mirror: {}", with_causes(&error)));
                    }
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(|| no_checksum(url, file, StoreError::Offline { missing: Vec::new() })))
    }

    fn signed_checksums_at(
        &self,
        url: &str,
        file: &str,
        place: &Place,
        signature: &Signature,
        progress: &dyn Progress,
    ) -> Result<SignedChecksums, StoreError> {
        let bytes = self.small(place, TEXT_LIMIT, progress).map_err(|error| no_checksum(url, file, error))?;
        let by = &signature.by;
        let Signed::Checksums(signature_url) = &signature.over else {
            let checked = self.keys.check_message(by, &bytes, self.now);
            let (text, key) = checked.map_err(|source| refused(file, &place.to_string(), source))?;
            return Ok(SignedChecksums { text, bytes, signature: None, key });
        };
        let check = |signature: &[u8]| self.keys.check(by, signature, self.now, || Ok(bytes.as_slice()));
        let (key, signature) = self.check_signature(file, signature_url, &check, progress)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(SignedChecksums { text, bytes, signature: Some((signature_url.clone(), signature)), key })
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
        let mark = signature_mark(signature.by, &expected.digest);
        if self.cache.recall(&mark).is_some() {
            return Ok(());
        }
        let size = path.metadata().ok().map(|data| data.len());
        progress.begin(&format!("check the signature of {}", shown(url)), size);
        let open = || Ok(Watched { file: File::open(path)?, progress });
        let check = |bytes: &[u8]| self.keys.check(signature.by, bytes, self.now, open);
        let result = self.check_signature(url, signature.url, &check, progress);
        progress.end();
        self.cache.remember(&mark, &result?.0)
    }

    /// The fingerprint of the key whose signature over the artifact itself, with this digest, was found good.
    pub(super) fn file_signer(&self, artifact: &Artifact, digest: &Digest) -> Option<String> {
        let signature = artifact.signature.as_ref().filter(|signature| matches!(signature.over, Signed::File(_)))?;
        self.cache.recall(&signature_mark(&signature.by, digest))
    }

    /// Gets the signature at `url` from the first place that has a good one, by `check`; answers the fingerprint, and
    /// the signature itself.
    fn check_signature(
        &self,
        file: &str,
        url: &str,
        check: &dyn Fn(&[u8]) -> Result<String, SignatureError>,
        progress: &dyn Progress,
    ) -> Result<(String, Vec<u8>), StoreError> {
        let mut last = None;
        for (place, mirror) in self.places(&Location::parse(url)?) {
            match self.signature_at(file, &place, check, progress) {
                Ok(found) => return Ok(found),
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
    ) -> Result<(String, Vec<u8>), StoreError> {
        let bytes = self
            .small(place, SIGNATURE_LIMIT, progress)
            .map_err(|source| StoreError::NoSignature { file: file.to_owned(), source: Box::new(source) })?;
        let fingerprint = check(&bytes).map_err(|source| refused(file, &place.to_string(), source))?;
        Ok((fingerprint, bytes))
    }
}

/// The error of an artifact at `url` whose checksum file cannot be had.
fn no_checksum(url: &str, file: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Offline { .. } => {
            let missing = Missing { url: url.to_owned(), checksum_file: Some(file.to_owned()) };
            StoreError::Offline { missing: vec![missing] }
        }
        source => StoreError::NoChecksum { url: url.to_owned(), source: Box::new(source) },
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

/// Who serves a file: the host, and at a host of many projects the project.
fn publisher(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let host = place.split('/').next().unwrap_or_default();
    place.split_once("/releases/download/").map_or(host, |(project, _)| project).to_owned()
}

/// What the index calls the digest that `checksum_file` had for the artifact. What was believed without the signature
/// is not found by who asks for one.
fn checksum_key(artifact: &Artifact, checksum_file: &str) -> String {
    let signature = artifact.signature.as_ref().map(|signature| format!("{signature:?}"));
    let mut parts = vec![artifact.url.as_str(), checksum_file];
    parts.extend(signature.as_deref());
    format!("checksum-{}", hash(&parts))
}

/// What the index calls the key whose signature over the file of this digest was found good.
fn signature_mark(by: &str, digest: &Digest) -> String {
    format!("signed-{}", hash(&[by, &digest.to_string()]))
}

fn hash(parts: &[&str]) -> Digest {
    Digest::Sha256(Sha256::digest(parts.join("\n")).into())
}

/// Whether a checksum file's URL lets anybody between here and there write the digests.
fn is_open_to_forgery(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    host.is_some_and(|host| host != "localhost" && !host.starts_with("127."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_a_host_or_a_project_there() {
        for (url, name) in [
            ("https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm.sha256", "dl.k8s.io"),
            (
                "https://github.com/containerd/containerd/releases/download/v2.3.4/x.sha256sum",
                "github.com/containerd/containerd",
            ),
            ("http://127.0.0.1:80/SUMS", "127.0.0.1:80"),
        ] {
            assert_eq!(publisher(url), name);
        }
    }
}
