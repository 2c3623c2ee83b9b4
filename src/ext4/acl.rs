//! POSIX access control lists: the kernel's extended attribute and ext4's shorter form of it.
//! Written from the kernel's include/uapi/linux/posix_acl_xattr.h and fs/ext4/acl.h.

use super::record::Number;

const KERNEL_VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
const KERNEL_ENTRY: usize = 8;

/// Named users and groups have an id; owner, owning group, mask and others have none.
fn has_id(tag: u16) -> Option<bool> {
    match tag {
        0x02 | 0x08 => Some(true),
        0x01 | 0x04 | 0x10 | 0x20 => Some(false),
        _ => None,
    }
}

/// The disk's form of the kernel's; none if `acl` is malformed.
pub(super) fn to_disk(acl: &[u8]) -> Option<Vec<u8>> {
    let entries = acl.get(4..)?;
    if u32::load(acl, 0) != KERNEL_VERSION || !entries.len().is_multiple_of(KERNEL_ENTRY) {
        return None;
    }
    let mut disk = DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(KERNEL_ENTRY) {
        let length = if has_id(u16::load(entry, 0))? { 8 } else { 4 };
        disk.extend_from_slice(entry.get(..length)?);
    }
    Some(disk)
}

/// The kernel's form of the disk's; none if `acl` is malformed.
pub(super) fn from_disk(acl: &[u8]) -> Option<Vec<u8>> {
    let mut rest = acl.get(4..)?;
    if u32::load(acl, 0) != DISK_VERSION {
        return None;
    }
    let mut kernel = KERNEL_VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let id = has_id(u16::load(rest, 0))?;
        let (entry, after) = rest.split_at_checked(if id { 8 } else { 4 })?;
        kernel.extend_from_slice(entry);
        if !id {
            kernel.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        rest = after;
    }
    Some(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let mut kernel = vec![2, 0, 0, 0];
        for (tag, permissions, id) in [(1u16, 6u16, u32::MAX), (2, 7, 1000), (4, 4, u32::MAX), (16, 7, u32::MAX)] {
            kernel.extend_from_slice(&tag.to_le_bytes());
            kernel.extend_from_slice(&permissions.to_le_bytes());
            kernel.extend_from_slice(&id.to_le_bytes());
        }
        let disk = to_disk(&kernel).unwrap();
        assert_eq!(disk.len(), 4 + 4 + 8 + 4 + 4);
        assert_eq!(from_disk(&disk).unwrap(), kernel);
        assert_eq!(to_disk(&kernel[..11]), None);
        assert_eq!(from_disk(&disk[..9]), None);
    }
}
