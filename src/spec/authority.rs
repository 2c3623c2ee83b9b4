//! A cluster's certificate authority, made before the cluster exists (RFC 5280; the fields are those of kubeadm's own).
//!
//! The one place where the library takes randomness that is not handed in: rcgen makes and uses elliptic curve keys only
//! with the system's generator. What it makes is stored with the cluster, so baking again gives the same bytes.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::user::from_base64;
use super::{Authority, Secret};

/// How long it is valid, as kubeadm's.
const YEARS: i64 = 10;
/// How far the beginning lies back: nodes' clocks and the baking machine's differ.
const BACK_DATED: Duration = Duration::hours(24);

/// A key pair and a self-signed certificate `CN=kubernetes`, valid from a day before `created` (Unix seconds).
pub(super) fn make(created: i64, serial: &[u8; 8]) -> Result<Authority, rcgen::Error> {
    let created = OffsetDateTime::from_unix_timestamp(created).map_err(|_| rcgen::Error::Time)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec!["kubernetes".to_owned()])?;
    params.not_before = created.checked_sub(BACK_DATED).ok_or(rcgen::Error::Time)?;
    params.not_after = created.checked_add(Duration::days(365 * YEARS)).ok_or(rcgen::Error::Time)?;
    // RFC 5280, section 4.1.2.2: positive and not zero.
    params.serial_number = Some(SerialNumber::from((u64::from_be_bytes(*serial) >> 1) | 1));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key)?;
    Ok(Authority { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
}

/// `sha256:` and the SHA-256 of the SubjectPublicKeyInfo (RFC 7469): what kubeadm calls the CA certificate's hash.
/// `None` if the key is unreadable or does not belong to the certificate.
pub(super) fn hash(authority: &Authority) -> Option<String> {
    let key = KeyPair::from_pem(authority.key.reveal()).ok()?;
    let public = key.subject_public_key_info();
    let body: String = authority.certificate.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let certificate = from_base64(&body)?;
    let belongs = certificate.windows(public.len()).any(|window| window == public);
    belongs.then(|| format!("sha256:{}", hexadecimal(&Sha256::digest(&public))))
}

/// Lower case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_authority_has_a_hash() {
        let authority = make(1_796_000_000, &[1; 8]).unwrap();
        assert!(authority.certificate.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(authority.key.reveal().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let hash = hash(&authority).unwrap();
        assert_eq!(hash.len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_key_of_another_authority_is_noticed() {
        let (one, other) = (make(0, &[1; 8]).unwrap(), make(0, &[2; 8]).unwrap());
        assert_eq!(hash(&Authority { certificate: one.certificate, key: other.key }), None);
    }
}
