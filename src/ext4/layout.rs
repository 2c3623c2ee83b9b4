//! Where things are: blocks, block groups, inodes, and which groups hold backups.

use super::error::Ext4Error;
use super::features;
use super::inode::InodeNumber;
use super::record::index;
use super::superblock::{self, Superblock};

/// A block of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockNumber(pub(super) u64);

impl BlockNumber {
    pub(super) fn plus(self, blocks: u64) -> Self {
        Self(self.0.saturating_add(blocks))
    }
}

/// Blocks that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: BlockNumber,
    pub(super) len: u64,
}

impl Run {
    /// The block behind the last one.
    pub(super) fn end(&self) -> BlockNumber {
        self.start.plus(self.len)
    }
}

/// The most groups that we keep in memory: 128 TiB with blocks of 4 KiB, 8 TiB with blocks of 1 KiB.
const MOST_GROUPS: u64 = 1 << 20;

/// Which groups hold copies of superblock and descriptors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Backups {
    /// All of them.
    All,
    /// The second, and the powers of 3, 5 and 7.
    Sparse,
    /// These two; 0 is none.
    Two(u32, u32),
}

/// The file system's geometry.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    pub(super) first_data_block: u32,
    pub(super) blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    pub(super) descriptor_size: u16,
    pub(super) reserved_descriptor_blocks: u32,
    pub(super) first_inode: u32,
    /// Whether files list their blocks in extents, or else one by one.
    pub(super) extents: bool,
    /// Blocks that a bit of a group's bitmap stands for; more than one with `bigalloc`.
    pub(super) cluster_blocks: u32,
    pub(super) backups: Backups,
    /// With `meta_bg`: how many blocks of descriptors follow the superblock all the same.
    pub(super) first_meta_group: Option<u32>,
}

impl Layout {
    /// Reads the geometry, and refuses one that contradicts itself.
    pub(super) fn new(superblock: &Superblock) -> Result<Self, Ext4Error> {
        let log_block_size = superblock.get(superblock::LOG_BLOCK_SIZE);
        if log_block_size > 2 {
            let what = format!("blocks larger than 4096 bytes (log_block_size {log_block_size})");
            return Err(Ext4Error::unsupported(what));
        }
        let bits64 = superblock.has_incompat(features::BITS64);
        let backups = if superblock.has_compat(features::SPARSE_SUPER2) {
            Backups::Two(superblock.get(superblock::BACKUP_BGS_0), superblock.get(superblock::BACKUP_BGS_1))
        } else if superblock.has_ro_compat(features::SPARSE_SUPER) {
            Backups::Sparse
        } else {
            Backups::All
        };
        let layout = Self {
            block_size: 1024 << log_block_size,
            blocks: superblock.blocks(),
            first_data_block: superblock.get(superblock::FIRST_DATA_BLOCK),
            blocks_per_group: superblock.get(superblock::BLOCKS_PER_GROUP),
            inodes_per_group: superblock.get(superblock::INODES_PER_GROUP),
            inode_size: superblock.inode_size(),
            descriptor_size: if bits64 { superblock.get(superblock::DESC_SIZE) } else { 32 },
            reserved_descriptor_blocks: u32::from(superblock.get(superblock::RESERVED_GDT_BLOCKS)),
            first_inode: superblock.first_inode(),
            extents: superblock.has_incompat(features::EXTENTS),
            cluster_blocks: cluster_blocks(superblock, log_block_size)?,
            backups,
            first_meta_group: superblock
                .has_incompat(features::META_BG)
                .then(|| superblock.get(superblock::FIRST_META_BG)),
        };
        layout.check(superblock.get(superblock::INODES_COUNT), bits64)?;
        Ok(layout)
    }

    fn check(&self, inodes: u32, bits64: bool) -> Result<(), Ext4Error> {
        let wrong = |field: &str, value: u64| Err(Ext4Error::corrupt(format!("the superblock's {field} is {value}")));
        let bits = self.block_size * 8;
        // With clusters the boot sector's block counts as one of the first.
        let first = u32::from(self.block_size == 1024 && self.cluster_blocks == 1);
        if self.first_data_block != first {
            return wrong("first_data_block", self.first_data_block.into());
        }
        let clusters = self.blocks_per_group / self.cluster_blocks;
        if clusters == 0
            || clusters > bits
            || !clusters.is_multiple_of(8)
            || !self.blocks_per_group.is_multiple_of(self.cluster_blocks)
        {
            return wrong("blocks_per_group", self.blocks_per_group.into());
        }
        if !self.inode_size.is_power_of_two() || self.inode_size < 128 || u32::from(self.inode_size) > self.block_size {
            return wrong("inode_size", self.inode_size.into());
        }
        let per_block = self.block_size / u32::from(self.inode_size);
        if self.inodes_per_group == 0
            || self.inodes_per_group > bits
            || !self.inodes_per_group.is_multiple_of(8)
            || !self.inodes_per_group.is_multiple_of(per_block)
        {
            return wrong("inodes_per_group", self.inodes_per_group.into());
        }
        let least = if bits64 { 64 } else { 32 };
        if !self.descriptor_size.is_power_of_two() || self.descriptor_size < least || self.descriptor_size > 64 {
            return wrong("desc_size", self.descriptor_size.into());
        }
        if self.blocks <= u64::from(self.first_data_block) || self.blocks > 1 << 48 {
            return wrong("blocks_count", self.blocks);
        }
        let groups = self.group_count();
        if groups > MOST_GROUPS {
            return Err(Ext4Error::unsupported(format!("{groups} block groups (more than {MOST_GROUPS})")));
        }
        if groups * u64::from(self.inodes_per_group) != u64::from(inodes) {
            return wrong("inodes_count", inodes.into());
        }
        if self.first_inode < 11 || self.first_inode > inodes {
            return wrong("first_ino", self.first_inode.into());
        }
        if let Some(first) = self.first_meta_group
            && (u64::from(first) > self.descriptor_blocks() || self.reserved_descriptor_blocks > 0)
        {
            return wrong("first_meta_bg", first.into());
        }
        let last = self.groups() - 1;
        if self.base_blocks(0) + 2 + self.inode_table_blocks() > u64::from(self.blocks_per_group)
            || self.base_blocks(last) > u64::from(self.group_len(last))
        {
            return wrong("reserved_gdt_blocks", self.reserved_descriptor_blocks.into());
        }
        Ok(())
    }

