//! Questions about the image, answered as it is to become.

use std::collections::BTreeMap;

use super::editor::Editor;
use super::error::{Ext4Error, show};
use super::inode::InodeNumber;
use super::record::index;
use super::{FileKind, Metadata, Name, xattr_name};
use crate::disk::Content;

/// The longest target of a symbolic link that any kernel follows.
const LONGEST_TARGET: u64 = 4096;

impl Editor<'_> {
    /// The file system's label.
    #[must_use]
    pub fn label(&self) -> String {
        self.volume.superblock.label()
    }

    /// The file system's id.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.volume.superblock.uuid()
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.volume.layout.block_size
    }

    /// The file system's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.volume.layout.bytes(self.volume.layout.blocks)
    }

    /// Free bytes that are not kept for root. Changed folders take their blocks only in [`Editor::finish`].
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.volume.free_bytes()
    }

    /// Files and folders that can still be made.
    #[must_use]
    pub fn free_inodes(&self) -> u64 {
        self.volume.free.inodes
    }

    /// Bytes of bitmaps and inode tables in each of the groups that growing adds, and bytes in such a group.
    #[must_use]
    pub fn group_overhead(&self) -> (u64, u64) {
        let layout = &self.volume.layout;
        let table = u64::from(layout.inodes_per_group) * u64::from(layout.inode_size);
        (table + 2 * layout.bytes(1), layout.bytes(u64::from(layout.blocks_per_group)))
    }

    /// What is known about `path`, whose last component is not followed; none if it does not exist.
    ///
    /// # Errors
    /// If the image is damaged or cannot be read, or if links lead in circles.
    pub fn metadata(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Metadata>, Ext4Error> {
        match self.walk(path.as_ref(), false)?.and_then(|place| place.inode) {
            Some(number) => self.metadata_of(number).map(Some),
            None => Ok(None),
        }
    }

    fn metadata_of(&mut self, number: InodeNumber) -> Result<Metadata, Ext4Error> {
        let kind = self.kind(number)?;
        let inode = self.volume.inode(number)?;
        let device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice).then(|| inode.device());
        Ok(Metadata {
            kind,
            mode: inode.permissions(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            mtime: inode.mtime(),
            links: inode.get(super::inode::LINKS_COUNT),
            inode: number.0,
            device,
        })
    }

    /// Where `path` leads when all links are followed, as a path without links; none if nothing is there.
    ///
    /// # Errors
    /// As [`Editor::metadata`].
    pub fn resolve(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Ext4Error> {
        let place = self.walk(path.as_ref(), true)?;
        Ok(place.filter(|place| place.inode.is_some()).map(|place| place.path()))
    }

    /// The contents of the regular file that `path` leads to; none if it does not exist.
    ///
    /// # Errors
    /// [`Ext4Error::TooLarge`] if it has more than `limit` bytes, [`Ext4Error::NotAFile`] if it is something
    /// else, [`Ext4Error::Marked`] if it is encrypted; as [`Editor::metadata`].
    pub fn read(&mut self, path: impl AsRef<[u8]>, limit: u64) -> Result<Option<Vec<u8>>, Ext4Error> {
        let path = path.as_ref();
        let Some(number) = self.walk(path, true)?.and_then(|place| place.inode) else { return Ok(None) };
        if self.kind(number)? != FileKind::File {
            return Err(Ext4Error::NotAFile { path: show(path) });
        }
        self.check_contents(number, path)?;
        let size = self.volume.inode(number)?.size();
        if size > limit {
            return Err(Ext4Error::TooLarge { path: show(path), size, limit });
        }
        self.read_inode(number, size).map(Some)
    }

    /// The first `size` bytes of a file's contents; the caller bounds `size`.
    fn read_inode(&mut self, number: InodeNumber, size: u64) -> Result<Vec<u8>, Ext4Error> {
        match self.contents.get(&number).map(AsRef::as_ref) {
            Some(Content::Bytes(bytes)) => return Ok(bytes.clone()),
            Some(Content::File(range)) => {
                let mut bytes = vec![0; index(size)];
                range.read_at(0, &mut bytes).map_err(Ext4Error::disk("read the new contents of a file"))?;
                return Ok(bytes);
            }
            None => {}
        }
        self.volume.read_contents(number, index(size))
    }

    /// The target of the symbolic link at `path`; none if nothing is there.
    ///
    /// # Errors
    /// [`Ext4Error::Invalid`] if it is no link; as [`Editor::metadata`].
    pub fn read_link(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Ext4Error> {
        let path = path.as_ref();
        let Some(number) = self.walk(path, false)?.and_then(|place| place.inode) else { return Ok(None) };
        if self.kind(number)? != FileKind::Symlink {
            return Err(Ext4Error::Invalid { path: show(path), action: "read as a symbolic link" });
        }
        self.check_contents(number, path)?;
        self.link_target(number).map(Some)
    }

    /// A link's target, from the inode itself or from its block.
    pub(super) fn link_target(&mut self, number: InodeNumber) -> Result<Vec<u8>, Ext4Error> {
        let size = self.volume.inode(number)?.size();
        if size == 0 || size >= LONGEST_TARGET {
            let what = format!("symbolic link inode {} has a target of {size} bytes", number.0);
            return Err(Ext4Error::corrupt(what));
        }
        if self.volume.is_short_link(number)? {
            let target = self.volume.inode(number)?.block().get(..index(size)).map(<[u8]>::to_vec);
            return target.ok_or_else(|| Ext4Error::corrupt(format!("symbolic link inode {} has no block", number.0)));
        }
        self.read_inode(number, size)
    }

    /// The names in the folder that `path` leads to, in order, with what they stand for; none if it does
    /// not exist. Those of an encrypted folder stay encrypted: any bytes, unlike what a kernel shows.
    ///
    /// # Errors
    /// [`Ext4Error::NotADirectory`] if it is something else; as [`Editor::metadata`].
    pub fn read_dir(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<Name>>, Ext4Error> {
        let path = path.as_ref();
        let Some(number) = self.walk(path, true)?.and_then(|place| place.inode) else { return Ok(None) };
        if self.kind(number)? != FileKind::Directory {
            return Err(Ext4Error::NotADirectory { path: show(path) });
        }
        let entries: Vec<(Vec<u8>, InodeNumber)> =
            self.directory(number)?.entries.iter().map(|(name, entry)| (name.clone(), entry.inode)).collect();
        entries.into_iter().map(|(name, inode)| Ok((name, self.kind(inode)?))).collect::<Result<_, _>>().map(Some)
    }

    /// The extended attributes of `path`, whose last component is not followed, in the form of
    /// [`super::Attributes::xattrs`].
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`]; as [`Editor::metadata`].
    pub fn xattrs(&mut self, path: impl AsRef<[u8]>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Ext4Error> {
        let number = self.find(path.as_ref(), false)?;
        let xattrs = self.volume.xattrs(number)?;
        let mut found = BTreeMap::new();
        for (name, value) in &xattrs {
            let value = self.volume.value(number, value)?;
            found.extend(xattr_name::from_disk(name, &value));
        }
        Ok(found)
    }
}
