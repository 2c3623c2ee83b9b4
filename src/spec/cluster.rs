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

    fn place() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("clusters/home");
        (parent, folder)
    }

    #[test]
    fn secrets_are_made_once_and_then_reused() {
        let (_parent, folder) = place();
        let first = ClusterSecrets::keep(&folder, Kind::Own, 1_796_000_000, &mut counter()).unwrap();
        let again =
            ClusterSecrets::keep(&folder, Kind::Own, 1_999_999_999, &mut |_| panic!("no more randomness")).unwrap();
        assert_eq!(first, again);
        assert_eq!(again.created, 1_796_000_000);
        assert_eq!(again, ClusterSecrets::peek(&folder, Kind::Own, 5).unwrap());
        let names: Vec<String> = fs::read_dir(folder.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["home"], "nothing temporary is left");
    }

    #[test]
    fn a_foreign_cluster_has_a_secret_and_a_time_only() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, Kind::Foreign, 1_796_000_000, &mut counter()).unwrap();
        assert_eq!(secrets.access(Role::Worker), None);
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["created", "secret"]);
        assert_eq!(fs::read_to_string(folder.join("created")).unwrap(), "2026-11-30T00:53:20Z\n");
    }

    #[test]
    fn only_the_control_plane_brings_the_authority() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap();
        let (worker, first) = (secrets.access(Role::Worker).unwrap(), secrets.access(Role::ControlPlane).unwrap());
        assert_eq!(worker.authority, None);
        assert!(first.authority.is_some());
        assert_eq!((worker.token.reveal(), worker.ca_cert_hash), (first.token.reveal(), first.ca_cert_hash));
        assert!(is_token(worker.token.reveal()));
        assert_eq!(worker.token_end, TokenEnd::AfterFirstStart(2_592_000));
    }

    #[test]
    fn looking_makes_nothing() {
        let (parent, folder) = place();
        let secrets = ClusterSecrets::peek(&folder, Kind::Own, 7).unwrap();
        assert_eq!(secrets.access(Role::Worker).unwrap().ca_cert_hash, "(made on first bake)");
        assert_eq!(secrets.created, 7);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nodes_have_seeds_of_their_own() {
        let (_parent, folder) = place();
        let secrets = ClusterSecrets::keep(&folder, Kind::Foreign, 0, &mut counter()).unwrap();
        let (one, two) = (secrets.node_seed("node-1"), secrets.node_seed("node-2"));
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one, secrets.node_seed("node-1"));
        assert_eq!(one.reveal().len(), 64);
    }

    #[test]
    fn two_bakes_at_once_agree() {
        let (_parent, folder) = place();
        let bake = || ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap();
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
        ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(folder.parent().unwrap()), 0o700);
        for name in ["secret", "created", "token", "ca.crt", "ca.key"] {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let error = ClusterSecrets::peek(&folder, Kind::Own, 0).unwrap_err();
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
            ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap();
            fs::write(folder.join(name), "nonsense").unwrap();
            let error = ClusterSecrets::peek(&folder, Kind::Own, 0).unwrap_err();
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
        ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap();
        fs::remove_file(folder.join("token")).unwrap();
        let error = ClusterSecrets::keep(&folder, Kind::Own, 0, &mut counter()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read `{}`", folder.join("token").display()));
        assert!(error.source().is_some());
    }

    #[test]
    fn token_letters_are_spread_evenly() {
        let mut next = 0u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(1);
            }
        };
        let letters: String = (0..63).map(|_| token(&mut random).reveal().replace('.', "")).collect();
        for letter in "abcxyz059".chars() {
            let count = letters.matches(letter).count();
            assert!((38..=39).contains(&count), "{letter}: {count}");
        }
    }
}
