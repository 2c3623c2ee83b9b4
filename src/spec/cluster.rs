//! What a cluster's nodes share and nobody else may know, kept in a folder per cluster.
//!
//! The folder is made on first use and reused by every later bake: mode 0700, files 0600. It is filled under a temporary
//! name and then renamed, so it is there as a whole or not at all, and of two bakes at once one makes it and both use it.
//!
//! | file      | holds |
//! |-----------|-------|
//! | `secret`  | 32 random bytes, hexadecimal: nodes' seeds are derived from it |
//! | `created` | when the cluster was made, RFC 3339: the time stamp of everything baked for it |
//! | `token`   | the bootstrap token; only of clusters that imgbake starts |
//! | `ca.crt`, `ca.key` | the certificate authority, PEM; only of clusters that imgbake starts |

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::is_token;
use super::authority::{self, hexadecimal};
use super::{Access, Authority, Role, Secret, TokenEnd};

/// How long after the control plane's first start its token lets workers in: time to bake, flash and place them, but a
/// card that turns up weeks later opens nothing. kubeadm's own default of a day is too short for images.
const TOKEN_LIFETIME: u64 = 7 * 24 * 60 * 60;

/// What stands where a secret will be once it has been made.
const PLACEHOLDER: &str = "(made on first bake)";

/// A cluster's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Reading or writing failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// `read`, `make`, …
        action: &'static str,
        /// What was read or written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("`{path}` is damaged: it does not hold {expected}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Other accounts can read the folder.
    #[error("`{path}` holds a cluster's keys and other users can open it (mode {mode:04o})")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The certificate authority could not be made.
    #[error("cannot make the cluster's certificate authority")]
    Authority(#[source] rcgen::Error),
}

impl ClusterError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::Authority(_) => None,
            Self::Damaged { path, .. } => {
                let folder = path.parent().unwrap_or(path).display();
                Some(format!(
                    "restore `{folder}` from a backup; or move it away to start a new cluster, which cards baked so far do not join"
                ))
            }
            Self::Open { path, .. } => Some(format!("`chmod 700 {}` closes it", path.display())),
        }
    }
}

/// Where a cluster's token and authority come from.
pub(super) enum Kind {
    /// imgbake starts the cluster and makes them.
    Own,
    /// The cluster is there already; the user gave this.
    Foreign(Access),
}

/// A cluster's secrets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClusterSecrets {
    secret: Secret,
    /// Unix seconds.
    pub(super) created: i64,
    /// How nodes get in; with the authority, if imgbake starts the cluster.
    access: Access,
}

