//! The feature flags of ext4: which we understand, and the names of those that we refuse.
//! Names are those of `mke2fs -O`; from e2fsprogs `lib/e2p/feature.c`.

use super::error::Ext4Error;
use super::superblock::{FEATURE_COMPAT, FEATURE_INCOMPAT, FEATURE_RO_COMPAT, Superblock};

pub(super) const HAS_JOURNAL: u32 = 0x4;
pub(super) const EXT_ATTR: u32 = 0x8;
pub(super) const RESIZE_INODE: u32 = 0x10;
pub(super) const DIR_INDEX: u32 = 0x20;
pub(super) const SPARSE_SUPER2: u32 = 0x200;
pub(super) const FAST_COMMIT: u32 = 0x400;
pub(super) const ORPHAN_FILE: u32 = 0x1000;

pub(super) const FILETYPE: u32 = 0x2;
pub(super) const RECOVER: u32 = 0x4;
pub(super) const META_BG: u32 = 0x10;
pub(super) const EXTENTS: u32 = 0x40;
pub(super) const BITS64: u32 = 0x80;
pub(super) const MMP: u32 = 0x100;
pub(super) const FLEX_BG: u32 = 0x200;
pub(super) const EA_INODE: u32 = 0x400;
pub(super) const CSUM_SEED: u32 = 0x2000;
pub(super) const LARGEDIR: u32 = 0x4000;
const INLINE_DATA: u32 = 0x8000;
const ENCRYPT: u32 = 0x1_0000;
const CASEFOLD: u32 = 0x2_0000;

pub(super) const SPARSE_SUPER: u32 = 0x1;
pub(super) const LARGE_FILE: u32 = 0x2;
pub(super) const HUGE_FILE: u32 = 0x8;
pub(super) const GDT_CSUM: u32 = 0x10;
pub(super) const DIR_NLINK: u32 = 0x20;
pub(super) const EXTRA_ISIZE: u32 = 0x40;
pub(super) const BIGALLOC: u32 = 0x200;
pub(super) const METADATA_CSUM: u32 = 0x400;
pub(super) const VERITY: u32 = 0x8000;
pub(super) const ORPHAN_PRESENT: u32 = 0x10000;

/// dir_prealloc and ext_attr ask nothing of us; orphan_file is an ordinary hidden inode once it is empty.
const KNOWN_COMPAT: u32 =
    0x1 | HAS_JOURNAL | EXT_ATTR | RESIZE_INODE | DIR_INDEX | SPARSE_SUPER2 | FAST_COMMIT | 0x800 | ORPHAN_FILE;
/// Encrypted and case-insensitive folders are refused one by one, where an edit would change them.
const KNOWN_INCOMPAT: u32 = FILETYPE
    | RECOVER
    | META_BG
    | EXTENTS
    | BITS64
    | MMP
    | FLEX_BG
    | EA_INODE
    | CSUM_SEED
    | LARGEDIR
    | INLINE_DATA
    | ENCRYPT
    | CASEFOLD;
const KNOWN_RO_COMPAT: u32 = SPARSE_SUPER
    | LARGE_FILE
    | HUGE_FILE
    | GDT_CSUM
    | DIR_NLINK
    | EXTRA_ISIZE
    | METADATA_CSUM
    | VERITY
    | ORPHAN_PRESENT;

const COMPAT_NAMES: &[(u32, &str)] =
    &[(0x2, "imagic_inodes"), (0x40, "lazy_bg"), (0x80, "snapshot"), (0x100, "snapshot_bitmap")];
const INCOMPAT_NAMES: &[(u32, &str)] = &[(0x1, "compression"), (0x8, "journal_dev"), (0x1000, "dirdata")];
const RO_COMPAT_NAMES: &[(u32, &str)] = &[
    (0x80, "has_snapshot"),
    (0x100, "quota"),
    (BIGALLOC, "bigalloc"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
];

/// Refuses, by name, whatever we would have to understand in order to read: only `incompat` features say that.
pub(super) fn check_readable(superblock: &Superblock) -> Result<(), Ext4Error> {
    let incompat = superblock.get(FEATURE_INCOMPAT) & !KNOWN_INCOMPAT;
    refuse(&named("incompat", incompat, INCOMPAT_NAMES))
}

/// Refuses, by name, whatever we would have to understand in order to write.
pub(super) fn check_writable(superblock: &Superblock) -> Result<(), Ext4Error> {
    let refused: Vec<String> = [
        ("compat", superblock.get(FEATURE_COMPAT) & !KNOWN_COMPAT, COMPAT_NAMES),
        ("incompat", superblock.get(FEATURE_INCOMPAT) & !KNOWN_INCOMPAT, INCOMPAT_NAMES),
        ("ro_compat", superblock.get(FEATURE_RO_COMPAT) & !KNOWN_RO_COMPAT, RO_COMPAT_NAMES),
    ]
    .into_iter()
    .flat_map(|(set, bits, names)| named(set, bits, names))
    .collect();
    refuse(&refused)
}

/// What the user can do about a feature, where it is simple.
const HINTS: &[(&str, &str)] = &[
    ("`journal_dev`", "this is the journal of another file system, not a file system"),
    ("`quota`", "take quotas off a copy of the image: `tune2fs -Q ^usrquota,^grpquota,^prjquota`"),
    ("`project`", "take project ids off a copy of the image: `tune2fs -O ^project`"),
    ("`read-only`", "its maker wants no changes; if you do: `tune2fs -O ^read-only` on a copy of the image"),
    ("`shared_blocks`", "its files share blocks; part them in a copy of the image: `e2fsck -E unshare_blocks`"),
];

fn refuse(names: &[String]) -> Result<(), Ext4Error> {
    let Some(first) = names.first() else { return Ok(()) };
    // A hint for one of several features would not lead on.
    let hint = HINTS.iter().find(|(name, _)| names.len() == 1 && name == first).map(|(_, hint)| *hint);
    let plural = if names.len() == 1 { "feature" } else { "features" };
    Err(Ext4Error::Unsupported { what: format!("the {plural} {}", names.join(", ")), hint })
}

fn named(set: &str, bits: u32, names: &[(u32, &str)]) -> Vec<String> {
    (0..u32::BITS)
        .map(|shift| 1u32 << shift)
        .filter(|bit| bits & bit != 0)
        .map(|bit| match names.iter().find(|(value, _)| *value == bit) {
            Some((_, name)) => format!("`{name}`"),
            None => format!("`{set}:{bit:#x}`"),
        })
        .collect()
}
