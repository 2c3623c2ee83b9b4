//! File systems made by mke2fs, edited through an overlay, written out and judged.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use imgbake::ext4::{Attributes, Editor, Ext4Error, Summary, Timestamp};
use imgbake::{Disk, FileDisk, HostFile, Overlay, Source};
use tempfile::TempDir;

/// A moment that no clock will show again.
pub const NOON: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

/// Attributes of an ordinary file or folder.
pub fn plain(mode: u16) -> Attributes {
    Attributes { mode, mtime: NOON, ..Attributes::default() }
}

/// Runs a tool of the package `e2fsprogs` (or another one, as `package` says); answers its standard output.
/// Panics unless it succeeds.
pub fn run(package: &str, command: &mut Command) -> String {
    let output = command
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; install the package {package}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{stdout}\n{stderr}");
    stdout
}

/// A folder for images: in memory where there is plenty, as the judges read and write a lot. `TMPDIR` decides otherwise.
pub fn scratch() -> TempDir {
    const MEMORY: &str = "/dev/shm";
    const PLENTY: u64 = 4 << 30;
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |memory| memory.f_bavail.saturating_mul(memory.f_frsize));
    if std::env::var_os("TMPDIR").is_none() && free >= PLENTY {
        return TempDir::new_in(MEMORY).unwrap();
    }
    TempDir::new().unwrap()
}

/// A file system image in a folder of its own.
pub struct Image {
    folder: TempDir,
    pub path: PathBuf,
}

impl Image {
    /// An image of `size` bytes made by mke2fs with `options`: ext4 unless they say otherwise.
    pub fn make(size: u64, options: &[&str]) -> Self {
        let folder = scratch();
        let path = folder.path().join("fs.img");
        File::create(&path).unwrap().set_len(size).unwrap();
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-F", "-U", "11223344-5566-7788-99aa-bbccddeeff00"]);
        if !options.contains(&"-t") {
            command.args(["-t", "ext4"]);
        }
        command.args(["-E", "hash_seed=d5a6b1c2-0102-0304-0506-0708090a0b0c"]).args(options).arg(&path);
        // Debian's mke2fs.conf, with what it asks for independent of the host's own.
        command.env("MKE2FS_CONFIG", "/etc/mke2fs.conf").env("E2FSPROGS_FAKE_TIME", "1600000000");
        run("e2fsprogs", &mut command);
        Self { folder, path }
    }

    /// What an overlay shows, in a file of its own.
    pub fn of(overlay: &Overlay) -> Self {
        let folder = scratch();
        let path = folder.path().join("fs.img");
        export(overlay, &path);
        Self { folder, path }
    }

    /// A file beside the image, for contents to map.
    pub fn host_file(&self, name: &str, bytes: &[u8]) -> Arc<HostFile> {
        let path = self.folder.path().join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        HostFile::open(&path).unwrap()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The image under an overlay.
    pub fn overlay(&self) -> Overlay {
        let base = FileDisk::new(HostFile::open(&self.path).unwrap());
        let size = base.size();
        Overlay::new(Arc::new(base), size)
    }

    /// Has the kernel mount the image, writable, if we are root; whether we are.
    pub fn as_root(&mut self, work: impl FnOnce(&Path)) -> bool {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return false;
        }
        let mounted = Mounted::new(&self.path, self.folder.path().join("live"), "loop");
        work(mounted.folder());
        true
    }

