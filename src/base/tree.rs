//! The root tree as mmdebstrap leaves it: a tar in pax format (POSIX.1-2008, with GNU tar's `SCHILY.xattr.*` records).
//!
//! Contents are not read but remembered as ranges of the tar. pax records are read here and not by the tar crate, which
//! splits them at newlines and so cannot take binary attributes. Leaves out sparse members, which mmdebstrap does not write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tar::EntryType;

use super::error::BaseError;
use crate::disk::{FileRange, HostFile};

/// One member of the tree.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Relative to the root, without a leading `./`; empty for the root itself.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Permission bits and set-id bits, no file type.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
    /// Extended attributes by full name, values as the kernel shows them.
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    File(FileRange),
    Directory,
    Symlink(String),
    /// To a member before it, by path.
    HardLink(String),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// pax records that stand before a member and change it.
type Records = BTreeMap<String, Vec<u8>>;

/// The most bytes of pax records or of a long name that are read into memory.
const MOST_RECORDS: u64 = 1024 * 1024;

/// Reads the members of the tar at `path`: folders before what is in them, files before further links to them, and
/// apart from that by name, because mmdebstrap's order depends on its mode.
pub(super) fn read(path: &Path) -> Result<Vec<Member>, BaseError> {
    let host = HostFile::open(path).map_err(BaseError::io("open", path))?;
    let file = File::open(path).map_err(BaseError::io("open", path))?;
    let mut archive = tar::Archive::new(file);
    let mut members = Vec::new();
    let mut records = Records::new();
    for entry in archive.entries().map_err(BaseError::io("read", path))?.raw(true) {
        let mut entry = entry.map_err(BaseError::io("read", path))?;
        match entry.header().entry_type() {
            EntryType::XHeader => {
                let mut bytes = Vec::new();
                entry.by_ref().take(MOST_RECORDS).read_to_end(&mut bytes).map_err(BaseError::io("read", path))?;
                records = parse_records(&bytes).ok_or_else(|| unusable("a pax record is damaged"))?;
            }
            EntryType::XGlobalHeader => {}
            _ => members.push(member(&entry, std::mem::take(&mut records), &host)?),
        }
    }
    members.sort_by_key(|member: &Member| (matches!(member.kind, Kind::HardLink(_)), member.path.clone()));
    Ok(members)
}

fn unusable(what: &str) -> BaseError {
    BaseError::Tree(what.to_owned())
}

/// Splits pax records, each `LENGTH KEY=VALUE\n` with its own length in decimal; the value may hold anything.
fn parse_records(mut bytes: &[u8]) -> Option<Records> {
    let mut records = Records::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
        let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = record.split_at_checked(equals)?;
        records.insert(String::from_utf8(key.to_vec()).ok()?, value.get(1..)?.to_vec());
        bytes = bytes.get(length..)?;
    }
    Some(records)
}

fn member(entry: &tar::Entry<'_, File>, mut records: Records, tar: &Arc<HostFile>) -> Result<Member, BaseError> {
    let header = entry.header();
    let name = records.remove("path").unwrap_or_else(|| entry.path_bytes().into_owned());
    let path = clean_path(name)?;
    let damaged = |_| BaseError::Tree(format!("the header of `{path}` is damaged"));
    let mut number = |key: &str, plain: std::io::Result<u64>| match records.remove(key) {
        Some(text) => decimal(&text).ok_or_else(|| BaseError::Tree(format!("`{key}` of `{path}` is no number"))),
        None => plain.map_err(damaged),
    };
    let uid = number("uid", header.uid())?;
    let gid = number("gid", header.gid())?;
    let mtime = number("mtime", header.mtime())?;
    let narrow =
        |id: u64| u32::try_from(id).map_err(|_| BaseError::Tree(format!("the owner of `{path}` is too large")));
    let (uid, gid) = (narrow(uid)?, narrow(gid)?);
    let mode = header.mode().map_err(damaged)? & 0o7777;
    let kind = kind(entry, &path, &mut records, tar)?;
    let xattrs = records
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("SCHILY.xattr.")?.to_owned(), value)))
        .collect();
    // Twelve bits always fit.
    Ok(Member { path, kind, mode: u16::try_from(mode).unwrap_or_default(), uid, gid, mtime, xattrs })
}

/// The whole part of a decimal number; pax times may have fractions.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.split('.').next()?.parse().ok()
}

fn kind(
    entry: &tar::Entry<'_, File>,
    path: &str,
    records: &mut Records,
    tar: &Arc<HostFile>,
) -> Result<Kind, BaseError> {
    let header = entry.header();
    let damaged = || BaseError::Tree(format!("the header of `{path}` is damaged"));
    let target = || records.get("linkpath").cloned().or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
    let device = || {
        let major = header.device_major().ok().flatten().ok_or_else(damaged)?;
        let minor = header.device_minor().ok().flatten().ok_or_else(damaged)?;
        Ok((major, minor))
    };
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let size = header.entry_size().map_err(|_| damaged())?;
            let range = FileRange::new(Arc::clone(tar), entry.raw_file_position(), size);
            Kind::File(range.map_err(|_| unusable("the tar is cut off"))?)
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(text(target().ok_or_else(damaged)?)?),
        EntryType::Link => Kind::HardLink(clean_path(target().ok_or_else(damaged)?)?),
        EntryType::Char => device().map(|(major, minor)| Kind::CharacterDevice(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
        EntryType::Fifo => Kind::Fifo,
        other => return Err(BaseError::Tree(format!("`{path}` is of a kind that is not understood ({other:?})"))),
    })
}

fn text(bytes: Vec<u8>) -> Result<String, BaseError> {
    String::from_utf8(bytes)
        .map_err(|error| BaseError::Tree(format!("the name `{}` is not UTF-8", error.to_string().escape_debug())))
}

/// A member's name without `./` and slashes at its ends; `..` has no business there.
fn clean_path(name: Vec<u8>) -> Result<String, BaseError> {
    let name = text(name)?;
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(BaseError::Tree(format!("the name `{name}` leads out of the tree")));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_newlines_and_equals_signs() {
        let bytes = b"29 SCHILY.xattr.user.x=a\nb=c\n12 path=p/q\n";
        let records = parse_records(bytes).unwrap();
        assert_eq!(records.get("SCHILY.xattr.user.x").unwrap(), b"a\nb=c");
        assert_eq!(records.get("path").unwrap(), b"p/q");
    }

    #[test]
    fn a_record_that_lies_about_its_length_is_damaged() {
        for bytes in [&b"99 path=p\n"[..], b"3 p", b"x path=p\n", b"10 path=pq", b"0 path=p\n"] {
            assert!(parse_records(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        assert_eq!(clean_path(b"./usr//bin/".to_vec()).unwrap(), "usr/bin");
        assert_eq!(clean_path(b"./".to_vec()).unwrap(), "");
        assert!(clean_path(b"./../etc".to_vec()).is_err());
    }

    #[test]
    fn times_lose_their_fractions() {
        assert_eq!(decimal(b"1795000000.25"), Some(1_795_000_000));
        assert_eq!(decimal(b"-1"), None);
    }
}
