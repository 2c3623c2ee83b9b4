//! The account that SSH keys open. Keys are public keys in OpenSSH's format (RFC 4253, section 6.6, in base64).

use super::User;
use super::error::{KeyProblem, SpecError};

/// The account's name if none is asked for. No distribution has a user or group of that name, so it can be made on every
/// base alike, and who finds it on a machine sees where it comes from.
pub(super) const DEFAULT: &str = "imgbake";

/// Key types that current OpenSSH servers accept.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Accounts that Debian, Ubuntu or their packages have already, or that are no persons.
const TAKEN: [&str; 26] = [
    "_apt",
    "_chrony",
    "backup",
    "bin",
    "daemon",
    "dnsmasq",
    "etcd",
    "games",
    "irc",
    "kube",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "news",
    "nobody",
    "nogroup",
    "proxy",
    "root",
    "sshd",
    "sudo",
    "sync",
    "sys",
    "uucp",
    "www-data",
];

/// The account; `keys` are texts of key files or single keys.
pub(super) fn user(name: Option<&str>, keys: &[String]) -> Result<User, SpecError> {
    let name = name.unwrap_or(DEFAULT);
    if !is_account_name(name) {
        return Err(SpecError::UserName(name.to_owned()));
    }
    if TAKEN.contains(&name) || name.starts_with("systemd-") {
        return Err(SpecError::UserTaken(name.to_owned()));
    }
    let mut ssh_keys = Vec::new();
    for (index, text) in keys.iter().enumerate() {
        let error = |problem| SpecError::SshKey { number: index + 1, problem };
        let found = public_keys(text).map_err(error)?;
        if found.is_empty() {
            return Err(error(KeyProblem::Empty));
        }
        for key in found {
            if !ssh_keys.contains(&key) {
                ssh_keys.push(key);
            }
        }
    }
    Ok(User { name: name.to_owned(), ssh_keys })
}

/// What useradd accepts on Debian and Ubuntu.
fn is_account_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    first && rest && name.len() <= 32
}

/// The keys of one text, a line each.
fn public_keys(text: &str) -> Result<Vec<String>, KeyProblem> {
    if text.contains("PRIVATE KEY") {
        return Err(KeyProblem::Private);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(public_key).collect()
}

/// One line: type, base64, comment. Returned with single blanks and without control characters.
fn public_key(line: &str) -> Result<String, KeyProblem> {
    if line.chars().any(char::is_control) {
        return Err(KeyProblem::ControlCharacter);
    }
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    if !TYPES.contains(&kind) {
        return Err(KeyProblem::Type);
    }
    let body = words.next().and_then(from_base64).ok_or(KeyProblem::Base64)?;
    // A key's body begins with its type again, as a string with a length of four bytes.
    let length = u32::try_from(kind.len()).unwrap_or(u32::MAX).to_be_bytes();
    let rest = body.strip_prefix(&length).and_then(|rest| rest.strip_prefix(kind.as_bytes()));
    if rest.is_none_or(|rest| rest.len() < 32) {
        return Err(KeyProblem::Body);
    }
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// RFC 4648, section 4, with padding.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.is_empty() || !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop";

    fn refused(key: &str) -> (String, Option<String>) {
        let error = user(None, &[ED25519.to_owned(), key.to_owned()]).unwrap_err();
        (error.to_string(), error.hint())
    }

    #[test]
    fn base64_of_every_length() {
        for (text, bytes) in [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("+/+/", "\u{0}")] {
            let decoded = from_base64(text).unwrap();
            assert!(decoded == bytes.as_bytes() || decoded == [0xfb, 0xff, 0xbf], "{text}");
        }
        for text in ["", "Zg=", "Zg", "Z===", "Zm9v!m9v", "Zm=v"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_file_may_hold_comments_and_several_keys() {
        let user = user(None, &[format!("# mine\n\n{ED25519}\n  {ED25519}  \r\n")]).unwrap();
        assert_eq!(user, User { name: "imgbake".to_owned(), ssh_keys: vec![ED25519.to_owned()] });
    }

    #[test]
    fn a_private_key_is_refused_and_not_shown() {
        let (message, hint) = refused("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n");
        assert_eq!(message, "SSH key 2 is a private key");
        assert_eq!(hint.unwrap(), "give the public key: the file that ends in `.pub`");
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let hint = "a public key is one line: type, base64 text, comment, such as `ssh-ed25519 AAAA… me@laptop`";
        for (key, message) in [
            ("", "SSH key 2 is empty"),
            ("# nothing", "SSH key 2 is empty"),
            ("hello", "SSH key 2 is not a public key: its type is none that OpenSSH accepts"),
            ("ssh-dss AAAA", "SSH key 2 is not a public key: its type is none that OpenSSH accepts"),
            ("ssh-ed25519", "SSH key 2 is not a public key: its second word is not base64"),
            ("ssh-ed25519 AAAA!", "SSH key 2 is not a public key: its second word is not base64"),
            (
                "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==",
                "SSH key 2 is not a public key: its body is cut short or of another type",
            ),
            ("ssh-ed25519 \u{7}", "SSH key 2 is not a public key: it holds a control character"),
        ] {
            assert_eq!(refused(key), (message.to_owned(), Some(hint.to_owned())), "{key}");
        }
    }

    #[test]
    fn account_names_are_checked() {
        for name in ["", "Me", "1st", "a b", "root:x", &"a".repeat(33)] {
            let error = user(Some(name), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("`{name}` is not a user name"));
            let hint = "use up to 32 lower case letters, digits, `-` and `_`, beginning with a letter or `_`";
            assert_eq!(error.hint().unwrap(), hint);
        }
        let error = user(Some("root"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "`root` is a system account");
        assert_eq!(error.hint().unwrap(), "choose another user name; the account gets sudo rights");
        assert_eq!(user(Some("_me-2"), &[]).unwrap().name, "_me-2");
    }
}
