//! The entries of an area of extended attributes, names from its start on and values from its end.
//! Written from the kernel's Documentation/filesystems/ext4/attributes.rst and fs/ext4/xattr.c of Linux 6.12.

use super::ea_inode::Outside;
use super::inode::InodeNumber;
use super::record::{Number, fields, index};
use super::xattr_name::{Name, Value, Xattrs};

/// Bytes before an entry's name.
const HEADER: usize = 16;
/// The zeros that end the entries.
pub(super) const END: usize = 4;

fields! {
    0x00 NAME_LENGTH: u8, "e_name_len";
    0x01 NAME_INDEX: u8, "e_name_index: stands for the name's beginning";
    0x02 VALUE_OFFSET: u16, "e_value_offs: from the first entry in an inode, from the start in a block";
    0x04 VALUE_INODE: u32, "e_value_inum: with ea_inode";
    0x08 VALUE_SIZE: u32, "e_value_size";
    0x0c ENTRY_HASH: u32, "e_hash: of name and value; 0 in an inode, unless the value has one of its own";
}

fn entry_size(name: &Name) -> usize {
    (HEADER + name.rest.len()).next_multiple_of(4)
}

/// Bytes of an attribute beside its value if that is outside.
pub(super) fn size(name: &Name, value: &Value) -> usize {
    entry_size(name) + value.bytes().len().next_multiple_of(4)
}

/// The entries in `area`, whose values' offsets count from the start of `values`; `outside` says whether a
/// value can have an inode of its own.
pub(super) fn parse(area: &[u8], values: &[u8], outside: bool) -> Option<Xattrs> {
    let mut xattrs = Xattrs::new();
    let mut rest = area;
    while rest.len() >= END && u32::load(rest, 0) != 0 {
        let name = Name {
            index: NAME_INDEX.get(rest),
            rest: rest.get(HEADER..HEADER + usize::from(NAME_LENGTH.get(rest)))?.to_vec(),
        };
        let size = VALUE_SIZE.get(rest);
        let value = match VALUE_INODE.get(rest) {
            0 if size == 0 => Value::Bytes(Vec::new()),
            0 => {
                let start = usize::from(VALUE_OFFSET.get(rest));
                Value::Bytes(values.get(start..start.checked_add(index(size))?)?.to_vec())
            }
            inode if outside => Value::Outside(Outside { inode: InodeNumber(inode), size, hash: ENTRY_HASH.get(rest) }),
            _ => return None,
        };
        rest = rest.get(entry_size(&name)..)?;
        xattrs.insert(name, value);
    }
    Some(xattrs)
}

/// Puts entries at the start of `area` and their values at its end; answers the hash of them all.
pub(super) fn encode(area: &mut [u8], offset: usize, xattrs: &Xattrs, hashed: bool) -> u32 {
    let mut at = 0;
    let mut end = area.len();
    let mut hash = Some(0u32);
    // The order is by index, length and name, which a block needs and an inode allows.
    let mut sorted: Vec<(&Name, &Value)> = xattrs.iter().collect();
    sorted.sort_by_key(|(name, _)| (name.index, name.rest.len(), &name.rest));
    for (name, value) in sorted {
        let bytes = value.bytes();
        let size = bytes.len().next_multiple_of(4);
        end -= size;
        if let Some(slot) = area.get_mut(end..end + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
        let entry = area.get_mut(at..).unwrap_or_default();
        NAME_LENGTH.set(entry, u8::try_from(name.rest.len()).unwrap_or(u8::MAX));
        NAME_INDEX.set(entry, name.index);
        let place = if bytes.is_empty() { 0 } else { offset + end };
        VALUE_OFFSET.set(entry, u16::try_from(place).unwrap_or(u16::MAX));
        VALUE_SIZE.set(entry, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        if let Some(slot) = entry.get_mut(HEADER..HEADER + name.rest.len()) {
            slot.copy_from_slice(&name.rest);
        }
        let own = match value {
            Value::Bytes(bytes) if hashed => entry_hash(&name.rest, bytes),
            Value::Bytes(_) => 0,
            Value::Outside(outside) => {
                VALUE_INODE.set(entry, outside.inode.0);
                VALUE_SIZE.set(entry, outside.size);
                outside.hash
            }
        };
        ENTRY_HASH.set(entry, own);
        hash = hash.filter(|_| own != 0).map(|hash| hash.rotate_left(16) ^ own);
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
    use super::super::xattr_name::to_disk;
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
        let mut xattrs = some();
        encode(&mut block[32..], 32, &xattrs, true);
        assert_eq!(parse(&block[32..], &block, false).as_ref(), Some(&xattrs));
        let outside = Outside { inode: InodeNumber(20), size: 70_000, hash: 9 };
        xattrs.insert(Name { index: 1, rest: b"outside".to_vec() }, Value::Outside(outside));
        let mut block = vec![0; 1024];
        encode(&mut block[32..], 32, &xattrs, true);
        assert_eq!(parse(&block[32..], &block, true), Some(xattrs));
        assert_eq!(parse(&block[32..], &block, false), None, "there are no values outside without the feature");
    }

    #[test]
    fn a_value_past_the_block_is_found() {
        let mut block = vec![0; 1024];
        encode(&mut block[32..], 32, &some(), true);
        for at in 32 + 2..32 + 12 {
            let mut broken = block.clone();
            broken[at] = 0xff;
            let _ = parse(&broken[32..], &broken, at % 2 == 0);
        }
        VALUE_SIZE.set(&mut block[32..], u32::MAX);
        assert!(parse(&block[32..], &block, false).is_none());
    }
}
