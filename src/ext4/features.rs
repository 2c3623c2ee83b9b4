//! The feature flags of ext4: which we understand, and the names of those that we refuse.
//! Names are those of `mke2fs -O`; from e2fsprogs `lib/e2p/feature.c`.

use super::error::Ext4Error;
use super::superblock::{FEATURE_COMPAT, FEATURE_INCOMPAT, FEATURE_RO_COMPAT, Superblock};

pub(super) const HAS_JOURNAL: u32 = 0x4;
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
pub(super) const FLEX_BG: u32 = 0x200;
pub(super) const CSUM_SEED: u32 = 0x2000;
pub(super) const LARGEDIR: u32 = 0x4000;

pub(super) const SPARSE_SUPER: u32 = 0x1;
pub(super) const LARGE_FILE: u32 = 0x2;
pub(super) const HUGE_FILE: u32 = 0x8;
pub(super) const GDT_CSUM: u32 = 0x10;
pub(super) const DIR_NLINK: u32 = 0x20;
pub(super) const EXTRA_ISIZE: u32 = 0x40;
pub(super) const METADATA_CSUM: u32 = 0x400;
pub(super) const VERITY: u32 = 0x8000;
pub(super) const ORPHAN_PRESENT: u32 = 0x10000;

/// dir_prealloc and ext_attr ask nothing of us; orphan_file is an ordinary hidden inode once it is empty.
const KNOWN_COMPAT: u32 =
    0x1 | HAS_JOURNAL | 0x8 | RESIZE_INODE | DIR_INDEX | SPARSE_SUPER2 | FAST_COMMIT | 0x800 | ORPHAN_FILE;
const KNOWN_INCOMPAT: u32 = FILETYPE | RECOVER | META_BG | EXTENTS | BITS64 | FLEX_BG | CSUM_SEED | LARGEDIR;
/// What a reader can do with: mmp, ea_inode, inline_data, encrypt, casefold.
const READABLE_INCOMPAT: u32 = 0x100 | 0x400 | 0x8000 | 0x10000 | 0x20000;
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
    &[(0x2, "imagic_inodes"), (0x40, "lazy_bg"), (0x80, "snapshot"), (0x100, "exclude_bitmap")];
const INCOMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x100, "mmp"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x8000, "inline_data"),
    (0x10000, "encrypt"),
    (0x20000, "casefold"),
];
const RO_COMPAT_NAMES: &[(u32, &str)] = &[
    (0x80, "has_snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
];

/// Refuses, by name, whatever we would have to understand in order to read: only `incompat` features say that.
pub(super) fn check_readable(superblock: &Superblock) -> Result<(), Ext4Error> {
    let incompat = superblock.get(FEATURE_INCOMPAT) & !KNOWN_INCOMPAT & !READABLE_INCOMPAT;
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
    refuse(&refused)?;
    if !superblock.has_incompat(EXTENTS) {
        return Err(Ext4Error::Unsupported {
            what: "no `extent` feature (ext2 or ext3)".into(),
            hint: Some("convert a copy with `tune2fs -O extent`, then `e2fsck -fy`"),
        });
    }
    Ok(())
}

fn refuse(names: &[String]) -> Result<(), Ext4Error> {
    if names.is_empty() {
        return Ok(());
    }
    let plural = if names.len() == 1 { "feature" } else { "features" };
    Err(Ext4Error::unsupported(format!("the {plural} {}", names.join(", "))))
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
