//! The editor: what callers use. Makes and changes single files; `tree` takes away and moves.

use std::collections::BTreeMap;

use super::access::Access;
use super::dir::Directory;
use super::error::{Ext4Error, show};
use super::extent;
use super::features;
use super::inode::{self, Inode, InodeNumber};
use super::layout::Run;
use super::path::Place;
use super::record::{count, index};
use super::volume::Volume;
use super::xattr::{self, Xattrs};
use super::{Attributes, FileKind, Timestamp};
use crate::disk::{Content, DiskMut};

/// Targets of symbolic links up to this length live in the inode.
const SHORT_TARGET: usize = inode::BLOCK_SIZE - 1;
/// Bytes of a file whose blocks, with the tree that lists them, a number of 32 bits counts in units of 512.
const MOST_WITHOUT_HUGE_FILE: u64 = 2_000_000_000_000;
/// Links that a file can have.
pub(super) const MOST_LINKS: u16 = 65_000;

/// A batch of edits to an ext4 file system. Nothing reaches the disk before [`Editor::finish`].
///
/// Paths are bytes, absolute or relative to the root. They are followed through the image's own symbolic
/// links, never out of its root; the last component is not followed unless a method says so.
pub struct Editor<'disk> {
    pub(super) volume: Volume<'disk>,
    /// Directories that were looked at or changed.
    pub(super) directories: BTreeMap<InodeNumber, Directory>,
    /// New contents of files.
    pub(super) contents: BTreeMap<InodeNumber, Content>,
    pub(super) time: Option<Timestamp>,
    /// Blocks kept for the directories that were changed.
    pub(super) reserved: u64,
    /// Whether an edit failed after it had begun to change something.
    pub(super) torn: bool,
}

impl<'disk> Editor<'disk> {
    /// Opens the file system that begins at the start of `disk`.
    ///
    /// # Errors
    /// [`Ext4Error::NotExt4`], [`Ext4Error::Corrupt`], and [`Ext4Error::Unsupported`] for whatever we would
    /// have to understand in order to write.
    pub fn open(disk: &'disk mut dyn DiskMut) -> Result<Self, Ext4Error> {
        Self::over(Access::Write(disk))
    }

    /// Opens the file system on `disk`.
    pub(super) fn over(disk: Access<'disk>) -> Result<Self, Ext4Error> {
        let volume = Volume::open(disk)?;
        let mut editor = Self {
            volume,
            directories: BTreeMap::new(),
            contents: BTreeMap::new(),
            time: None,
            reserved: 0,
            torn: false,
        };
        editor.directory(inode::ROOT)?;
        Ok(editor)
    }

    /// The time of these edits: the file system's last write, and the modification of folders that were
    /// there before and change. Without it both stay as they are.
    pub fn set_time(&mut self, time: Timestamp) {
        self.time = Some(time);
    }

    /// Makes the file system `size` bytes large, rounded down to what block groups allow.
    ///
    /// # Errors
    /// [`Ext4Error::DiskTooSmall`], [`Ext4Error::Shrink`], [`Ext4Error::GrowLimit`].
    pub fn grow(&mut self, size: u64) -> Result<(), Ext4Error> {
        let Some(growth) = self.volume.growth(size)? else { return Ok(()) };
        // What fails now is the image's fault, and nothing undoes half of it.
        let result = self.volume.grow(growth);
        self.torn |= result.is_err();
        result
    }

    pub(super) fn kind(&mut self, number: InodeNumber) -> Result<FileKind, Ext4Error> {
        let inode = self.volume.inode(number)?;
        match inode.kind() {
            Some(kind) if inode.get(inode::LINKS_COUNT) > 0 => Ok(kind),
            _ => Err(Ext4Error::corrupt(format!("a folder names the inode {}, which is not in use", number.0))),
        }
    }

    /// A directory, loaded if it was not.
    pub(super) fn directory(&mut self, number: InodeNumber) -> Result<&mut Directory, Ext4Error> {
        if !self.directories.contains_key(&number) {
            let directory = self.volume.load_directory(number)?;
            self.directories.insert(number, directory);
        }
        self.directories
            .get_mut(&number)
            .ok_or_else(|| Ext4Error::corrupt(format!("folder inode {} does not exist", number.0)))
    }

