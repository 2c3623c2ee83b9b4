//! Names: adding them, taking them away with what they stood for, moving them.

use std::collections::BTreeSet;

use super::FileKind;
use super::dir::Entry;
use super::editor::{Editor, MOST_LINKS};
use super::error::{Ext4Error, show};
use super::features;
use super::inode::{self, InodeNumber, ROOT};

/// A directory that is being cleared, and what is left in it.
struct Open {
    number: InodeNumber,
    name: Vec<u8>,
    left: Vec<(Vec<u8>, InodeNumber)>,
}

/// Whether the last name of `path` is `.` or `..`.
fn ends_in_dots(path: &[u8]) -> bool {
    let last = path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty());
    matches!(last, Some(b"." | b".."))
}

impl Editor<'_> {
    /// Removes `path` and, if it is a folder, everything below it; whether it was there.
    ///
    /// # Errors
    /// [`Ext4Error::Invalid`] for the root and for the names `.` and `..`. [`Ext4Error::NoSpace`] if nothing is
    /// free and what is left of the folder, written anew, needs more blocks than it had.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> Result<bool, Ext4Error> {
        let path = path.as_ref();
        let Some(place) = self.walk(path, false)? else { return Ok(false) };
        if place.names.is_empty() {
            return Err(Ext4Error::Invalid { path: show(path), action: "removed: it is the root" });
        }
        if ends_in_dots(path) {
            return Err(Ext4Error::Invalid { path: show(path), action: "removed by such a name" });
        }
        let Some(number) = place.inode else { return Ok(false) };
        let blocks = self.growth(place.parent, None)?;
        self.change(blocks, |editor| {
            if editor.kind(number)? == FileKind::Directory {
                editor.clear_directory(number)?;
            }
            editor.unlink(place.parent, place.name(), number)
        })?;
        Ok(true)
    }

    /// Gives `from`, which is not followed, the path `to`, as rename(2) does: a file replaces what is there
    /// unless that is a folder, a folder replaces an empty folder.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::NoParent`], [`Ext4Error::IsADirectory`],
    /// [`Ext4Error::NotADirectory`] and [`Ext4Error::NotEmpty`] for what cannot be replaced,
    /// [`Ext4Error::Invalid`] if `to` lies below `from` and for the names `.` and `..`,
    /// [`Ext4Error::TooManyLinks`], [`Ext4Error::DirectoryTooLarge`], [`Ext4Error::NoSpace`].
    pub fn rename(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Ext4Error> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let missing = || Ext4Error::NotFound { path: show(from) };
        let source = self.walk(from, false)?.ok_or_else(missing)?;
        let number = source.inode.ok_or_else(missing)?;
        let kind = self.kind(number)?;
        let target = self.place_for(to)?;
        if source.names.is_empty() || target.names.starts_with(&source.names) && target.names != source.names {
            return Err(Ext4Error::Invalid { path: show(from), action: "moved into itself" });
        }
        if ends_in_dots(from) || ends_in_dots(to) {
            return Err(Ext4Error::Invalid { path: show(from), action: "moved by such a name" });
        }
        if target.inode == Some(number) {
            // The same name, or two names of one file: as rename(2), nothing happens.
            return Ok(());
        }
        let folder = kind == FileKind::Directory;
        if let Some(old) = target.inode {
            let path = show(to);
            match (folder, self.kind(old)? == FileKind::Directory) {
                (false, true) => return Err(Ext4Error::IsADirectory { path }),
                (true, false) => return Err(Ext4Error::NotADirectory { path }),
                (true, true) if !self.directory(old)?.entries.is_empty() => return Err(Ext4Error::NotEmpty { path }),
                _ => {}
            }
        }
        let moves = folder && source.parent != target.parent;
        if moves && target.inode.is_none() {
            self.check_subdirectories(target.parent, to)?;
        }
        let mut blocks = self.growth(source.parent, None)? + self.growth(target.parent, Some(target.name()))?;
        if moves {
            blocks += self.growth(number, None)?;
        }
        self.change(blocks, |editor| {
            if let Some(old) = target.inode {
                editor.unlink(target.parent, target.name(), old)?;
            }
            editor.take_entry(source.parent, source.name())?;
            editor.add_entry(target.parent, target.name(), number, kind)?;
            if moves {
                editor.directory(number)?.parent = target.parent;
                editor.mark_changed(number)?;
                editor.drop_subdirectory(source.parent)?;
                editor.add_subdirectory(target.parent)?;
            }
            Ok(())
        })
    }

    /// Names inode `number` in directory `parent`.
    pub(super) fn add_entry(
        &mut self,
        parent: InodeNumber,
        name: &[u8],
        number: InodeNumber,
        kind: FileKind,
    ) -> Result<(), Ext4Error> {
        let typed = self.volume.superblock.has_incompat(features::FILETYPE);
        let file_type = if typed { kind.file_type() } else { 0 };
        self.directory(parent)?.insert(name, Entry { inode: number, file_type });
        self.mark_changed(parent)
    }

    fn take_entry(&mut self, parent: InodeNumber, name: &[u8]) -> Result<(), Ext4Error> {
        match self.directory(parent)?.remove(name) {
            Some(_) => self.mark_changed(parent),
            None => Err(Ext4Error::NotFound { path: show(name) }),
        }
    }

    /// Takes a name away; what it stood for goes with its last one. A directory must be empty.
    pub(super) fn unlink(&mut self, parent: InodeNumber, name: &[u8], number: InodeNumber) -> Result<(), Ext4Error> {
        self.take_entry(parent, name)?;
        if self.kind(number)? == FileKind::Directory {
            self.drop_subdirectory(parent)?;
            return self.release(number, true);
        }
        let inode = self.volume.inode(number)?;
        let links = inode.get(inode::LINKS_COUNT) - 1;
        inode.set(inode::LINKS_COUNT, links);
        if links == 0 { self.release(number, false) } else { Ok(()) }
    }

    /// Gives back an inode and all that it has.
    fn release(&mut self, number: InodeNumber, directory: bool) -> Result<(), Ext4Error> {
        self.contents.remove(&number);
        self.forget_directory(number);
        self.volume.free_file_blocks(number)?;
        self.volume.drop_xattr_block(number)?;
        self.volume.free_inode(number, directory)
    }

    /// Removes everything below directory `top`. Without recursion: depth is the image's to choose.
    fn clear_directory(&mut self, top: InodeNumber) -> Result<(), Ext4Error> {
        let mut open = BTreeSet::from([top]);
        let mut path = vec![Open { number: top, name: Vec::new(), left: self.names(top)? }];
        while let Some(directory) = path.last_mut() {
            let above = directory.number;
            let Some((name, number)) = directory.left.pop() else {
                let done = path.pop();
                if let (Some(done), Some(parent)) = (done, path.last()) {
                    self.unlink(parent.number, &done.name, done.number)?;
                }
                continue;
            };
            if self.kind(number)? != FileKind::Directory {
                self.unlink(above, &name, number)?;
                continue;
            }
            if number == ROOT || !open.insert(number) {
                return Err(Ext4Error::corrupt(format!("folder inode {} has two names", number.0)));
            }
            let left = self.names(number)?;
            path.push(Open { number, name, left });
        }
        Ok(())
    }

    fn names(&mut self, directory: InodeNumber) -> Result<Vec<(Vec<u8>, InodeNumber)>, Ext4Error> {
        let entries = &self.directory(directory)?.entries;
        Ok(entries.iter().map(|(name, entry)| (name.clone(), entry.inode)).collect())
    }

    /// Whether `parent` can take one more subdirectory.
    pub(super) fn check_subdirectories(&mut self, parent: InodeNumber, path: &[u8]) -> Result<(), Ext4Error> {
        let links = self.volume.inode(parent)?.get(inode::LINKS_COUNT);
        if links >= MOST_LINKS && !self.volume.superblock.has_ro_compat(features::DIR_NLINK) {
            let limit = u32::from(MOST_LINKS);
            return Err(Ext4Error::TooManyLinks { path: show(path), links: u32::from(links) + 1, limit });
        }
        Ok(())
    }

    /// Counts one more subdirectory; 1 means that there are too many to count.
    pub(super) fn add_subdirectory(&mut self, parent: InodeNumber) -> Result<(), Ext4Error> {
        let inode = self.volume.inode(parent)?;
        let links = inode.get(inode::LINKS_COUNT);
        inode.set(inode::LINKS_COUNT, if links == 1 || links >= MOST_LINKS { 1 } else { links + 1 });
        Ok(())
    }

    fn drop_subdirectory(&mut self, parent: InodeNumber) -> Result<(), Ext4Error> {
        let inode = self.volume.inode(parent)?;
        let links = inode.get(inode::LINKS_COUNT);
        inode.set(inode::LINKS_COUNT, if links > 2 { links - 1 } else { links });
        Ok(())
    }
}
