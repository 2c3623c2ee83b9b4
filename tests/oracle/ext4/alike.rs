//! The same edits by `debugfs -w` and by us, on copies of one image: e2fsck likes both, they say the same, and
//! ours uses no more blocks.

use std::collections::BTreeMap;
use std::path::Path;

use imgbake::ext4::{Attributes, Editor, FileKind, Timestamp};
use imgbake::{Content, FileRange, HostFile};

use super::debugfs;
use super::image::Image;
use super::model::{Body, Limits, Model};

const MIB: u64 = 1 << 20;
const TIME: Timestamp = Timestamp { seconds: 1_650_000_000, nanoseconds: 0 };

/// Makes each edit three times: as a request to debugfs, through the editor, and in the model.
struct Twice<'a, 'disk> {
    requests: Vec<Vec<u8>>,
    editor: &'a mut Editor<'disk>,
    model: Model,
    host: &'a Path,
}

impl Twice<'_, '_> {
    fn ask(&mut self, request: String) {
        self.requests.push(request.into_bytes());
    }

    /// What debugfs leaves to the clock and to the host's file.
    fn ask_attributes(&mut self, path: &str, mode: u32) {
        self.ask(format!("sif {path} mode 0{mode:o}"));
        self.ask(format!("sif {path} mtime @{}", TIME.seconds));
        self.ask(format!("sif {path} uid 7"));
        self.ask(format!("sif {path} gid 8"));
    }

    fn attributes(mode: u16) -> Attributes {
        Attributes { mode, uid: 7, gid: 8, mtime: TIME, xattrs: BTreeMap::new() }
    }

    fn mkdir(&mut self, path: &str) {
        self.ask(format!("mkdir {path}"));
        self.ask_attributes(path, 0o40750);
        self.editor.mkdir(path, &Self::attributes(0o750)).unwrap();
        self.model.add(path, Body::Directory, Self::attributes(0o750));
    }

    fn write(&mut self, path: &str, len: usize) {
        let host = self.host.join(len.to_string());
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at / 5 % 250 + 1).unwrap()).collect();
        std::fs::write(&host, &bytes).unwrap();
        self.ask(format!("write {} {path}", host.display()));
        self.ask_attributes(path, 0o100_640);
        let content = Content::File(FileRange::whole(HostFile::open(&host).unwrap()));
        self.editor.write(path, content, &Self::attributes(0o640)).unwrap();
        self.model.add(path, Body::File(bytes), Self::attributes(0o640));
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.ask(format!("symlink {path} {target}"));
        self.ask_attributes(path, 0o120_777);
        self.editor.symlink(path, target, &Self::attributes(0o777)).unwrap();
        self.model.add(path, Body::Symlink(target.into()), Self::attributes(0o777));
    }

    fn device(&mut self, path: &str) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        self.ask(format!("cd {folder}"));
        self.ask(format!("mknod {name} c 1 3"));
        self.ask("cd /".into());
        self.ask_attributes(path, 0o20_600);
        self.editor.mknod(path, FileKind::CharacterDevice, 1, 3, &Self::attributes(0o600)).unwrap();
        self.model.add(path, Body::Device(FileKind::CharacterDevice, 1, 3), Self::attributes(0o600));
    }

    fn link(&mut self, path: &str, existing: &str) {
        self.ask(format!("ln {existing} {path}"));
        self.ask(format!("sif {existing} links_count 2"));
        self.editor.hard_link(path, existing).unwrap();
        let node = self.model.names[existing.as_bytes()];
        self.model.names.insert(path.into(), node);
    }

    fn remove(&mut self, request: &str, path: &str) {
        self.ask(format!("{request} {path}"));
        assert!(self.editor.remove(path).unwrap());
        self.model.names.remove(path.as_bytes()).unwrap();
    }

    fn set_xattr(&mut self, path: &str, name: &str, len: usize) {
        let value = "v".repeat(len);
        self.ask(format!("ea_set {path} {name} {value}"));
        self.editor.set_xattr(path, name.as_bytes(), value.as_bytes()).unwrap();
        let node = self.model.names[path.as_bytes()];
        self.model.nodes[node].attributes.xattrs.insert(name.into(), value.into());
    }

    fn all(&mut self) {
        for folder in 0..8 {
            self.mkdir(&format!("/folder-{folder}"));
            self.mkdir(&format!("/folder-{folder}/below"));
            self.mkdir(&format!("/folder-{folder}/short-lived"));
        }
        for file in 0..240usize {
            let folder = file % 8;
            let len = file * file * 3 + file % 2 * 40_000;
            self.write(&format!("/folder-{folder}/file-with-a-name-{file}"), len);
            if file % 4 == 0 {
                self.symlink(&format!("/folder-{folder}/below/link-{file}"), &"t".repeat(file / 2 + 1));
            }
            if file % 9 == 0 {
                self.link(&format!("/hard-{file}"), &format!("/folder-{folder}/file-with-a-name-{file}"));
            } else if file % 5 == 0 {
                self.set_xattr(&format!("/folder-{folder}/file-with-a-name-{file}"), "user.note", file);
                self.set_xattr(&format!("/folder-{folder}/file-with-a-name-{file}"), "trusted.other", 20);
            } else if file % 7 == 0 {
                self.remove("rm", &format!("/folder-{folder}/file-with-a-name-{file}"));
            }
        }
        for folder in 0..8 {
            self.remove("rmdir", &format!("/folder-{folder}/short-lived"));
            self.device(&format!("/folder-{folder}/device"));
        }
    }
}

