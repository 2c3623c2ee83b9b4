//! Tar archives whose members are used where they lie: a `.tar.gz` is decompressed into the cache once,
//! and a member is a range of that file. Nothing is extracted.
//!
//! From POSIX.1-2017 pax and GNU tar's format through the `tar` crate. Left out, and refused by name:
//! devices, sparse members, and compressions other than gzip.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::base::{Packing, packing};
use super::cache::{Shelf, remove};
use super::fetch::Blob;
use super::{Store, StoreError};
use crate::artifact::Artifact;
use crate::disk::{FileRange, HostFile};
use crate::progress::Progress;

/// Longest decompressed archive: the largest component is a tenth of this.
const LIMIT: u64 = 8 << 30;

/// Longest header that describes another member (a long name, pax records).
const EXTENSION_LIMIT: u64 = 1 << 20;

/// An archive and what it holds, in the archive's order.
#[derive(Debug, Clone)]
pub struct Archive {
    members: Vec<Member>,
}

/// A file, folder or link in an archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// Relative path, `/`-separated, without `.`, `..` and empty parts.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits, `0o7777` at the most.
    pub mode: u32,
    /// Where the contents are; empty unless it is a file.
    pub range: FileRange,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with this target, as it stands there: it may point anywhere.
    Symlink(String),
    /// Another name of the earlier member of this path, which is a file.
    HardLink(String),
}

impl Store {
    /// The artifact as an archive: `.tar`, or `.tar.gz`, decompressed on first use.
    ///
    /// # Errors
    /// As [`Store::get`], and those of archives: [`StoreError::Corrupt`], [`StoreError::Unsupported`],
    /// [`StoreError::UnsafePath`].
    pub fn archive(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<Archive, StoreError> {
        let name = &artifact.url;
        let blob = self.blob(artifact, progress)?;
        match packing(&blob.file)? {
            Packing::Tar => Archive::open(&blob.file, name),
            Packing::Gzip => Archive::open(&self.decompressed(&blob, name, progress)?, name),
            Packing::None => Err(corrupt(name)("it is not a tar archive")),
            other => Err(StoreError::Unsupported { name: name.clone(), packing: other.name() }),
        }
    }

    /// The `.tar` in a `.tar.gz`.
    fn decompressed(&self, blob: &Blob, name: &str, progress: &dyn Progress) -> Result<Arc<HostFile>, StoreError> {
        let stem = blob.sha256.to_string();
        if let Some(file) = self.cache.find(Shelf::Tar, &stem)? {
            return Ok(file);
        }
        let short = name.rsplit('/').next().unwrap_or(name);
        let claim = self.cache.claim(&format!("tar-{stem}"), &format!("`{short}`"), progress)?;
        if let Some(file) = self.cache.find(Shelf::Tar, &stem)? {
            return Ok(file);
        }
        let path = claim.temp();
        let mut output = File::create(path).map_err(StoreError::cache("create", path))?;
        progress.begin(&format!("unpack {short}"), None);
        let result = gunzip(blob.file.path(), &mut output, path, name, progress);
        progress.end();
        let result = result.and_then(|()| self.cache.publish(&claim, &output, Shelf::Tar, &stem, progress));
        result.map_err(|error| {
            let _ = remove(path);
            error.measured()
        })
    }
}

fn gunzip(
    from: &std::path::Path,
    to: &mut File,
    to_path: &std::path::Path,
    name: &str,
    progress: &dyn Progress,
) -> Result<(), StoreError> {
    // Opened anew: the shared handle has one position for all.
    let input = File::open(from).map_err(StoreError::cache("open", from))?;
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(256 << 10, input));
    let mut buffer = vec![0; 1 << 20];
    let mut total: u64 = 0;
    loop {
        let read = decoder.read(&mut buffer).map_err(|error| corrupt(name)(&error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        total += read as u64;
        if total > LIMIT {
            return Err(corrupt(name)(&format!("it holds more than {LIMIT} bytes")));
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).map_err(StoreError::cache("write", to_path))?;
        progress.advance(read as u64);
    }
}

impl Archive {
    /// Reads the list of members of the tar archive `file`, called `name` in messages.
    fn open(file: &Arc<HostFile>, name: &str) -> Result<Self, StoreError> {
        let damaged = |error: io::Error| corrupt(name)(&error.to_string());
        let input = || BufReader::new(Reader { file, at: 0 });
        let mut raw = tar::Archive::new(input());
        for entry in raw.entries_with_seek().map_err(damaged)?.raw(true) {
            let entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            let describes = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            // The next pass reads these into memory.
            if describes && entry.size() > EXTENSION_LIMIT {
                return Err(corrupt(name)("it has an oversized extension header"));
            }
        }
        let mut archive = tar::Archive::new(input());
        let mut members = Vec::new();
        let mut kinds = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if let Some(member) = member(&mut entry, file, name, &kinds)? {
                kinds.insert(member.path.clone(), member.kind.clone());
                members.push(member);
            }
        }
        Ok(Self { members })
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member at `path`; of several the last, which is the one that extracting would leave.
    #[must_use]
    pub fn member(&self, path: &str) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.path == path)
    }
}

