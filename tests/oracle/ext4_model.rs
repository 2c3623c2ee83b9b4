//! A model of a tree, random edits to it and an image alike, and comparisons between the two.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use imgbake::ext4::{Attributes, Editor, FileKind, Timestamp};
use imgbake::{Content, FileRange, HostFile};

use super::image::{Image, Mounted, run};

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Device(FileKind, u32, u32),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub body: Body,
    pub attributes: Attributes,
}

/// Paths, and what they name: hard links share a node.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub names: BTreeMap<String, usize>,
    pub nodes: Vec<Node>,
}

/// Numbers that are always the same.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let start = self.below(251);
        (0..len).map(|at| u8::try_from((start + at * 7 + at / 4096) % 251).unwrap()).collect()
    }

    fn attributes(&mut self) -> Attributes {
        let mut attributes = Attributes {
            mode: u16::try_from(self.below(0o10000)).unwrap(),
            uid: u32::try_from(self.below(200_000)).unwrap(),
            gid: u32::try_from(self.below(200_000)).unwrap(),
            mtime: Timestamp {
                seconds: i64::try_from(self.below(1 << 31)).unwrap(),
                nanoseconds: u32::try_from(self.below(1_000_000_000)).unwrap(),
            },
            xattrs: BTreeMap::new(),
        };
        if self.below(8) == 0 {
            self.xattr(&mut attributes);
        }
        attributes
    }

    fn xattr(&mut self, attributes: &mut Attributes) -> (Vec<u8>, Vec<u8>) {
        let (name, value) = match self.below(4) {
            0 => ("security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
            1 => ("user.comment", self.bytes(1)),
            2 => ("trusted.large", self.bytes(300)),
            _ => ("user.other", self.bytes(77)),
        };
        attributes.xattrs.insert(name.into(), value.clone());
        (name.into(), value)
    }
}

impl Model {
    /// What a folder of the host holds.
    pub fn read_host(root: &Path) -> Self {
        let mut model = Self::default();
        let mut seen = BTreeMap::new();
        model.read_host_folder(root, "", &mut seen);
        model
    }

