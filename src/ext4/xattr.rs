//! Extended attributes: in the inode's own spare bytes as far as they fit, the rest in one block.
//! Written from the kernel's Documentation/filesystems/ext4/attributes.rst.

use super::checksum::crc32c;
use super::error::Ext4Error;
use super::features;
use super::inode::InodeNumber;
use super::layout::{BlockNumber, Run};
use super::record::{Field, fields, index};
use super::volume::Volume;
use super::xattr_entry::{END, encode, parse, size};
use super::xattr_name::{Name, Value, Xattrs};

const MAGIC: u32 = 0xea02_0000;
/// Bytes before the entries of a block.
const BLOCK_HEADER: usize = 32;
/// Bytes before the entries in an inode.
const BODY_HEADER: usize = 4;

const HEADER_MAGIC: Field<u32> = Field::at(0);
fields! {
    0x04 REFERENCES: u32, "h_refcount: inodes that share the block";
    0x08 BLOCKS: u32, "h_blocks: always 1";
    0x0c BLOCK_HASH: u32, "h_hash: of all entries";
    0x10 BLOCK_CHECKSUM: u32, "h_checksum";
}

/// Attributes, those of the system first: they get the places in the inode. Inline data can be nowhere else.
fn by_importance(xattrs: &Xattrs) -> Vec<(&Name, &Value)> {
    let mut sorted: Vec<(&Name, &Value)> = xattrs.iter().collect();
    sorted.sort_by_key(|(name, _)| (**name != Name::inline_data(), name.is_users()));
    sorted
}

/// Which attributes go into `body` bytes inside the inode, and which into a block.
fn divide(xattrs: &Xattrs, body: usize, block: usize) -> Result<(Xattrs, Xattrs), Ext4Error> {
    let mut room = body.saturating_sub(BODY_HEADER + END);
    let (mut inside, mut outside) = (Xattrs::new(), Xattrs::new());
    for (name, value) in by_importance(xattrs) {
        let size = size(name, value);
        let side = if size <= room {
            room -= size;
            &mut inside
        } else {
            &mut outside
        };
        side.insert(name.clone(), value.clone());
    }
    let needed: usize = outside.iter().map(|(name, value)| size(name, value)).sum();
    let room = block - BLOCK_HEADER - END;
    if needed > room || outside.contains_key(&Name::inline_data()) {
        Err(Ext4Error::XattrsTooLarge { needed, room })
    } else {
        Ok((inside, outside))
    }
}

