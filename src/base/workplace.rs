//! The folders of a build: packages that stay for the next one, and a folder that goes, at the latest when the next build starts.
//!
//! One build at a time works in a work folder; the lock goes with the process however that ends, so that whatever
//! lies there afterwards is known to be left over. In a user namespace the root tree belongs to ids that are not ours:
//! it needs a folder that others can pass through, and going into the namespace to be removed.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::BaseError;
use super::host::{Mode, command, output_of};
use crate::progress::Progress;

/// The folders of a build under way.
pub(super) struct Workplace {
    root: PathBuf,
    folder: PathBuf,
    scratch: PathBuf,
    mode: Mode,
    _lock: File,
}

/// Holds the path of a root tree's folder that lies elsewhere.
const ELSEWHERE: &str = "scratch-folder";
/// Where a namespace's root tree goes if nobody else may pass through the work folder's parents.
const PUBLIC: &str = "/var/tmp";
const PREFIX: &str = "imgbake-base-";

impl Workplace {
    /// Makes the folders below `root`, once no other build uses them, and removes what an earlier one left.
    pub(super) fn open(root: &Path, mode: Mode, progress: &dyn Progress) -> Result<Self, BaseError> {
        fs::create_dir_all(root).map_err(BaseError::io("create", root))?;
        let root = root.canonicalize().map_err(BaseError::io("find", root))?;
        let lock = lock(&root.join("lock"), progress)?;
        remove_leftovers(&root, mode)?;
        let folder = root.join("building");
        fs::create_dir(&folder).map_err(BaseError::io("create", &folder))?;
        let scratch = if mode == Mode::Root || others_can_pass(&folder) {
            let scratch = folder.join("tree");
            fs::create_dir(&scratch).map_err(BaseError::io("create", &scratch))?;
            scratch
        } else {
            public_scratch(&root)?
        };
        Ok(Self { root, folder, scratch, mode, _lock: lock })
    }

    /// Where the build's own files go.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the root tree is unpacked.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Where packages of `suite` for `architecture` are kept; made if need be.
    pub(super) fn packages(&self, suite: &str, architecture: &str) -> Result<PathBuf, BaseError> {
        let folder = self.root.join(format!("packages-{suite}-{architecture}"));
        fs::create_dir_all(&folder).map_err(BaseError::io("create", &folder))?;
        Ok(folder)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // However the build ended; what cannot be removed now is the next build's to remove, and to tell of.
        drop(remove_leftovers(&self.root, self.mode));
    }
}

fn lock(path: &Path, progress: &dyn Progress) -> Result<File, BaseError> {
    let file = File::create(path).map_err(BaseError::io("create", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress.note("another base is being built: waiting for it");
            file.lock().map_err(BaseError::io("lock", path))?;
        }
        Err(TryLockError::Error(error)) => return Err(BaseError::io("lock", path)(error)),
    }
    Ok(file)
}

fn remove_leftovers(root: &Path, mode: Mode) -> Result<(), BaseError> {
    let elsewhere = root.join(ELSEWHERE);
    if let Ok(path) = fs::read_to_string(&elsewhere) {
        let path = Path::new(path.trim());
        let ours = path.parent() == Some(Path::new(PUBLIC))
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if ours {
            remove(path, mode)?;
        }
        remove(&elsewhere, mode)?;
    }
    remove(&root.join("building"), mode)
}

/// Removes a file or folder; in the namespace if its contents are not ours. Never what is mounted there: that may be the
/// host's own.
fn remove(path: &Path, mode: Mode) -> Result<(), BaseError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if let Some(mounted) = mounted_below(&mounts, path) {
        let refused = io::Error::other(format!("`{mounted}` is mounted there: unmount it first"));
        return Err(BaseError::io("remove", path)(refused));
    }
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && mode == Mode::Unshare => {
            let mut helper = command("mmdebstrap");
            // The contents first: the folder itself is ours, which root of the namespace is not.
            helper.args(["--unshare-helper", "find"]).arg(path).args(["-mindepth", "1", "-delete"]);
            drop(output_of(helper));
            fs::remove_dir_all(path).map_err(BaseError::io("remove", path))
        }
        other => other.map_err(BaseError::io("remove", path)),
    }
}

/// The last mount point at or below `path` in the text of /proc/self/mounts, where blanks are written `\040`.
fn mounted_below<'mounts>(mounts: &'mounts str, path: &Path) -> Option<&'mounts str> {
    let path = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).rfind(|at| Path::new(at).starts_with(&path))
}

/// Whether users who are neither owner nor group can reach what is in `folder`.
fn others_can_pass(folder: &Path) -> bool {
    folder.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

fn public_scratch(root: &Path) -> Result<PathBuf, BaseError> {
    let public = Path::new(PUBLIC);
    let scratch = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(public)
        .map_err(BaseError::io("create a folder in", public))?
        .keep();
    let note = root.join(ELSEWHERE);
    fs::write(&note, scratch.display().to_string()).map_err(BaseError::io("write", &note))?;
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_build_that_was_killed_leaves_nothing_for_the_next() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("building")).unwrap();
        fs::write(root.path().join("building/root.tar"), "half").unwrap();
        let next = Workplace::open(root.path(), Mode::Root, &Silent).unwrap();
        assert_eq!(fs::read_dir(next.folder()).unwrap().count(), 1, "only the folder for the tree");
        let packages = next.packages("trixie", "arm64").unwrap();
        fs::write(packages.join("a.deb"), "kept").unwrap();
        drop(next);
        assert!(!root.path().join("building").exists());
        assert!(packages.join("a.deb").exists());
    }

    #[test]
    fn a_mount_below_a_folder_is_seen() {
        let mounts = "proc /proc proc rw 0 0\nproc /a\\040b/building/tree/x/proc proc rw 0 0\n";
        assert_eq!(mounted_below(mounts, Path::new("/a b/building")), Some("/a\\040b/building/tree/x/proc"));
        assert_eq!(mounted_below(mounts, Path::new("/a b/build")), None);
    }

    #[test]
    fn a_private_folder_is_none_that_others_can_pass() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!others_can_pass(folder.path()));
    }
}
