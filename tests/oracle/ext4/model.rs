//! A model of a tree: what edits make of it, and which errors they end in.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use imgbake::HostFile;
use imgbake::ext4::{Attributes, Editor, Ext4Error, FileKind, Timestamp};

use super::edits::Edit;
use super::image::Image;

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

/// Paths, and what they name: hard links share a node. The root, with the empty path, is not among them.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub names: BTreeMap<Vec<u8>, usize>,
    pub nodes: Vec<Node>,
    /// What the file system's features make of the edits.
    pub limits: Limits,
}

/// What an image can hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub block_size: usize,
    pub inode_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_size: 4096, inode_size: 256 }
    }
}

impl Limits {
    pub fn of(image: &Image) -> Self {
        let field = |name| image.field(name).parse().unwrap();
        Self { block_size: field("Block size"), inode_size: field("Inode size") }
    }

    /// A time as an inode of this size can hold it.
    pub fn time(&self, time: Timestamp) -> Timestamp {
        if self.inode_size > 128 {
            return time;
        }
        Timestamp { seconds: time.seconds.clamp(i32::MIN.into(), i32::MAX.into()), nanoseconds: 0 }
    }
}

/// Where a path leads: the path without links, and what is there. None if nothing can be there.
type Place = Option<(Vec<u8>, Option<usize>)>;

/// Errors by the names of their variants.
type Wrong = BTreeSet<&'static str>;

/// How an edit ends: with one of the errors that must come, if there are any, or perhaps with one that may.
#[derive(Debug, Default)]
struct Foreseen {
    must: Wrong,
    may: Wrong,
}

/// What an image has free.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    bytes: u64,
    inodes: u64,
}

impl Room {
    fn of(editor: &Editor) -> Self {
        Self { bytes: editor.free_bytes(), inodes: editor.free_inodes() }
    }
}

/// The last name of a path.
pub fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap()
}

/// The folder of a path without links.
pub fn folder(path: &[u8]) -> &[u8] {
    &path[..path.len() - last(path).len() - 1]
}

/// Whether the last name is `.` or `..`.
fn ends_in_dots(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty()).is_some_and(|name| matches!(name, b"." | b".."))
}

pub fn is_acl(name: &[u8]) -> bool {
    name == b"system.posix_acl_access"
}

fn bad_xattr(name: &[u8], value: Option<&[u8]>) -> bool {
    let known = [b"user.".as_slice(), b"trusted.", b"security."]
        .iter()
        .any(|prefix| name.starts_with(prefix) && name.len() > prefix.len());
    let list = is_acl(name);
    !known && !list || list && value.is_some_and(|value| value.len() < 4)
}

fn variant(error: &Ext4Error) -> String {
    let text = format!("{error:?}");
    text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap().to_owned()
}

impl Model {
    /// What a folder of the host holds.
    pub fn read_host(root: &Path) -> Self {
        let mut model = Self::default();
        let mut seen = BTreeMap::new();
        model.read_host_folder(root, b"", &mut seen);
        model
    }

    fn read_host_folder(&mut self, folder: &Path, prefix: &[u8], seen: &mut BTreeMap<u64, usize>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = [prefix, b"/", entry.file_name().as_bytes()].concat();
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

    pub fn add(&mut self, path: impl AsRef<[u8]>, body: Body, attributes: Attributes) {
        let mtime = self.limits.time(attributes.mtime);
        self.nodes.push(Node { body, attributes: Attributes { mtime, ..attributes } });
        self.names.insert(path.as_ref().to_vec(), self.nodes.len() - 1);
    }

    fn is_dir(&self, path: &[u8]) -> bool {
        path.is_empty() || self.names.get(path).is_some_and(|node| self.nodes[*node].body == Body::Directory)
    }

    /// What is below a folder.
    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let prefix = [path, b"/"].concat();
        let all = self.names.range(prefix.clone()..).map(|(name, _)| name);
        all.take_while(|name| name.starts_with(&prefix)).cloned().collect()
    }

    /// How many names a node has.
    pub fn links(&self, node: usize) -> usize {
        self.names.values().filter(|other| **other == node).count()
    }