impl Volume<'_> {
    /// All extended attributes of inode `number`.
    pub(super) fn xattrs(&mut self, number: InodeNumber) -> Result<Xattrs, Ext4Error> {
        let inside = self.xattrs_inside(number)?;
        let Some(place) = self.inode(number)?.xattr_block() else { return Ok(inside) };
        let bytes = self.xattr_block(BlockNumber(place))?;
        let mut xattrs = self.block_xattrs(number, &bytes)?;
        xattrs.extend(inside);
        Ok(xattrs)
    }

    /// The extended attributes in inode `number` itself.
    pub(super) fn xattrs_inside(&mut self, number: InodeNumber) -> Result<Xattrs, Ext4Error> {
        let outside = self.superblock.has_incompat(features::EA_INODE);
        let body = self.inode(number)?.xattr_body();
        if HEADER_MAGIC.get(body) != MAGIC {
            return Ok(Xattrs::new());
        }
        let area = body.get(BODY_HEADER..).unwrap_or_default();
        parse(area, area, outside).ok_or_else(|| damaged(number))
    }

    /// The extended attributes in a block that inode `number` has.
    fn block_xattrs(&self, number: InodeNumber, bytes: &[u8]) -> Result<Xattrs, Ext4Error> {
        let area = bytes.get(BLOCK_HEADER..).unwrap_or_default();
        parse(area, bytes, self.superblock.has_incompat(features::EA_INODE)).ok_or_else(|| damaged(number))
    }

    /// What the attributes of inode `number` add to its space, in 512-byte units: their block, and values
    /// that have an inode of their own.
    pub(super) fn attribute_sectors(&mut self, number: InodeNumber) -> Result<u64, Ext4Error> {
        let block = u64::from(self.inode(number)?.xattr_block().is_some());
        let mut sectors = self.layout.sectors(block);
        if self.superblock.has_incompat(features::EA_INODE) {
            let xattrs = self.xattrs(number)?;
            sectors = sectors.saturating_add(self.value_sectors(&xattrs));
        }
        Ok(sectors)
    }

    fn xattr_block(&self, place: BlockNumber) -> Result<Vec<u8>, Ext4Error> {
        let bytes = self.read_block(place)?;
        let damaged =
            |what: &str| Err(Ext4Error::corrupt(format!("the extended attribute block {} has {what}", place.0)));
        if HEADER_MAGIC.get(&bytes) != MAGIC || BLOCKS.get(&bytes) != 1 || REFERENCES.get(&bytes) == 0 {
            return damaged("a malformed header");
        }
        if self.checksums.metadata() && BLOCK_CHECKSUM.get(&bytes) != self.xattr_checksum(place, &bytes) {
            return damaged("a wrong checksum");
        }
        Ok(bytes)
    }

    fn xattr_checksum(&self, place: BlockNumber, bytes: &[u8]) -> u32 {
        let mut copy = bytes.to_vec();
        BLOCK_CHECKSUM.set(&mut copy, 0);
        crc32c(crc32c(self.checksums.seed(), &place.0.to_le_bytes()), &copy)
    }

    fn put_xattr_block(&mut self, place: BlockNumber, mut bytes: Vec<u8>) {
        if self.checksums.metadata() {
            let checksum = self.xattr_checksum(place, &bytes);
            BLOCK_CHECKSUM.set(&mut bytes, checksum);
        }
        self.change_block(place, bytes);
    }

    /// Whether `xattrs` fit where an inode keeps `body` bytes of them; answers whether they need a block.
    pub(super) fn xattrs_need_block(&self, xattrs: &Xattrs, body: usize) -> Result<bool, Ext4Error> {
        let outside = !divide(xattrs, body, index(self.layout.block_size))?.1.is_empty();
        if outside && !self.superblock.is_dynamic() {
            return Err(Ext4Error::unsupported("revision 0, which has no extended attributes,"));
        }
        Ok(outside)
    }

    /// Makes `xattrs` all the extended attributes of inode `number`.
    pub(super) fn set_xattrs(&mut self, number: InodeNumber, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        let block_size = self.layout.block_size;
        let (inside, outside) = divide(xattrs, self.inode(number)?.xattr_body().len(), index(block_size))?;
        // In this order, so that a value which stays is not freed between.
        self.hold_values(xattrs)?;
        self.drop_xattrs(number)?;
        let inode = self.inode(number)?;
        let body = inode.xattr_body_mut();
        if !inside.is_empty() {
            HEADER_MAGIC.set(body, MAGIC);
            encode(body.get_mut(BODY_HEADER..).unwrap_or_default(), 0, &inside, false);
        }
        if !outside.is_empty() {
            let place = self.allocate(1)?.first().map(|run| run.start).unwrap_or(BlockNumber(0));
            let mut bytes = vec![0; index(block_size)];
            HEADER_MAGIC.set(&mut bytes, MAGIC);
            REFERENCES.set(&mut bytes, 1);
            BLOCKS.set(&mut bytes, 1);
            let hash = encode(bytes.get_mut(BLOCK_HEADER..).unwrap_or_default(), BLOCK_HEADER, &outside, true);
            BLOCK_HASH.set(&mut bytes, hash);
            self.put_xattr_block(place, bytes);
            self.inode(number)?.set_xattr_block(Some(place.0));
            self.superblock.set_ext_attr();
        }
        let added = self.attribute_sectors(number)?;
        let inode = self.inode(number)?;
        let sectors = inode.sectors(block_size).saturating_add(added);
        inode.set_sectors(sectors, block_size);
        Ok(())
    }

    /// Takes all extended attributes away from inode `number`; their block is freed if nobody else shares it.
    pub(super) fn drop_xattrs(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let block_size = self.layout.block_size;
        let taken = self.attribute_sectors(number)?;
        let inside = self.xattrs_inside(number)?;
        self.release_values(&inside)?;
        if let Some(place) = self.inode(number)?.xattr_block().map(BlockNumber) {
            let mut bytes = self.xattr_block(place)?;
            match REFERENCES.get(&bytes) {
                1 => {
                    // The block refers to its values, once for all who share it.
                    let xattrs = self.block_xattrs(number, &bytes)?;
                    self.release_values(&xattrs)?;
                    self.free(Run { start: place, len: 1 })?;
                }
                shared => {
                    REFERENCES.set(&mut bytes, shared - 1);
                    self.put_xattr_block(place, bytes);
                }
            }
        }
        let inode = self.inode(number)?;
        inode.xattr_body_mut().fill(0);
        inode.set_xattr_block(None);
        let sectors = inode.sectors(block_size).saturating_sub(taken);
        inode.set_sectors(sectors, block_size);
        Ok(())
    }
}

fn damaged(number: InodeNumber) -> Ext4Error {
    Ext4Error::corrupt(format!("inode {} has malformed extended attributes", number.0))
}

#[cfg(test)]
mod tests {
    use super::super::error::show;
    use super::super::xattr_name::{from_disk, to_disk};
    use super::*;

    fn some() -> Xattrs {
        [("user.a", "x"), ("security.capability", "12345678901234567890"), ("user.empty", ""), ("trusted.long", "yes")]
            .into_iter()
            .map(|(name, value)| to_disk(name.as_bytes(), value.as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn the_inode_takes_the_system_s_first() {
        let (inside, outside) = divide(&some(), 96, 4096).unwrap();
        let names = |xattrs: &Xattrs| -> Vec<String> {
            xattrs.iter().map(|(name, value)| show(&from_disk(name, value.bytes()).unwrap().0)).collect()
        };
        assert_eq!(names(&inside), ["trusted.long", "security.capability"]);
        assert_eq!(names(&outside), ["user.a", "user.empty"]);
    }

    #[test]
    fn inline_data_is_never_in_a_block() {
        let mut xattrs = some();
        xattrs.insert(Name::inline_data(), Value::Bytes(vec![1; 60]));
        let (inside, _) = divide(&xattrs, 96, 4096).unwrap();
        assert_eq!(inside.keys().next(), Some(&Name::inline_data()));
        assert!(matches!(divide(&xattrs, 80, 4096), Err(Ext4Error::XattrsTooLarge { .. })));
    }
}
