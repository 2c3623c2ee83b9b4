//! Bootable base images from the Debian archive: mmdebstrap makes a root tree, we make a disk of it.
//!
//! ```text
//! recipe ──mmdebstrap (hooks: bases/mmdebstrap/*.sh)──▶ root.tar ──▶ partition table · FAT · ext4 · grub ──▶ NAME.img
//! ```
//!
//! Only the root tree needs root or a user namespace; the disk is put together without mounts and loop devices. This
//! room starts programs of the host and so looks at its environment; it still prints nothing. Leaves out every base that
//! vendors publish (the store fetches those).
//!
//! The same packages give the same bytes as far as Debian's own scripts allow: times are cut at the date of the
//! mirror's newest release file and identifiers are fixed.

#[cfg(target_os = "linux")]
mod assembly;
#[cfg(target_os = "linux")]
mod bootstrap;
#[cfg(target_os = "linux")]
mod building;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only a build uses all of it"))]
mod error;
#[cfg(target_os = "linux")]
mod filling;
#[cfg(target_os = "linux")]
mod grub;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod mirror;
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only a build uses all of it"))]
mod recipe;
#[cfg(target_os = "linux")]
mod release;
#[cfg(target_os = "linux")]
mod transcript;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(target_os = "linux")]
mod workplace;

use std::path::{Path, PathBuf};

pub use error::{BaseError, ProgramError};
pub use recipe::Recipe;

use crate::progress::Progress;

/// How a base is built; only the folder must be given.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The Debian archive, such as `http://mirror.example/debian`; the host's own where none is given.
    pub mirror: Option<String>,
    /// The archive of security updates; beside the mirror under its usual name, or the host's own.
    pub security_mirror: Option<String>,
    /// Another suite than the recipe's.
    pub suite: Option<String>,
    /// The keys that the archive is signed with; Debian's package of them where none is given.
    pub keyring: Option<PathBuf>,
    /// A folder for downloaded packages, which stay, and for the build itself, which goes.
    pub work_dir: PathBuf,
}

impl BuildOptions {
    /// Options as they are when the user gives none.
    #[must_use]
    pub fn new(work_dir: PathBuf) -> Self {
        Self { mirror: None, security_mirror: None, suite: None, keyring: None, work_dir }
    }
}

/// The names of the bases that [`build`] can make.
#[must_use]
pub fn names() -> Vec<String> {
    Recipe::all().map(|recipe| recipe.name()).collect()
}

/// Builds `recipe` into the raw disk image `out`; what the programs said is in `out` with the ending `.log`.
///
/// # Errors
/// [`BaseError`]: something is missing on this host, the mirror cannot be used, or a program failed. `out` is then as
/// it was.
pub fn build(recipe: &Recipe, options: &BuildOptions, out: &Path, progress: &dyn Progress) -> Result<(), BaseError> {
    #[cfg(target_os = "linux")]
    return building::build(recipe, options, out, progress);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (recipe, options, out, progress);
        Err(BaseError::Unsupported)
    }
}

/// The second half of [`build`]: makes the raw disk image `out` of a root tree in a tar (pax format, as mmdebstrap writes
/// it, settled as `bases/mmdebstrap/customize.sh` does). No time on the image is later than `epoch` (seconds since
/// 1970); `folder` holds the empty file system until the image is written.
///
/// # Errors
/// [`BaseError::Tree`] for a tar that cannot be used, [`BaseError::Program`], [`BaseError::Assembly`], [`BaseError::Io`].
pub fn assemble(
    recipe: &Recipe,
    tar: &Path,
    epoch: u64,
    folder: &Path,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(), BaseError> {
    #[cfg(target_os = "linux")]
    return building::assemble(recipe, tar, epoch, folder, out, progress);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (recipe, tar, epoch, folder, out, progress);
        Err(BaseError::Unsupported)
    }
}