    /// Makes the file at `path` with `content`, or replaces what is there: another file, a link (which is
    /// not followed) or a device. Other hard links of a replaced file keep the old contents.
    ///
    /// # Errors
    /// [`Ext4Error::NoParent`], [`Ext4Error::IsADirectory`], [`Ext4Error::NoSpace`], [`Ext4Error::NoInodes`].
    pub fn write(
        &mut self,
        path: impl AsRef<[u8]>,
        content: Content,
        attributes: &Attributes,
    ) -> Result<(), Ext4Error> {
        let path = path.as_ref();
        let size = content.len();
        let large = self.volume.superblock.has_ro_compat(features::LARGE_FILE);
        if size > i32::MAX.unsigned_abs().into() && !large {
            return Err(Ext4Error::unsupported("no `large_file` feature for files of 2 GiB and more"));
        }
        let blocks = self.volume.layout.blocks_for(size);
        if blocks > u64::from(u32::MAX) {
            return Err(Ext4Error::unsupported("no room for a file of more than 2^32 blocks"));
        }
        let huge = self.volume.superblock.has_ro_compat(features::HUGE_FILE);
        if size > MOST_WITHOUT_HUGE_FILE && !huge {
            return Err(Ext4Error::unsupported("no `huge_file` feature for files of 2 TiB and more"));
        }
        self.make(path, FileKind::File, attributes, blocks, |editor, number, runs| {
            editor.volume.set_extents(number, runs)?;
            editor.volume.inode(number)?.set_size(size);
            if size > 0 {
                editor.contents.insert(number, content);
            }
            Ok(())
        })
    }

    /// Makes a symbolic link, or replaces what is at `path` as [`Editor::write`] does.
    ///
    /// # Errors
    /// [`Ext4Error::BadTarget`]; as [`Editor::write`].
    pub fn symlink(
        &mut self,
        path: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
        attributes: &Attributes,
    ) -> Result<(), Ext4Error> {
        let target = target.as_ref();
        let limit = index(self.volume.layout.block_size).min(4096) - 1;
        if target.is_empty() || target.len() > limit || target.contains(&0) {
            return Err(Ext4Error::BadTarget { length: target.len(), limit });
        }
        // Nobody can set a link's permissions; the kernel shows all of them.
        let attributes = Attributes { mode: 0o777, ..attributes.clone() };
        let blocks = u64::from(target.len() > SHORT_TARGET);
        self.make(path.as_ref(), FileKind::Symlink, &attributes, blocks, |editor, number, runs| {
            if runs.is_empty() {
                let inode = editor.volume.inode(number)?;
                inode.block_mut().get_mut(..target.len()).unwrap_or_default().copy_from_slice(target);
            } else {
                editor.volume.set_extents(number, runs)?;
                editor.contents.insert(number, Content::Bytes(target.to_vec()));
            }
            editor.volume.inode(number)?.set_size(count(target.len()));
            Ok(())
        })
    }