impl ClusterSecrets {
    /// The secrets in `folder`, made now if the folder is not there.
    pub(super) fn keep(
        folder: &Path,
        kind: &Kind,
        now: i64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, ClusterError> {
        if let Some(secrets) = Self::read(folder, kind)? {
            return Ok(secrets);
        }
        Self::make(kind, now, random)?.write(folder)?;
        // Another bake may have been faster; what lies there now counts.
        Self::read(folder, kind)?.ok_or_else(|| ClusterError::Io {
            action: "read",
            path: folder.to_owned(),
            source: io::Error::from(io::ErrorKind::NotFound),
        })
    }

    /// The secrets in `folder`, or stand-ins if the folder is not there: good for showing a plan, useless in an image.
    pub(super) fn peek(folder: &Path, kind: &Kind, now: i64) -> Result<Self, ClusterError> {
        let stand_in = || Self {
            secret: Secret::new(PLACEHOLDER),
            created: now,
            access: match kind {
                Kind::Foreign(access) => access.clone(),
                Kind::Own => {
                    let authority = Authority { certificate: PLACEHOLDER.to_owned(), key: Secret::new(PLACEHOLDER) };
                    own_access(Secret::new(PLACEHOLDER), PLACEHOLDER.to_owned(), authority)
                }
            },
        };
        Ok(Self::read(folder, kind)?.unwrap_or_else(stand_in))
    }

    /// How a node gets into the cluster. Only the control plane brings the authority along.
    pub(super) fn access(&self, role: Role) -> Access {
        let authority = self.access.authority.clone().filter(|_| role == Role::ControlPlane);
        Access { authority, ..self.access.clone() }
    }

    /// What a node's random seed and ids are derived from: SHA-256 over a purpose, the cluster's secret and the name.
    pub(super) fn node_seed(&self, hostname: &str) -> Secret {
        let mut hash = Sha256::new();
        for part in ["imgbake node seed 1", self.secret.reveal(), hostname] {
            hash.update(part);
            hash.update([0]);
        }
        Secret::new(hexadecimal(&hash.finalize()))
    }

    fn make(kind: &Kind, now: i64, random: &mut dyn FnMut(&mut [u8])) -> Result<Self, ClusterError> {
        let mut secret = [0; 32];
        random(&mut secret);
        let access = match kind {
            Kind::Foreign(access) => access.clone(),
            Kind::Own => {
                let (mut serial, mut letters) = ([0; 8], [0; 32]);
                random(&mut serial);
                random(&mut letters);
                let authority = authority::make(now, &serial).map_err(ClusterError::Authority)?;
                let ca_cert_hash = authority::hash(&authority).unwrap_or_default();
                own_access(token(letters), ca_cert_hash, authority)
            }
        };
        Ok(Self { secret: Secret::new(hexadecimal(&secret)), created: now, access })
    }

    /// The secrets in `folder`, if it is there.
    fn read(folder: &Path, kind: &Kind) -> Result<Option<Self>, ClusterError> {
        match fs::metadata(folder) {
            Ok(metadata) => check_mode(folder, &metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ClusterError::Io { action: "read", path: folder.to_owned(), source }),
        }
        let damaged = |name: &str, expected| ClusterError::Damaged { path: folder.join(name), expected };
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| ClusterError::Io { action: "read", path, source })
        };
        let secret = text("secret")?.trim().to_owned();
        if secret.len() != 64 || !secret.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(damaged("secret", "64 hexadecimal digits"));
        }
        let created = OffsetDateTime::parse(text("created")?.trim(), &Rfc3339);
        let created = created.map_err(|_| damaged("created", "a time as RFC 3339 writes it"))?.unix_timestamp();
        let access = match kind {
            Kind::Foreign(access) => access.clone(),
            Kind::Own => {
                let token = text("token")?.trim().to_owned();
                if !is_token(&token) {
                    return Err(damaged("token", "a bootstrap token"));
                }
                let authority = Authority { certificate: text("ca.crt")?, key: Secret::new(text("ca.key")?) };
                let ca_cert_hash = authority::hash(&authority);
                let ca_cert_hash =
                    ca_cert_hash.ok_or_else(|| damaged("ca.key", "the key of the certificate `ca.crt`"))?;
                own_access(Secret::new(token), ca_cert_hash, authority)
            }
        };
        Ok(Some(Self { secret: Secret::new(secret), created, access }))
    }

    /// Puts the secrets into `folder`, unless it appears meanwhile.
    fn write(&self, folder: &Path) -> Result<(), ClusterError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let failed = |action, path: &Path, source| ClusterError::Io { action, path: path.to_owned(), source };
        make_private(parent).map_err(|source| failed("make", parent, source))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".new-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let temporary = builder.tempdir_in(parent);
        let temporary = temporary.map_err(|source| failed("make a folder in", parent, source))?;
        for (name, text) in self.files() {
            let path = temporary.path().join(name);
            write_private(&path, &text).map_err(|source| failed("write", &path, source))?;
        }
        match fs::rename(temporary.path(), folder) {
            Ok(()) => Ok(()),
            Err(_) if folder.is_dir() => Ok(()),
            Err(source) => Err(failed("make", folder, source)),
        }
    }

    /// Names and contents of the folder's files.
    fn files(&self) -> Vec<(&'static str, String)> {
        let created = OffsetDateTime::from_unix_timestamp(self.created).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let created = created.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned());
        let mut files = vec![("secret", format!("{}\n", self.secret.reveal())), ("created", format!("{created}\n"))];
        if let Some(authority) = &self.access.authority {
            files.push(("token", format!("{}\n", self.access.token.reveal())));
            files.push(("ca.crt", authority.certificate.clone()));
            files.push(("ca.key", authority.key.reveal().to_owned()));
        }
        files
    }
}

/// What lets nodes into a cluster that imgbake starts.
fn own_access(token: Secret, ca_cert_hash: String, authority: Authority) -> Access {
    Access { token, ca_cert_hash, token_end: TokenEnd::AfterFirstStart(TOKEN_LIFETIME), authority: Some(authority) }
}

/// A bootstrap token from random bytes. Its parts take 31 and 83 bits of 128 each, so no letter is preferred noticeably.
fn token(random: [u8; 32]) -> Secret {
    let letters = |bytes: &[u8], count| {
        let mut number = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        let mut text = String::new();
        for _ in 0..count {
            text.extend(u32::try_from(number % 36).ok().and_then(|digit| char::from_digit(digit, 36)));
            number /= 36;
        }
        text
    };
    let (id, secret) = random.split_at(16);
    Secret::new(format!("{}.{}", letters(id, 6), letters(secret, 16)))
}

/// Makes a folder and those above it, closed to others.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Writes a new file, closed to others, down to the disk.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Refuses a folder that other accounts can open.
#[cfg(unix)]
fn check_mode(folder: &Path, metadata: &fs::Metadata) -> Result<(), ClusterError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(ClusterError::Open { path: folder.to_owned(), mode }) }
}

