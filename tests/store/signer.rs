//! Keys and signatures made for a test, with whatever is to be wrong with them.

use std::time::{SystemTime, UNIX_EPOCH};

use pgp::composed::{
    CleartextSignedMessage, DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder, SubpacketConfig,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, RevocationCode, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, Password, SigningKey, Tag, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;

const DAY: i64 = 24 * 60 * 60;

/// A minute from now: what a test makes is in the past then.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + 60
}

/// A publisher with a signing key.
pub struct Signer {
    secret: SignedSecretKey,
    certificate: SignedPublicKey,
    /// Whether its subkey signs.
    by_subkey: bool,
    random: StdRng,
}

impl Signer {
    /// One whose primary key signs, made two years ago.
    pub fn new(seed: u64) -> Self {
        Self::made(seed, KeyType::Ed25519Legacy, false)
    }

    /// One with an RSA key.
    pub fn rsa(seed: u64) -> Self {
        Self::made(seed, KeyType::Rsa(2048), false)
    }

    /// One whose primary key certifies only, and whose subkey signs.
    pub fn with_subkey(seed: u64) -> Self {
        Self::made(seed, KeyType::Ed25519Legacy, true)
    }

    fn made(seed: u64, kind: KeyType, by_subkey: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let created = moment(now() - 2 * 365 * DAY);
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters
            .key_type(kind.clone())
            .can_certify(true)
            .can_sign(!by_subkey)
            .created_at(created)
            .primary_user_id(format!("Publisher {seed} <{seed}@example.org>"));
        if by_subkey {
            let subkey = SubkeyParamsBuilder::default().key_type(kind).can_sign(true).created_at(created).build();
            parameters.subkey(subkey.unwrap());
        }
        let secret = parameters.build().unwrap().generate(&mut random).unwrap();
        let certificate = secret.to_public_key();
        Self { secret, certificate, by_subkey, random }
    }

    /// Its key ended a year ago.
    pub fn expired(mut self) -> Self {
        let key = &self.secret.primary_key;
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        let mut word = config(SignatureType::CertPositive, key, now() - 2 * 365 * DAY + 60, HashAlgorithm::Sha256);
        let year = Duration::from_secs(u32::try_from(365 * DAY).unwrap());
        word.hashed_subpackets.push(Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap());
        word.hashed_subpackets.push(Subpacket::regular(SubpacketData::KeyExpirationTime(year)).unwrap());
        let user = &mut self.certificate.details.users[0];
        let word = word.sign_certification(key, key.public_key(), &Password::empty(), Tag::UserId, &user.id);
        user.signatures = vec![word.unwrap()];
        self
    }

    /// Its owner took the key back, or the subkey if that is what signs.
    pub fn revoked(mut self) -> Self {
        let key = &self.secret.primary_key;
        let kind = if self.by_subkey { SignatureType::SubkeyRevocation } else { SignatureType::KeyRevocation };
        let mut word = config(kind, key, now() - DAY, HashAlgorithm::Sha256);
        let reason = SubpacketData::RevocationReason(RevocationCode::KeyCompromised, "it was on a lost disk".into());
        word.hashed_subpackets.push(Subpacket::regular(reason).unwrap());
        if self.by_subkey {
            let subkey = &mut self.certificate.public_subkeys[0];
            let word = word.sign_subkey_binding(key, key.public_key(), &Password::empty(), &subkey.key);
            subkey.signatures.push(word.unwrap());
        } else {
            let word = word.sign_key(key, &Password::empty(), key.public_key()).unwrap();
            self.certificate.details.revocation_signatures.push(word);
        }
        self
    }

    /// The certificate, as keyrings hold it.
    pub fn ring(&self) -> Vec<u8> {
        self.certificate.to_bytes().unwrap()
    }

    /// The certificate, armored.
    pub fn armored(&self) -> String {
        self.certificate.to_armored_string(None.into()).unwrap()
    }

    /// The fingerprint of the primary key.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.certificate.fingerprint())
    }

    /// The fingerprint of the key that signs.
    pub fn signing_fingerprint(&self) -> String {
        match self.certificate.public_subkeys.first().filter(|_| self.by_subkey) {
            Some(subkey) => format!("{:X}", subkey.fingerprint()),
            None => self.fingerprint(),
        }
    }

    /// A detached signature.
    pub fn sign(&mut self, data: &[u8]) -> DetachedSignature {
        self.sign_as(data, HashAlgorithm::Sha512, SubpacketConfig::Default)
    }

    /// A detached signature with another digest.
    pub fn sign_by(&mut self, data: &[u8], digest: HashAlgorithm) -> DetachedSignature {
        self.sign_as(data, digest, SubpacketConfig::Default)
    }

    /// A detached signature of yesterday that was good for an hour.
    pub fn sign_for_an_hour(&mut self, data: &[u8]) -> DetachedSignature {
        let mut hashed = config(SignatureType::Binary, &self.secret.primary_key, now() - DAY, HashAlgorithm::Sha512);
        let hour = SubpacketData::SignatureExpirationTime(Duration::from_secs(3600));
        hashed.hashed_subpackets.push(Subpacket::regular(hour).unwrap());
        let (hashed, unhashed) = (hashed.hashed_subpackets, Vec::new());
        self.sign_as(data, HashAlgorithm::Sha512, SubpacketConfig::UserDefined { hashed, unhashed })
    }

    fn sign_as(&mut self, data: &[u8], digest: HashAlgorithm, words: SubpacketConfig) -> DetachedSignature {
        let (random, none) = (&mut self.random, Password::empty());
        let signature = if self.by_subkey {
            let key = &self.secret.secret_subkeys[0].key;
            DetachedSignature::sign_binary_data_with_subpackets(random, key, &none, digest, data, words)
        } else {
            let key = &self.secret.primary_key;
            DetachedSignature::sign_binary_data_with_subpackets(random, key, &none, digest, data, words)
        };
        signature.unwrap()
    }

    /// A clear-signed message.
    pub fn clear_sign(&mut self, text: &str) -> String {
        let none = Password::empty();
        let message = CleartextSignedMessage::sign(&mut self.random, text, &self.secret.primary_key, &none);
        message.unwrap().to_armored_string(None.into()).unwrap()
    }
}

/// A signature's bytes, binary.
pub fn binary(signature: &DetachedSignature) -> Vec<u8> {
    signature.to_bytes().unwrap()
}

/// A signature's bytes, armored.
pub fn armored(signature: &DetachedSignature) -> Vec<u8> {
    signature.to_armored_bytes(None.into()).unwrap()
}

fn config(kind: SignatureType, key: &impl SigningKey, made: i64, digest: HashAlgorithm) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), digest);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(moment(made))).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id())).unwrap()];
    config
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u32::try_from(seconds).unwrap())
}
