//! Names and values of extended attributes: as the kernel's callers know them, and as the disk has them.
//! Written from the kernel's Documentation/filesystems/ext4/attributes.rst.

use std::collections::BTreeMap;

use super::acl;
use super::ea_inode::Outside;
use super::error::{Ext4Error, show};

const USER: u8 = 1;
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const SYSTEM: u8 = 7;
const PREFIXES: &[(u8, &str)] = &[
    (USER, "user."),
    (ACL_ACCESS, "system.posix_acl_access"),
    (ACL_DEFAULT, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (8, "system.richacl"),
    (SYSTEM, "system."),
];

/// A name as the disk has it: what its beginning is, and the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) index: u8,
    pub(super) rest: Vec<u8>,
}

impl Name {
    /// Whether it begins with `user.`.
    pub(super) fn is_users(&self) -> bool {
        self.index == USER
    }

    /// The attribute that holds what an inode with inline data keeps in itself: no user sees it.
    pub(super) fn inline_data() -> Self {
        Self { index: SYSTEM, rest: b"data".to_vec() }
    }
}

/// Where an attribute's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Beside its name.
    Bytes(Vec<u8>),
    /// In an inode of its own.
    Outside(Outside),
}

impl Value {
    /// The bytes beside the name.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Outside(_) => &[],
        }
    }
}

/// A file's extended attributes as the disk has them.
pub(super) type Xattrs = BTreeMap<Name, Value>;

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
    if name == Name::inline_data() {
        return Err(bad("ext4 keeps the contents of small files under this name"));
    }
    Ok(name)
}

/// The disk's name and value for those that the kernel would be given.
pub(super) fn to_disk(name: &[u8], value: &[u8]) -> Result<(Name, Value), Ext4Error> {
    let bad = || Ext4Error::BadXattr { name: show(name), why: "it is no access control list" };
    let name = disk_name(name)?;
    let value = match name.index {
        ACL_ACCESS | ACL_DEFAULT => acl::to_disk(value).ok_or_else(bad)?,
        _ => value.to_vec(),
    };
    Ok((name, Value::Bytes(value)))
}

/// The kernel's name and value for those of the disk; none for a namespace that no user sees: that of
/// encryption, for example.
pub(super) fn from_disk(name: &Name, value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if *name == Name::inline_data() {
        return None;
    }
    let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == name.index)?;
    let full = [prefix.as_bytes(), &name.rest].concat();
    let value = match name.index {
        ACL_ACCESS | ACL_DEFAULT => acl::from_disk(value)?,
        _ => value.to_vec(),
    };
    Some((full, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_refused() {
        for name in ["other.x", "user.", "capability", "system.posix_acl_accessory.", "system.data"] {
            let ok = to_disk(name.as_bytes(), b"").is_ok();
            assert_eq!(ok, name == "system.posix_acl_accessory.", "{name}");
        }
    }

    #[test]
    fn nobody_sees_what_ext4_keeps_for_itself() {
        let encryption = Name { index: 9, rest: b"c".to_vec() };
        for name in [Name::inline_data(), encryption] {
            assert_eq!(from_disk(&name, b"x"), None);
        }
    }
}
