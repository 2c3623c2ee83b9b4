//! Puts the members of a root tree where they belong: on the FAT partition or into the ext4 file system.

use super::error::BaseError;
use super::tree::{Kind, Member};
use crate::disk::{Content, DiskMut, FileRange};
use crate::ext4::{self, Attributes, FileKind, Timestamp};
use crate::fat;

/// The largest file that is read into memory: on the boot partition a kernel or its initramfs.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// apt's index of packages in memory's own layout, made again whenever apt runs: megabytes that differ each time.
const CACHES: &[&str] = &["var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin"];

/// Parts the members below `mount` (paths then relative to it) from the rest, which keeps the empty folder itself.
pub(super) fn split(members: Vec<Member>, mount: &str) -> (Vec<Member>, Vec<Member>) {
    let below = format!("{mount}/");
    let (mut inside, outside): (Vec<_>, Vec<_>) = members
        .into_iter()
        .filter(|member| !CACHES.contains(&member.path.as_str()))
        .partition(|member| member.path.starts_with(&below));
    for member in &mut inside {
        member.path = member.path.split_off(below.len());
    }
    (inside, outside)
}

/// The bytes of a member.
pub(super) fn contents(range: &FileRange) -> Result<Vec<u8>, BaseError> {
    let size = usize::try_from(range.len().min(MOST_BYTES)).unwrap_or_default();
    let mut bytes = vec![0; size];
    range.read_at(0, &mut bytes).map_err(BaseError::assembly("read the root tree"))?;
    Ok(bytes)
}

/// Writes files and folders to a FAT file system; owners and modes have no place there.
pub(super) fn fill_fat(disk: &mut dyn DiskMut, members: &[Member], epoch: u64) -> Result<(), BaseError> {
    let failed = || BaseError::assembly("fill the boot partition");
    let mut editor = fat::Editor::open(disk, epoch).map_err(failed())?;
    for member in members {
        match &member.kind {
            Kind::Directory => editor.create_dir(&member.path),
            Kind::File(range) => editor.write(&member.path, &contents(range)?),
            other => {
                return Err(BaseError::Tree(format!(
                    "`{}` has no place on the boot partition ({other:?})",
                    member.path
                )));
            }
        }
        .map_err(failed())?;
    }
    editor.finish().map_err(failed())
}

/// Writes all members to an empty ext4 file system; no time is later than `epoch`.
pub(super) fn fill_root(disk: &mut dyn DiskMut, members: &[Member], epoch: u64) -> Result<(), BaseError> {
    let failed = || BaseError::assembly("fill the root file system");
    let mut editor = ext4::Editor::open(disk).map_err(failed())?;
    editor.set_time(timestamp(epoch));
    for member in members {
        put(&mut editor, member, epoch).map_err(failed())?;
    }
    // A folder's time is its own again once everything is in it.
    for member in members.iter().filter(|member| matches!(member.kind, Kind::Directory)) {
        let time = timestamp(member.mtime.min(epoch));
        editor.set_mtime(format!("/{}", member.path), time).map_err(failed())?;
    }
    editor.finish().map(drop).map_err(failed())
}

fn put(editor: &mut ext4::Editor<'_>, member: &Member, epoch: u64) -> Result<(), ext4::Ext4Error> {
    let path = format!("/{}", member.path);
    let attributes = attributes(member, epoch);
    match &member.kind {
        Kind::Directory if member.path.is_empty() => {
            editor.set_mode(&path, member.mode)?;
            editor.set_owner(&path, member.uid, member.gid)
        }
        Kind::Directory => editor.mkdir(&path, &attributes),
        Kind::File(range) => editor.write(&path, content(range), &attributes),
        Kind::Symlink(target) => editor.symlink(&path, target, &attributes),
        Kind::HardLink(existing) => editor.hard_link(&path, format!("/{existing}")),
        Kind::CharacterDevice(major, minor) => {
            editor.mknod(&path, FileKind::CharacterDevice, *major, *minor, &attributes)
        }
        Kind::BlockDevice(major, minor) => editor.mknod(&path, FileKind::BlockDevice, *major, *minor, &attributes),
        Kind::Fifo => editor.mknod(&path, FileKind::Fifo, 0, 0, &attributes),
    }
}

fn content(range: &FileRange) -> Content {
    Content::File(range.clone())
}

fn attributes(member: &Member, epoch: u64) -> Attributes {
    Attributes {
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: timestamp(member.mtime.min(epoch)),
        xattrs: member.xattrs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect(),
    }
}

fn timestamp(seconds: u64) -> Timestamp {
    Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds: 0 }
}