    /// Makes a device, named pipe or socket, or replaces what is at `path` as [`Editor::write`] does.
    ///
    /// # Errors
    /// [`Ext4Error::Invalid`] for any other kind; as [`Editor::write`].
    pub fn mknod(
        &mut self,
        path: impl AsRef<[u8]>,
        kind: FileKind,
        major: u32,
        minor: u32,
        attributes: &Attributes,
    ) -> Result<(), Ext4Error> {
        let path = path.as_ref();
        let device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
        if !device && !matches!(kind, FileKind::Fifo | FileKind::Socket) {
            return Err(Ext4Error::Invalid { path: show(path), action: "made as a device" });
        }
        if major > 0xfff || minor > 0xf_ffff {
            return Err(Ext4Error::Invalid { path: show(path), action: "given such large device numbers" });
        }
        self.make(path, kind, attributes, 0, |editor, number, _| {
            if device {
                editor.volume.inode(number)?.set_device(major, minor);
            }
            Ok(())
        })
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// [`Ext4Error::Exists`], [`Ext4Error::NoParent`], [`Ext4Error::NoInodes`].
    pub fn mkdir(&mut self, path: impl AsRef<[u8]>, attributes: &Attributes) -> Result<(), Ext4Error> {
        let path = path.as_ref();
        if self.walk(path, false)?.is_some_and(|place| place.inode.is_some()) {
            return Err(Ext4Error::Exists { path: show(path) });
        }
        let parent = self.place_for(path)?.parent;
        self.check_subdirectories(parent, path)?;
        self.make(path, FileKind::Directory, attributes, 0, |editor, number, _| {
            editor.directories.insert(number, Directory::new(parent));
            editor.mark_changed(number)?;
            editor.volume.inode(number)?.set(inode::LINKS_COUNT, 2);
            editor.add_subdirectory(parent)
        })
    }

    /// Makes the folder at `path` and those above it that are missing; links to folders are followed.
    ///
    /// # Errors
    /// [`Ext4Error::NotADirectory`] if something else is in the way; as [`Editor::mkdir`].
    pub fn mkdir_all(&mut self, path: impl AsRef<[u8]>, attributes: &Attributes) -> Result<(), Ext4Error> {
        let mut made = None;
        let result = self.make_missing(path.as_ref(), attributes, &mut made);
        if result.is_err()
            && let Some(made) = made
        {
            self.remove(made)?;
        }
        result
    }

    /// Makes what is missing of `path`; `made` is the first folder that was.
    fn make_missing(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        made: &mut Option<Vec<u8>>,
    ) -> Result<(), Ext4Error> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let part = path.get(..end).unwrap_or_default();
            match self.walk(part, true)? {
                Some(Place { inode: Some(number), .. }) => {
                    if self.kind(number)? != FileKind::Directory {
                        return Err(Ext4Error::NotADirectory { path: show(part) });
                    }
                }
                // Made where a dangling link leads, if one does.
                Some(place) => {
                    self.mkdir(place.path(), attributes)?;
                    made.get_or_insert(place.path());
                }
                None => return Err(Ext4Error::NoParent { path: show(part) }),
            }
        }
        Ok(())
    }

    /// Gives `existing`, a file or link that is not followed, another name.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Exists`], [`Ext4Error::Invalid`] for folders,
    /// [`Ext4Error::TooManyLinks`].
    pub fn hard_link(&mut self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Result<(), Ext4Error> {
        let (path, existing) = (path.as_ref(), existing.as_ref());
        let number = self.find(existing, false)?;
        let kind = self.kind(number)?;
        if kind == FileKind::Directory {
            return Err(Ext4Error::Invalid { path: show(existing), action: "given a second name: it is a folder" });
        }
        let place = self.place_for(path)?;
        if place.inode.is_some() {
            return Err(Ext4Error::Exists { path: show(path) });
        }
        let links = self.volume.inode(number)?.get(inode::LINKS_COUNT);
        if links >= MOST_LINKS {
            let limit = u32::from(MOST_LINKS);
            return Err(Ext4Error::TooManyLinks { path: show(existing), links: u32::from(links) + 1, limit });
        }
        let blocks = self.growth(place.parent, Some(place.name()))?;
        self.change(blocks, |editor| {
            editor.volume.inode(number)?.set(inode::LINKS_COUNT, links + 1);
            editor.add_entry(place.parent, place.name(), number, kind)
        })
    }

    /// Makes an inode with `blocks` blocks, has `fill` complete it, and names it `path`.
    fn make(
        &mut self,
        path: &[u8],
        kind: FileKind,
        attributes: &Attributes,
        blocks: u64,
        fill: impl FnOnce(&mut Self, InodeNumber, &[Run]) -> Result<(), Ext4Error>,
    ) -> Result<(), Ext4Error> {
        let place = self.place_for(path)?;
        let layout = &self.volume.layout;
        let mut inode = Inode::new(layout.inode_size, self.volume.extra_size(), kind, attributes.mode);
        inode.set_owner(attributes.uid, attributes.gid);
        inode.set_times(attributes.mtime);
        inode.set(inode::LINKS_COUNT, 1);
        let xattrs = encode_xattrs(attributes)?;
        let outside = self.volume.xattrs_need_block(&xattrs, inode.xattr_body().len())?;
        let all = blocks + u64::from(outside);
        self.check_room(path, &place, all)?;
        let tree = extent::most_tree_blocks(blocks, blocks, self.volume.layout.block_size);
        let own = u64::from(kind == FileKind::Directory);
        let all = all + tree + own + self.growth(place.parent, Some(place.name()))?;
        self.change(all, |editor| {
            if let Some(old) = place.inode {
                editor.unlink(place.parent, place.name(), old)?;
            }
            let number = editor.volume.allocate_inode(inode, kind == FileKind::Directory)?;
            let runs = editor.volume.allocate(blocks)?;
            fill(editor, number, &runs)?;
            if !xattrs.is_empty() {
                editor.volume.set_xattrs(number, &xattrs)?;
            }
            editor.add_entry(place.parent, place.name(), number, kind)
        })
    }

    /// Whether an inode and `blocks` blocks can be had once what is at `place` is gone.
    fn check_room(&mut self, path: &[u8], place: &Place, blocks: u64) -> Result<(), Ext4Error> {
        let (mut inodes, mut free) = (self.volume.free.inodes, self.volume.free.blocks);
        if let Some(old) = place.inode {
            if self.kind(old)? == FileKind::Directory {
                return Err(Ext4Error::IsADirectory { path: show(path) });
            }
            let block_size = self.volume.layout.block_size;
            let inode = self.volume.inode(old)?;
            if inode.get(inode::LINKS_COUNT) == 1 {
                inodes += 1;
                free = free.saturating_add(inode.sectors(block_size) / u64::from(block_size / 512));
            }
        }
        let layout = &self.volume.layout;
        if inodes == 0 {
            return Err(Ext4Error::NoInodes { total: layout.inode_count() });
        }
        if blocks > free {
            return Err(Ext4Error::NoSpace { needed: layout.bytes(blocks), free: layout.bytes(free) });
        }
        Ok(())
    }

    /// Sets the permissions of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`].
    pub fn set_mode(&mut self, path: impl AsRef<[u8]>, mode: u16) -> Result<(), Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        self.volume.inode(number)?.set_permissions(mode);
        Ok(())
    }

    /// Sets owner and group of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`].
    pub fn set_owner(&mut self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Result<(), Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        self.volume.inode(number)?.set_owner(uid, gid);
        Ok(())
    }

    /// Sets the times of modification and change of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`].
    pub fn set_mtime(&mut self, path: impl AsRef<[u8]>, time: Timestamp) -> Result<(), Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        self.volume.inode(number)?.set_mtime(time);
        Ok(())
    }

    /// Sets an extended attribute of `path`, in the form of [`Attributes::xattrs`].
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::BadXattr`], [`Ext4Error::XattrsTooLarge`], [`Ext4Error::NoSpace`].
    pub fn set_xattr(&mut self, path: impl AsRef<[u8]>, name: &[u8], value: &[u8]) -> Result<(), Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        let (name, value) = xattr::to_disk(name, value)?;
        let mut xattrs = self.volume.xattrs(number)?;
        xattrs.insert(name, value);
        self.put_xattrs(number, &xattrs)
    }

    /// Removes an extended attribute of `path`; whether it was there.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::BadXattr`].
    pub fn remove_xattr(&mut self, path: impl AsRef<[u8]>, name: &[u8]) -> Result<bool, Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        let name = xattr::disk_name(name)?;
        let mut xattrs = self.volume.xattrs(number)?;
        let found = xattrs.remove(&name).is_some();
        if found {
            self.put_xattrs(number, &xattrs)?;
        }
        Ok(found)
    }

    fn put_xattrs(&mut self, number: InodeNumber, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        let body = self.volume.inode(number)?.xattr_body().len();
        let blocks = u64::from(self.volume.xattrs_need_block(xattrs, body)?);
        self.change(blocks, |editor| editor.volume.set_xattrs(number, xattrs))
    }
}

fn encode_xattrs(attributes: &Attributes) -> Result<Xattrs, Ext4Error> {
    attributes.xattrs.iter().map(|(name, value)| xattr::to_disk(name, value)).collect()
}
