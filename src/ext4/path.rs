//! Finding paths through the image's own symbolic links, without ever leaving its root.

use std::collections::VecDeque;

use super::FileKind;
use super::editor::Editor;
use super::error::{Ext4Error, show};
use super::inode::{InodeNumber, ROOT};

/// Links followed on the way to one file, as the kernel counts.
const MOST_LINKS: u32 = 40;

/// Where a path leads.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The directory that holds the last component; the root for the root itself.
    pub(super) parent: InodeNumber,
    /// The names from the root on, all links followed but perhaps the last.
    pub(super) names: Vec<Vec<u8>>,
    /// What is there; none if it is missing.
    pub(super) inode: Option<InodeNumber>,
}

impl Place {
    /// The last component; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        self.names.last().map(Vec::as_slice).unwrap_or_default()
    }

    /// The path from the root on.
    pub(super) fn path(&self) -> Vec<u8> {
        if self.names.is_empty() {
            return b"/".to_vec();
        }
        join(&self.names)
    }

    /// The path of the folder that holds the last component.
    pub(super) fn folder(&self) -> Vec<u8> {
        match self.names.split_last() {
            Some((_, above)) if !above.is_empty() => join(above),
            _ => b"/".to_vec(),
        }
    }
}

fn join(names: &[Vec<u8>]) -> Vec<u8> {
    names.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect()
}

/// The components that mean something.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

impl Editor<'_> {
    /// Follows `path` from the root; none if a directory on the way is missing or none. The last
    /// component may be missing; if it is a link it is followed when `last` says so.
    pub(super) fn walk(&mut self, path: &[u8], last: bool) -> Result<Option<Place>, Ext4Error> {
        let mut pending: VecDeque<Vec<u8>> = components(path).collect();
        let mut stack: Vec<(InodeNumber, Vec<u8>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                stack.pop();
                continue;
            }
            let parent = stack.last().map_or(ROOT, |(inode, _)| *inode);
            let is_last = pending.is_empty();
            let Some(inode) = self.lookup(parent, &name)? else {
                let mut names: Vec<Vec<u8>> = stack.into_iter().map(|(_, name)| name).collect();
                names.push(name);
                return Ok(is_last.then_some(Place { parent, names, inode: None }));
            };
            match self.kind(inode)? {
                FileKind::Symlink if !is_last || last => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Ext4Error::TooManySymlinks { path: show(path), limit: MOST_LINKS });
                    }
                    self.check_contents(inode, path)?;
                    let target = self.link_target(inode)?;
                    if target.first() == Some(&b'/') {
                        stack.clear();
                    }
                    components(&target).rev().for_each(|name| pending.push_front(name));
                }
                FileKind::Directory => stack.push((inode, name)),
                _ if is_last => stack.push((inode, name)),
                _ => return Ok(None),
            }
        }
        let inode = stack.last().map_or(ROOT, |(inode, _)| *inode);
        let parent = stack.iter().rev().nth(1).map_or(ROOT, |(inode, _)| *inode);
        Ok(Some(Place { parent, names: stack.into_iter().map(|(_, name)| name).collect(), inode: Some(inode) }))
    }

    /// As [`Editor::walk`], for something that must exist.
    pub(super) fn find(&mut self, path: &[u8], last: bool) -> Result<InodeNumber, Ext4Error> {
        self.walk(path, last)?.and_then(|place| place.inode).ok_or_else(|| Ext4Error::NotFound { path: show(path) })
    }

    /// As [`Editor::walk`], for something that is to be made: its directory must exist.
    pub(super) fn place_for(&mut self, path: &[u8]) -> Result<Place, Ext4Error> {
        let place = self.walk(path, false)?.ok_or_else(|| Ext4Error::NoParent { path: show(path) })?;
        if place.names.is_empty() {
            return Err(Ext4Error::IsADirectory { path: show(path) });
        }
        if !super::dir::is_name(place.name()) {
            return Err(Ext4Error::BadName { name: show(place.name()), length: place.name().len() });
        }
        Ok(place)
    }

    /// What `name` stands for in directory `parent`.
    fn lookup(&mut self, parent: InodeNumber, name: &[u8]) -> Result<Option<InodeNumber>, Ext4Error> {
        Ok(self.directory(parent)?.entries.get(name).map(|entry| entry.inode))
    }
}
