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

mod assembly;
mod bootstrap;
mod error;
mod grub;
mod host;
mod mirror;
mod recipe;
mod release;
mod transcript;
mod tree;
mod workplace;

use std::path::{Path, PathBuf};

pub use error::{BaseError, ProgramError};
pub use recipe::Recipe;

use crate::progress::Progress;
use bootstrap::Bootstrap;
use mirror::Mirror;
use workplace::Workplace;

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

/// Where Debian's package puts the keys of its archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The names of the bases that [`build`] can make.
#[must_use]
pub fn names() -> Vec<String> {
    Recipe::all().map(|recipe| recipe.name()).collect()
}

/// Builds `recipe` into the raw disk image `out`; what the programs said is in `out` with the ending `.log`.
///
/// # Errors
/// [`BaseError`]: something is missing on this host, the mirror cannot be used, or a program failed. `out` is then as it was.
pub fn build(recipe: &Recipe, options: &BuildOptions, out: &Path, progress: &dyn Progress) -> Result<(), BaseError> {
    if !cfg!(target_os = "linux") {
        return Err(BaseError::Unsupported);
    }
    let host = host::check(recipe.architecture(), progress)?;
    let keyring = options.keyring.as_deref().unwrap_or(Path::new(KEYRING));
    if !keyring.is_file() {
        return Err(BaseError::MissingKeyring { path: keyring.to_owned() });
    }
    let suite = options.suite.as_deref().unwrap_or(recipe.suite());
    let mut mirror = mirror(options)?;
    let workplace = Workplace::open(&options.work_dir, host.mode, progress)?;
    let epoch = release::date(&mut mirror, suite, workplace.folder(), progress)?;
    let tar = workplace.folder().join("root.tar");
    let bootstrap = Bootstrap {
        recipe,
        host,
        mirror: &mirror,
        suite,
        epoch,
        keyring,
        scratch: workplace.scratch(),
        packages: &workplace.packages(suite, recipe.architecture())?,
        tar: &tar,
        log: &out.with_extension("log"),
    };
    bootstrap.run(progress)?;
    let members = tree::read(&tar)?;
    let disk = assembly::assemble(recipe, members, epoch, workplace.folder(), progress)?;
    assembly::write(&disk, out, progress)?;
    workplace.close(progress)
}

/// The mirror that was asked for, or the host's own.
fn mirror(options: &BuildOptions) -> Result<Mirror, BaseError> {
    let mut mirror = match &options.mirror {
        Some(archive) => Mirror::at(archive),
        None => host_mirror().ok_or(BaseError::NoMirror)?,
    };
    if let Some(security) = &options.security_mirror {
        mirror.security = Some(security.trim_end_matches('/').to_owned());
    }
    Ok(mirror)
}

fn host_mirror() -> Option<Mirror> {
    let sources: Vec<_> = mirror::source_files(Path::new("/etc/apt"))
        .into_iter()
        .filter_map(|file| Some(mirror::parse(&file, &std::fs::read_to_string(&file).ok()?)))
        .flatten()
        .collect();
    Mirror::among(&sources)
}
