//! An OpenPGP certificate: a primary key, the names bound to it, its subkeys, and what its owner says of them.
//!
//! Written from RFC 9580, sections 5.2.1, 5.2.3 and 10.1. Certificates come with the program or from the user's
//! configuration and are trusted as such; so a self-signature may still use SHA-1, as those of Ubuntu's oldest key do, and
//! what other people say of a certificate does not matter. A designated revoker's word is not looked for.

use std::io::Read;

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType, SubpacketData};
use pgp::types::{Duration, KeyDetails, SignedUser, Tag};

use super::SignatureError;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// A publisher's certificate.
#[derive(Debug, Clone)]
pub(in crate::store) struct Certificate {
    key: SignedPublicKey,
}

/// One of a certificate's keys.
#[derive(Clone, Copy)]
pub(super) enum Maker<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a SignedPublicSubKey),
}

impl Maker<'_> {
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::Primary(key) => format!("{:X}", key.fingerprint()),
            Self::Subkey(key) => format!("{:X}", key.fingerprint()),
        }
    }

    pub(super) fn created(&self) -> i64 {
        let created = match self {
            Self::Primary(key) => key.created_at(),
            Self::Subkey(key) => key.created_at(),
        };
        i64::from(created.as_secs())
    }

    pub(super) fn verify(&self, signature: &Signature, data: impl Read) -> pgp::errors::Result<()> {
        match self {
            Self::Primary(key) => signature.verify(key, data),
            Self::Subkey(key) => signature.verify(*key, data),
        }
    }
}

impl Certificate {
    /// All certificates in a file: armored, in one block or several with other text between them, or binary.
    pub(in crate::store) fn read(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let mut found = Vec::new();
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains(BEGIN));
        match text {
            Some(text) => {
                for (start, _) in text.match_indices(BEGIN) {
                    let block = text.get(start..).unwrap_or_default();
                    let (keys, _) = SignedPublicKey::from_string_many(block).map_err(|error| error.to_string())?;
                    for key in keys {
                        found.push(Self { key: key.map_err(|error| error.to_string())? });
                    }
                }
            }
            None => {
                for key in SignedPublicKey::from_bytes_many(bytes).map_err(|error| error.to_string())? {
                    found.push(Self { key: key.map_err(|error| error.to_string())? });
                }
            }
        }
        if found.is_empty() { Err("it holds no public key".to_owned()) } else { Ok(found) }
    }

    /// Of the primary key.
    pub(in crate::store) fn fingerprint(&self) -> String {
        Maker::Primary(&self.key.primary_key).fingerprint()
    }

    /// The names that its owner binds to it.
    pub(in crate::store) fn users(&self) -> Vec<String> {
        let users = self.key.details.users.iter().filter(|user| self.own_words(user).next().is_some());
        users.map(|user| shown(user.id.id())).collect()
    }

    /// When its primary key ends, in seconds since 1970.
    pub(in crate::store) fn expires(&self) -> Option<i64> {
        self.end(self.word(i64::MAX)?)
    }

    /// Whether its owner took it back.
    pub(in crate::store) fn is_revoked(&self) -> bool {
        self.revocation().is_some()
    }

    /// Those of its keys that `signature` names as its maker.
    pub(super) fn makers<'a>(&'a self, signature: &Signature) -> Vec<Maker<'a>> {
        let subkeys = self.key.public_subkeys.iter().map(Maker::Subkey);
        let named = |maker: &Maker<'_>| match maker {
            Maker::Primary(key) => names(signature, *key),
            Maker::Subkey(key) => names(signature, *key),
        };
        [Maker::Primary(&self.key.primary_key)].into_iter().chain(subkeys).filter(named).collect()
    }

    /// Whether `maker`, a key of this certificate, may sign at the time `now`.
    pub(super) fn check(&self, maker: Maker<'_>, now: i64) -> Result<(), SignatureError> {
        let primary = Maker::Primary(&self.key.primary_key);
        if let Some(revocation) = self.revocation() {
            return Err(revoked(primary, revocation));
        }
        let Some(word) = self.word(now) else {
            return Err(unbound(primary, self.word(i64::MAX)));
        };
        if let Some(since) = self.end(word).filter(|end| *end <= now) {
            return Err(SignatureError::KeyExpired { key: primary.fingerprint(), since });
        }
        let (word, needs_flag) = match maker {
            Maker::Primary(_) => (word, false),
            Maker::Subkey(subkey) => (self.check_subkey(subkey, now)?, true),
        };
        // Old certificates say nothing of what their primary key is for: it is for everything.
        let says = |data: &SubpacketData| matches!(data, SubpacketData::KeyFlags(_));
        if word.key_flags().sign() || (!needs_flag && !hashed(word).any(says)) {
            return Ok(());
        }
        Err(SignatureError::NotForSigning { key: maker.fingerprint() })
    }

    /// The signature that binds `subkey` at the time `now`.
    fn check_subkey<'a>(&self, subkey: &'a SignedPublicSubKey, now: i64) -> Result<&'a Signature, SignatureError> {
        let primary = &self.key.primary_key;
        let maker = Maker::Subkey(subkey);
        let bound = |kind| {
            let genuine = move |signature: &&Signature| {
                signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
            };
            subkey.signatures.iter().filter(genuine)
        };
        if let Some(revocation) = bound(SignatureType::SubkeyRevocation).next() {
            return Err(revoked(maker, revocation));
        }
        let bindings = || bound(SignatureType::SubkeyBinding).filter(|signature| is_acceptable(signature));
        let newest = |now| bindings().filter(|signature| is_current(signature, now)).max_by_key(|s| s.created());
        let Some(word) = newest(now) else { return Err(unbound(maker, newest(i64::MAX))) };
        if let Some(since) = ends(maker.created(), word.key_expiration_time()).filter(|end| *end <= now) {
            return Err(SignatureError::KeyExpired { key: maker.fingerprint(), since });
        }
        // The subkey must agree: else anybody could take it, and what it signed, for their own.
        let agrees = word.embedded_signature().is_some_and(|agreement| {
            is_acceptable(agreement) && agreement.verify_primary_key_binding(&subkey.key, primary).is_ok()
        });
        if agrees { Ok(word) } else { Err(SignatureError::NotForSigning { key: maker.fingerprint() }) }
    }

    fn revocation(&self) -> Option<&Signature> {
        self.key.details.revocation_signatures.iter().find(|revocation| {
            revocation.typ() == Some(SignatureType::KeyRevocation)
                && revocation.verify_key(&self.key.primary_key).is_ok()
        })
    }

    /// The newest thing that the owner says of the primary key at the time `now`.
    fn word(&self, now: i64) -> Option<&Signature> {
        let primary = &self.key.primary_key;
        // Some only name a revoker.
        let speaks =
            |data: &SubpacketData| matches!(data, SubpacketData::KeyFlags(_) | SubpacketData::KeyExpirationTime(_));
        let direct = self.key.details.direct_signatures.iter().filter(|signature| {
            signature.typ() == Some(SignatureType::Key)
                && hashed(signature).any(speaks)
                && is_acceptable(signature)
                && signature.verify_key(primary).is_ok()
        });
        let users = self.key.details.users.iter().flat_map(|user| self.own_words(user));
        direct.chain(users).filter(|signature| is_current(signature, now)).max_by_key(|signature| signature.created())
    }

    /// The owner's own certifications of `user`; none if they were taken back.
    fn own_words<'a>(&'a self, user: &'a SignedUser) -> impl Iterator<Item = &'a Signature> {
        let primary = &self.key.primary_key;
        let own = move |signature: &&Signature| {
            is_acceptable(signature) && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        let taken_back = |signature: &Signature| signature.typ() == Some(SignatureType::CertRevocation);
        let last = user.signatures.iter().filter(own).max_by_key(|signature| signature.created());
        let standing = last.is_some_and(|signature| !taken_back(signature));
        user.signatures.iter().filter(own).filter(move |signature| standing && !taken_back(signature))
    }

    fn end(&self, word: &Signature) -> Option<i64> {
        ends(Maker::Primary(&self.key.primary_key).created(), word.key_expiration_time())
    }
}

