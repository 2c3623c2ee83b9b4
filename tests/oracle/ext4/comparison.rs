//! A model beside an image: what our own reader, the crate ext4-view and the kernel read must be what the model holds.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use imgbake::ext4::{Editor, FileKind};

use super::image::{Image, Mounted};
use super::model::{Body, Limits, Model, folder, is_lost_and_found, last, show};

impl Model {
    /// Compares with what our own reader says.
    pub fn compare_editor(&self, editor: &mut Editor) {
        for (folder, names) in self.folders() {
            let found = editor.read_dir(folder).unwrap().unwrap().into_iter().map(|(name, _)| name);
            assert!(found.filter(|name| !is_lost_and_found(folder, name)).eq(names), "{}", show(folder));
        }
        for (path, node) in &self.names {
            let links = self.links(*node);
            let node = &self.nodes[*node];
            let name = show(path);
            let metadata = editor.metadata(path).unwrap().unwrap_or_else(|| panic!("{name} is missing"));
            let attributes = &node.attributes;
            assert_eq!(
                (metadata.mode, metadata.uid, metadata.gid, metadata.mtime),
                (attributes.mode, attributes.uid, attributes.gid, attributes.mtime),
                "{name}"
            );
            assert_eq!(editor.xattrs(path).unwrap(), attributes.xattrs, "{name}");
            match &node.body {
                Body::File(bytes) => assert!(editor.read(path, 1 << 30).unwrap().unwrap() == *bytes, "{name}"),
                Body::Symlink(target) => assert_eq!(editor.read_link(path).unwrap().unwrap(), *target),
                Body::Directory => assert_eq!(metadata.kind, FileKind::Directory),
                Body::Device(kind, major, minor) => {
                    let numbers =
                        matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice).then_some((*major, *minor));
                    assert_eq!((metadata.kind, metadata.device), (*kind, numbers), "{name}");
                }
            }
            if node.body != Body::Directory {
                assert_eq!(usize::from(metadata.links), links, "{name}");
            }
        }
    }

    /// All folders with the names in them, in order.
    pub fn folders(&self) -> BTreeMap<&[u8], Vec<&[u8]>> {
        let mut folders: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::from([(b"".as_slice(), Vec::new())]);
        for (path, node) in &self.names {
            folders.entry(folder(path)).or_default().push(last(path));
            if self.nodes[*node].body == Body::Directory {
                folders.entry(path).or_default();
            }
        }
        folders.values_mut().for_each(|names| names.sort_unstable());
        folders
    }

    /// Compares with what the crate ext4-view reads.
    pub fn compare_view(&self, image: &Path) {
        let view = ext4_view::Ext4::load(Box::new(Reader(std::fs::File::open(image).unwrap()))).unwrap();
        let at = |path: &[u8]| ext4_view::PathBuf::try_from(if path.is_empty() { b"/" } else { path }).unwrap();
        for (path, node) in &self.names {
            let (node, name, path) = (&self.nodes[*node], show(path), at(path));
            let Some(metadata) = viewed(view.symlink_metadata(&path), &name) else { continue };
            let attributes = &node.attributes;
            assert_eq!(
                (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
                (attributes.mode, attributes.uid, attributes.gid),
                "{name}"
            );
            match &node.body {
                Body::File(bytes) => assert!(view.read(&path).unwrap() == *bytes, "{name}"),
                Body::Symlink(target) => {
                    let read = viewed(view.read_link(&path), &name);
                    assert!(read.is_none_or(|read| read.as_ref() == target.as_slice()), "{name}");
                }
                Body::Directory => assert!(metadata.is_dir()),
                Body::Device(..) => {}
            }
        }
        for (folder, want) in self.folders() {
            let Some(entries) = viewed(view.read_dir(&at(folder)), &show(folder)) else { continue };
            let mut names: Vec<Vec<u8>> = entries.map(|entry| entry.unwrap().file_name().as_ref().to_vec()).collect();
            names.retain(|name| !matches!(name.as_slice(), b"." | b"..") && !is_lost_and_found(folder, name));
            names.sort_unstable();
            assert_eq!(names, want, "{}", show(folder));
        }
    }

    /// Compares with what the kernel mounts. Only root can mount: others ask debugfs.
    pub fn compare_kernel(&self, image: &Image) {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return super::debugfs::compare(self, image);
        }
        let mounted = Mounted::new(&image.path, image.folder().join("mounted"), "loop,ro");
        let mut mounted = Self::read_host(mounted.folder());
        mounted.names.remove(b"/lost+found".as_slice());
        let names = |model: &Self| model.names.keys().map(|name| show(name)).collect::<Vec<_>>();
        assert_eq!(names(&mounted), names(self));
        let limits = Limits::of(image);
        for (path, node) in &self.names {
            let mut want = self.nodes[*node].clone();
            want.attributes.mtime = limits.time(want.attributes.mtime);
            let mounted = &mounted.nodes[mounted.names[path]];
            assert_eq!(mounted.attributes, want.attributes, "{}", show(path));
            assert!(mounted.body == want.body, "{}: the kernel reads other contents", show(path));
        }
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for (path, node) in &self.names {
            let other = mounted.names[path];
            assert_eq!(*shared.entry(*node).or_insert(other), other, "{} shares another file", show(path));
        }
    }
}

/// What ext4-view says; none for what it refuses: times before 1970 and after 2038, targets with names that are
/// too long.
fn viewed<T>(result: Result<T, ext4_view::Ext4Error>, path: &str) -> Option<T> {
    match result {
        Ok(result) => Some(result),
        Err(error) => {
            let text = format!("{error:?}");
            assert!(text.contains("InodeTimestamp") || text.contains("SymlinkTarget"), "{path}: {error}");
            None
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
