//! OpenPGP signatures: who signed some bytes, and whether that can be believed at a given time.
//!
//! Written from RFC 9580 (sections 5.2, 7 and 10). Parsing and arithmetic are rPGP's; what is believed is decided here:
//! of several signatures one good one suffices; the digest must be of the SHA-2 or SHA-3 family; the key that signed must be
//! one of the publisher's, bound to its certificate, meant for signing, neither expired nor revoked. Times are judged as
//! GnuPG does: by the time it is now, not by the time at which the signature says it was made. Signatures over text
//! (type 1) are taken in clear-signed messages only: elsewhere they would leave line ends open.

mod certificate;
mod clearsigned;
mod error;

use std::io::{self, Read};

use pgp::composed::{Deserializable, DetachedSignature};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};

pub use error::SignatureError;
pub(super) use error::date;

pub(super) use certificate::Certificate;
use certificate::{Maker, ends, is_current};

/// More signatures than anybody makes of one file. Each may cost a reading of the file.
const MOST_SIGNATURES: usize = 16;

/// Checks a detached signature, armored or binary, over what `open` opens; several may stand one after the other.
/// Answers the fingerprint of the certificate whose signature is good.
pub(super) fn detached<R: Read>(
    signature: &[u8],
    trusted: &Trusted<'_>,
    open: &dyn Fn() -> io::Result<R>,
) -> Result<String, SignatureError> {
    judge(&parse(signature)?, SignatureType::Binary, trusted, open)
}

/// Checks a clear-signed message. Answers the signed text, with lines that end in CR and LF, and the fingerprint.
pub(super) fn clear_signed(message: &[u8], trusted: &Trusted<'_>) -> Result<(String, String), SignatureError> {
    let message = clearsigned::parse(message)?;
    let open = || Ok(message.text.as_bytes());
    let fingerprint = judge(&parse(message.signature)?, SignatureType::Text, trusted, &open)?;
    Ok((message.text, fingerprint))
}

/// Whose signatures are believed, and when.
pub(super) struct Trusted<'a> {
    /// The publisher's name in messages.
    pub(super) publisher: &'a str,
    pub(super) certificates: &'a [Certificate],
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// The signatures in `bytes`. What the crate does not know is passed over, as another signature may do.
fn parse(bytes: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    let malformed = |reason: String| SignatureError::Malformed { reason };
    if bytes.is_empty() {
        return Err(malformed("it is empty".to_owned()));
    }
    let (found, _) = DetachedSignature::from_reader_many(bytes).map_err(|error| malformed(error.to_string()))?;
    let mut signatures = Vec::new();
    let mut problem = None;
    for one in found.take(MOST_SIGNATURES) {
        match one {
            Ok(one) => signatures.push(one.signature),
            Err(error) => problem = Some(error.to_string()),
        }
    }
    if signatures.is_empty() {
        return Err(malformed(problem.unwrap_or_else(|| "it holds no signature".to_owned())));
    }
    Ok(signatures)
}

/// The first good one of `signatures`; else what is wrong with the one that comes nearest to being good.
fn judge<R: Read>(
    signatures: &[Signature],
    kind: SignatureType,
    trusted: &Trusted<'_>,
    open: &dyn Fn() -> io::Result<R>,
) -> Result<String, SignatureError> {
    let mut nearest = None;
    let mut strangers = Vec::new();
    for signature in signatures {
        let mut known = false;
        for certificate in trusted.certificates {
            for maker in certificate.makers(signature) {
                known = true;
                match judge_one(signature, kind, certificate, maker, trusted.now, open) {
                    Ok(()) => return Ok(certificate.fingerprint()),
                    Err(error @ SignatureError::Read(_)) => return Err(error),
                    Err(error) => nearest = nearest.or(Some(error)),
                }
            }
        }
        if !known {
            strangers.push(issuer(signature));
        }
    }
    let publisher = trusted.publisher.to_owned();
    Err(nearest.unwrap_or(SignatureError::UnknownKey { keys: strangers, publisher }))
}

fn judge_one<R: Read>(
    signature: &Signature,
    kind: SignatureType,
    certificate: &Certificate,
    maker: Maker<'_>,
    now: i64,
    open: &dyn Fn() -> io::Result<R>,
) -> Result<(), SignatureError> {
    let key = maker.fingerprint();
    check_form(signature, kind, &key)?;
    maker.verify(signature, open().map_err(SignatureError::Read)?).map_err(|error| match error {
        pgp::errors::Error::IO { source, .. } => SignatureError::Read(source),
        _ => SignatureError::Wrong { key: key.clone() },
    })?;
    // From here on the signature's own words are known to be its maker's.
    let Some(made) = signature.created().map(|made| i64::from(made.as_secs())) else {
        return Err(SignatureError::Malformed { reason: "it does not say when it was made".to_owned() });
    };
    if made > now {
        return Err(SignatureError::NotYet { key, from: made });
    }
    if made < maker.created() {
        return Err(SignatureError::Malformed { reason: format!("it is older than its key `{key}`") });
    }
    if !is_current(signature, now) {
        let since = ends(made, signature.signature_expiration_time()).unwrap_or(made);
        return Err(SignatureError::Expired { key, since });
    }
    certificate.check(maker, now)
}

/// What can be wrong with a signature before any arithmetic.
fn check_form(signature: &Signature, kind: SignatureType, key: &str) -> Result<(), SignatureError> {
    let malformed = |reason: &str| Err(SignatureError::Malformed { reason: reason.to_owned() });
    if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return malformed("it is of a version older than 4");
    }
    if signature.typ() != Some(kind) {
        return malformed("it is not of the type that signs such data");
    }
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Notation(_) | SubpacketData::Experimental(..) | SubpacketData::Other(..))
    };
    let demands = |config: &pgp::packet::SignatureConfig| {
        config.hashed_subpackets().any(|subpacket| subpacket.is_critical && unknown(&subpacket.data))
    };
    if signature.config().is_some_and(demands) {
        return malformed("it demands the understanding of something that is not known here");
    }
    match signature.hash_alg() {
        Some(algorithm) if is_strong(algorithm) => Ok(()),
        algorithm => {
            let algorithm = algorithm.map_or_else(|| "no digest".to_owned(), |algorithm| algorithm.to_string());
            Err(SignatureError::WeakDigest { key: key.to_owned(), algorithm })
        }
    }
}

/// Whether nobody can make two files of one digest.
fn is_strong(algorithm: HashAlgorithm) -> bool {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    matches!(algorithm, Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512)
}

/// What a signature says of who made it: a fingerprint, else a key id.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let id = || signature.issuer_key_id().first().map(|id| hexadecimal(id.as_ref()));
    fingerprint.or_else(id).unwrap_or_else(|| "of no name".to_owned())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
