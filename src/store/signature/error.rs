//! Why a signature is not believed.

use std::io;
use std::path::PathBuf;

use time::OffsetDateTime;

/// Why a signature is not believed. Keys are named by their fingerprints, where those are known.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// None of the publisher's keys made it.
    #[error("it was made by the key {}, which is none of `{publisher}`'s", names(keys))]
    UnknownKey {
        /// The keys that made it, as the signature names them.
        keys: Vec<String>,
        /// Whose keys were tried.
        publisher: String,
    },
    /// The data are not those that were signed.
    #[error("it is wrong: the key `{key}` did not sign these bytes")]
    Wrong {
        /// The key that the signature names.
        key: String,
    },
    /// The key is too old.
    #[error("its key `{key}` expired on {}", date(*since))]
    KeyExpired {
        /// The key.
        key: String,
        /// Seconds since 1970.
        since: i64,
    },
    /// The signature is too old.
    #[error("it was made by the key `{key}` to be good until {} only", date(*since))]
    Expired {
        /// The key.
        key: String,
        /// Seconds since 1970.
        since: i64,
    },
    /// The key or the signature is of a time to come.
    #[error("by this machine's clock it comes from the future: the key `{key}` made it, or was made, on {}", date(*from))]
    NotYet {
        /// The key.
        key: String,
        /// Seconds since 1970.
        from: i64,
    },
    /// The key's owner took it back.
    #[error("its key `{key}` was revoked{}", reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Revoked {
        /// The key.
        key: String,
        /// The owner's words.
        reason: Option<String>,
    },
    /// The key is not meant for this.
    #[error("its key `{key}` is not one for signing")]
    NotForSigning {
        /// The key.
        key: String,
    },
    /// Somebody could have made two files that this signature fits.
    #[error("the key `{key}` signed a digest that is too weak ({algorithm})")]
    WeakDigest {
        /// The key.
        key: String,
        /// The digest's name.
        algorithm: String,
    },
    /// Not a signature that is understood.
    #[error("it cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// There are no keys to judge by.
    #[error("there are no keys of `{publisher}`")]
    NoKeys {
        /// Whose.
        publisher: String,
    },
    /// A file of keys is not what it should be.
    #[error("the keys of `{publisher}` cannot be read: {reason}")]
    Keys {
        /// Whose.
        publisher: String,
        /// What is wrong.
        reason: String,
    },
    /// The signed data cannot be read from this machine's disk.
    #[error("the signed data cannot be read")]
    Read(#[source] io::Error),
    /// The user's keys cannot be read from this machine's disk.
    #[error("cannot read `{}`", path.display())]
    ReadKeys {
        /// The folder or the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl SignatureError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let own = |publisher: &str| {
            format!(
                "if the publisher has new keys, get them from where you trust them to be the publisher's and put them into \
                 `keys/{publisher}.asc` in the configuration folder; `imgbake keys` shows those in use"
            )
        };
        Some(match self {
            Self::UnknownKey { publisher, .. } => own(publisher),
            Self::KeyExpired { .. } => {
                "look for a newer imgbake or the publisher's renewed key (`keys/NAME.asc` in the configuration folder \
                 replaces a built-in one), or pin the file's digest in `imgbake.lock`"
                    .to_owned()
            }
            Self::Expired { .. } => "ask the publisher for a newer signature, or pin the file's digest in \
                 `imgbake.lock`"
                .to_owned(),
            Self::NotYet { .. } => "check this machine's clock".to_owned(),
            Self::Revoked { .. } | Self::WeakDigest { .. } | Self::NotForSigning { .. } => {
                "do not use the file before its publisher has signed it with another key or digest; \
                 who knows its digest from elsewhere can pin it in `imgbake.lock`"
                    .to_owned()
            }
            Self::Wrong { .. } | Self::Malformed { .. } => {
                "nothing of it was kept; try again, and if it stays like this do \
                 not use the file: it is not the one that was signed"
                    .to_owned()
            }
            Self::NoKeys { publisher } => {
                format!(
                    "put them into `keys/{publisher}.asc` in the configuration folder; `imgbake keys` shows those in use"
                )
            }
            Self::Keys { .. } => "it should hold OpenPGP public keys, as `gpg --armor --export` writes them".to_owned(),
            Self::ReadKeys { .. } => "check its permissions, or name another folder with `--config-dir`".to_owned(),
            Self::Read(_) => return None,
        })
    }
}

/// A day, in the calendar of UTC.
pub(in crate::store) fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.date().to_string())
}

fn names(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
}
