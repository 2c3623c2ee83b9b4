//! Changes to what a file has besides its contents: permissions, owner, times, extended attributes.

use super::Timestamp;
use super::editor::Editor;
use super::error::Ext4Error;
use super::inode::InodeNumber;
use super::xattr_name::{self, Xattrs};

impl Editor<'_> {
    /// Sets the permissions of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Marked`].
    pub fn set_mode(&mut self, path: impl AsRef<[u8]>, mode: u16) -> Result<(), Ext4Error> {
        let number = self.find_changeable(path.as_ref())?;
        self.volume.inode(number)?.set_permissions(mode);
        Ok(())
    }

    /// Sets owner and group of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Marked`].
    pub fn set_owner(&mut self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Result<(), Ext4Error> {
        let number = self.find_changeable(path.as_ref())?;
        self.volume.inode(number)?.set_owner(uid, gid);
        Ok(())
    }

    /// Sets the times of modification and change of `path`.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Marked`].
    pub fn set_mtime(&mut self, path: impl AsRef<[u8]>, time: Timestamp) -> Result<(), Ext4Error> {
        let number = self.find_changeable(path.as_ref())?;
        self.volume.inode(number)?.set_mtime(time);
        Ok(())
    }

    /// Sets an extended attribute of `path`, in the form of [`super::Attributes::xattrs`].
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Marked`], [`Ext4Error::BadXattr`], [`Ext4Error::XattrsTooLarge`], [`Ext4Error::NoSpace`].
    pub fn set_xattr(&mut self, path: impl AsRef<[u8]>, name: &[u8], value: &[u8]) -> Result<(), Ext4Error> {
        let number = self.find_changeable(path.as_ref())?;
        let (name, value) = xattr_name::to_disk(name, value)?;
        let mut xattrs = self.volume.xattrs(number)?;
        xattrs.insert(name, value);
        self.put_xattrs(number, &xattrs)
    }

    /// Removes an extended attribute of `path`; whether it was there.
    ///
    /// # Errors
    /// [`Ext4Error::NotFound`], [`Ext4Error::Marked`], [`Ext4Error::BadXattr`].
    pub fn remove_xattr(&mut self, path: impl AsRef<[u8]>, name: &[u8]) -> Result<bool, Ext4Error> {
        let number = self.find_changeable(path.as_ref())?;
        let name = xattr_name::disk_name(name)?;
        let mut xattrs = self.volume.xattrs(number)?;
        let found = xattrs.remove(&name).is_some();
        if found {
            self.put_xattrs(number, &xattrs)?;
        }
        Ok(found)
    }

    /// What is at `path`, which is not followed, if it may be changed.
    fn find_changeable(&mut self, path: &[u8]) -> Result<InodeNumber, Ext4Error> {
        let number = self.find(path, false)?;
        self.check_changeable(number, path, "changed")?;
        Ok(number)
    }

    fn put_xattrs(&mut self, number: InodeNumber, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        let body = self.volume.inode(number)?.xattr_body().len();
        let blocks = u64::from(self.volume.xattrs_need_block(xattrs, body)?);
        self.change(blocks, |editor| editor.volume.set_xattrs(number, xattrs))
    }
}