/// Whether folders of many blocks get an index.
fn judge(options: &[&str], indexed: bool) {
    let base = Image::make(96 * MIB, &[options, &["-m", "0", "-N", "2000"]].concat());
    let host = tempfile::TempDir::new().unwrap();
    let mut overlay = base.overlay();
    let mut editor = Editor::open(&mut overlay).unwrap();
    let model = Model { limits: Limits::of(&base), ..Model::default() };
    let mut twice = Twice { requests: Vec::new(), editor: &mut editor, model, host: host.path() };
    twice.all();
    let (requests, model) = (twice.requests, twice.model);
    editor.finish().unwrap();
    let ours = Image::of(&overlay);
    let theirs = base.copy("theirs.img");
    debugfs::requests(&theirs, &requests, true);
    if indexed {
        // debugfs makes no indexes; e2fsck makes those that the kernel would have made.
        let status =
            std::process::Command::new("/usr/sbin/e2fsck").arg("-fyD").arg(&theirs.path).output().unwrap().status;
        assert!(matches!(status.code(), Some(0 | 1)));
    }
    for image in [&ours, &theirs] {
        image.check();
        debugfs::compare(&model, image);
        model.compare_kernel(image);
    }
    let free = |image: &Image| image.field("Free blocks").parse::<u64>().unwrap();
    assert!(free(&ours) >= free(&theirs), "{options:?}: {} blocks are free, {} theirs", free(&ours), free(&theirs));
    assert_eq!(ours.field("Free inodes"), theirs.field("Free inodes"));
}

#[test]
fn with_everything_that_is_usual() {
    judge(&["-b", "1024"], true);
    judge(&["-b", "4096", "-O", "metadata_csum_seed,orphan_file"], true);
}

#[test]
fn without_indexes() {
    judge(&["-b", "1024", "-O", "^dir_index"], false);
    judge(&["-b", "4096", "-O", "^dir_index,^64bit"], false);
}

#[test]
fn without_checksums() {
    judge(&["-b", "2048", "-O", "^metadata_csum,^64bit"], true);
    judge(&["-b", "1024", "-O", "^metadata_csum,uninit_bg,^flex_bg"], true);
}

#[test]
fn with_small_inodes() {
    judge(&["-b", "1024", "-I", "128", "-O", "^extra_isize,^has_journal"], true);
}
