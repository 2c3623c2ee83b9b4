//! Edits as the fuzzer makes them up: on what is there, and on what is not.

use arbitrary::Arbitrary;
use imgbake::Content;
use imgbake::ext4::{Attributes, Editor, FileKind, Timestamp};

/// Names for what is new: short, shared by many, as long as can be, too long, not text, not a name.
const NAMES: &[&[u8]] =
    &[b"a", b"b", b"new", b"\xff\xfe", &[b'n'; 255], &[b'm'; 254], &[b'l'; 256], b"..", b".", b"a/b", b"nowhere/new"];
const XATTRS: &[&[u8]] = &[
    b"user.a",
    b"user.short",
    b"user.long",
    b"security.capability",
    b"trusted.overlay.opaque",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"user.",
    b"other.x",
];
/// An access control list: owner, a user, group, mask, others.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

/// One of the image's paths, or a new name in one of its folders.
#[derive(Debug, Arbitrary)]
pub(crate) struct Where {
    path: u8,
    /// Which of [`NAMES`]; none is the path itself.
    name: Option<u8>,
}

impl Where {
    fn path(&self, paths: &[Vec<u8>]) -> Vec<u8> {
        let path = nth(paths, self.path).cloned().unwrap_or_default();
        match self.name.and_then(|name| nth(NAMES, name)) {
            Some(name) => [&path, b"/".as_slice(), name].concat(),
            None => path,
        }
    }
}

fn nth<T>(list: &[T], number: u8) -> Option<&T> {
    list.get(usize::from(number) % list.len().max(1))
}

/// `seeds` writes these too: the order is part of the inputs' format.
#[derive(Debug, Arbitrary)]
pub(crate) enum Edit {
    Write {
        at: Where,
        blocks: u8,
        bytes: u16,
        fill: u8,
        xattr: u8,
    },
    /// `count` files or folders of the same kind in one folder, names `length` bytes long.
    Many {
        at: Where,
        count: u8,
        length: u8,
        folders: bool,
    },
    Symlink {
        at: Where,
        length: u16,
    },
    Mknod {
        at: Where,
        kind: u8,
        major: u16,
        minor: u32,
    },
    Mkdir {
        at: Where,
        all: bool,
    },
    HardLink {
        at: Where,
        existing: Where,
    },
    Remove {
        at: Where,
    },
    RemoveSome {
        step: u8,
    },
    Rename {
        at: Where,
        to: Where,
    },
    SetXattr {
        at: Where,
        name: u8,
        length: u16,
    },
    RemoveXattr {
        at: Where,
        name: u8,
    },
    SetMode {
        at: Where,
        mode: u16,
    },
    SetOwner {
        at: Where,
        uid: u32,
        gid: u32,
    },
    SetTime {
        at: Where,
        seconds: i64,
        nanoseconds: u32,
    },
    Time {
        seconds: u32,
    },
    Grow {
        mib: u8,
    },
}

fn attributes() -> Attributes {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Attributes { mode: 0o644, uid: 1000, gid: 70_000, mtime, ..Attributes::default() }
}

fn value(name: &[u8], length: usize) -> Vec<u8> {
    if name.starts_with(b"system.posix_acl") { ACL.to_vec() } else { vec![b'x'; length % 1500] }
}

