//! Looking at everything that an image holds, within bounds, and comparing two looks.

use std::collections::BTreeMap;

use imgbake::ext4::{Editor, Ext4Error, FileKind, Metadata, Name, Reader};

/// What is looked at; a hostile image may hold more.
const MOST_FOLDERS: usize = 64;
const MOST_NAMES: usize = 512;
const LARGEST: u64 = 1 << 20;

/// The questions that editors and readers answer.
pub(crate) trait Look {
    fn metadata(&mut self, path: &[u8]) -> Result<Option<Metadata>, Ext4Error>;
    fn read(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error>;
    fn read_link(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error>;
    fn read_dir(&mut self, path: &[u8]) -> Result<Option<Vec<Name>>, Ext4Error>;
    fn xattrs(&mut self, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Ext4Error>;
    fn resolve(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error>;
}

macro_rules! look {
    ($type:ident) => {
        impl Look for $type<'_> {
            fn metadata(&mut self, path: &[u8]) -> Result<Option<Metadata>, Ext4Error> {
                $type::metadata(self, path)
            }
            fn read(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error> {
                $type::read(self, path, LARGEST)
            }
            fn read_link(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error> {
                $type::read_link(self, path)
            }
            fn read_dir(&mut self, path: &[u8]) -> Result<Option<Vec<Name>>, Ext4Error> {
                $type::read_dir(self, path)
            }
            fn xattrs(&mut self, path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Ext4Error> {
                $type::xattrs(self, path)
            }
            fn resolve(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, Ext4Error> {
                $type::resolve(self, path)
            }
        }
    };
}
look!(Editor);
look!(Reader);

/// What stands under a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    metadata: Metadata,
    contents: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What stands under all paths.
pub(crate) type Snapshot = BTreeMap<Vec<u8>, Seen>;

/// Paths below the root, folders before what is in them.
pub(crate) fn paths(image: &mut impl Look) -> Vec<Vec<u8>> {
    let mut paths = vec![b"/".to_vec()];
    let mut folders = vec![b"".to_vec()];
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned()
        && at < MOST_FOLDERS
    {
        at += 1;
        let whole = if folder.is_empty() { b"/".as_slice() } else { &folder };
        let Ok(Some(names)) = image.read_dir(whole) else { continue };
        for (name, kind) in names.into_iter().take(MOST_NAMES.saturating_sub(paths.len())) {
            let path = [&folder, b"/".as_slice(), &name].concat();
            if kind == FileKind::Directory {
                folders.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths
}

/// Looks at everything. An error does not end the look, but there is no snapshot then.
pub(crate) fn look(image: &mut impl Look) -> Result<Snapshot, Ext4Error> {
    let mut snapshot = Snapshot::new();
    let mut failed = None;
    for path in paths(image) {
        match see(image, &path) {
            Ok(Some(seen)) => drop(snapshot.insert(path, seen)),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(snapshot), Err)
}

fn see(image: &mut impl Look, path: &[u8]) -> Result<Option<Seen>, Ext4Error> {
    // Each question is asked even if another fails.
    let metadata = image.metadata(path);
    let xattrs = image.xattrs(path);
    let _ = image.resolve(path);
    let Some(mut metadata) = metadata? else { return Ok(None) };
    let (mut contents, mut target) = (None, None);
    match metadata.kind {
        FileKind::File => match image.read(path) {
            Err(Ext4Error::TooLarge { .. }) => {}
            read => contents = read?,
        },
        FileKind::Symlink => target = image.read_link(path)?,
        // A folder's size and, with a time of the edits, its time are known when it is written.
        FileKind::Directory => (metadata.size, metadata.mtime) = Default::default(),
        _ => {}
    }
    Ok(Some(Seen { metadata, contents, target, xattrs: xattrs? }))
}

pub(crate) fn compare(name: &str, before: &Snapshot, after: &Snapshot) {
    for (path, seen) in before {
        let (path, found) = (String::from_utf8_lossy(path), after.get(path));
        assert!(found == Some(seen), "{name}: `{path}` was to be {seen:?} and is {found:?}");
    }
    assert_eq!(before.len(), after.len(), "{name}: there is more than there was to be");
}
