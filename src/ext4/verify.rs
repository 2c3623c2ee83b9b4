//! A check of a whole file system: every structure that we know is walked, and what is wrong is told.
//!
//! What counts as wrong is what `e2fsck -fn` of e2fsprogs 1.47 complains about, so that an image it calls clean
//! yields nothing; the order is that of its passes: superblock and groups, inodes and their blocks, folders,
//! connections, link counts, bitmaps. (Its words count, not its exit code: wrong checksums of descriptors, with which the
//! kernel mounts nothing, end in a 0.) Of a file system with changes in its journal the state behind them is
//! checked, which is what the next mount sees. (`e2fsck -fn` skips the journal and checks what lies in front of it.)
//!
//! Nothing is repaired, and the walk goes on after whatever it finds. A block of metadata is read by one owner only,
//! however many claim it, which bounds the time; memory is a bit for each block of the groups in use, and some bytes
//! for each inode in use and for each run of blocks of a folder.
//!
//! Left out, as e2fsck does: backups, and everything that is not in use. Left out besides: the superblock's counts of
//! what is free, which the kernel keeps up to date only on unmounting; what quota files count; encryption policies; and
//! hashes of names whose case is folded.

mod attributes;
mod bitmaps;
mod blockmap;
mod blocks;
mod contents;
mod extents;
mod findings;
mod folders;
mod groups;
mod index;
mod inline;
mod inodes;
mod journal;
mod known;
mod links;
mod orphans;
mod resize;
mod superblock;
mod usage;
mod values;

use super::error::Ext4Error;
use super::volume::Volume;
use crate::disk::Disk;
use attributes::SharedBlocks;
use findings::Findings;
pub use findings::{Finding, Place, Problem};
use folders::Folder;
use known::KnownInodes;
use orphans::Orphans;
use usage::Usage;
use values::Values;

/// What a check has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Inodes in use, the reserved ones included.
    pub inodes: u64,
    /// Folders among them.
    pub folders: u64,
    /// Regular files among them, those left out that only the superblock knows.
    pub files: u64,
    /// Blocks in use.
    pub blocks: u64,
    /// Things that are wrong, the ones included that were only counted.
    pub findings: u64,
}

/// Checks the file system that begins at the start of `disk` and hands whatever is wrong to `report`, always in the
/// same order: the first of each kind in detail, then how many more there are.
///
/// # Errors
/// [`Ext4Error::NotExt4`], [`Ext4Error::Unsupported`] for what we could not read, [`Ext4Error::Io`]. Damage is never
/// an error.
pub fn verify(disk: &dyn Disk, report: &mut dyn FnMut(Finding)) -> Result<Verified, Ext4Error> {
    let mut findings = Findings::new(report);
    let Some((volume, replayed)) = superblock::open(disk, &mut findings)? else {
        return Ok(Verified { findings: findings.finish(), ..Verified::default() });
    };
    let mut check = Check {
        usage: Usage::new(&volume.layout),
        unmapped: Usage::new(&volume.layout),
        volume,
        replayed,
        findings,
        inodes: KnownInodes::default(),
        folders: Vec::new(),
        orphans: Orphans::default(),
        shared: SharedBlocks::default(),
        values: Values::default(),
    };
    match check.walk() {
        // Places are looked at before they are read, so this is for what was overlooked.
        Err(Ext4Error::Corrupt { what }) => check.report(Place::Superblock, Problem::Unreadable(what)),
        result => result?,
    }
    Ok(Verified {
        inodes: check.inodes.in_use(),
        folders: check.inodes.folders(),
        files: check.inodes.files(),
        blocks: check.usage.count(),
        findings: check.findings.finish(),
    })
}

/// The label of the file system at the start of `disk`, as far as its superblock can be trusted; none if there is no
/// file system.
#[must_use]
pub fn label(disk: &dyn Disk) -> Option<String> {
    superblock::label(disk)
}

/// A check under way: the file system, and what is known about it so far.
struct Check<'disk, 'report> {
    volume: Volume<'disk>,
    /// Whether the journal held changes.
    replayed: bool,
    findings: Findings<'report>,
    usage: Usage,
    /// Blocks of groups that have no block bitmap.
    unmapped: Usage,
    inodes: KnownInodes,
    /// All folders, by inode number.
    folders: Vec<Folder>,
    orphans: Orphans,
    /// Blocks of extended attributes.
    shared: SharedBlocks,
    values: Values,
}

impl Check<'_, '_> {
    fn walk(&mut self) -> Result<(), Ext4Error> {
        self.superblock();
        self.groups()?;
        self.resize_inode()?;
        self.journal()?;
        self.orphans()?;
        self.inodes()?;
        self.shared_blocks();
        self.folders()?;
        self.connections();
        self.link_counts();
        self.reference_counts()?;
        self.bitmaps()
    }

    fn report(&mut self, place: Place, problem: Problem) {
        self.findings.add(Finding { place, problem });
    }

    fn malformed(&mut self, place: Place, what: &'static str) {
        self.report(place, Problem::Malformed(what));
    }
}
