//! Extended attributes: in the inode's own spare bytes as far as they fit, the rest in one block.
//! Written from the kernel's Documentation/filesystems/ext4/attributes.rst. Values in inodes of their own
//! (ea_inode) are refused with the feature.

use std::collections::BTreeMap;

use super::acl;
use super::checksum::crc32c;
use super::error::{Ext4Error, show};
use super::inode::InodeNumber;
use super::layout::{BlockNumber, Run};
use super::record::{Field, Number, fields, index};
use super::volume::Volume;

const MAGIC: u32 = 0xea02_0000;
/// Bytes before the entries of a block.
const BLOCK_HEADER: usize = 32;
/// Bytes before the entries in an inode.
const BODY_HEADER: usize = 4;
/// Bytes before an entry's name.
const ENTRY_HEADER: usize = 16;
/// The zeros that end the entries.
const END: usize = 4;

const HEADER_MAGIC: Field<u32> = Field::at(0);
fields! {
    0x04 REFERENCES: u32, "h_refcount: inodes that share the block";
    0x08 BLOCKS: u32, "h_blocks: always 1";
    0x0c BLOCK_HASH: u32, "h_hash: of all entries";
    0x10 BLOCK_CHECKSUM: u32, "h_checksum";
    0x00 NAME_LENGTH: u8, "e_name_len";
    0x01 NAME_INDEX: u8, "e_name_index: stands for the name's beginning";
    0x02 VALUE_OFFSET: u16, "e_value_offs: from the first entry in an inode, from the start in a block";
    0x04 VALUE_INODE: u32, "e_value_inum: with ea_inode";
    0x08 VALUE_SIZE: u32, "e_value_size";
    0x0c ENTRY_HASH: u32, "e_hash: of name and value; 0 in an inode";
}

const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const PREFIXES: &[(u8, &str)] = &[
    (1, "user."),
    (ACL_ACCESS, "system.posix_acl_access"),
    (ACL_DEFAULT, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (8, "system.richacl"),
    (7, "system."),
];

/// A name as the disk has it: what its beginning is, and the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    index: u8,
    rest: Vec<u8>,
}

/// A file's extended attributes as the disk has them.
pub(super) type Xattrs = BTreeMap<Name, Vec<u8>>;

/// The disk's name for the one that the kernel would be given.
pub(super) fn disk_name(name: &[u8]) -> Result<Name, Ext4Error> {
    let bad = |why| Ext4Error::BadXattr { name: show(name), why };
    let found = PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(prefix.as_bytes())?;
        // A prefix that ends in a dot wants a name behind it, the others want none.
        (prefix.ends_with('.') != rest.is_empty()).then(|| Name { index: *index, rest: rest.to_vec() })
    });
    let name = found.ok_or_else(|| bad("its name begins with no namespace that ext4 knows"))?;
    if name.rest.len() > usize::from(u8::MAX) || name.rest.contains(&0) {
        return Err(bad("its name is too long or holds a NUL"));
    }
    Ok(name)
}

/// The disk's name and value for those that the kernel would be given.
pub(super) fn to_disk(name: &[u8], value: &[u8]) -> Result<(Name, Vec<u8>), Ext4Error> {
    let bad = || Ext4Error::BadXattr { name: show(name), why: "it is no access control list" };
    let name = disk_name(name)?;
    let value = match name.index {
        ACL_ACCESS | ACL_DEFAULT => acl::to_disk(value).ok_or_else(bad)?,
        _ => value.to_vec(),
    };
    Ok((name, value))
}

/// The kernel's name and value for those of the disk; none for a namespace that we do not know.
pub(super) fn from_disk(name: &Name, value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == name.index)?;
    let full = [prefix.as_bytes(), &name.rest].concat();
    let value = match name.index {
        ACL_ACCESS | ACL_DEFAULT => acl::from_disk(value)?,
        _ => value.to_vec(),
    };
    Some((full, value))
}

/// Attributes, those of the system first: they get the places in the inode.
fn by_importance(xattrs: &Xattrs) -> impl Iterator<Item = (&Name, &Vec<u8>)> {
    let user = |name: &Name| name.index == 1;
    xattrs.iter().filter(move |(name, _)| !user(name)).chain(xattrs.iter().filter(move |(name, _)| user(name)))
}

