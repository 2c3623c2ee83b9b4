//! How a node gets into a cluster that is there already: endpoint, bootstrap token and CA hash as the user gave them.

use std::net::{Ipv4Addr, Ipv6Addr};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::SpecError;
use super::{Access, Secret, TokenEnd};

/// The API server's port where none is named.
const PORT: u16 = 6443;

/// A worker's way into an existing cluster, as given by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// `HOST:PORT`; the port may be left out (6443).
    pub endpoint: String,
    /// The bootstrap token.
    pub token: Secret,
    /// `sha256:` and 64 hexadecimal digits.
    pub ca_cert_hash: String,
    /// When the token ends (RFC 3339), if the user knows.
    pub token_expires: Option<String>,
}

/// Where an API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Address (IPv6 without brackets) or DNS name.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
}

impl Endpoint {
    /// `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, SpecError> {
        let malformed = || SpecError::Endpoint(shown(text));
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                host.parse::<Ipv6Addr>().map_err(|_| malformed())?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(malformed)?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?,
            None => PORT,
        };
        let is_host = host.parse::<Ipv6Addr>().is_ok() || is_host_name(host);
        if !is_host || is_token(text) {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// An IPv4 address or a DNS name (RFC 1123).
fn is_host_name(host: &str) -> bool {
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(|label| is_label(&label.to_ascii_lowercase()))
}

/// RFC 1123: up to 63 lower case letters, digits and `-`, which neither begins nor ends it.
pub(super) fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

/// `[a-z0-9]{6}\.[a-z0-9]{16}`.
pub(super) fn is_token(text: &str) -> bool {
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    matches!(text.split_once('.'), Some((id, secret)) if id.len() == 6 && secret.len() == 16 && is_part(id) && is_part(secret))
}

/// What a message shows of a text: a token given in the wrong place must not end up there.
fn shown(text: &str) -> String {
    if is_token(text.trim()) { "…".to_owned() } else { text.to_owned() }
}

/// Checks what the user gave; `now` is the time that the token must outlive.
pub(super) fn access(join: &JoinRequest, now: i64) -> Result<Access, SpecError> {
    if !is_token(join.token.reveal()) {
        return Err(SpecError::Token);
    }
    let digits = join.ca_cert_hash.strip_prefix("sha256:");
    let digits = digits.filter(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let digits = digits.ok_or(SpecError::CaCertHash)?.to_ascii_lowercase();
    let token_end = match &join.token_expires {
        None => TokenEnd::Unknown,
        Some(text) => {
            let end = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| SpecError::TokenEnd(shown(text)))?;
            if end.unix_timestamp() <= now {
                return Err(SpecError::TokenExpired { end: text.clone() });
            }
            TokenEnd::At(end.unix_timestamp())
        }
    };
    Ok(Access { token: join.token.clone(), ca_cert_hash: format!("sha256:{digits}"), token_end, authority: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn request() -> JoinRequest {
        JoinRequest {
            endpoint: "10.1.2.3:6443".to_owned(),
            token: Secret::new(TOKEN),
            ca_cert_hash: format!("sha256:{}", "aB".repeat(32)),
            token_expires: None,
        }
    }

    #[test]
    fn endpoints() {
        for (text, host, port) in [
            ("10.0.0.1:6443", "10.0.0.1", 6443),
            ("10.0.0.1", "10.0.0.1", 6443),
            ("k8s.Example.org:443", "k8s.Example.org", 443),
            ("[fd00::1]:7443", "fd00::1", 7443),
            ("[fd00::1]", "fd00::1", 6443),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap(), Endpoint { host: host.to_owned(), port }, "{text}");
        }
    }

    #[test]
    fn malformed_endpoints() {
        for text in [
            "",
            ":6443",
            "host:",
            "host:0",
            "host:70000",
            "256.1.1.1",
            "a b:1",
            "https://k8s:6443",
            "fd00::1",
            "[::1",
            "[::1]x",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not the address of an API server"), "{text}");
            let hint = "give HOST:PORT, such as `10.0.0.1:6443`, `k8s.example.org:6443` or `[fd00::1]:6443`";
            assert_eq!(error.hint().unwrap(), hint);
        }
    }

    #[test]
    fn a_token_in_the_endpoints_place_is_not_shown() {
        assert_eq!(Endpoint::parse(TOKEN).unwrap_err().to_string(), "`…` is not the address of an API server");
    }

    #[test]
    fn a_good_request_is_taken() {
        let expires = Some("2026-12-01T00:00:00+01:00".to_owned());
        let access = access(&JoinRequest { token_expires: expires, ..request() }, 1_796_079_599).unwrap();
        assert_eq!(access.ca_cert_hash, format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(access.token_end, TokenEnd::At(1_796_079_600));
        assert_eq!(access.authority, None);
    }

    #[test]
    fn a_malformed_token_is_refused_and_not_shown() {
        for token in ["", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdef "] {
            let error = access(&JoinRequest { token: Secret::new(token), ..request() }, 0).unwrap_err();
            assert_eq!(error.to_string(), "the join token is malformed");
            let hint = "a token is 6 and 16 lower case letters or digits with a dot between; \
                        `kubeadm token create` on the control plane makes one";
            assert_eq!(error.hint().unwrap(), hint);
            assert_eq!(format!("{error:?}"), "Token");
        }
    }

    #[test]
    fn an_expired_token_is_refused() {
        let expired = JoinRequest { token_expires: Some("2026-11-01T00:00:00Z".to_owned()), ..request() };
        let error = access(&expired, 1_793_491_200).unwrap_err();
        assert_eq!(error.to_string(), "the join token expired at 2026-11-01T00:00:00Z");
        let hint = "`kubeadm token create --ttl 72h --print-join-command` on the control plane makes a new one";
        assert_eq!(error.hint().unwrap(), hint);
        let error = access(&JoinRequest { token_expires: Some("tomorrow".to_owned()), ..request() }, 0).unwrap_err();
        assert_eq!(error.to_string(), "`tomorrow` is not a time");
        assert_eq!(error.hint().unwrap(), "give the token's end as RFC 3339 says, such as `2026-12-01T00:00:00Z`");
    }

    #[test]
    fn a_malformed_hash_is_refused_and_not_shown() {
        for hash in ["", "abcd", "sha256:", &"ab".repeat(32), &format!("sha256:{}", "g".repeat(64)), TOKEN] {
            let error = access(&JoinRequest { ca_cert_hash: hash.to_owned(), ..request() }, 0).unwrap_err();
            assert_eq!(error.to_string(), "the CA certificate's hash is malformed");
            let hint = "it is `sha256:` and 64 hexadecimal digits; \
                        `kubeadm token create --print-join-command` on the control plane shows it";
            assert_eq!(error.hint().unwrap(), hint);
        }
    }
}