    /// Follows a path; the last link too if `follow` says so.
    fn walk(&self, path: &[u8], follow: bool) -> Result<Place, &'static str> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
            names.rev().map(<[u8]>::to_vec).collect()
        };
        let mut left = split(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == b".." {
                if !at.is_empty() {
                    at = folder(&at).to_vec();
                }
                continue;
            }
            if !self.is_dir(&at) {
                return Ok(None);
            }
            let next = [at.as_slice(), b"/", &name].concat();
            let Some(node) = self.names.get(&next) else {
                return Ok(left.is_empty().then_some((next, None)));
            };
            match &self.nodes[*node].body {
                Body::Symlink(target) if follow || !left.is_empty() => {
                    links += 1;
                    if links > 40 {
                        return Err("TooManySymlinks");
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    left.extend(split(target));
                }
                Body::Directory => at = next,
                _ if left.is_empty() => at = next,
                _ => return Ok(None),
            }
        }
        let node = self.names.get(&at).copied();
        Ok(Some((at, node)))
    }

    /// The place of something to be made; none, and the errors, if there is no such place.
    fn place_for(&self, path: &[u8], wrong: &mut Wrong) -> Option<(Vec<u8>, Option<usize>)> {
        match self.walk(path, false) {
            Err(error) => wrong.insert(error),
            Ok(None) => wrong.insert("NoParent"),
            Ok(Some((path, _))) if path.is_empty() => wrong.insert("IsADirectory"),
            Ok(Some((path, _))) if last(&path).len() > 255 || last(&path).contains(&0) => wrong.insert("BadName"),
            Ok(Some(place)) => return Some(place),
        };
        None
    }

    /// Something that must be there.
    fn find(&self, path: &[u8], wrong: &mut Wrong) -> Option<(Vec<u8>, Option<usize>)> {
        match self.walk(path, false) {
            Err(error) => wrong.insert(error),
            Ok(Some((path, node))) if node.is_some() || path.is_empty() => return Some((path, node)),
            Ok(_) => wrong.insert("NotFound"),
        };
        None
    }

    /// What is wrong with giving a file these attributes, alone or in addition to those that it has.
    fn check_xattrs(&self, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>, wrong: &mut Foreseen) {
        if xattrs.iter().any(|(name, value)| bad_xattr(name, Some(value))) {
            wrong.must.insert("BadXattr");
        }
        let named = |name: &[u8]| name.len() - name.iter().position(|byte| *byte == b'.').unwrap_or(0);
        let most: usize = xattrs.iter().map(|(name, value)| named(name) + value.len() + 22).sum();
        let least: usize =
            xattrs.iter().map(|(name, value)| if is_acl(name) { 16 } else { named(name) + 15 + value.len() }).sum();
        let block = self.limits.block_size - 36;
        if least > block + self.limits.inode_size - 128 {
            wrong.must.insert("XattrsTooLarge");
        } else if most > block {
            // How they are packed decides.
            wrong.may.insert("XattrsTooLarge");
        }
    }

    /// Blocks that changed folders may need before they are written: more than is likely.
    fn slack(&self) -> u64 {
        let mut folders: BTreeMap<&[u8], usize> = BTreeMap::new();
        for name in self.names.keys() {
            *folders.entry(folder(name)).or_default() += last(name).len() + 12;
        }
        let blocks: usize = folders.values().map(|bytes| 8 + bytes * 2 / self.limits.block_size).sum();
        16 + blocks as u64
    }

    /// What making something with `size` bytes of contents at `path` comes to.
    fn foresee_make(&self, path: &[u8], size: usize, attributes: &Attributes, room: Room) -> Foreseen {
        let mut wrong = Foreseen::default();
        self.check_xattrs(&attributes.xattrs, &mut wrong);
        let mut inodes = room.inodes;
        if let Some((place, old)) = self.place_for(path, &mut wrong.must) {
            if self.is_dir(&place) {
                wrong.must.insert("IsADirectory");
            }
            inodes += u64::from(old.is_some_and(|old| self.links(old) == 1));
        }
        if inodes == 0 {
            wrong.must.insert("NoInodes");
        }
        self.foresee_blocks(size, room, &mut wrong);
        wrong
    }

    fn foresee_blocks(&self, size: usize, room: Room, wrong: &mut Foreseen) {
        let blocks = size.div_ceil(self.limits.block_size) as u64;
        if blocks + blocks / 80 + self.slack() > room.bytes / self.limits.block_size as u64 {
            wrong.may.insert("NoSpace");
        }
    }

    fn foresee_rename(&self, from: &[u8], to: &[u8]) -> Foreseen {
        let mut wrong = Foreseen::default();
        let source = self.find(from, &mut wrong.must);
        let target = self.place_for(to, &mut wrong.must);
        let Some((source, node)) = source else { return wrong };
        if source.is_empty() || ends_in_dots(from) || ends_in_dots(to) {
            wrong.must.insert("Invalid");
        }
        let Some((target, old)) = target else { return wrong };
        if target.starts_with(&[source.as_slice(), b"/"].concat()) {
            wrong.must.insert("Invalid");
        } else if old.is_some() && old != node {
            match (self.is_dir(&source), self.is_dir(&target)) {
                (false, true) => wrong.must.insert("IsADirectory"),
                (true, false) => wrong.must.insert("NotADirectory"),
                (true, true) if !self.below(&target).is_empty() => wrong.must.insert("NotEmpty"),
                _ => false,
            };
        }
        wrong
    }

    /// What has to be wrong with an edit, and what may be.
    fn foresee(&mut self, edit: &Edit, room: Room) -> Foreseen {
        let mut wrong = Foreseen::default();
        match edit {
            Edit::Write(path, bytes, attributes) => {
                return self.foresee_make(&path.bytes(), bytes.len(), attributes, room);
            }
            Edit::Mkdir(path, attributes) => {
                wrong = self.foresee_make(&path.bytes(), 0, attributes, room);
                if self.walk(&path.bytes(), false).is_ok_and(|place| place.is_some_and(|place| self.exists(&place.0))) {
                    wrong.must.insert("Exists");
                }
            }
            Edit::MkdirAll(path, attributes) => {
                self.check_xattrs(&attributes.xattrs, &mut wrong);
                let (made, result) = self.mkdir_all(&path.bytes(), attributes);
                self.names.retain(|path, _| !made.contains(path));
                // What cannot be made for its attributes need not be made at all.
                let must = std::mem::take(&mut wrong.must);
                let target = if made.is_empty() { &mut wrong.may } else { &mut wrong.must };
                target.extend(must);
                if let Err(error) = result {
                    wrong.must.insert(error);
                }
                if (made.len() as u64) > room.inodes {
                    wrong.must.insert("NoInodes");
                }
                self.foresee_blocks(made.len() * 2 * self.limits.block_size, room, &mut wrong);
            }
            Edit::Symlink(path, target, attributes) => {
                let target = target.bytes();
                wrong = self.foresee_make(&path.bytes(), target.len(), attributes, room);
                if target.is_empty() || target.len() >= self.limits.block_size.min(4096) || target.contains(&0) {
                    wrong.must.insert("BadTarget");
                }
            }
            Edit::Mknod(path, kind, major, _, attributes) => {
                wrong = self.foresee_make(&path.bytes(), 0, attributes, room);
                if *kind == FileKind::Symlink || *major > 4095 {
                    wrong.must.insert("Invalid");
                }
            }
            Edit::HardLink(path, existing) => {
                if let Some((existing, _)) = self.find(&existing.bytes(), &mut wrong.must)
                    && self.is_dir(&existing)
                {
                    wrong.must.insert("Invalid");
                }
                if self.place_for(&path.bytes(), &mut wrong.must).is_some_and(|(_, node)| node.is_some()) {
                    wrong.must.insert("Exists");
                }
                self.foresee_blocks(0, room, &mut wrong);
            }
            Edit::Remove(path) => {
                match self.walk(&path.bytes(), false) {
                    Err(error) => drop(wrong.must.insert(error)),
                    Ok(Some((place, _))) if place.is_empty() || ends_in_dots(&path.bytes()) => {
                        wrong.must.insert("Invalid");
                    }
                    Ok(_) => {}
                }
                self.foresee_blocks(0, room, &mut wrong);
            }
            Edit::Rename(from, to) => {
                wrong = self.foresee_rename(&from.bytes(), &to.bytes());
                self.foresee_blocks(0, room, &mut wrong);
            }
            Edit::SetMode(path, ..) | Edit::SetOwner(path, ..) | Edit::SetMtime(path, ..) => {
                self.find(&path.bytes(), &mut wrong.must);
            }
            Edit::SetXattr(path, (name, value)) => {
                if let Some((_, node)) = self.find(&path.bytes(), &mut wrong.must) {
                    let mut xattrs = node.map_or_else(BTreeMap::new, |node| self.nodes[node].attributes.xattrs.clone());
                    xattrs.insert(name.clone(), value.clone());
                    self.check_xattrs(&xattrs, &mut wrong);
                    if node.is_none() {
                        wrong.may.insert("XattrsTooLarge");
                    }
                }
                self.foresee_blocks(0, room, &mut wrong);
            }
            Edit::RemoveXattr(path, name) => {
                self.find(&path.bytes(), &mut wrong.must);
                if bad_xattr(name, None) {
                    wrong.must.insert("BadXattr");
                }
                self.foresee_blocks(0, room, &mut wrong);
            }
            Edit::Populate(..) => {}
        }
        wrong
    }

    fn exists(&self, path: &[u8]) -> bool {
        path.is_empty() || self.names.contains_key(path)
    }

    /// Makes the folders of `path` that are missing; which those are, and what stood in the way of the rest.
    fn mkdir_all(&mut self, path: &[u8], attributes: &Attributes) -> (Vec<Vec<u8>>, Result<(), &'static str>) {
        let mut made = Vec::new();
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        for end in ends {
            let mut wrong = Wrong::new();
            match self.walk(&path[..end], true) {
                Err(error) => return (made, Err(error)),
                Ok(None) => return (made, Err("NoParent")),
                Ok(Some((place, _))) if self.is_dir(&place) => {}
                Ok(Some((_, Some(_)))) => return (made, Err("NotADirectory")),
                Ok(Some((place, None))) => match self.place_for(&place, &mut wrong) {
                    Some((place, _)) => {
                        self.add(&place, Body::Directory, attributes.clone());
                        made.push(place);
                    }
                    None => return (made, Err("BadName")),
                },
            }
        }
        (made, Ok(()))
    }

    /// Makes an edit that the editor made.
    fn commit(&mut self, edit: &Edit) {
        let place = |model: &Self, path: &super::edits::Path| model.walk(&path.bytes(), false).unwrap().unwrap();
        match edit {
            Edit::Write(path, bytes, attributes) => {
                self.add(place(self, path).0, Body::File(bytes.bytes()), attributes.clone());
            }
            Edit::Mkdir(path, attributes) => self.add(place(self, path).0, Body::Directory, attributes.clone()),
            Edit::MkdirAll(path, attributes) => self.mkdir_all(&path.bytes(), attributes).1.unwrap(),
            Edit::Symlink(path, target, attributes) => {
                let attributes = Attributes { mode: 0o777, ..attributes.clone() };
                self.add(place(self, path).0, Body::Symlink(target.bytes()), attributes);
            }
            Edit::Mknod(path, kind, major, minor, attributes) => {
                self.add(place(self, path).0, Body::Device(*kind, *major, *minor), attributes.clone());
            }
            Edit::HardLink(path, existing) => {
                let node = place(self, existing).1.unwrap();
                self.names.insert(place(self, path).0, node);
            }
            Edit::Remove(path) => {
                if let Ok(Some((path, Some(_)))) = self.walk(&path.bytes(), false) {
                    self.below(&path).iter().chain([&path]).for_each(|name| assert!(self.names.remove(name).is_some()));
                }
            }
            Edit::Rename(from, to) => {
                let (from, to) = (place(self, from), place(self, to));
                if from.1 != to.1 {
                    for name in self.below(&from.0).into_iter().chain([from.0.clone()]) {
                        let node = self.names.remove(&name).unwrap();
                        self.names.insert([&to.0, &name[from.0.len()..]].concat(), node);
                    }
                }
            }
            Edit::SetMode(path, mode) => self.touch(path, |attributes, _| attributes.mode = *mode),
            Edit::SetOwner(path, uid, gid) => {
                self.touch(path, |attributes, _| (attributes.uid, attributes.gid) = (*uid, *gid));
            }
            Edit::SetMtime(path, time) => self.touch(path, |attributes, limits| attributes.mtime = limits.time(*time)),
            Edit::SetXattr(path, (name, value)) => {
                self.touch(path, |attributes, _| drop(attributes.xattrs.insert(name.clone(), value.clone())));
            }
            Edit::RemoveXattr(path, name) => self.touch(path, |attributes, _| drop(attributes.xattrs.remove(name))),
            Edit::Populate(..) => {}
        }
    }

    fn touch(&mut self, path: &super::edits::Path, change: impl FnOnce(&mut Attributes, Limits)) {
        // Nobody looks at the root's own attributes.
        if let Some((_, Some(node))) = self.walk(&path.bytes(), false).unwrap() {
            change(&mut self.nodes[node].attributes, self.limits);
        }
    }

    /// Makes edits to the model and through `editor`. Each must end as foreseen, and one that fails must change
    /// nothing.
    pub fn edit(&mut self, editor: &mut Editor, edits: &[Edit], host: &Arc<HostFile>) {
        for edit in edits {
            if let Edit::Populate(path, amount, length) = edit {
                self.populate(editor, &path.bytes(), *amount, *length);
                continue;
            }
            let room = Room::of(editor);
            let wrong = self.foresee(edit, room);
            match run(edit, editor, host) {
                Ok(()) => {
                    assert!(wrong.must.is_empty(), "{edit:?} should fail: {wrong:?}");
                    self.commit(edit);
                }
                Err(error) => {
                    let name = variant(&error);
                    let foreseen = wrong.must.contains(name.as_str()) || wrong.may.contains(name.as_str());
                    assert!(foreseen, "{edit:?} failed: {error:?}, not {wrong:?}");
                    assert_eq!(Room::of(editor), room, "{edit:?} failed and left something: {error:?}");
                }
            }
        }
    }

    /// Fills a folder with empty files as far as there is room.
    fn populate(&mut self, editor: &mut Editor, path: &[u8], amount: usize, length: usize) {
        let attributes = super::image::plain(0o600);
        for number in 0..amount {
            let name = format!("{number:0>length$}");
            let path = [path, b"/", name.as_bytes()].concat();
            let room = Room::of(editor);
            let wrong = self.foresee_make(&path, 0, &attributes, room);
            match editor.write(&path, imgbake::Content::Bytes(Vec::new()), &attributes) {
                Ok(()) => {
                    assert!(wrong.must.is_empty(), "{wrong:?}");
                    let place = self.walk(&path, false).unwrap().unwrap().0;
                    self.add(place, Body::File(Vec::new()), attributes.clone());
                }
                Err(error) => {
                    let name = variant(&error);
                    assert!(
                        wrong.must.contains(name.as_str()) || wrong.may.contains(name.as_str()),
                        "{error:?}, not {wrong:?}"
                    );
                    return assert_eq!(Room::of(editor), room);
                }
            }
        }
    }
}

