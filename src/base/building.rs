//! A build from beginning to end.

use std::path::Path;

use super::bootstrap::Bootstrap;
use super::error::BaseError;
use super::mirror::{self, Mirror};
use super::workplace::Workplace;
use super::{BuildOptions, Recipe, assembly, host, release, tree};
use crate::image;
use crate::progress::Progress;
use crate::sink::Sink;

/// Where Debian's package puts the keys of its archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// See [`super::build`].
pub(super) fn build(
    recipe: &Recipe,
    options: &BuildOptions,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(), BaseError> {
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
    assemble(recipe, &tar, epoch, workplace.folder(), out, progress)?;
    workplace.close(progress);
    Ok(())
}

/// See [`super::assemble`].
pub(super) fn assemble(
    recipe: &Recipe,
    tar: &Path,
    epoch: u64,
    folder: &Path,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(), BaseError> {
    let members = tree::read(tar)?;
    let disk = assembly::assemble(recipe, members, epoch, folder, progress)?;
    let mut sink = Sink::file(out).map_err(BaseError::assembly("create the image"))?;
    image::write(&disk, &mut sink, progress).map_err(BaseError::assembly("write the image"))?;
    sink.commit().map_err(BaseError::assembly("complete the image"))
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
