//! The root file system: an offline batch editor for ext4.
//!
//! Not a driver: nobody has the file system mounted, so all edits are collected in memory and written in
//! one pass by [`Editor::finish`]. New files get their blocks in as few runs as possible and their
//! contents are mapped, not copied; changed directories are written back packed; bitmaps, counts,
//! descriptors, checksums and backups are computed once at the end. The same edits give the same bytes.
//!
//! A file system that was not unmounted cleanly is recovered first, as the kernel and e2fsck do it: what its journal
//! holds is put into place, and files that were deleted while they were open are released.
//!
//! Written from the kernel's Documentation/filesystems/ext4. The image keeps its own set of features;
//! what is not understood (bigalloc, inline_data, encrypt, casefold, ea_inode, quota, …) is
//! refused by name.

mod access;
mod acl;
mod alloc;
mod bitmap;
mod blockmap;
mod checksum;
mod claims;
mod descriptors;
mod dir;
mod editor;
mod error;
mod extent;
mod features;
mod finish;
mod group;
mod grow;
mod hash;
mod htree;
mod inode;
mod journal;
mod layout;
mod orphan;
mod path;
mod query;
mod reader;
mod record;
mod reserve;
mod resize_inode;
mod superblock;
mod tree;
mod truncate;
mod volume;
mod xattr;

use std::collections::BTreeMap;

pub use editor::Editor;
pub use error::Ext4Error;
pub use finish::Summary;
pub use reader::Reader;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970, without leap seconds.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// What a new file or folder gets besides its contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permissions with set-user-id, set-group-id and sticky bits: `0o7777` at the most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Times of creation, change, access and modification.
    pub mtime: Timestamp,
    /// Extended attributes by full name (`security.capability`); access control lists
    /// (`system.posix_acl_access`) in the form that the kernel's `getxattr` gives.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

impl FileKind {
    /// Kind, its bits in `i_mode`, its number in directory entries.
    const TABLE: [(Self, u16, u8); 7] = [
        (Self::File, 0x8000, 1),
        (Self::Directory, 0x4000, 2),
        (Self::CharacterDevice, 0x2000, 3),
        (Self::BlockDevice, 0x6000, 4),
        (Self::Fifo, 0x1000, 5),
        (Self::Socket, 0xc000, 6),
        (Self::Symlink, 0xa000, 7),
    ];

    fn mode(self) -> u16 {
        Self::TABLE.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, mode, _)| *mode)
    }

    fn file_type(self) -> u8 {
        Self::TABLE.iter().find(|(kind, ..)| *kind == self).map_or(0, |(.., file_type)| *file_type)
    }

    fn from_mode(mode: u16) -> Option<Self> {
        Self::TABLE.iter().find(|(_, bits, _)| *bits == mode & 0xf000).map(|(kind, ..)| *kind)
    }
}

/// A name in a folder, and what it stands for.
pub type Name = (Vec<u8>, FileKind);

/// What is known about a file, folder or link of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Bytes; a link's is that of its target.
    pub size: u64,
    /// Time of modification.
    pub mtime: Timestamp,
    /// Hard links; of a folder also the entries that lead back to it.
    pub links: u16,
    /// Inode number: the same for all hard links of a file.
    pub inode: u32,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}