/// Whether `signature` says that `key` made it. A fingerprint says it better than a key id.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        let id = key.legacy_key_id();
        return signature.issuer_key_id().into_iter().any(|named| *named == id);
    }
    let own = key.fingerprint();
    fingerprints.into_iter().any(|named| *named == own)
}

fn hashed(signature: &Signature) -> impl Iterator<Item = &SubpacketData> {
    let subpackets = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    subpackets.map(|subpacket| &subpacket.data)
}

/// Whether a signature inside a certificate has a digest that may be used there.
fn is_acceptable(signature: &Signature) -> bool {
    signature.hash_alg().is_some_and(|algorithm| super::is_strong(algorithm) || algorithm == HashAlgorithm::Sha1)
}

/// Whether a signature is made already, and has not ended.
pub(super) fn is_current(signature: &Signature, now: i64) -> bool {
    let Some(made) = signature.created().map(|made| i64::from(made.as_secs())) else { return false };
    made <= now && ends(made, signature.signature_expiration_time()).is_none_or(|end| end > now || now == i64::MAX)
}

/// When something ends that began at `start`. No time, or none to speak of, is for ever.
pub(super) fn ends(start: i64, length: Option<Duration>) -> Option<i64> {
    let seconds = i64::try_from(std::time::Duration::from(length?).as_secs()).ok()?;
    (seconds > 0).then(|| start.saturating_add(seconds))
}

fn revoked(maker: Maker<'_>, revocation: &Signature) -> SignatureError {
    let reason = revocation.revocation_reason_string().map(|reason| shown(reason)).filter(|reason| !reason.is_empty());
    SignatureError::Revoked { key: maker.fingerprint(), reason }
}

/// Nothing binds the key now. `ever` does at another time.
fn unbound(maker: Maker<'_>, ever: Option<&Signature>) -> SignatureError {
    let key = maker.fingerprint();
    let Some(ever) = ever else { return SignatureError::NotForSigning { key } };
    let made = ever.created().map_or(maker.created(), |made| i64::from(made.as_secs()));
    match ends(made, ever.signature_expiration_time()) {
        Some(since) => SignatureError::KeyExpired { key, since },
        None => SignatureError::NotYet { key, from: made },
    }
}

/// Somebody else's words, fit for a terminal.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}
