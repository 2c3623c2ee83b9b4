//! ext4, edited, read and checked offline: no mount, no root, no kernel.
//!
//! [`Editor`] changes a file system that nobody has mounted, [`Reader`] looks at one, [`verify`] says what is wrong
//! with one. All three take a [`Disk`](crate::Disk) that begins where the file system does; a
//! [`Window`](crate::Window) makes one of a partition.
//!
//! # Editing
//! Not a driver: as nobody has the file system mounted, all edits are collected in memory and written in one pass by
//! [`Editor::finish`]. New files get their blocks in as few runs as possible and their contents are mapped, not copied;
//! changed folders are written back packed; bitmaps, counts, descriptors, checksums and backups are computed once at
//! the end. The same edits to the same image give the same bytes: no clock is asked and nothing is random.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use imgbake::ext4::{Attributes, Editor};
//! use imgbake::{Content, FileDisk, FileRange, HostFile, Overlay};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let base = FileDisk::new(HostFile::open(Path::new("root.ext4"))?);
//! // The base stays as it is: changes go into an overlay, here of 8 GiB.
//! let mut disk = Overlay::new(Arc::new(base), 8 << 30);
//! let mut editor = Editor::open(&mut disk)?;
//! editor.grow(8 << 30)?;
//!
//! let kubelet = HostFile::open(Path::new("kubelet"))?;
//! let program = Attributes { mode: 0o755, ..Attributes::default() };
//! editor.write("/usr/local/bin/kubelet", Content::File(FileRange::whole(kubelet)), &program)?;
//! editor.remove("/var/lib/apt/lists")?;
//! let summary = editor.finish()?;
//! println!("{} bytes are free", summary.free_bytes);
//! # Ok(())
//! # }
//! ```
//!
//! An edit that cannot be done says so before it changes anything, and the batch goes on as if it had not been asked
//! for: no space or inodes left, also for what only `finish` writes; too many links; a name or a set of extended attributes
//! that is too long; a folder fuller than its index can be.
//!
//! A file system that was not unmounted cleanly is recovered first, as the kernel and e2fsck do it: what its journal
//! holds is put into place, and files that were deleted while they were open are released. [`Editor::grow`] adds block
//! groups to any size that the format allows, and never shrinks.
//!
//! # What is understood
//! Block sizes of 1, 2 and 4 KiB, inodes of 128 bytes and more. Features by their names in `mke2fs -O`; an image keeps the
//! ones it has, unless growth uses up the blocks reserved for descriptors and makes it `meta_bg`.
//!
//! | feature | read | edited |
//! |---|---|---|
//! | `extent` or block maps, `huge_file`, `large_file`, `sparse_super`, `sparse_super2`, `resize_inode`, `meta_bg`, `flex_bg`, `64bit`, `uninit_bg`, `metadata_csum`, `metadata_csum_seed`, `dir_index`, `large_dir`, `dir_nlink`, `filetype`, `extra_isize`, `orphan_file`, `verity` | yes | yes |
//! | `has_journal` | yes, with what a journal still holds | recovered; fast commits and external journals are refused |
//! | `inline_data` | yes | yes; new files get blocks, changed folders move to blocks |
//! | `ea_inode` | yes | yes; new large values are refused |
//! | `casefold`, `encrypt` | yes, contents and names of encrypted files not | not in such folders |
//! | `mmp` | yes | unless somebody has it in use |
//! | `bigalloc`, `quota`, `project`, `read-only`, `shared_blocks`, `imagic_inodes`, whatever is unknown to `compat` or `ro_compat` | yes | refused |
//! | `compression`, `dirdata`, `journal_dev`, whatever is unknown to `incompat` | refused | refused |
//!
//! Files and folders marked immutable or append-only (`chattr +i`, `+a`) are not changed: the edit is refused with their
//! path.
//!
//! # Hostile images
//! Bytes of an image are never trusted: lengths are checked before memory is taken, walks are bounded by what the disk can
//! hold, and damage is an [`Ext4Error::Corrupt`] that says where. Nothing has been written then.
//!
//! # Sources
//! Written from the kernel's Documentation/filesystems/ext4 and, where that is silent, from what e2fsprogs 1.47 does;
//! the files name their chapters.

mod access;
mod acl;
mod alloc;
mod attributes;
mod bitmap;
mod blockmap;
mod checksum;
mod claims;
mod contents;
mod descriptors;
mod dir;
mod ea_inode;
mod editor;
mod error;
mod extent;
mod features;
mod finish;
mod flags;
mod folders;
mod group;
mod grow;
mod hash;
mod htree;
mod inline;
mod inode;
mod journal;
mod layout;
mod mmp;
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
mod verify;
mod volume;
mod xattr;
mod xattr_entry;
mod xattr_name;

use std::collections::BTreeMap;

pub use editor::Editor;
pub use error::Ext4Error;
pub use finish::Summary;
pub use flags::Mark;
pub use reader::Reader;
pub use verify::{Finding, Place, Problem, Verified, label, verify};

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
