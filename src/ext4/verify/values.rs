//! Values of extended attributes that have an inode of their own: what the attributes say of them, and how many refer
//! to each.
//! Written from lib/ext2fs/ext_attr.c of e2fsprogs 1.47 and what e2fsck checks.

use std::collections::BTreeMap;

use super::super::ea_inode::references;
use super::super::error::Ext4Error;
use super::super::inode::{self, Inode};
use super::super::xattr_entry as entries;
use super::Check;
use super::findings::{Place, Problem};

/// How many attributes refer to each inode.
pub(super) type Values = BTreeMap<u32, u64>;

/// An attribute whose value has an inode of its own.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) inode: u32,
    pub(super) size: u32,
    pub(super) hash: u32,
    pub(super) name: Vec<u8>,
}

impl Reference {
    pub(super) fn new(entry: &[u8], name: &[u8]) -> Self {
        Self {
            inode: entries::VALUE_INODE.get(entry),
            size: entries::VALUE_SIZE.get(entry),
            hash: entries::ENTRY_HASH.get(entry),
            name: name.to_vec(),
        }
    }
}

impl Check<'_, '_> {
    /// Looks at the inodes that attributes at `place` refer to; answers how many blocks or clusters their owner,
    /// `number`, counts as its own for them.
    pub(super) fn references(
        &mut self,
        place: &Place,
        number: u32,
        owner: &Inode,
        found: Vec<Reference>,
    ) -> Result<u64, Ext4Error> {
        let mut space = 0u64;
        for reference in found {
            let first = self.volume.layout.first_inode;
            let value = if reference.inode < first { None } else { self.peek(reference.inode)? };
            let Some(value) = value else {
                let what = "has an extended attribute whose value is in an inode that cannot be";
                self.malformed(place.clone(), what);
                continue;
            };
            let times = self.values.entry(reference.inode).or_insert(0);
            *times = times.saturating_add(1);
            // Lustre's older form has no hash and names the owner instead; its space counts as nobody's.
            let hash = value.get(inode::ATIME).to_le_bytes();
            let owned =
                value.get(inode::MTIME) == number && value.get(inode::GENERATION) == owner.get(inode::GENERATION);
            if entries::is_entry_hash(reference.hash, &reference.name, &hash) {
                let cluster = u64::from(self.volume.layout.cluster_blocks);
                let blocks = self.volume.layout.blocks_for(reference.size.into());
                space = space.saturating_add(blocks.div_ceil(cluster));
            } else if !owned {
                self.malformed(place.clone(), "has an extended attribute with a wrong hash");
            }
            if !value.has(inode::EA_INODE_FLAG) {
                let what = "has an extended attribute whose value is in an inode that is not for values";
                self.malformed(place.clone(), what);
            }
        }
        Ok(space)
    }

    /// Whether attributes stand for the name that inode `number` has not.
    pub(super) fn is_value(&self, number: u32) -> bool {
        self.values.contains_key(&number)
    }

    /// Compares how many attributes refer to each inode that has no name.
    pub(super) fn reference_counts(&mut self) -> Result<(), Ext4Error> {
        for (number, found) in std::mem::take(&mut self.values) {
            if self.inodes.get(number).is_none_or(|known| known.names != 0) {
                continue;
            }
            let Some(inode) = self.peek(number)? else { continue };
            // Lustre's older form has times in the place of the count.
            let stored = references(&inode);
            if stored != found && inode.get(inode::CTIME) != inode.get(inode::ATIME) {
                self.report(
                    Place::Inode(number),
                    Problem::Count { what: "attributes that refer to it", stored, found },
                );
            }
        }
        Ok(())
    }
}