fn run(edit: &Edit, editor: &mut Editor, host: &Arc<HostFile>) -> Result<(), Ext4Error> {
    match edit {
        Edit::Write(path, bytes, attributes) => editor.write(path.bytes(), bytes.content(host), attributes),
        Edit::Mkdir(path, attributes) => editor.mkdir(path.bytes(), attributes),
        Edit::MkdirAll(path, attributes) => editor.mkdir_all(path.bytes(), attributes),
        Edit::Symlink(path, target, attributes) => editor.symlink(path.bytes(), target.bytes(), attributes),
        Edit::Mknod(path, kind, major, minor, attributes) => {
            editor.mknod(path.bytes(), *kind, *major, *minor, attributes)
        }
        Edit::HardLink(path, existing) => editor.hard_link(path.bytes(), existing.bytes()),
        Edit::Remove(path) => editor.remove(path.bytes()).map(drop),
        Edit::Rename(from, to) => editor.rename(from.bytes(), to.bytes()),
        Edit::SetMode(path, mode) => editor.set_mode(path.bytes(), *mode),
        Edit::SetOwner(path, uid, gid) => editor.set_owner(path.bytes(), *uid, *gid),
        Edit::SetMtime(path, time) => editor.set_mtime(path.bytes(), *time),
        Edit::SetXattr(path, (name, value)) => editor.set_xattr(path.bytes(), name, value),
        Edit::RemoveXattr(path, name) => editor.remove_xattr(path.bytes(), name).map(drop),
        Edit::Populate(..) => Ok(()),
    }
}

/// A path as messages show it.
pub fn show(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// mke2fs makes one, and edits leave it alone.
pub fn is_lost_and_found(folder: &[u8], name: &[u8]) -> bool {
    folder.is_empty() && name == b"lost+found"
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
