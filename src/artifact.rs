//! What a file that goes into an image is called, where it comes from and how it is recognised.
//! Plain data: the words name artifacts, the store gets them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A file somewhere upstream, with the means to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Artifact {
    /// Upstream's URL. Mirrors serve the same host and path below their own prefix.
    pub url: String,
    /// How its bytes are recognised.
    pub checksum: Checksum,
    /// Its publisher's signature, where there is one that can be checked. A digest that is known now counts without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// An OpenPGP signature by an artifact's publisher.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// Whose keys it is judged by: a name that `imgbake keys` lists.
    pub by: String,
    /// What is signed, and where the signature is.
    pub over: Signed,
}

/// What a publisher signs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signed {
    /// The checksum file, which is a clear-signed message itself.
    ClearSignedChecksums,
    /// The checksum file, by the detached signature at this URL.
    Checksums(String),
    /// The artifact itself, by the detached signature at this URL.
    File(String),
}

/// Where an artifact's digest is to be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// Known now.
    Pinned(Digest),
    /// In a checksum file that the publisher serves: either a bare hexadecimal digest or lines of
    /// `DIGEST  NAME` (or `DIGEST *NAME`), of which the line for the artifact's file name counts.
    File {
        /// The checksum file's URL.
        url: String,
    },
}

/// A file's digest; the length of its hexadecimal form tells which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256 (FIPS 180-4), 32 bytes.
    Sha256([u8; 32]),
    /// SHA-512 (FIPS 180-4), 64 bytes.
    Sha512([u8; 64]),
}

/// A string that is no hexadecimal SHA-256 or SHA-512.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected 64 (sha256) or 128 (sha512) hexadecimal digits")]
pub struct DigestError(String);

/// What the user's lock file says, for those who choose by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locked {
    /// Releases, by component and by what was asked for.
    pub releases: BTreeMap<(String, String), String>,
    /// Digests, by URL.
    pub digests: BTreeMap<String, Digest>,
}

impl Locked {
    /// The release of `component` that asking for `asked` led to.
    #[must_use]
    pub fn release(&self, component: &str, asked: &str) -> Option<&str> {
        self.releases.get(&(component.to_owned(), asked.to_owned())).map(String::as_str)
    }
}

impl Digest {
    /// The algorithm's usual name.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// The digest as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.to_owned());
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(error);
        let bytes = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Ok(digit(high)? << 4 | digit(low)?),
                _ => Err(error()),
            })
            .collect::<Result<Vec<u8>, _>>()?;
        match bytes.len() {
            32 => Ok(Self::Sha256(bytes.try_into().map_err(|_| error())?)),
            64 => Ok(Self::Sha512(bytes.try_into().map_err(|_| error())?)),
            _ => Err(error()),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text() {
        let text = "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad";
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
    }

    #[test]
    fn a_short_or_foreign_text_is_no_digest() {
        for text in ["", "abc", "zz", &"g".repeat(64), &"a".repeat(63)] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError(text.to_owned())));
        }
    }
}