/// Reads a file that others read as well, from a position of its own.
struct Reader<'a> {
    file: &'a HostFile,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let now = buffer.get_mut(..len).unwrap_or_default();
        self.file.read_at(self.at, now).map_err(io::Error::other)?;
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(distance) => self.file.size().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.at.checked_add_signed(distance),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// What the entry is; `None` for the archive's own root folder and for records that are no members.
fn member<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    file: &Arc<HostFile>,
    name: &str,
    earlier: &BTreeMap<String, MemberKind>,
) -> Result<Option<Member>, StoreError> {
    let damaged = |error: io::Error| corrupt(name)(&error.to_string());
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(None);
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| corrupt(name)("a path is not UTF-8 text"));
    let path = text(&entry.path_bytes())?;
    let path = safe(&path, name)?;
    let target = entry.link_name_bytes().map(|bytes| text(&bytes)).transpose()?;
    let target = || target.filter(|target| !target.is_empty()).ok_or_else(|| corrupt(name)("a link has no target"));
    if path.is_empty() {
        return if kind.is_dir() { Ok(None) } else { Err(corrupt(name)("a member has no name")) };
    }
    let mut parents = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
    if parents.any(|parent| matches!(earlier.get(parent), Some(MemberKind::Symlink(_)))) {
        return Err(StoreError::UnsafePath { name: name.to_owned(), member: path });
    }
    let sparse = match entry.pax_extensions().map_err(damaged)? {
        Some(records) => records.flatten().any(|record| record.key_bytes().starts_with(b"GNU.sparse")),
        None => false,
    };
    let kind = match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous if !sparse => MemberKind::File,
        tar::EntryType::Directory => MemberKind::Directory,
        tar::EntryType::Symlink => MemberKind::Symlink(target()?),
        tar::EntryType::Link => {
            let target = safe(&target()?, name)?;
            if !matches!(earlier.get(&target), Some(MemberKind::File | MemberKind::HardLink(_))) {
                return Err(corrupt(name)(&format!("`{path}` is a link to `{target}`, which it does not hold")));
            }
            MemberKind::HardLink(target)
        }
        _ => {
            let packing = "an archive with devices or sparse files";
            return Err(StoreError::Unsupported { name: format!("{name}: {path}"), packing });
        }
    };
    let len = if kind == MemberKind::File { entry.size() } else { 0 };
    let range = FileRange::new(Arc::clone(file), entry.raw_file_position(), len)
        .map_err(|_| corrupt(name)(&format!("`{path}` is cut off")))?;
    let mode = entry.header().mode().map_err(damaged)? & 0o7777;
    Ok(Some(Member { path, kind, mode, range }))
}