    /// The image as it is when the power goes after `work` and a `sync`, if we are root. What `work` answers, open
    /// files for example, lives until then. The image itself is unmounted as usual.
    pub fn power_cut<T>(&self, options: &str, work: impl FnOnce(&Path) -> T) -> Option<Self> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        let mounted = Mounted::new(&self.path, self.folder.path().join("live"), &format!("loop{options}"));
        let held = work(mounted.folder());
        run("coreutils", Command::new("sync").arg("-f").arg(mounted.folder()));
        let cut = self.copy("cut.img");
        drop(held);
        assert!(cut.field("Filesystem features").contains("needs_recovery"));
        Some(cut)
    }

    /// The error that the editor opens the image with.
    pub fn refused(&self) -> Ext4Error {
        let before = std::fs::read(&self.path).unwrap();
        let mut overlay = self.overlay();
        let error = Editor::open(&mut overlay).err().unwrap();
        let written = overlay.pieces(0..overlay.size()).unwrap();
        assert!(written.iter().all(|piece| matches!(piece.source, Source::File(_) | Source::Zero)));
        assert!(before == std::fs::read(&self.path).unwrap());
        error
    }

    /// Puts `bytes` at `offset` of the image.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.path).unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// `len` bytes of the image.
    pub fn peek(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(&self.path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Has debugfs change the image.
    pub fn debugfs_write(&self, requests: &[String]) {
        let script = self.folder.path().join("script");
        std::fs::write(&script, requests.join("\n") + "\n").unwrap();
        run("e2fsprogs", Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&self.path));
    }

    /// A copy, as e2fsck repairs it.
    pub fn repaired(&self) -> Self {
        let copy = self.copy("repaired.img");
        let output = Command::new("/usr/sbin/e2fsck").arg("-fy").arg(&copy.path).output();
        let output = output.unwrap_or_else(|error| panic!("{error}; install the package e2fsprogs"));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        copy.check();
        copy
    }

    /// Edits the image, seen as a disk of `size` bytes.
    pub fn edit<T>(&mut self, size: u64, edit: impl FnOnce(&mut Editor) -> T) -> (T, Summary) {
        let base = FileDisk::new(HostFile::open(&self.path).unwrap());
        let size = size.max(base.size());
        let mut overlay = Overlay::new(Arc::new(base), size);
        let mut editor = Editor::open(&mut overlay).unwrap();
        let result = edit(&mut editor);
        let summary = editor.finish().unwrap();
        let next = self.folder.path().join("next.img");
        export(&overlay, &next);
        drop(overlay);
        std::fs::rename(next, &self.path).unwrap();
        (result, summary)
    }

    /// As [`Image::edit`] on the size there is.
    pub fn edit_here<T>(&mut self, edit: impl FnOnce(&mut Editor) -> T) -> T {
        self.edit(0, edit).0
    }

    pub fn check(&self) {
        self.e2fsck(&["-fn"]);
    }

    pub fn e2fsck(&self, options: &[&str]) {
        run("e2fsprogs", Command::new("e2fsck").args(options).arg(&self.path));
    }

    pub fn debugfs(&self, request: &str) -> String {
        run("e2fsprogs", Command::new("debugfs").arg("-R").arg(request).arg(&self.path))
    }

    /// Has debugfs change something.
    pub fn debugfs_w(&self, request: &str) {
        run("e2fsprogs", Command::new("debugfs").arg("-w").arg("-R").arg(request).arg(&self.path));
    }

    /// A field of `dumpe2fs -h`.
    pub fn field(&self, name: &str) -> String {
        let text = run("e2fsprogs", Command::new("dumpe2fs").arg("-h").arg(&self.path));
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit_once(':').unwrap().1.trim().to_owned()
    }

    pub fn copy(&self, name: impl AsRef<OsStr>) -> Self {
        let folder = scratch();
        let path = folder.path().join(Path::new(name.as_ref()));
        run("coreutils", Command::new("cp").arg("--sparse=always").arg(&self.path).arg(&path));
        Self { folder, path }
    }
}

/// A file system that the kernel has mounted, until it goes out of scope.
pub struct Mounted {
    image: PathBuf,
    folder: PathBuf,
}

impl Mounted {
    pub fn new(image: &Path, folder: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        run("mount", Command::new("mount").args(["-o", options]).arg(image).arg(&folder));
        Self { image: image.to_owned(), folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A process that another test is just starting may hold it for a moment, and one with a mount namespace of
        // its own even once it is unmounted here: the kernel has written everything when the loop device is gone.
        let mut unmounted = false;
        for _ in 0..100 {
            let umount = || Command::new("umount").arg(&self.folder).output();
            unmounted = unmounted || umount().is_ok_and(|output| output.status.success());
            let loops = Command::new("/usr/sbin/losetup").arg("-j").arg(&self.image).output();
            if unmounted && loops.is_ok_and(|output| output.stdout.is_empty()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(std::thread::panicking(), "cannot unmount {}", self.folder.display());
    }
}

/// Writes a disk into a sparse file.
pub fn export(disk: &dyn Disk, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(disk.size()).unwrap();
    for piece in disk.pieces(0..disk.size()).unwrap() {
        let len = usize::try_from(piece.len).unwrap();
        match piece.source {
            Source::Zero => {}
            Source::Bytes(bytes, from) => file.write_all_at(&bytes[from..from + len], piece.offset).unwrap(),
            Source::File(range) => {
                let mut buffer = vec![0; 1 << 20];
                let mut done = 0;
                while done < piece.len {
                    let part = buffer.len().min(usize::try_from(piece.len - done).unwrap());
                    range.read_at(done, &mut buffer[..part]).unwrap();
                    file.write_all_at(&buffer[..part], piece.offset + done).unwrap();
                    done += part as u64;
                }
            }
            Source::Opaque => panic!("an overlay over a file has no opaque pieces"),
        }
    }
}