fn entry_size(name: &Name) -> usize {
    (ENTRY_HEADER + name.rest.len()).next_multiple_of(4)
}

fn size(name: &Name, value: &[u8]) -> usize {
    entry_size(name) + value.len().next_multiple_of(4)
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
    if needed > room { Err(Ext4Error::XattrsTooLarge { needed, room }) } else { Ok((inside, outside)) }
}

impl Volume<'_> {
    /// All extended attributes of inode `number`.
    pub(super) fn xattrs(&mut self, number: InodeNumber) -> Result<Xattrs, Ext4Error> {
        let damaged = || Ext4Error::corrupt(format!("inode {} has malformed extended attributes", number.0));
        let mut xattrs = Xattrs::new();
        let inode = self.inode(number)?;
        let block = inode.xattr_block();
        let body = inode.xattr_body();
        if HEADER_MAGIC.get(body) == MAGIC {
            let area = body.get(BODY_HEADER..).unwrap_or_default();
            parse(area, area, &mut xattrs).ok_or_else(damaged)?;
        }
        if let Some(place) = block {
            let bytes = self.xattr_block(BlockNumber(place))?;
            parse(bytes.get(BLOCK_HEADER..).unwrap_or_default(), &bytes, &mut xattrs).ok_or_else(damaged)?;
        }
        Ok(xattrs)
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
        Ok(!divide(xattrs, body, index(self.layout.block_size))?.1.is_empty())
    }

    /// Makes `xattrs` all the extended attributes of inode `number`.
    pub(super) fn set_xattrs(&mut self, number: InodeNumber, xattrs: &Xattrs) -> Result<(), Ext4Error> {
        let block_size = self.layout.block_size;
        let inode = self.inode(number)?;
        let (inside, outside) = divide(xattrs, inode.xattr_body().len(), index(block_size))?;
        self.drop_xattr_block(number)?;
        let inode = self.inode(number)?;
        let body = inode.xattr_body_mut();
        body.fill(0);
        if !inside.is_empty() {
            HEADER_MAGIC.set(body, MAGIC);
            encode(body.get_mut(BODY_HEADER..).unwrap_or_default(), 0, &inside, false);
        }
        if outside.is_empty() {
            return Ok(());
        }
        let place = self.allocate(1)?.first().map(|run| run.start).unwrap_or(BlockNumber(0));
        let mut bytes = vec![0; index(block_size)];
        HEADER_MAGIC.set(&mut bytes, MAGIC);
        REFERENCES.set(&mut bytes, 1);
        BLOCKS.set(&mut bytes, 1);
        let hash = encode(bytes.get_mut(BLOCK_HEADER..).unwrap_or_default(), BLOCK_HEADER, &outside, true);
        BLOCK_HASH.set(&mut bytes, hash);
        self.put_xattr_block(place, bytes);
        let inode = self.inode(number)?;
        inode.set_xattr_block(Some(place.0));
        let sectors = inode.sectors(block_size) + u64::from(block_size / 512);
        inode.set_sectors(sectors, block_size);
        Ok(())
    }

    /// Takes the block of extended attributes away from inode `number`; frees it if nobody else shares it.
    pub(super) fn drop_xattr_block(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        let block_size = self.layout.block_size;
        let Some(place) = self.inode(number)?.xattr_block().map(BlockNumber) else { return Ok(()) };
        let mut bytes = self.xattr_block(place)?;
        match REFERENCES.get(&bytes) {
            1 => self.free(Run { start: place, len: 1 })?,
            shared => {
                REFERENCES.set(&mut bytes, shared - 1);
                self.put_xattr_block(place, bytes);
            }
        }
        let inode = self.inode(number)?;
        inode.set_xattr_block(None);
        let sectors = inode.sectors(block_size).saturating_sub(u64::from(block_size / 512));
        inode.set_sectors(sectors, block_size);
        Ok(())
    }
}

