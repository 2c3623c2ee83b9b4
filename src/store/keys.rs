//! The keys that publishers sign with: those built in, and the user's own.
//!
//! A file of the user's folder `keys/` (`NAME.asc`, or `NAME.gpg`) replaces the built-in keys of that name as a whole;
//! other files there add names, which the user's base images can speak of.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::signature::{self, Certificate, SignatureError, Trusted};

/// Files of keys are not longer than this.
const KEYS_LIMIT: u64 = 4 << 20;

macro_rules! built_in {
    ($($name:literal: $purpose:literal,)*) => {
        &[$(($name, $purpose, include_str!(concat!("../../keys/", $name, ".asc")))),*]
    };
}

/// Names, what they are for, and the keys.
const BUILT_IN: &[(&str, &str, &str)] = built_in! {
    "debian-archive": "the Debian archive's releases (InRelease)",
    "runc": "runc's releases (runc.sha256sum)",
    "ubuntu-cdimage": "Ubuntu's images for Raspberry Pi (SHA256SUMS of cdimage.ubuntu.com)",
    "ubuntu-cloud-images": "Ubuntu's cloud images (SHA256SUMS of cloud-images.ubuntu.com)",
};

/// The keys of all publishers. They are read when they are needed.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    own: Option<PathBuf>,
}

/// One certificate, as `imgbake keys` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySummary {
    /// Whose it is: what a base image's `by` says.
    pub publisher: String,
    /// What the publisher signs with it; known of built-in keys.
    pub purpose: Option<&'static str>,
    /// The user's file that holds it; none if it is built in.
    pub file: Option<PathBuf>,
    /// The primary key's fingerprint, in upper-case hexadecimal digits.
    pub fingerprint: String,
    /// The names that its owner gave it.
    pub users: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// Whether its owner took it back.
    pub revoked: bool,
}

impl KeySummary {
    /// The day on which it ends, as `2031-01-19`.
    #[must_use]
    pub fn expiry_date(&self) -> Option<String> {
        self.expires.map(signature::date)
    }
}

/// Where a publisher's keys are.
enum Ring {
    BuiltIn { purpose: &'static str, text: &'static str },
    File(PathBuf),
}

impl Keys {
    /// The built-in keys, and those in the folder `own`, which need not be there.
    #[must_use]
    pub fn new(own: Option<PathBuf>) -> Self {
        Self { own }
    }

    /// All certificates, by publisher.
    ///
    /// # Errors
    /// [`SignatureError::Keys`] and [`SignatureError::ReadKeys`], for the user's own files.
    pub fn list(&self) -> Result<Vec<KeySummary>, SignatureError> {
        let mut all = Vec::new();
        for (publisher, ring) in self.rings()? {
            let (purpose, file) = match &ring {
                Ring::BuiltIn { purpose, .. } => (Some(*purpose), None),
                Ring::File(path) => (None, Some(path.clone())),
            };
            all.extend(certificates(&publisher, &ring)?.iter().map(|certificate| KeySummary {
                publisher: publisher.clone(),
                purpose,
                file: file.clone(),
                fingerprint: certificate.fingerprint(),
                users: certificate.users(),
                expires: certificate.expires(),
                revoked: certificate.is_revoked(),
            }));
        }
        Ok(all)
    }

    /// Checks a clear-signed message by `publisher`, such as Debian's `InRelease`, at the time `now` (seconds since 1970).
    /// Answers what was signed, with lines that end in CR and LF: nothing else of the message may be believed; and the
    /// fingerprint of the certificate that is behind the signature.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check_message(&self, publisher: &str, message: &[u8], now: i64) -> Result<(String, String), SignatureError> {
        let certificates = self.certificates(publisher)?;
        let trusted = Trusted { publisher, certificates: &certificates, now };
        signature::clear_signed(message, &trusted)
    }

    /// Checks a detached signature by `publisher`, armored or binary, over the data that `open` opens, at the time `now`
    /// (seconds since 1970). The data are read once for each signature by a key of the publisher's, and not kept. Answers
    /// the fingerprint of the certificate that is behind the signature.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check<R: Read>(
        &self,
        publisher: &str,
        signature: &[u8],
        now: i64,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<String, SignatureError> {
        let certificates = self.certificates(publisher)?;
        signature::detached(signature, &Trusted { publisher, certificates: &certificates, now }, &open)
    }

    fn certificates(&self, publisher: &str) -> Result<Vec<Certificate>, SignatureError> {
        match self.rings()?.get(publisher) {
            Some(ring) => certificates(publisher, ring),
            None => Err(SignatureError::NoKeys { publisher: publisher.to_owned() }),
        }
    }

    fn rings(&self) -> Result<BTreeMap<String, Ring>, SignatureError> {
        let built_in =
            BUILT_IN.iter().map(|(name, purpose, text)| ((*name).to_owned(), Ring::BuiltIn { purpose, text }));
        let mut rings: BTreeMap<String, Ring> = built_in.collect();
        let Some(folder) = &self.own else { return Ok(rings) };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(rings),
            Err(error) => return Err(unreadable(folder)(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.map_err(unreadable(folder))?.path());
        }
        // Of `x.asc` and `x.gpg` the first counts.
        files.sort_by(|one, other| other.cmp(one));
        for path in files {
            let is_key = path.extension().is_some_and(|ending| ending == "asc" || ending == "gpg");
            if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_key) {
                rings.insert(name.to_owned(), Ring::File(path));
            }
        }
        Ok(rings)
    }
}

fn certificates(publisher: &str, ring: &Ring) -> Result<Vec<Certificate>, SignatureError> {
    let found = match ring {
        Ring::BuiltIn { text, .. } => Certificate::read(text.as_bytes()),
        Ring::File(path) => Certificate::read(&short_file(path).map_err(unreadable(path))?),
    };
    found.map_err(|reason| SignatureError::Keys { publisher: publisher.to_owned(), reason })
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> SignatureError {
    move |source| SignatureError::ReadKeys { path: path.to_owned(), source }
}

fn short_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if File::open(path)?.take(KEYS_LIMIT + 1).read_to_end(&mut bytes)? as u64 > KEYS_LIMIT {
        return Err(io::Error::other("a file of keys is not longer than 4 MiB"));
    }
    Ok(bytes)
}