/// Elsewhere a home folder's access list keeps others out.
#[cfg(not(unix))]
fn check_mode(_folder: &Path, _metadata: &fs::Metadata) -> Result<(), ClusterError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    /// Bytes that are all different for a while.
    fn counter() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(7);
            }
        }
    }

    /// A cluster that is there already.
    fn foreign() -> Kind {
        let token = Secret::new("abcdef.0123456789abcdef");
        Kind::Foreign(Access { token, ca_cert_hash: String::new(), token_end: TokenEnd::Unknown, authority: None })
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("clusters/home");
        (parent, folder)
    }

    #[test]
    fn secrets_are_made_once_and_then_reused() {
        let (_parent, folder) = place();
        let first = ClusterSecrets::keep(&folder, &Kind::Own, 1_796_000_000, &mut counter()).unwrap();
        let again =
            ClusterSecrets::keep(&folder, &Kind::Own, 1_999_999_999, &mut |_| panic!("no more randomness")).unwrap();
        assert_eq!(first, again);
        assert_eq!(again.created, 1_796_000_000);
        assert_eq!(again, ClusterSecrets::peek(&folder, &Kind::Own, 5).unwrap());
        let names: Vec<String> = fs::read_dir(folder.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["home"], "nothing temporary is left");
    }

    #[test]
    fn a_foreign_cluster_has_a_secret_and_a_time_only() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, &foreign(), 1_796_000_000, &mut counter()).unwrap();
        assert_eq!(secrets.access(Role::ControlPlane).authority, None);
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["created", "secret"]);
        assert_eq!(fs::read_to_string(folder.join("created")).unwrap(), "2026-11-30T00:53:20Z\n");
    }

    #[test]
    fn only_the_control_plane_brings_the_authority() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap();
        let (worker, first) = (secrets.access(Role::Worker), secrets.access(Role::ControlPlane));
        assert_eq!(worker.authority, None);
        assert!(first.authority.is_some());
        assert_eq!((worker.token.reveal(), worker.ca_cert_hash), (first.token.reveal(), first.ca_cert_hash));
        assert!(is_token(worker.token.reveal()));
        assert_eq!(worker.token_end, TokenEnd::AfterFirstStart(604_800));
    }

    #[test]
    fn looking_makes_nothing() {
        let (parent, folder) = place();
        let secrets = ClusterSecrets::peek(&folder, &Kind::Own, 7).unwrap();
        assert_eq!(secrets.access(Role::Worker).ca_cert_hash, "(made on first bake)");
        assert_eq!(secrets.created, 7);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nodes_have_seeds_of_their_own() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, &foreign(), 0, &mut counter()).unwrap();
        let (one, two) = (secrets.node_seed("node-1"), secrets.node_seed("node-2"));
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one, secrets.node_seed("node-1"));
        assert_eq!(one.reveal().len(), 64);
    }

    #[test]
    fn two_bakes_at_once_agree() {
        let (_parent, folder) = place();
        let bake = || ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap();
        let made: Vec<ClusterSecrets> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(bake)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|secrets| *secrets == made[0]));
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;

        let (_parent, folder) = place();
        ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(folder.parent().unwrap()), 0o700);
        for name in ["secret", "created", "token", "ca.crt", "ca.key"] {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let error = ClusterSecrets::peek(&folder, &Kind::Own, 0).unwrap_err();
        let shown = folder.display();
        let message = format!("`{shown}` holds a cluster's keys and other users can open it (mode 0750)");
        assert_eq!(error.to_string(), message);
        assert_eq!(error.hint().unwrap(), format!("`chmod 700 {shown}` closes it"));
    }

    #[test]
    fn a_damaged_file_is_named_and_not_shown() {
        for (name, expected) in [
            ("secret", "64 hexadecimal digits"),
            ("created", "a time as RFC 3339 writes it"),
            ("token", "a bootstrap token"),
            ("ca.crt", "the key of the certificate `ca.crt`"),
            ("ca.key", "the key of the certificate `ca.crt`"),
        ] {
            let (_parent, folder) = place();
            ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap();
            fs::write(folder.join(name), "nonsense").unwrap();
            let error = ClusterSecrets::peek(&folder, &Kind::Own, 0).unwrap_err();
            let named = if name == "ca.crt" { "ca.key" } else { name };
            let path = folder.join(named);
            assert_eq!(error.to_string(), format!("`{}` is damaged: it does not hold {expected}", path.display()));
            let hint = format!(
                "restore `{}` from a backup; or move it away to start a new cluster, which cards baked so far do not join",
                folder.display()
            );
            assert_eq!(error.hint().unwrap(), hint);
        }
    }

    #[test]
    fn a_missing_file_is_not_made_anew() {
        let (_parent, folder) = place();
        ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap();
        fs::remove_file(folder.join("token")).unwrap();
        let error = ClusterSecrets::keep(&folder, &Kind::Own, 0, &mut counter()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read `{}`", folder.join("token").display()));
        assert!(error.source().is_some());
    }

    #[test]
    fn every_letter_of_a_token_comes_up() {
        let mut letters: Vec<char> = (0..=255u8)
            .flat_map(|seed| token(Sha256::digest([seed]).into()).reveal().chars().collect::<Vec<_>>())
            .collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.into_iter().collect::<String>(), ".0123456789abcdefghijklmnopqrstuvwxyz");
        for bytes in [[0; 32], [255; 32]] {
            assert!(is_token(token(bytes).reveal()));
        }
    }
}
