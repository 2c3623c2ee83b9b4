//! Values of extended attributes that have an inode of their own (the feature `ea_inode`), where equal
//! values of many files share one. New values are never put there.
//! Written from fs/ext4/xattr.c of Linux 6.12 and lib/ext2fs/ext_attr.c of e2fsprogs 1.47.

use super::FileKind;
use super::checksum::crc32c;
use super::error::Ext4Error;
use super::inode::{self, Inode, InodeNumber};
use super::record::{high32, index, join32, low32};
use super::volume::Volume;
use super::xattr_name::{Value, Xattrs};

/// The longest value that a kernel hands out.
const LONGEST: u32 = 65_536;

/// A value that has an inode of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outside {
    pub(super) inode: InodeNumber,
    pub(super) size: u32,
    /// The entry's hash, which covers its name and the value's hash.
    pub(super) hash: u32,
}

/// Attributes that refer to it, which the change time and the version hold.
pub(super) fn references(value: &Inode) -> u64 {
    join32(value.get(inode::VERSION), value.get(inode::CTIME))
}

fn set_references(value: &mut Inode, references: u64) {
    value.set(inode::VERSION, low32(references));
    value.set(inode::CTIME, high32(references));
}

impl Volume<'_> {
    /// The bytes of an attribute's value.
    pub(super) fn value(&mut self, owner: InodeNumber, value: &Value) -> Result<Vec<u8>, Ext4Error> {
        let outside = match value {
            Value::Bytes(bytes) => return Ok(bytes.clone()),
            Value::Outside(outside) => *outside,
        };
        self.check_value(outside)?;
        if outside.size > LONGEST {
            let what = format!("an extended attribute of {} bytes (inode {})", outside.size, owner.0);
            return Err(Ext4Error::unsupported(what));
        }
        let bytes = self.read_contents(outside.inode, index(outside.size))?;
        // Its access time holds the hash. Lustre's older form has none and names its owner instead.
        let hash = crc32c(self.checksums.seed(), &bytes);
        let generation = self.inode(owner)?.get(inode::GENERATION);
        let inode = self.inode(outside.inode)?;
        let owned = inode.get(inode::MTIME) == owner.0 && inode.get(inode::GENERATION) == generation;
        if inode.get(inode::ATIME) != hash && !owned {
            let what = format!("inode {} holds an attribute's value with a wrong hash", outside.inode.0);
            return Err(Ext4Error::corrupt(what));
        }
        Ok(bytes)
    }

    /// Whether an attribute's value is where its entry says.
    fn check_value(&mut self, outside: Outside) -> Result<(), Ext4Error> {
        self.check_nameable(outside.inode)?;
        let inode = self.inode(outside.inode)?;
        let right = inode.has(inode::EA_INODE_FLAG)
            && !inode.has(inode::INLINE_DATA_FLAG)
            && inode.kind() == Some(FileKind::File)
            && inode.get(inode::LINKS_COUNT) == 1
            && inode.size() == u64::from(outside.size)
            && inode.xattr_block().is_none();
        if right {
            Ok(())
        } else {
            Err(Ext4Error::corrupt(format!("inode {} does not hold an attribute's value", outside.inode.0)))
        }
    }

    /// Counts one more attribute that refers to each value outside.
    pub(super) fn hold_values(&mut self, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        for outside in outside_values(xattrs) {
            self.check_value(outside)?;
            let inode = self.inode(outside.inode)?;
            set_references(inode, references(inode).saturating_add(1));
        }
        Ok(())
    }

    /// Counts one attribute less that refers to each value outside; frees those that nobody needs now.
    pub(super) fn release_values(&mut self, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        for outside in outside_values(xattrs) {
            self.check_value(outside)?;
            let inode = self.inode(outside.inode)?;
            let references = references(inode);
            if references == 0 || references > u32::MAX.into() {
                // Lustre's older form has a time there.
                let what = format!("attribute values that are not counted (inode {})", outside.inode.0);
                return Err(Ext4Error::unsupported(what));
            }
            let left = references - 1;
            set_references(inode, left);
            if left == 0 {
                self.free_file_blocks(outside.inode)?;
                self.free_inode(outside.inode, false)?;
            }
        }
        Ok(())
    }

    /// Space of the values outside, in 512-byte units: each inode that refers to one counts it as its own.
    pub(super) fn value_sectors(&self, xattrs: &Xattrs) -> u64 {
        let sectors = |outside: Outside| self.layout.sectors(self.layout.blocks_for(outside.size.into()));
        outside_values(xattrs).map(sectors).fold(0, u64::saturating_add)
    }
}

fn outside_values(xattrs: &Xattrs) -> impl Iterator<Item = Outside> {
    xattrs.values().filter_map(|value| match value {
        Value::Bytes(_) => None,
        Value::Outside(outside) => Some(*outside),
    })
}
