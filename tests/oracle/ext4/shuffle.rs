//! Random edits to a tree that somebody else made: what is there is replaced, moved, changed and removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use imgbake::ext4::{Attributes, Editor, FileKind, Timestamp};
use imgbake::{Content, FileRange, HostFile};

use super::model::{Body, Limits, Model, Node};

/// Numbers that are always the same.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }
}

/// A model that is edited together with an image.
pub struct Shuffle {
    pub model: Model,
    pub limits: Limits,
    pub random: Random,
    pub host: Arc<HostFile>,
}

impl Shuffle {
    fn attributes(&mut self) -> Attributes {
        let random = &mut self.random;
        let mut number = |limit: usize| u32::try_from(random.below(limit)).unwrap();
        let time = Timestamp { seconds: number(1 << 31).into(), nanoseconds: number(1_000_000_000) };
        let mut attributes = Attributes {
            mode: u16::try_from(number(0o10000)).unwrap(),
            uid: number(200_000),
            gid: number(200_000),
            mtime: self.limits.time(time),
            xattrs: BTreeMap::new(),
        };
        if self.random.below(6) == 0 {
            attributes.xattrs.extend([self.xattr()]);
        }
        attributes
    }

    fn xattr(&mut self) -> (Vec<u8>, Vec<u8>) {
        let name = ["security.note", "user.comment", "trusted.large", "user.other"][self.random.below(4)];
        let len = [1, 20, 77, 300][self.random.below(4)];
        (name.into(), vec![u8::try_from(len % 251).unwrap(); len])
    }

    fn pick(&mut self, accept: impl Fn(&Body) -> bool) -> Option<Vec<u8>> {
        let model = &self.model;
        let fitting: Vec<&Vec<u8>> =
            model.names.iter().filter(|(_, node)| accept(&model.nodes[**node].body)).map(|(name, _)| name).collect();
        (!fitting.is_empty()).then(|| fitting[self.random.below(fitting.len())].clone())
    }

    fn fresh(&mut self) -> Vec<u8> {
        let folder = self.pick(|body| *body == Body::Directory).filter(|_| self.random.below(4) > 0);
        let name = format!("/{}-{}", "name".repeat(1 + self.random.below(9)), self.random.below(1 << 30));
        [folder.unwrap_or_default(), name.into_bytes()].concat()
    }

    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let prefix = [path, b"/"].concat();
        self.model.names.keys().filter(|name| name.starts_with(&prefix)).cloned().collect()
    }

    pub fn edit(&mut self, editor: &mut Editor, edits: usize) {
        for _ in 0..edits {
            match self.random.below(20) {
                0..=6 => self.write(editor),
                7 | 8 => {
                    let (path, attributes) = (self.fresh(), self.attributes());
                    editor.mkdir(&path, &attributes).unwrap();
                    self.model.add(path, Body::Directory, attributes);
                }
                9 => {
                    let (path, attributes) = (self.fresh(), self.attributes());
                    let longest = [59, 800][self.random.below(2)];
                    let target = vec![b'x'; 1 + self.random.below(longest)];
                    let attributes = Attributes { mode: 0o777, xattrs: BTreeMap::new(), ..attributes };
                    editor.symlink(&path, &target, &attributes).unwrap();
                    self.model.add(path, Body::Symlink(target), attributes);
                }
                10 => {
                    let (path, attributes) = (self.fresh(), self.attributes());
                    let attributes = Attributes { xattrs: BTreeMap::new(), ..attributes };
                    editor.mknod(&path, FileKind::BlockDevice, 259, 1000, &attributes).unwrap();
                    self.model.add(path, Body::Device(FileKind::BlockDevice, 259, 1000), attributes);
                }
                11 => {
                    let path = self.fresh();
                    let Some(existing) = self.pick(|body| *body != Body::Directory) else { continue };
                    editor.hard_link(&path, &existing).unwrap();
                    self.model.names.insert(path, self.model.names[&existing]);
                }
                12..=14 => {
                    let whole = self.random.below(8) == 0;
                    let Some(path) = self.pick(|body| whole == (*body == Body::Directory)) else { continue };
                    assert!(editor.remove(&path).unwrap());
                    self.below(&path).iter().for_each(|name| assert!(self.model.names.remove(name).is_some()));
                    self.model.names.remove(&path);
                }
                15 | 16 => self.rename(editor),
                _ => self.touch(editor),
            }
        }
    }

    fn write(&mut self, editor: &mut Editor) {
        let replaced = if self.random.below(2) == 0 { self.pick(|body| *body != Body::Directory) } else { None };
        let path = match replaced {
            Some(path) => path,
            None => self.fresh(),
        };
        let attributes = self.attributes();
        let longest = [100, 5000, 60_000, 400_000][self.random.below(4)];
        let len = self.random.below(longest);
        let skip = self.random.below(usize::try_from(self.host.size()).unwrap() - len);
        let range = FileRange::new(Arc::clone(&self.host), skip as u64, len as u64).unwrap();
        let mut bytes = vec![0; len];
        range.read_at(0, &mut bytes).unwrap();
        let content = if self.random.below(2) == 0 { Content::Bytes(bytes.clone()) } else { Content::File(range) };
        editor.write(&path, content, &attributes).unwrap();
        self.model.add(path, Body::File(bytes), attributes);
    }

    fn rename(&mut self, editor: &mut Editor) {
        let folders = self.random.below(3) == 0;
        let Some(from) = self.pick(|body| folders == (*body == Body::Directory)) else { return };
        let to = self.fresh();
        if to.starts_with(&[from.as_slice(), b"/"].concat()) {
            assert!(editor.rename(&from, &to).is_err());
            return;
        }
        editor.rename(&from, &to).unwrap();
        for name in self.below(&from).into_iter().chain([from.clone()]) {
            let node = self.model.names.remove(&name).unwrap();
            self.model.names.insert([to.as_slice(), &name[from.len()..]].concat(), node);
        }
    }

    fn touch(&mut self, editor: &mut Editor) {
        let Some(path) = self.pick(|body| matches!(body, Body::Directory | Body::File(_))) else { return };
        let (new, (name, value)) = (self.attributes(), self.xattr());
        let node = self.model.names[&path];
        let Node { attributes, .. } = &mut self.model.nodes[node];
        match self.random.below(5) {
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
                editor.set_xattr(&path, &name, &value).unwrap();
                attributes.xattrs.insert(name, value);
            }
            _ => {
                let first = attributes.xattrs.pop_first();
                let name = first.map_or(b"user.none".to_vec(), |(name, _)| name);
                editor.remove_xattr(&path, &name).unwrap();
            }
        }
    }
}
