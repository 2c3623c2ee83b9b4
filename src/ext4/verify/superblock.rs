//! The superblock, and opening a file system that may be damaged.

use super::super::access::Access;
use super::super::error::Ext4Error;
use super::super::features;
use super::super::record::count;
use super::super::superblock::{self, Superblock};
use super::super::volume::Volume;
use super::Check;
use super::findings::{Finding, Findings, Place, Problem};
use crate::disk::Disk;

/// The volume as its journal leaves it, and whether the journal held something; none if the superblock allows no
/// further walk.
pub(super) fn open<'disk>(
    disk: &'disk dyn Disk,
    findings: &mut Findings<'_>,
) -> Result<Option<(Volume<'disk>, bool)>, Ext4Error> {
    let end = superblock::OFFSET + count(superblock::SIZE);
    if disk.size() < end {
        return Err(Ext4Error::NotExt4 { found: 0 });
    }
    let access = Access::Read(disk);
    let mut bytes = vec![0; superblock::SIZE];
    access.read_at(superblock::OFFSET, &mut bytes, "read the superblock")?;
    let superblock = Superblock::from_disk(bytes)?;
    let right = superblock.checksum_is_right();
    let mut report = |place, problem| findings.add(Finding { place, problem });
    if !right {
        report(Place::Superblock, Problem::Checksum);
    }
    let understood = superblock.check_understood();
    let volume = understood.and_then(|()| Volume::over(access, superblock));
    let mut volume = match volume {
        Ok(volume) => volume,
        Err(Ext4Error::Corrupt { what }) => {
            report(Place::Superblock, Problem::Unreadable(what));
            return Ok(None);
        }
        // What a damaged superblock asks for says nothing about us.
        Err(Ext4Error::Unsupported { what, .. }) if !right => {
            report(Place::Superblock, Problem::Unreadable(format!("it asks for {what}")));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // All below the first are in use; a number beyond all sense would make that many of nothing.
    let first = volume.layout.first_inode;
    if first > volume.layout.inodes_per_group {
        report(Place::Superblock, Problem::Value { field: "first_ino", value: first.into() });
        return Ok(None);
    }
    volume.load_groups()?;
    let replayed = volume.superblock.has_incompat(features::RECOVER);
    let recovered = if replayed { volume.check_groups().and_then(|()| volume.recover()) } else { Ok(()) };
    match recovered {
        Ok(()) => {}
        // What was put into place stays; if it is wrong itself the walk tells.
        Err(Ext4Error::Corrupt { what }) => report(Place::Journal, Problem::Unreadable(what)),
        Err(error) => return Err(error),
    }
    Ok(Some((volume, replayed)))
}

/// The label that the superblock at the start of `disk` has.
pub(super) fn label(disk: &dyn Disk) -> Option<String> {
    let mut bytes = vec![0; superblock::SIZE];
    disk.read_at(superblock::OFFSET, &mut bytes).ok()?;
    Superblock::from_disk(bytes).ok().map(|superblock| superblock.label())
}

impl Check<'_, '_> {
    /// Fields that contradict each other; those that the layout hangs on were checked when it was read.
    pub(super) fn superblock(&mut self) {
        let superblock = &self.volume.superblock;
        let block_size = u64::from(self.volume.layout.block_size);
        let mut wrong: Vec<Problem> = Vec::new();
        let reserved = superblock.reserved_blocks();
        if reserved > self.volume.layout.blocks / 2 {
            wrong.push(Problem::Value { field: "r_blocks_count", value: reserved });
        }
        let spare = u64::from(superblock.get(superblock::RESERVED_GDT_BLOCKS));
        let resizable = superblock.has_compat(features::RESIZE_INODE);
        if spare > block_size / 4 || spare != 0 && !resizable {
            wrong.push(Problem::Value { field: "reserved_gdt_blocks", value: spare });
        }
        let clusters = superblock.has_ro_compat(features::BIGALLOC);
        if !clusters && superblock.get(superblock::LOG_CLUSTER_SIZE) != superblock.get(superblock::LOG_BLOCK_SIZE) {
            let value = superblock.get(superblock::LOG_CLUSTER_SIZE).into();
            wrong.push(Problem::Value { field: "log_cluster_size", value });
        }
        let per_group = self.volume.layout.blocks_per_group / self.volume.layout.cluster_blocks;
        if superblock.get(superblock::CLUSTERS_PER_GROUP) != per_group {
            let value = superblock.get(superblock::CLUSTERS_PER_GROUP).into();
            wrong.push(Problem::Value { field: "clusters_per_group", value });
        }
        let metadata = superblock.has_ro_compat(features::METADATA_CSUM);
        if metadata && superblock.has_ro_compat(features::GDT_CSUM) {
            wrong.push(Problem::Malformed("has both `metadata_csum` and `uninit_bg`"));
        }
        if superblock.has_incompat(features::CSUM_SEED) && !metadata {
            wrong.push(Problem::Malformed("has `metadata_csum_seed` without `metadata_csum`"));
        }
        if superblock.has_incompat(features::BITS64) && !superblock.has_incompat(features::EXTENTS) {
            wrong.push(Problem::Malformed("has `64bit` without `extent`"));
        }
        for problem in wrong {
            self.report(Place::Superblock, problem);
        }
    }

    /// The superblock's own time stamps are older than there are inodes, so a deletion time that small means nothing.
    pub(super) fn has_young_times(&self) -> bool {
        let superblock = &self.volume.superblock;
        let inodes = superblock.get(superblock::INODES_COUNT);
        [superblock::WTIME, superblock::MTIME, superblock::MKFS_TIME]
            .into_iter()
            .map(|field| superblock.get(field))
            .any(|time| time != 0 && time < inodes)
    }

    /// Numbers in a block of block numbers.
    pub(super) fn addresses(&self) -> usize {
        self.volume.layout.addresses()
    }
}