    fn read_host_folder(&mut self, folder: &Path, prefix: &str, seen: &mut BTreeMap<u64, usize>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}/{}", entry.file_name().to_str().unwrap());
            let metadata = std::fs::symlink_metadata(entry.path()).unwrap();
            let kind = metadata.file_type();
            let body = if kind.is_dir() {
                Body::Directory
            } else if kind.is_symlink() {
                Body::Symlink(std::fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
            } else if kind.is_file() {
                Body::File(std::fs::read(entry.path()).unwrap())
            } else {
                let major = rustix::fs::major(metadata.rdev());
                let minor = rustix::fs::minor(metadata.rdev());
                let kinds = [
                    (kind.is_char_device(), FileKind::CharacterDevice),
                    (kind.is_block_device(), FileKind::BlockDevice),
                    (kind.is_fifo(), FileKind::Fifo),
                    (kind.is_socket(), FileKind::Socket),
                ];
                Body::Device(kinds.iter().find(|(is, _)| *is).unwrap().1, major, minor)
            };
            let attributes = Attributes {
                mode: u16::try_from(metadata.mode() & 0o7777).unwrap(),
                uid: metadata.uid(),
                gid: metadata.gid(),
                mtime: Timestamp {
                    seconds: metadata.mtime(),
                    nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap(),
                },
                xattrs: host_xattrs(&entry.path()),
            };
            let is_dir = body == Body::Directory;
            let node = Node { body, attributes };
            let number = *seen.entry(metadata.ino()).or_insert_with(|| {
                self.nodes.push(node);
                self.nodes.len() - 1
            });
            if is_dir {
                self.read_host_folder(&entry.path(), &path, seen);
            }
            self.names.insert(path, number);
        }
    }

    pub fn add(&mut self, path: &str, body: Body, attributes: Attributes) {
        self.nodes.push(Node { body, attributes });
        self.names.insert(path.to_owned(), self.nodes.len() - 1);
    }

    fn is_dir(&self, path: &str) -> bool {
        path.is_empty() || self.nodes[self.names[path]].body == Body::Directory
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.names
            .range(prefix.clone()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(&prefix))
            .cloned()
            .collect()
    }

    fn pick(&self, random: &mut Random, accept: impl Fn(&Node) -> bool) -> Option<String> {
        let fitting: Vec<&String> =
            self.names.iter().filter(|(_, node)| accept(&self.nodes[**node])).map(|(name, _)| name).collect();
        (!fitting.is_empty()).then(|| fitting[random.below(fitting.len())].clone())
    }

    fn fresh(&self, random: &mut Random) -> String {
        let folder = if random.below(4) == 0 { None } else { self.pick(random, |node| node.body == Body::Directory) };
        let name = format!("{}-{}", "name".repeat(1 + random.below(9)), random.below(1 << 30));
        format!("{}/{name}", folder.unwrap_or_default())
    }

    /// Makes `edits` random changes to the model and through `editor`.
    pub fn edit(&mut self, editor: &mut Editor, random: &mut Random, host: &Arc<HostFile>, edits: usize) {
        for _ in 0..edits {
            match random.below(20) {
                0..=6 => self.write(editor, random, host),
                7 | 8 => {
                    let (path, attributes) = (self.fresh(random), random.attributes());
                    editor.mkdir(&path, &attributes).unwrap();
                    self.add(&path, Body::Directory, attributes);
                }
                9 => {
                    let (path, attributes) = (self.fresh(random), random.attributes());
                    let longest = [59, 800][random.below(2)];
                    let target = (0..=random.below(longest))
                        .map(|at| if at % 50 == 49 { b'/' } else { b'x' })
                        .collect::<Vec<_>>();
                    let attributes = Attributes { mode: 0o777, xattrs: BTreeMap::new(), ..attributes };
                    editor.symlink(&path, &target, &attributes).unwrap();
                    self.add(&path, Body::Symlink(target), attributes);
                }
                10 => self.link(editor, random),
                11 => {
                    let (path, attributes) = (self.fresh(random), random.attributes());
                    let attributes = Attributes { xattrs: BTreeMap::new(), ..attributes };
                    let (kind, major, minor) = [
                        (FileKind::CharacterDevice, 5, 1),
                        (FileKind::BlockDevice, 259, 1000),
                        (FileKind::Fifo, 0, 0),
                        (FileKind::Socket, 0, 0),
                    ][random.below(4)];
                    editor.mknod(&path, kind, major, minor, &attributes).unwrap();
                    self.add(&path, Body::Device(kind, major, minor), attributes);
                }
                12..=14 => self.remove(editor, random),
                15 | 16 => self.rename(editor, random),
                _ => self.touch(editor, random),
            }
        }
    }

    fn write(&mut self, editor: &mut Editor, random: &mut Random, host: &Arc<HostFile>) {
        let replaced = if random.below(3) == 0 { self.pick(random, |node| node.body != Body::Directory) } else { None };
        let path = replaced.unwrap_or_else(|| self.fresh(random));
        let attributes = random.attributes();
        let longest = [100, 5000, 60_000, 400_000][random.below(4)];
        let len = random.below(longest);
        let content = if random.below(2) == 0 {
            Content::Bytes(random.bytes(len))
        } else {
            let skip = random.below(usize::try_from(host.size()).unwrap() - len);
            Content::File(FileRange::new(Arc::clone(host), skip as u64, len as u64).unwrap())
        };
        let mut bytes = vec![0; len];
        match &content {
            Content::Bytes(source) => bytes.copy_from_slice(source),
            Content::File(range) => range.read_at(0, &mut bytes).unwrap(),
        }
        editor.write(&path, content, &attributes).unwrap();
        self.add(&path, Body::File(bytes), attributes);
    }

    fn link(&mut self, editor: &mut Editor, random: &mut Random) {
        let path = self.fresh(random);
        if let Some(existing) = self.pick(random, |node| node.body != Body::Directory) {
            editor.hard_link(&path, &existing).unwrap();
            self.names.insert(path, self.names[&existing]);
        }
    }

    fn remove(&mut self, editor: &mut Editor, random: &mut Random) {
        let whole = random.below(8) == 0;
        let path = self.pick(random, |node| whole == (node.body == Body::Directory));
        if let Some(path) = path.filter(|path| path != "/big") {
            assert!(editor.remove(&path).unwrap());
            self.below(&path).iter().for_each(|name| assert!(self.names.remove(name).is_some()));
            self.names.remove(&path);
        }
    }

    fn rename(&mut self, editor: &mut Editor, random: &mut Random) {
        let folders = random.below(3) == 0;
        let Some(from) = self.pick(random, |node| folders == (node.body == Body::Directory)) else { return };
        let to = self.fresh(random);
        if to.starts_with(&format!("{from}/")) {
            assert!(editor.rename(&from, &to).is_err());
            return;
        }
        editor.rename(&from, &to).unwrap();
        for name in self.below(&from) {
            let node = self.names.remove(&name).unwrap();
            self.names.insert(format!("{to}{}", &name[from.len()..]), node);
        }
        let node = self.names.remove(&from).unwrap();
        self.names.insert(to, node);
    }

    fn touch(&mut self, editor: &mut Editor, random: &mut Random) {
        let Some(path) = self.pick(random, |node| matches!(node.body, Body::Directory | Body::File(_))) else { return };
        let node = self.names[&path];
        let attributes = &mut self.nodes[node].attributes;
        let new = random.attributes();
        match random.below(5) {
            0 => {
                editor.set_mode(&path, new.mode).unwrap();
                attributes.mode = new.mode;
            }
            1 => {
                editor.set_owner(&path, new.uid, new.gid).unwrap();
                (attributes.uid, attributes.gid) = (new.uid, new.gid);
            }
            2 => {
                editor.set_mtime(&path, new.mtime).unwrap();
                attributes.mtime = new.mtime;
            }
            3 => {
                let (name, value) = random.xattr(attributes);
                editor.set_xattr(&path, &name, &value).unwrap();
            }
            _ => {
                let first = attributes.xattrs.pop_first();
                let name = first.map_or(b"user.none".to_vec(), |(name, _)| name);
                editor.remove_xattr(&path, &name).unwrap();
            }
        }
    }

    /// Compares with what our own reader says.
    pub fn compare_editor(&self, editor: &mut Editor) {
        for (path, node) in &self.names {
            let node = &self.nodes[*node];
            let metadata = editor.metadata(path).unwrap().unwrap_or_else(|| panic!("{path} is missing"));
            let attributes = &node.attributes;
            assert_eq!(
                (metadata.mode, metadata.uid, metadata.gid, metadata.mtime.seconds),
                (attributes.mode, attributes.uid, attributes.gid, attributes.mtime.seconds),
                "{path}"
            );
            assert_eq!(editor.xattrs(path).unwrap(), attributes.xattrs, "{path}");
            match &node.body {
                Body::File(bytes) => assert!(editor.read(path, 1 << 30).unwrap().unwrap() == *bytes, "{path}"),
                Body::Symlink(target) => assert_eq!(editor.read_link(path).unwrap().unwrap(), *target),
                Body::Directory => assert_eq!(metadata.kind, FileKind::Directory),
                Body::Device(kind, major, minor) => {
                    let numbers =
                        matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice).then_some((*major, *minor));
                    assert_eq!((metadata.kind, metadata.device), (*kind, numbers), "{path}");
                }
            }
        }
    }

    /// Compares with what the crate ext4-view reads.
    pub fn compare_view(&self, image: &Path) {
        let view = ext4_view::Ext4::load(Box::new(Reader(std::fs::File::open(image).unwrap()))).unwrap();
        let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, node) in &self.names {
            let (folder, name) = path.rsplit_once('/').unwrap();
            folders.entry(folder).or_default().push(name);
            let node = &self.nodes[*node];
            let metadata = view.symlink_metadata(path.as_str()).unwrap_or_else(|error| panic!("{path}: {error}"));
            let attributes = &node.attributes;
            assert_eq!(
                (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
                (attributes.mode, attributes.uid, attributes.gid),
                "{path}"
            );
            match &node.body {
                Body::File(bytes) => assert!(view.read(path.as_str()).unwrap() == *bytes, "{path}"),
                Body::Symlink(target) => assert_eq!(view.read_link(path.as_str()).unwrap().as_ref(), target.as_slice()),
                Body::Directory => assert!(self.is_dir(path) && metadata.is_dir()),
                Body::Device(..) => {}
            }
        }
        for (folder, mut want) in folders {
            let entries = view.read_dir(if folder.is_empty() { "/" } else { folder }).unwrap();
            let names: Vec<Vec<u8>> = entries.map(|entry| entry.unwrap().file_name().as_ref().to_vec()).collect();
            let mut names: Vec<&str> = names.iter().map(|name| std::str::from_utf8(name).unwrap()).collect();
            names.retain(|name| !matches!(*name, "." | "..") && (*name != "lost+found" || !folder.is_empty()));
            names.sort_unstable();
            want.sort_unstable();
            assert_eq!(names, want, "{folder}");
        }
    }

    /// Compares with what the kernel mounts. Only root can mount: others have debugfs copy the files out, which
    /// tells contents but not attributes.
    pub fn compare_kernel(&self, image: &Image) {
        let folder = image.folder().join("mounted");
        std::fs::create_dir_all(&folder).unwrap();
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            let files = self.names.iter().filter_map(|(path, node)| match &self.nodes[*node].body {
                Body::File(bytes) => Some((path, bytes)),
                _ => None,
            });
            let copy = |number: usize| folder.join(number.to_string());
            let requests: String = files
                .clone()
                .enumerate()
                .map(|(at, (path, _))| format!("dump {path} {}\n", copy(at).display()))
                .collect();
            let script = image.folder().join("requests");
            std::fs::write(&script, requests).unwrap();
            run("e2fsprogs", Command::new("debugfs").arg("-f").arg(&script).arg(&image.path));
            for (at, (path, bytes)) in files.enumerate() {
                let copied = std::fs::read(copy(at)).unwrap();
                // Of a small file that is kept in its inode debugfs copies all of the 60 bytes there.
                let padded = copied.len() == 60 && copied.starts_with(bytes);
                assert!(copied == *bytes || padded, "{path}");
            }
            return std::fs::remove_dir_all(&folder).unwrap();
        }
        let mounted = Mounted::new(&image.path, folder, "loop,ro");
        let mut mounted = Self::read_host(mounted.folder());
        mounted.names.remove("/lost+found");
        let names = |model: &Self| model.names.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&mounted), names(self));
        let small = image.field("Inode size") == "128";
        for (path, node) in &self.names {
            let mut want = self.nodes[*node].clone();
            if small {
                want.attributes.mtime.nanoseconds = 0;
            }
            let mounted = &mounted.nodes[mounted.names[path]];
            assert_eq!(mounted.attributes, want.attributes, "{path}");
            assert!(mounted.body == want.body, "{path}: the kernel reads other contents");
        }
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for (path, node) in &self.names {
            let other = mounted.names[path];
            assert_eq!(*shared.entry(*node).or_insert(other), other, "{path} shares another file");
        }
    }
}

/// A file as ext4-view reads it.
struct Reader(std::fs::File);

impl ext4_view::Ext4Read for Reader {
    fn read(&mut self, start: u64, bytes: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, start)?)
    }
}

fn host_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut buffer).unwrap_or(0);
    let names: Vec<Vec<u8>> =
        buffer[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let mut value = vec![0; 65536];
    names
        .into_iter()
        .map(|name| {
            let key = std::ffi::CString::new(name.clone()).unwrap();
            let len = rustix::fs::lgetxattr(path, key.as_c_str(), &mut value).unwrap();
            (name, value[..len].to_vec())
        })
        .collect()
}