/// Takes the entries in `area`, whose values' offsets count from the start of `values`.
fn parse(area: &[u8], values: &[u8], xattrs: &mut Xattrs) -> Option<()> {
    let mut rest = area;
    while rest.len() >= END && u32::load(rest, 0) != 0 {
        let name = Name {
            index: NAME_INDEX.get(rest),
            rest: rest.get(ENTRY_HEADER..ENTRY_HEADER + usize::from(NAME_LENGTH.get(rest)))?.to_vec(),
        };
        if VALUE_INODE.get(rest) != 0 {
            return None;
        }
        let size = index(VALUE_SIZE.get(rest));
        let start = usize::from(VALUE_OFFSET.get(rest));
        let value = if size == 0 { &[] } else { values.get(start..start.checked_add(size)?)? };
        rest = rest.get(entry_size(&name)..)?;
        xattrs.insert(name, value.to_vec());
    }
    Some(())
}

/// Puts entries at the start of `area` and their values at its end; answers the hash of them all.
fn encode(area: &mut [u8], offset: usize, xattrs: &Xattrs, hashed: bool) -> u32 {
    let mut at = 0;
    let mut end = area.len();
    let mut hash = Some(0u32);
    // The order is by index, length and name, which a block needs and an inode allows.
    let mut sorted: Vec<(&Name, &Vec<u8>)> = xattrs.iter().collect();
    sorted.sort_by_key(|(name, _)| (name.index, name.rest.len(), &name.rest));
    for (name, value) in sorted {
        let size = value.len().next_multiple_of(4);
        end -= size;
        if let Some(slot) = area.get_mut(end..end + value.len()) {
            slot.copy_from_slice(value);
        }
        let entry = area.get_mut(at..).unwrap_or_default();
        NAME_LENGTH.set(entry, u8::try_from(name.rest.len()).unwrap_or(u8::MAX));
        NAME_INDEX.set(entry, name.index);
        let place = if value.is_empty() { 0 } else { offset + end };
        VALUE_OFFSET.set(entry, u16::try_from(place).unwrap_or(u16::MAX));
        VALUE_SIZE.set(entry, u32::try_from(value.len()).unwrap_or(u32::MAX));
        if let Some(slot) = entry.get_mut(ENTRY_HEADER..ENTRY_HEADER + name.rest.len()) {
            slot.copy_from_slice(&name.rest);
        }
        if hashed {
            let own = entry_hash(&name.rest, value);
            ENTRY_HASH.set(entry, own);
            hash = hash.filter(|_| own != 0).map(|hash| hash.rotate_left(16) ^ own);
        }
        at += entry_size(name);
    }
    hash.unwrap_or(0)
}

fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let hash = name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(4).fold(hash, |hash, chunk| {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash.rotate_left(16) ^ word
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Xattrs {
        [("user.a", "x"), ("security.capability", "12345678901234567890"), ("user.empty", ""), ("trusted.long", "yes")]
            .into_iter()
            .map(|(name, value)| to_disk(name.as_bytes(), value.as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn an_area_reads_back() {
        let mut block = vec![0; 1024];
        encode(&mut block[32..], 32, &some(), true);
        let mut back = Xattrs::new();
        parse(&block[32..], &block, &mut back).unwrap();
        assert_eq!(back, some());
    }

    #[test]
    fn the_inode_takes_the_system_s_first() {
        let (inside, outside) = divide(&some(), 96, 4096).unwrap();
        let names = |xattrs: &Xattrs| -> Vec<String> {
            xattrs.iter().map(|(name, value)| show(&from_disk(name, value).unwrap().0)).collect()
        };
        assert_eq!(names(&inside), ["trusted.long", "security.capability"]);
        assert_eq!(names(&outside), ["user.a", "user.empty"]);
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in ["other.x", "user.", "capability", "system.posix_acl_accessory."] {
            let ok = to_disk(name.as_bytes(), b"").is_ok();
            assert_eq!(ok, name.starts_with("system."), "{name}");
        }
    }

    #[test]
    fn a_value_past_the_block_is_found() {
        let mut block = vec![0; 1024];
        encode(&mut block[32..], 32, &some(), true);
        for at in 32 + 2..32 + 12 {
            let mut broken = block.clone();
            broken[at] = 0xff;
            let _ = parse(&broken[32..], &broken, &mut Xattrs::new());
        }
        VALUE_SIZE.set(&mut block[32..], u32::MAX);
        assert!(parse(&block[32..], &block, &mut Xattrs::new()).is_none());
    }
}