    /// The most blocks that a file system with these groups can have.
    pub(super) fn most_blocks(&self, bits64: bool) -> u64 {
        let groups = (u64::from(u32::MAX) / u64::from(self.inodes_per_group)).min(MOST_GROUPS);
        let most = u64::from(self.first_data_block) + groups * u64::from(self.blocks_per_group);
        if bits64 { most } else { most.min(u32::MAX.into()) }
    }

    fn group_count(&self) -> u64 {
        (self.blocks - u64::from(self.first_data_block)).div_ceil(u64::from(self.blocks_per_group))
    }

    /// Groups; `check` made sure that the number fits.
    pub(super) fn groups(&self) -> u32 {
        u32::try_from(self.group_count()).unwrap_or(u32::MAX)
    }

    pub(super) fn group_start(&self, group: u32) -> BlockNumber {
        BlockNumber(u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group))
    }

    /// Blocks of `group`: fewer in the last one.
    pub(super) fn group_len(&self, group: u32) -> u32 {
        let left = self.blocks.saturating_sub(self.group_start(group).0);
        u32::try_from(left).unwrap_or(u32::MAX).min(self.blocks_per_group)
    }

    /// The group that holds `block`, and the block's number in it.
    pub(super) fn locate(&self, block: BlockNumber) -> Result<(u32, u32), Ext4Error> {
        if !self.contains(block, 1) {
            return Err(Ext4Error::corrupt(format!("block {} lies outside of the file system", block.0)));
        }
        let relative = block.0 - u64::from(self.first_data_block);
        let per_group = u64::from(self.blocks_per_group);
        // Both fit: `check` bounds the number of groups, and the superblock has 32 bits for a group's blocks.
        Ok((
            u32::try_from(relative / per_group).unwrap_or_default(),
            u32::try_from(relative % per_group).unwrap_or_default(),
        ))
    }

    /// Whether `len` blocks from `block` lie in the file system.
    pub(super) fn contains(&self, block: BlockNumber, len: u64) -> bool {
        block.0 >= u64::from(self.first_data_block) && block.0.checked_add(len).is_some_and(|end| end <= self.blocks)
    }

    pub(super) fn has_backup(&self, group: u32) -> bool {
        let power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        match self.backups {
            _ if group == 0 => true,
            Backups::All => true,
            Backups::Sparse => group == 1 || power_of(3) || power_of(5) || power_of(7),
            Backups::Two(first, second) => group == first || group == second,
        }
    }

    /// The groups other than the first that hold copies of superblock and descriptors.
    pub(super) fn backup_groups(&self) -> Vec<u32> {
        (1..self.groups()).filter(|group| self.has_backup(*group)).collect()
    }

    pub(super) fn inode_table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * u64::from(self.inode_size)).div_ceil(u64::from(self.block_size))
    }

    pub(super) fn inode_count(&self) -> u64 {
        self.group_count() * u64::from(self.inodes_per_group)
    }

    /// The group that holds inode `number`, and its place in it.
    pub(super) fn locate_inode(&self, number: InodeNumber) -> Result<(u32, u32), Ext4Error> {
        match number.0.checked_sub(1) {
            Some(place) if u64::from(place) < self.inode_count() => {
                Ok((place / self.inodes_per_group, place % self.inodes_per_group))
            }
            _ => Err(Ext4Error::corrupt(format!("inode {} does not exist", number.0))),
        }
    }

    pub(super) fn bytes(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.block_size.into())
    }

    /// Blocks that `bytes` take.
    pub(super) fn blocks_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block_size.into())
    }

    /// 512-byte units, as i_blocks counts.
    pub(super) fn sectors(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(u64::from(self.block_size / 512))
    }

    /// Numbers that one block of 32-bit block numbers holds.
    pub(super) fn addresses(&self) -> usize {
        index(self.block_size / 4)
    }

    /// Blocks of all runs.
    pub(super) fn total(runs: &[Run]) -> u64 {
        runs.iter().map(|run| run.len).fold(0, u64::saturating_add)
    }
}

/// Blocks of a cluster, 1 unless the file system has some.
fn cluster_blocks(superblock: &Superblock, log_block_size: u32) -> Result<u32, Ext4Error> {
    if !superblock.has_ro_compat(features::BIGALLOC) {
        return Ok(1);
    }
    let log_cluster_size = superblock.get(superblock::LOG_CLUSTER_SIZE);
    log_cluster_size
        .checked_sub(log_block_size)
        .and_then(|shift| 1u32.checked_shl(shift))
        .ok_or_else(|| Ext4Error::corrupt(format!("the superblock's log_cluster_size is {log_cluster_size}")))
}