impl Edit {
    /// Makes the edit, which may fail, and keeps `paths` up to date as far as that is simple.
    pub(crate) fn apply(&self, editor: &mut Editor, paths: &mut Vec<Vec<u8>>) {
        let path = |at: &Where| at.path(paths);
        let mut made = None;
        let _ = match self {
            Self::Write { at, blocks, bytes, fill, xattr } => {
                let size = usize::from(*blocks) * 1024 + usize::from(*bytes) % 1024;
                let mut attributes = attributes();
                if let Some(name) = nth(XATTRS, *xattr).filter(|_| xattr & 0x80 != 0) {
                    attributes.xattrs.insert(name.to_vec(), value(name, usize::from(*bytes)));
                }
                let written = editor.write(path(at), Content::Bytes(vec![*fill; size]), &attributes);
                if written.is_ok() {
                    let read = editor.read(path(at), 1 << 20).expect("it was written");
                    assert_eq!(read.map(|bytes| bytes.len()), Some(size));
                    made = Some(path(at));
                }
                written
            }
            Self::Many { at, count, length, folders } => {
                many(editor, &path(at), *count, *length, *folders);
                Ok(())
            }
            Self::Symlink { at, length } => {
                made = Some(path(at));
                editor.symlink(path(at), vec![b't'; usize::from(*length) % 1100], &attributes())
            }
            Self::Mknod { at, kind, major, minor } => {
                let kinds = [FileKind::CharacterDevice, FileKind::BlockDevice, FileKind::Fifo, FileKind::Socket];
                let kind = *nth(&kinds, *kind).unwrap_or(&FileKind::Fifo);
                editor.mknod(path(at), kind, (*major).into(), *minor, &attributes())
            }
            Self::Mkdir { at, all } => {
                made = Some(path(at));
                if *all { editor.mkdir_all(path(at), &attributes()) } else { editor.mkdir(path(at), &attributes()) }
            }
            Self::HardLink { at, existing } => {
                made = Some(path(at));
                editor.hard_link(path(at), path(existing))
            }
            Self::Remove { at } => editor.remove(path(at)).map(drop),
            Self::RemoveSome { step } => {
                let step = usize::from(*step).max(2);
                paths.iter().rev().step_by(step).for_each(|path| drop(editor.remove(path)));
                Ok(())
            }
            Self::Rename { at, to } => {
                made = Some(path(to));
                editor.rename(path(at), path(to))
            }
            Self::SetXattr { at, name, length } => {
                let name = nth(XATTRS, *name).copied().unwrap_or_default();
                editor.set_xattr(path(at), name, &value(name, usize::from(*length)))
            }
            Self::RemoveXattr { at, name } => {
                editor.remove_xattr(path(at), nth(XATTRS, *name).copied().unwrap_or_default()).map(drop)
            }
            Self::SetMode { at, mode } => editor.set_mode(path(at), *mode),
            Self::SetOwner { at, uid, gid } => editor.set_owner(path(at), *uid, *gid),
            Self::SetTime { at, seconds, nanoseconds } => {
                editor.set_mtime(path(at), Timestamp { seconds: *seconds, nanoseconds: *nanoseconds })
            }
            Self::Time { seconds } => {
                editor.set_time(Timestamp { seconds: (*seconds).into(), nanoseconds: 0 });
                Ok(())
            }
            Self::Grow { mib } => editor.grow(editor.size() + (u64::from(*mib) << 20)),
        };
        paths.extend(made);
    }
}

fn many(editor: &mut Editor, folder: &[u8], count: u8, length: u8, folders: bool) {
    for number in 0..count {
        let name = format!("{number:0>width$}", width = usize::from(length).max(3));
        let path = [folder, b"/", name.as_bytes()].concat();
        let made = if folders {
            editor.mkdir(path, &attributes())
        } else {
            editor.write(path, Content::Bytes(Vec::new()), &attributes())
        };
        if made.is_err() {
            break;
        }
    }
}

/// Changes, moves and removes everything that can be.
pub(crate) fn everything(editor: &mut Editor, paths: &[Vec<u8>]) {
    for (number, path) in paths.iter().enumerate() {
        let _ = editor.set_mode(path, 0o600);
        let _ = editor.set_xattr(path, b"user.new", &vec![b'y'; number % 400]);
        let _ = editor.remove_xattr(path, b"user.long");
        match number % 4 {
            0 => drop(editor.write(path, Content::Bytes(vec![1; 100 * number % 5000]), &attributes())),
            1 => drop(editor.rename(path, format!("/moved-{number}"))),
            2 => drop(editor.hard_link(format!("/linked-{number}"), path)),
            _ => drop(editor.write([path, b"/inside".as_slice()].concat(), Content::Bytes(vec![2; 10]), &attributes())),
        }
    }
    for path in paths.iter().skip(1).step_by(3) {
        let _ = editor.remove(path);
    }
}
