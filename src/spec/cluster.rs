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
/// card that turns up years later opens nothing. kubeadm's own default of a day is too short for images.
const TOKEN_LIFETIME: u64 = 30 * 24 * 60 * 60;

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

/// Which secrets a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// imgbake starts the cluster.
    Own,
    /// The cluster is there already; token and hash come from the user.
    Foreign,
}

/// A cluster's secrets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClusterSecrets {
    secret: Secret,
    /// Unix seconds.
    pub(super) created: i64,
    own: Option<OwnSecrets>,
}

/// The secrets of a cluster that imgbake starts.
#[derive(Debug, Clone, PartialEq)]
struct OwnSecrets {
    token: Secret,
    authority: Authority,
    ca_cert_hash: String,
}

impl ClusterSecrets {
    /// The secrets in `folder`, made now if the folder is not there.
    pub(super) fn keep(
        folder: &Path,
        kind: Kind,
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
    pub(super) fn peek(folder: &Path, kind: Kind, now: i64) -> Result<Self, ClusterError> {
        let stand_in = || Self {
            secret: Secret::new(PLACEHOLDER),
            created: now,
            own: (kind == Kind::Own).then(|| OwnSecrets {
                token: Secret::new(PLACEHOLDER),
                authority: Authority { certificate: PLACEHOLDER.to_owned(), key: Secret::new(PLACEHOLDER) },
                ca_cert_hash: PLACEHOLDER.to_owned(),
            }),
        };
        Ok(Self::read(folder, kind)?.unwrap_or_else(stand_in))
    }

    /// How a node gets into the cluster, if imgbake starts it.
    pub(super) fn access(&self, role: Role) -> Option<Access> {
        self.own.as_ref().map(|own| Access {
            token: own.token.clone(),
            ca_cert_hash: own.ca_cert_hash.clone(),
            token_end: TokenEnd::AfterFirstStart(TOKEN_LIFETIME),
            authority: (role == Role::ControlPlane).then(|| own.authority.clone()),
        })
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

    fn make(kind: Kind, now: i64, random: &mut dyn FnMut(&mut [u8])) -> Result<Self, ClusterError> {
        let mut secret = [0; 32];
        random(&mut secret);
        let own = match kind {
            Kind::Foreign => None,
            Kind::Own => {
                let mut serial = [0; 8];
                random(&mut serial);
                let authority = authority::make(now, &serial).map_err(ClusterError::Authority)?;
                let ca_cert_hash = authority::hash(&authority).unwrap_or_default();
                Some(OwnSecrets { token: token(random), authority, ca_cert_hash })
            }
        };
        Ok(Self { secret: Secret::new(hexadecimal(&secret)), created: now, own })
    }

    /// The secrets in `folder`, if it is there.
    fn read(folder: &Path, kind: Kind) -> Result<Option<Self>, ClusterError> {
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
        let own = match kind {
            Kind::Foreign => None,
            Kind::Own => {
                let token = text("token")?.trim().to_owned();
                if !is_token(&token) {
                    return Err(damaged("token", "a bootstrap token"));
                }
                let authority = Authority { certificate: text("ca.crt")?, key: Secret::new(text("ca.key")?) };
                let ca_cert_hash = authority::hash(&authority);
                let ca_cert_hash =
                    ca_cert_hash.ok_or_else(|| damaged("ca.key", "the key of the certificate `ca.crt`"))?;
                Some(OwnSecrets { token: Secret::new(token), authority, ca_cert_hash })
            }
        };
        Ok(Some(Self { secret: Secret::new(secret), created, own }))
    }

    /// Puts the secrets into `folder`, unless it appears meanwhile.
    fn write(&self, folder: &Path) -> Result<(), ClusterError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let failed = |action, path: &Path, source| ClusterError::Io { action, path: path.to_owned(), source };
        make_private(parent).map_err(|source| failed("make", parent, source))?;
        let temporary = tempfile::Builder::new().prefix(".new-").tempdir_in(parent);
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
        if let Some(own) = &self.own {
            files.push(("token", format!("{}\n", own.token.reveal())));
            files.push(("ca.crt", own.authority.certificate.clone()));
            files.push(("ca.key", own.authority.key.reveal().to_owned()));
        }
        files
    }
}

/// A bootstrap token; every character is equally likely.
fn token(random: &mut dyn FnMut(&mut [u8])) -> Secret {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut letters = String::new();
    while letters.len() < 22 {
        let mut byte = [0];
        random(&mut byte);
        // 252 is the greatest multiple of 36 that a byte can hold.
        if byte[0] < 252 {
            letters.push(char::from(LETTERS[usize::from(byte[0] % 36)]));
        }
    }
    letters.insert(6, '.');
    Secret::new(letters)
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
