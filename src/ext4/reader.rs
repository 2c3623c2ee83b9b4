//! Reading alone: what an editor would refuse to write can still be looked at.

use std::collections::BTreeMap;

use super::access::Access;
use super::editor::Editor;
use super::error::Ext4Error;
use super::{Metadata, Name};
use crate::disk::Disk;

/// An ext2, ext3 or ext4 file system to be read. Changes that its journal still holds are seen as if they
/// were in place.
///
/// Paths are those of [`Editor`].
pub struct Reader<'disk> {
    editor: Editor<'disk>,
}

impl<'disk> Reader<'disk> {
    /// Opens the file system that begins at the start of `disk`, also one with features that [`Editor::open`]
    /// refuses because writing would need them.
    ///
    /// # Errors
    /// [`Ext4Error::NotExt4`], [`Ext4Error::Corrupt`], and [`Ext4Error::Unsupported`] for whatever we would
    /// have to understand in order to read.
    pub fn open(disk: &'disk dyn Disk) -> Result<Self, Ext4Error> {
        Ok(Self { editor: Editor::over(Access::Read(disk))? })
    }

    /// As [`Editor::label`].
    #[must_use]
    pub fn label(&self) -> String {
        self.editor.label()
    }

    /// As [`Editor::uuid`].
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.editor.uuid()
    }

    /// As [`Editor::block_size`].
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.editor.block_size()
    }

    /// As [`Editor::size`].
    #[must_use]
    pub fn size(&self) -> u64 {
        self.editor.size()
    }

    /// As [`Editor::metadata`].
    ///
    /// # Errors
    /// As there.
    pub fn metadata(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Metadata>, Ext4Error> {
        self.editor.metadata(path)
    }

    /// As [`Editor::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Ext4Error> {
        self.editor.resolve(path)
    }

    /// As [`Editor::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&mut self, path: impl AsRef<[u8]>, limit: u64) -> Result<Option<Vec<u8>>, Ext4Error> {
        self.editor.read(path, limit)
    }

    /// As [`Editor::read_link`].
    ///
    /// # Errors
    /// As there.
    pub fn read_link(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Ext4Error> {
        self.editor.read_link(path)
    }

    /// As [`Editor::read_dir`].
    ///
    /// # Errors
    /// As there.
    pub fn read_dir(&mut self, path: impl AsRef<[u8]>) -> Result<Option<Vec<Name>>, Ext4Error> {
        self.editor.read_dir(path)
    }

    /// As [`Editor::xattrs`].
    ///
    /// # Errors
    /// As there.
    pub fn xattrs(&mut self, path: impl AsRef<[u8]>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Ext4Error> {
        self.editor.xattrs(path)
    }
}
