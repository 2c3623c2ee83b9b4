//! The ways to put a folder's files into a file system that are compared.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fs_ext4::Filesystem;
use fs_ext4::block_io::{BlockDevice, FileDevice};
use imgbake::ext4::{Attributes, Editor};
use imgbake::{Content, FileRange, HostFile, Overlay};

use super::measure::{Outcome, run};
use super::{Bench, disk, save};

/// Where the files go.
pub const TARGET: &str = "/opt/load";
/// Bytes that the crate is given at a time.
const PORTION: usize = 4 << 20;

pub struct Contender {
    pub name: &'static str,
    /// Whether it changes a copy of the base.
    in_place: bool,
    /// The shell line that edits.
    edit: String,
}

impl Contender {
    /// imgbake and, after it, those that it is compared with.
    pub fn all(bench: &Bench) -> Outcome<Vec<Self>> {
        let this = std::env::current_exe()?;
        let (this, base, tree, out) = (this.display(), bench.base.display(), bench.tree.display(), bench.out.display());
        let script = bench.work.join("debugfs.script");
        write_script(&bench.tree, &script)?;
        let mount = bench.work.join("mount");
        fs::create_dir_all(&mount)?;
        let mount = mount.display();
        let mut all = vec![
            Self { name: "imgbake", in_place: false, edit: format!("{this} edit {base} {tree} {out}") },
            Self {
                name: "debugfs -w",
                in_place: true,
                edit: format!("debugfs -w -f {} {out} > /dev/null 2>&1", script.display()),
            },
            Self { name: "rust-fs-ext4", in_place: true, edit: format!("{this} crate {out} {tree}") },
        ];
        if run(Command::new("id").arg("-u"))?.trim() == "0" {
            all.push(Self {
                name: "cp into a loop mount",
                in_place: true,
                edit: format!(
                    "mount -o loop {out} {mount} && {{ cp -a {tree} {mount}{TARGET} || failed=1; }}; umount {mount}; [ -z \"${{failed-}}\" ]"
                ),
            });
        }
        Ok(all)
    }

    /// The shell line that makes the copy, edits and syncs; it prints when it began and when the copy was made.
    pub fn line(&self, bench: &Bench) -> String {
        let (base, out) = (bench.base.display(), bench.out.display());
        let copy = if self.in_place { format!("cp --sparse=always {base} {out}") } else { "true".into() };
        format!("echo $EPOCHREALTIME; {copy}; echo $EPOCHREALTIME; {}; sync {out}", self.edit)
    }
}

/// Folders and files below `top`, each folder before what is in it, with their paths from `top` on.
fn listing(top: &Path) -> Outcome<Vec<(PathBuf, bool)>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let mut inside = fs::read_dir(top.join(&folder))?.collect::<Result<Vec<_>, _>>()?;
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            let path = folder.join(entry.file_name());
            let is_folder = entry.file_type()?.is_dir();
            if is_folder {
                pending.push(path.clone());
            }
            found.push((path, is_folder));
        }
    }
    Ok(found)
}

/// imgbake: an editor over an overlay, then the image written to a file.
pub fn edit(base: &Path, tree: &Path, out: &Path) -> Outcome<()> {
    let base = disk(base)?;
    let size = base.size();
    let mut overlay = Overlay::new(base, size);
    let mut editor = Editor::open(&mut overlay)?;
    let attributes = |mode| Attributes { mode, ..Attributes::default() };
    editor.mkdir_all(TARGET, &attributes(0o755))?;
    for (path, is_folder) in listing(tree)? {
        let inside = format!("{TARGET}/{}", path.display());
        if is_folder {
            editor.mkdir(inside, &attributes(0o755))?;
        } else {
            let file = HostFile::reopened(&tree.join(path))?;
            editor.write(inside, Content::File(FileRange::whole(file)), &attributes(0o644))?;
        }
    }
    editor.finish()?;
    save(&overlay, out)
}

/// debugfs takes names, not paths: its script changes folders.
fn write_script(tree: &Path, script: &Path) -> Outcome<()> {
    let mut out = BufWriter::new(fs::File::create(script)?);
    writeln!(out, "mkdir {TARGET}")?;
    let mut current = None;
    for (path, is_folder) in listing(tree)? {
        if is_folder {
            writeln!(out, "mkdir {TARGET}/{}", path.display())?;
            continue;
        }
        let folder = path.parent().map(Path::to_owned);
        if folder != current {
            writeln!(out, "cd {TARGET}/{}", folder.as_deref().unwrap_or(Path::new("")).display())?;
            current = folder;
        }
        let name = path.file_name().unwrap_or_default();
        writeln!(out, "write {} {}", tree.join(&path).display(), name.display())?;
    }
    Ok(out.flush()?)
}

/// A device that is not flushed: the crate would wait for the disk several times in every operation, which a file
/// that nobody else uses does not need.
struct Unflushed(FileDevice);

impl BlockDevice for Unflushed {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_ext4::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> fs_ext4::Result<()> {
        self.0.write_at(offset, buf)
    }

    fn is_writable(&self) -> bool {
        self.0.is_writable()
    }
}

fn failed(what: &Path) -> impl FnOnce(fs_ext4::Error) -> String {
    move |error| format!("rust-fs-ext4: {}: {error:?}", what.display())
}

/// rust-fs-ext4: every operation is a transaction.
pub fn crate_edit(image: &Path, tree: &Path) -> Outcome<()> {
    let device = FileDevice::open_path_rw(image).map_err(failed(image))?;
    let fs = Filesystem::mount(Arc::new(Unflushed(device))).map_err(failed(image))?;
    fs.apply_mkdir(TARGET, 0o755).map_err(failed(TARGET.as_ref()))?;
    for (path, is_folder) in listing(tree)? {
        let inside = format!("{TARGET}/{}", path.display());
        if is_folder {
            fs.apply_mkdir(&inside, 0o755).map_err(failed(&path))?;
            continue;
        }
        let number = fs.apply_create(&inside, 0o644).map_err(failed(&path))?;
        let content = fs::read(tree.join(&path))?;
        for (offset, portion) in (0..).step_by(PORTION).zip(content.chunks(PORTION)) {
            fs.apply_pwrite_ino(number, offset, portion).map_err(failed(&path))?;
        }
    }
    fs.finish().map_err(failed(image))?;
    Ok(())
}