/// The path without `.` and empty parts; one that leads out of the folder it is in is refused.
fn safe(path: &str, name: &str) -> Result<String, StoreError> {
    let hostile = path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..");
    if hostile {
        return Err(StoreError::UnsafePath { name: name.to_owned(), member: path.escape_debug().to_string() });
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(parts.join("/"))
}

fn corrupt(name: &str) -> impl Fn(&str) -> StoreError {
    let name = name.to_owned();
    move |reason| StoreError::Corrupt { name: name.clone(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as hostile as it likes to be: the `tar` crate's setters refuse what an archive may hold.
    fn header(path: &str, kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn link(path: &str, kind: tar::EntryType, target: &str) -> tar::Header {
        let mut header = header(path, kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        header
    }

    fn open(entries: &[(tar::Header, &[u8])]) -> Result<Archive, StoreError> {
        let mut builder = tar::Builder::new(Vec::new());
        entries.iter().for_each(|(header, bytes)| builder.append(header, *bytes).unwrap());
        open_bytes(&builder.into_inner().unwrap())
    }

    fn open_bytes(bytes: &[u8]) -> Result<Archive, StoreError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Archive::open(&HostFile::open(file.path()).unwrap(), "a.tar")
    }

    #[test]
    fn members_lie_where_the_archive_has_them() {
        let folder = header("./bin/", tar::EntryType::Directory, 0);
        let tool = header("./bin//tool", tar::EntryType::Regular, 5);
        let soft = link("bin/soft", tar::EntryType::Symlink, "../../anywhere");
        let hard = link("bin/hard", tar::EntryType::Link, "./bin/tool");
        let root = header("./", tar::EntryType::Directory, 0);
        let archive = open(&[(root, b""), (folder, b""), (tool, b"hello"), (soft, b""), (hard, b"")]).unwrap();
        let seen: Vec<_> = archive.members().iter().map(|member| (member.path.as_str(), &member.kind)).collect();
        assert_eq!(
            seen,
            [
                ("bin", &MemberKind::Directory),
                ("bin/tool", &MemberKind::File),
                ("bin/soft", &MemberKind::Symlink("../../anywhere".to_owned())),
                ("bin/hard", &MemberKind::HardLink("bin/tool".to_owned())),
            ]
        );
        let tool = archive.member("bin/tool").unwrap();
        let mut bytes = [0; 5];
        tool.range.read_at(0, &mut bytes).unwrap();
        assert_eq!((&bytes, tool.mode, tool.range.len()), (b"hello", 0o644, 5));
    }

    #[test]
    fn a_long_name_is_read() {
        let path = format!("{}/file", "d".repeat(150));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header("x", tar::EntryType::Regular, 1), &path, &b"1"[..]).unwrap();
        let archive = open_bytes(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(archive.member(&path).unwrap().range.len(), 1);
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["../x", "/etc/passwd", "a/../../x", "a/.."] {
            let error = open(&[(header(path, tar::EntryType::Regular, 0), b"")]).unwrap_err();
            assert_eq!(error.to_string(), format!("archive `a.tar` holds the unsafe path `{path}`"));
        }
        let soft = || (link("a", tar::EntryType::Symlink, "/etc"), &b""[..]);
        let through = (header("a/passwd", tar::EntryType::Regular, 0), &b""[..]);
        let error = open(&[soft(), through]).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` holds the unsafe path `a/passwd`");
        let error = open(&[(link("h", tar::EntryType::Link, "../x"), b"")]).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` holds the unsafe path `../x`");
    }

    #[test]
    fn what_is_no_plain_member_is_refused() {
        for kind in [tar::EntryType::Char, tar::EntryType::Block, tar::EntryType::Fifo] {
            let error = open(&[(header("dev", kind, 0), b"")]).unwrap_err();
            let message = "`a.tar: dev` is an archive with devices or sparse files, which is not supported here";
            assert_eq!(error.to_string(), message);
        }
        let error = open(&[(link("h", tar::EntryType::Link, "x"), b"")]).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` is damaged: `h` is a link to `x`, which it does not hold");
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header("f", tar::EntryType::Regular, 2000), &[1; 2000][..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let error = open_bytes(&bytes[..1500]).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` is damaged: `f` is cut off");
        let mut flipped = bytes;
        flipped[0] ^= 1;
        let error = open_bytes(&flipped).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` is damaged: archive header checksum mismatch");
        let huge = header("././@LongLink", tar::EntryType::GNULongName, EXTENSION_LIMIT + 1);
        let error = open(&[(huge, b"")]).unwrap_err();
        assert_eq!(error.to_string(), "archive `a.tar` is damaged: it has an oversized extension header");
    }
}
