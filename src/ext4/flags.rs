//! What an inode's flags ask of an edit: those that forbid it, those that need what we do not have, and
//! those that new files take over from their folder.
//! Written from chattr(1) of e2fsprogs 1.47 and from fs/ext4/ext4.h, fs/namei.c and fs/attr.c of Linux 6.12.

use std::fmt;

use super::FileKind;
use super::editor::Editor;
use super::error::{Ext4Error, show};
use super::inode::{self, Inode, InodeNumber};
use super::path::Place;

pub(super) const IMMUTABLE: u32 = 0x10;
pub(super) const APPEND: u32 = 0x20;
const COMPRESSED_BLOCKS: u32 = 0x200;
pub(super) const ENCRYPT: u32 = 0x800;
pub(super) const CASEFOLD: u32 = 0x4000_0000;

/// What new inodes of any kind take over: nodump, noatime.
const INHERITED: u32 = 0x40 | 0x80;
/// What new files and folders take over besides: secure deletion, undeletion, synchronous updates, journaled
/// data, no tail merging, direct access.
const INHERITED_WITH_BLOCKS: u32 = 0x1 | 0x2 | 0x8 | 0x4000 | 0x8000 | 0x200_0000;
/// What new folders take over besides: synchronous directory updates.
const INHERITED_BY_FOLDERS: u32 = 0x1_0000;

/// The flags that the kernel, too, would give to a new inode of `kind` in a folder with the flags `folder`.
///
/// Of its list these are left out: compression, which ext4 never had; project ids, whose feature is refused;
/// case folding and encryption, whose folders take no new names from us.
pub(super) fn inherited(folder: u32, kind: FileKind) -> u32 {
    folder
        & match kind {
            FileKind::Directory => INHERITED | INHERITED_WITH_BLOCKS | INHERITED_BY_FOLDERS,
            FileKind::File => INHERITED | INHERITED_WITH_BLOCKS,
            _ => INHERITED,
        }
}

/// What stands in the way of an edit, or of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// `chattr +i`: nothing about it may change.
    Immutable,
    /// `chattr +a`: a file may grow, and a folder may get more names.
    AppendOnly,
    /// Compressed by the patches that ext2 once had.
    Compressed,
    /// Encrypted: contents and names are only readable with a key that is not in the image.
    Encrypted,
    /// `chattr +F`: a folder whose index needs Unicode's tables.
    CaseInsensitive,
}

impl Mark {
    const TABLE: [(Self, u32, &'static str); 5] = [
        (Self::Immutable, IMMUTABLE, "immutable"),
        (Self::AppendOnly, APPEND, "append-only"),
        (Self::Compressed, COMPRESSED_BLOCKS, "compressed"),
        (Self::Encrypted, ENCRYPT, "encrypted"),
        (Self::CaseInsensitive, CASEFOLD, "a case-insensitive folder"),
    ];

    /// The first of `marks` that `inode` has.
    fn first(inode: &Inode, marks: &[Self]) -> Option<Self> {
        let has = |mark: &Self| Self::TABLE.iter().any(|(other, flag, _)| other == mark && inode.has(*flag));
        marks.iter().copied().find(has)
    }

    /// What the user can do.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Immutable => "if you want the change, take the mark off in the image: mount it, `chattr -i`",
            Self::AppendOnly => "if you want the change, take the mark off in the image: mount it, `chattr -a`",
            Self::Compressed => "mount the image with the kernel that made it, and copy the file",
            Self::Encrypted => "put the file elsewhere, or remove the encrypted folder as a whole",
            Self::CaseInsensitive => "put the file elsewhere, or replace the whole folder by one without `chattr +F`",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::TABLE.iter().find(|(mark, ..)| mark == self).map_or("", |(.., name)| name))
    }
}

impl Inode {
    /// Whether contents are encrypted; of a directory the names, which can hold any byte then.
    pub(super) fn is_encrypted(&self) -> bool {
        self.has(ENCRYPT)
    }
}

impl Editor<'_> {
    fn check_marks(
        &mut self,
        number: InodeNumber,
        path: &[u8],
        action: &'static str,
        marks: &[Mark],
    ) -> Result<(), Ext4Error> {
        match Mark::first(self.volume.inode(number)?, marks) {
            Some(mark) => Err(Ext4Error::Marked { path: show(path), action, mark }),
            None => Ok(()),
        }
    }

    /// What forbids to change, replace, move or remove an inode, if anything.
    pub(super) fn mark_against_change(&mut self, number: InodeNumber) -> Result<Option<Mark>, Ext4Error> {
        Ok(Mark::first(self.volume.inode(number)?, &[Mark::Immutable, Mark::AppendOnly, Mark::Compressed]))
    }

    /// Whether the inode at `path` may be changed, replaced, moved, removed or given another name.
    pub(super) fn check_changeable(
        &mut self,
        number: InodeNumber,
        path: &[u8],
        action: &'static str,
    ) -> Result<(), Ext4Error> {
        match self.mark_against_change(number)? {
            Some(mark) => Err(Ext4Error::Marked { path: show(path), action, mark }),
            None => Ok(()),
        }
    }

    /// Whether the contents of the inode at `path` can be read.
    pub(super) fn check_contents(&mut self, number: InodeNumber, path: &[u8]) -> Result<(), Ext4Error> {
        self.check_marks(number, path, "read", &[Mark::Compressed, Mark::Encrypted])
    }

    /// Whether the folder of `place` may get its name, or lose the one it has.
    pub(super) fn check_names(&mut self, place: &Place, loses: bool) -> Result<(), Ext4Error> {
        let marks: &[Mark] = if loses {
            &[Mark::Immutable, Mark::AppendOnly, Mark::Encrypted, Mark::CaseInsensitive]
        } else {
            &[Mark::Immutable, Mark::Encrypted, Mark::CaseInsensitive]
        };
        let action = if loses { "take a name out of" } else { "put a name into" };
        match Mark::first(self.volume.inode(place.parent)?, marks) {
            Some(mark) => Err(Ext4Error::MarkedFolder { path: show(&place.folder()), action, mark }),
            None => Ok(()),
        }
    }

    /// Whether the folder at `path` may get another parent, which it names itself.
    pub(super) fn check_parent_entry(&mut self, number: InodeNumber, path: &[u8]) -> Result<(), Ext4Error> {
        self.check_marks(number, path, "moved to another folder", &[Mark::Encrypted, Mark::CaseInsensitive])
    }

    /// The flags of a new inode of `kind` in directory `parent`.
    pub(super) fn inherited_flags(&mut self, parent: InodeNumber, kind: FileKind) -> Result<u32, Ext4Error> {
        Ok(inherited(self.volume.inode(parent)?.get(inode::FLAGS), kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_inodes_take_over_what_suits_them() {
        let all = u32::MAX;
        assert_eq!(inherited(all, FileKind::Directory), 0x201_c0cb);
        assert_eq!(inherited(all, FileKind::File), 0x200_c0cb);
        assert_eq!(inherited(all, FileKind::Symlink), 0xc0);
        assert_eq!(inherited(0, FileKind::Directory), 0);
    }
}
