//! What can go wrong while a base is built, and what the user can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a base was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// This system has no mmdebstrap.
    #[error("base images can only be built on Linux: they are made with mmdebstrap")]
    Unsupported,
    /// Programs that the build starts are not there.
    #[error("building a base needs {}", listed(.programs))]
    MissingPrograms {
        /// The programs' names.
        programs: Vec<&'static str>,
        /// The Debian packages that hold them.
        packages: Vec<&'static str>,
    },
    /// The keys that Debian's archive is signed with are not there.
    #[error("there is no keyring of the Debian archive at `{path}`")]
    MissingKeyring {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The host's own sources name no Debian mirror.
    #[error("no Debian mirror is known: apt's sources on this machine name none")]
    NoMirror,
    /// The mirror does not have the suite, or cannot be reached.
    #[error("the suite `{suite}` cannot be had from the mirror `{mirror}`")]
    NoSuite {
        /// The suite asked for.
        suite: String,
        /// The mirror's address.
        mirror: String,
        /// What apt said.
        source: ProgramError,
    },
    /// Programs of the other architecture do not run here.
    #[error("programs for `{architecture}` do not run on this machine")]
    NoEmulation {
        /// Debian's name of the architecture.
        architecture: &'static str,
    },
    /// Without root a user namespace is needed, and this host has none for us.
    #[error("without root a user namespace is needed, but {reason}")]
    NoUserNamespace {
        /// What is missing.
        reason: String,
        /// What would help.
        help: String,
    },
    /// mmdebstrap gave up.
    #[error("mmdebstrap failed ({status}); the whole log is in `{}`:\n{}", .log.display(), indented(.lines))]
    Bootstrap {
        /// How it ended.
        status: String,
        /// The log's last lines that say something.
        lines: Vec<String>,
        /// The log.
        log: PathBuf,
    },
    /// Another program gave up.
    #[error("cannot {action}")]
    Program {
        /// What was being done.
        action: &'static str,
        /// What it said.
        source: ProgramError,
    },
    /// The host failed to read or write a file.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was being done: `create`, `read`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The root tree that mmdebstrap made lacks something or cannot be read.
    #[error("the root tree made by mmdebstrap is not usable: {0}")]
    Tree(String),
    /// A room below failed while the image was put together.
    #[error("cannot put the image together: {action}")]
    Assembly {
        /// What was being made.
        action: &'static str,
        /// The room's own error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A program that ended with something other than success.
#[derive(Debug, thiserror::Error)]
#[error("`{program}` failed ({status}): {stderr}")]
pub struct ProgramError {
    /// Its name.
    pub program: String,
    /// How it ended.
    pub status: String,
    /// The end of what it wrote to standard error.
    pub stderr: String,
}

impl BaseError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported => Some(
                "build it on a Debian or Ubuntu machine and give the image with `--base FILE`, or use a vendor's image"
                    .to_owned(),
            ),
            Self::MissingPrograms { packages, .. } => Some(format!("apt-get install {}", packages.join(" "))),
            Self::MissingKeyring { .. } => Some("apt-get install debian-archive-keyring".to_owned()),
            Self::NoMirror => Some("give one with `--mirror URL` (Debian's archive, ending in `/debian`)".to_owned()),
            Self::NoSuite { .. } => {
                Some("check the network and the address, or give another mirror with `--mirror URL`".to_owned())
            }
            Self::NoEmulation { .. } => {
                Some("apt-get install qemu-user-static binfmt-support arch-test".to_owned() + BINFMT)
            }
            Self::NoUserNamespace { help, .. } => Some(help.clone()),
            _ => None,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn assembly<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Assembly { action, source: Box::new(source) }
    }
}

const BINFMT: &str = "; where they are installed already (a container, a minimal virtual machine), as root: \
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && update-binfmts --enable";

fn listed(names: &[&'static str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_packages() {
        let error = BaseError::MissingPrograms {
            programs: vec!["mmdebstrap", "mke2fs"],
            packages: vec!["mmdebstrap", "e2fsprogs"],
        };
        assert_eq!(error.to_string(), "building a base needs `mmdebstrap`, `mke2fs`");
        assert_eq!(error.hint().as_deref(), Some("apt-get install mmdebstrap e2fsprogs"));
    }
}
