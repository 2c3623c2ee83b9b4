//! What can go wrong while an ext4 file system is read, planned and written.
//!
//! [`Ext4Error::Io`] is this host's fault, [`Ext4Error::Corrupt`] the image's, [`Ext4Error::Unsupported`]
//! is something we do not do; the rest is a request that cannot be met.

use crate::disk::DiskError;

/// An ext4 file system could not be read or edited. Nothing was written unless the variant is `Io`.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The disk below failed.
    #[error("cannot {action} of the ext4 file system")]
    Io {
        /// What was being done, as in "read the superblock".
        action: &'static str,
        /// Why not.
        source: DiskError,
    },
    /// There is no ext4 file system at all.
    #[error("there is no ext4 file system here: bytes 1080 and 1081 are {found:#06x}, not 0xef53")]
    NotExt4 {
        /// What stands where the magic number should.
        found: u16,
    },
    /// Something we do not edit.
    #[error("an ext4 file system with {what} is not supported")]
    Unsupported {
        /// What, by its name in e2fsprogs.
        what: String,
        /// What the user can do about it.
        hint: Option<&'static str>,
    },
    /// The image contradicts itself.
    #[error("the ext4 file system is damaged: {what}")]
    Corrupt {
        /// What is wrong, and where.
        what: String,
    },
    /// No such file or folder.
    #[error("`{path}` does not exist in the image")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// The folder that something should be put in does not exist.
    #[error("`{path}` cannot be made: its folder does not exist in the image")]
    NoParent {
        /// The path asked for.
        path: String,
    },
    /// A folder was needed.
    #[error("`{path}` is not a folder")]
    NotADirectory {
        /// The path asked for.
        path: String,
    },
    /// A regular file was needed.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The path asked for.
        path: String,
    },
    /// A folder stands where something else should be put.
    #[error("`{path}` is a folder and cannot be replaced by something else")]
    IsADirectory {
        /// The path asked for.
        path: String,
    },
    /// A folder stands where another should be put, and has something in it.
    #[error("`{path}` is a folder that is not empty and cannot be replaced")]
    NotEmpty {
        /// The path asked for.
        path: String,
    },
    /// The place is taken.
    #[error("`{path}` exists already")]
    Exists {
        /// The path asked for.
        path: String,
    },
    /// The request makes no sense for this path.
    #[error("`{path}` cannot be {action}")]
    Invalid {
        /// The path asked for.
        path: String,
        /// What was asked for, as in "moved into itself".
        action: &'static str,
    },
    /// Symlinks lead to symlinks without end.
    #[error("`{path}` leads through more than {limit} symbolic links")]
    TooManySymlinks {
        /// The path asked for.
        path: String,
        /// How many are followed.
        limit: u32,
    },
    /// A file is larger than the caller wants to read.
    #[error("`{path}` holds {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// A name is empty, too long or holds a byte that no name can hold.
    #[error("`{name}` ({length} bytes) cannot be a file name: 1 to 255 bytes without `/` and NUL are allowed")]
    BadName {
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A link target is empty or too long.
    #[error("a symbolic link's target of {length} bytes does not fit: 1 to {limit} bytes are allowed")]
    BadTarget {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// An extended attribute has a name or a value that ext4 cannot hold.
    #[error("the extended attribute `{name}` is not valid: {why}")]
    BadXattr {
        /// Its full name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file's extended attributes do not fit.
    #[error("the extended attributes need {needed} bytes, and {room} fit")]
    XattrsTooLarge {
        /// Bytes needed outside of the inode.
        needed: usize,
        /// Bytes there are.
        room: usize,
    },
    /// The file system is full.
    #[error("the ext4 file system is full: {needed} bytes are needed and {free} are free")]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free, the reserved ones included.
        free: u64,
    },
    /// There are no inodes left.
    #[error("the ext4 file system holds {total} files and folders, and all of these inodes are in use")]
    NoInodes {
        /// Inodes there are.
        total: u64,
    },
    /// Too many hard links or subfolders.
    #[error("`{path}` has {links} links, and {limit} are the most ext4 can count")]
    TooManyLinks {
        /// The file or folder.
        path: String,
        /// Links it would have.
        links: u32,
        /// Links it may have.
        limit: u32,
    },
    /// A folder has more entries than its index can hold.
    #[error("a folder with {entries} entries is more than its index can hold with {block_size}-byte blocks")]
    DirectoryTooLarge {
        /// Entries in the folder.
        entries: usize,
        /// The file system's block size in bytes.
        block_size: u32,
    },
    /// The disk ends before the size asked for.
    #[error("the file system cannot grow to {asked} bytes on a disk of {disk} bytes")]
    DiskTooSmall {
        /// Bytes asked for.
        asked: u64,
        /// Bytes the disk has.
        disk: u64,
    },
    /// The file system is larger than the size asked for.
    #[error("the file system cannot shrink from {size} to {asked} bytes")]
    Shrink {
        /// Bytes it has.
        size: u64,
        /// Bytes asked for.
        asked: u64,
    },
    /// An edit failed half way, and the rest of the batch must not be written without it.
    #[error("nothing was written: an edit before had failed half way")]
    Torn,
    /// The file system was not made to grow that far.
    #[error("the file system cannot grow to {asked} bytes: it was made to grow to {limit} bytes at the most")]
    GrowLimit {
        /// Bytes asked for.
        asked: u64,
        /// Bytes it can grow to.
        limit: u64,
    },
}

impl Ext4Error {
    /// Whether there is no ext4 file system at all.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotExt4 { .. })
    }

    /// What the user can do, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { hint, .. } => hint.map(str::to_owned),
            Self::Corrupt { .. } => {
                Some("download the image again; if it is your own, repair a copy with `e2fsck -fy`".into())
            }
            Self::NoSpace { .. } | Self::NoInodes { .. } => Some("bake a larger image with `--size`".into()),
            Self::GrowLimit { .. } => Some("ask for a smaller `--size`".into()),
            _ => None,
        }
    }

    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), hint: None }
    }

    /// Turns a disk's error into ours: past the end of the disk means a truncated image.
    pub(super) fn disk(action: &'static str) -> impl FnOnce(DiskError) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// A path of the image as messages show it.
pub(super) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
