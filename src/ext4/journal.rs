//! The journal of a file system that was not unmounted cleanly: what it holds is put into place first.
//!
//! Written from the kernel's Documentation/filesystems/ext4/journal.rst and from what fs/jbd2/recovery.c and
//! journal.c of Linux 6.12 accept (superblocks of both versions, checksums v1 to v3, revoked blocks, 64-bit
//! numbers). `log` finds out what was committed, `replay` puts it into place. Fast commits, asynchronous commits
//! without checksums and external journals are refused by name. Everything in a journal is big endian.

mod log;
mod replay;

use super::FileKind;
use super::checksum::crc32c;
use super::error::Ext4Error;
use super::extent::Extent;
use super::features;
use super::inode::{self, InodeNumber};
use super::layout::{BlockNumber, Run};
use super::superblock;
use super::volume::Volume;

pub(super) use replay::Replayed;

const MAGIC: u32 = 0xc03b_3998;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;

const COMPAT_CHECKSUM: u32 = 0x1;
const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
const INCOMPAT_CSUM_V2: u32 = 0x8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = 0x3f;

/// Offset of the kind in every block of the journal that is not data.
const HEADER_TYPE: usize = 4;
/// Offsets in the journal's superblock. One of version 1 ends behind `S_ERRNO`.
const S_BLOCKSIZE: usize = 0xc;
const S_MAXLEN: usize = 0x10;
const S_FIRST: usize = 0x14;
const S_SEQUENCE: usize = 0x18;
const S_START: usize = 0x1c;
const S_ERRNO: usize = 0x20;
const S_COMPAT: usize = 0x24;
const S_INCOMPAT: usize = 0x28;
const S_RO_COMPAT: usize = 0x2c;
const S_UUID: std::ops::Range<usize> = 0x30..0x40;
const S_CHECKSUM_TYPE: usize = 0x50;
const S_NUM_FC_BLOCKS: usize = 0x54;
const S_CHECKSUM: usize = 0xfc;
const S_SIZE: usize = 1024;
/// crc32c, the only kind of checksum that v2 and v3 have.
const CHECKSUM_CRC32C: u8 = 4;
/// Blocks at the journal's end that fast commits have if the superblock does not say.
const DEFAULT_FC_BLOCKS: u32 = 256;

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at.saturating_add(4)).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at.saturating_add(4)))
}

fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(slot) = bytes.get_mut(at..at.saturating_add(4)) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// What a journal's blocks are summed up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    None,
    /// A commit block holds the sum of its transaction.
    V1,
    /// Every block has its own; 16 bits of it for a block of data.
    V2,
    /// Every block has its own.
    V3,
}

/// The journal's own blocks, and what its superblock says.
struct Journal {
    /// From block 0 on, without gaps.
    extents: Vec<Extent>,
    superblock: Vec<u8>,
    /// Where the log begins and ends; blocks for fast commits may lie behind it.
    first: u32,
    last: u32,
    incompat: u32,
    sums: Sums,
    seed: u32,
}

impl Journal {
    /// Checks that `superblock` fits the journal in `extents`, which has `blocks` blocks.
    /// Where its log would lie matters only to one that `has_log`.
    fn parse(
        superblock: Vec<u8>,
        extents: Vec<Extent>,
        blocks: u64,
        block_size: u32,
        has_log: bool,
    ) -> Result<Self, Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("the journal {what}")));
        let version = be32(&superblock, HEADER_TYPE);
        if be32(&superblock, 0) != MAGIC || !matches!(version, SUPERBLOCK_V1 | SUPERBLOCK_V2) {
            return damaged("has no superblock");
        }
        let (maxlen, first) = (be32(&superblock, S_MAXLEN), be32(&superblock, S_FIRST));
        let start = be32(&superblock, S_START);
        let feature = |at: usize| if version == SUPERBLOCK_V2 { be32(&superblock, at) } else { 0 };
        let (compat, incompat) = (feature(S_COMPAT), feature(S_INCOMPAT));
        if incompat & !INCOMPAT_KNOWN != 0 || feature(S_RO_COMPAT) != 0 {
            return Err(Ext4Error::unsupported("a journal with unknown features"));
        }
        let fast = if incompat & INCOMPAT_FAST_COMMIT == 0 {
            0
        } else {
            Some(be32(&superblock, S_NUM_FC_BLOCKS)).filter(|blocks| *blocks != 0).unwrap_or(DEFAULT_FC_BLOCKS)
        };
        let last = maxlen.saturating_sub(fast);
        let nowhere = first >= last || first == 0;
        if be32(&superblock, S_BLOCKSIZE) != block_size || u64::from(maxlen) > blocks || has_log && nowhere {
            return damaged("has a superblock that contradicts itself");
        }
        if start != 0 && !(first..last).contains(&start) {
            return damaged(&format!("begins at block {start}, and its log lies in blocks {first} to {last}"));
        }
        let sums = match (compat & COMPAT_CHECKSUM, incompat & INCOMPAT_CSUM_V2, incompat & INCOMPAT_CSUM_V3) {
            (0, 0, 0) => Sums::None,
            (_, 0, 0) => Sums::V1,
            (0, _, 0) => Sums::V2,
            (0, 0, _) => Sums::V3,
            _ => return damaged("has checksums of several versions"),
        };
        let seed = crc32c(!0, superblock.get(S_UUID).unwrap_or_default());
        let journal = Self { extents, superblock, first, last, incompat, sums, seed };
        if journal.checked() {
            if journal.superblock.get(S_CHECKSUM_TYPE) != Some(&CHECKSUM_CRC32C) {
                return Err(Ext4Error::unsupported("a journal with an unknown type of checksums"));
            }
            if be32(&journal.superblock, S_CHECKSUM) != journal.superblock_checksum() {
                return damaged("has a superblock with a wrong checksum");
            }
        }
        Ok(journal)
    }

    /// Whether every block has its checksum.
    fn checked(&self) -> bool {
        matches!(self.sums, Sums::V2 | Sums::V3)
    }

    fn superblock_checksum(&self) -> u32 {
        let mut copy = self.superblock.get(..S_SIZE).unwrap_or_default().to_vec();
        put_be32(&mut copy, S_CHECKSUM, 0);
        crc32c(!0, &copy)
    }

    /// The first block of the log that may not have been put into place; none if all were.
    fn start(&self) -> Option<u32> {
        Some(be32(&self.superblock, S_START)).filter(|start| *start != 0)
    }

    /// The number that the first transaction must have.
    fn sequence(&self) -> u32 {
        be32(&self.superblock, S_SEQUENCE)
    }

    fn has(&self, incompat: u32) -> bool {
        self.incompat & incompat != 0
    }

    /// The block of the log after `block`.
    fn after(&self, block: u32) -> u32 {
        block.checked_add(1).filter(|next| *next < self.last).unwrap_or(self.first)
    }

    /// Where block number `block` of the journal is.
    fn place(&self, block: u32) -> Result<BlockNumber, Ext4Error> {
        let block = u64::from(block);
        let behind = self.extents.partition_point(|extent| extent.logical <= block);
        match behind.checked_sub(1).and_then(|number| self.extents.get(number)) {
            Some(extent) if block - extent.logical < extent.run.len => {
                Ok(extent.run.start.plus(block - extent.logical))
            }
            _ => Err(Ext4Error::corrupt("the journal refers to a block past its end")),
        }
    }

    /// Leaves nothing to be replayed: the next transaction gets the number `sequence`.
    fn empty(&mut self, sequence: u32) {
        put_be32(&mut self.superblock, S_START, 0);
        put_be32(&mut self.superblock, S_SEQUENCE, sequence);
        if self.checked() {
            let checksum = self.superblock_checksum();
            put_be32(&mut self.superblock, S_CHECKSUM, checksum);
        }
    }
}

impl Volume<'_> {
    /// Puts into place what the journal holds, if the file system says that it holds something.
    pub(super) fn recover(&mut self) -> Result<(), Ext4Error> {
        let journaled = self.superblock.has_compat(features::HAS_JOURNAL);
        let dirty = self.superblock.has_incompat(features::RECOVER);
        let number = InodeNumber(self.superblock.get(superblock::JOURNAL_INUM));
        match (journaled, dirty) {
            (false, false) => return Ok(()),
            (false, true) => return Err(Ext4Error::corrupt("it is marked as holding a journal's changes without one")),
            // What is already in place can be read without the other disk.
            (true, false) if !self.disk.may_write() => return Ok(()),
            (true, _) if number.0 == 0 => return Err(external()),
            (true, _) => {}
        }
        let mut journal = self.open_journal(number)?;
        if !dirty {
            // The kernel forgets such a log and e2fsck replays it: after an edit that would be damage.
            if journal.start().is_some() {
                return Err(Ext4Error::corrupt("the journal holds changes, and the superblock says that it does not"));
            }
            self.superblock.record_errors(be32(&journal.superblock, S_ERRNO) != 0);
            return Ok(());
        }
        let errors = self.superblock.has_errors() || be32(&journal.superblock, S_ERRNO) != 0;
        let mut sequence = journal.sequence();
        if let Some(start) = journal.start() {
            let log = log::read(self, &journal, start)?;
            sequence = sequence.wrapping_add(log.transactions);
            if journal.has(INCOMPAT_FAST_COMMIT) && log::has_fast_commits(self, &journal, sequence)? {
                return Err(refused("fast commits in its journal (`fast_commit`)"));
            }
            self.replay(&journal, &log)?;
            sequence = sequence.wrapping_add(1);
        }
        self.reload()?;
        self.superblock.record_errors(errors);
        if journal.extents.iter().any(|extent| self.claims.touch(extent.run)) {
            return Err(Ext4Error::corrupt("the journal puts metadata where it lies itself"));
        }
        journal.empty(sequence);
        self.change_block(journal.place(0)?, journal.superblock);
        Ok(())
    }

    /// Whether a journal that nobody needs holds no changes.
    pub(super) fn journal_is_empty(&mut self, number: InodeNumber) -> Result<bool, Ext4Error> {
        Ok(self.look_at_journal(number, false)?.start().is_none())
    }

    fn open_journal(&mut self, number: InodeNumber) -> Result<Journal, Ext4Error> {
        self.look_at_journal(number, true)
    }

    fn look_at_journal(&mut self, number: InodeNumber, has_log: bool) -> Result<Journal, Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("the journal {what}")));
        let inode = self.inode(number)?;
        if inode.kind() != Some(FileKind::File) || inode.get(inode::LINKS_COUNT) == 0 {
            return damaged(&format!("(inode {}) is not a file in use", number.0));
        }
        let extents = self.file_blocks(number)?.extents;
        let mut blocks = 0;
        for extent in &extents {
            if extent.logical != blocks || extent.uninitialised {
                return damaged("has a hole");
            }
            blocks += extent.run.len;
        }
        let Some(first) = extents.first() else { return damaged("is empty") };
        let superblock = self.read_block(first.run.start)?;
        Journal::parse(superblock, extents, blocks, self.layout.block_size, has_log)
    }

    /// Reads again what the journal may have changed: everything that was read before it.
    fn reload(&mut self) -> Result<(), Ext4Error> {
        let (block, offset) = self.superblock_place(0);
        let bytes = self.read_block(block)?.get(offset..offset + superblock::SIZE).unwrap_or_default().to_vec();
        let mut superblock = superblock::Superblock::parse(bytes)?;
        let incompat = superblock.get(superblock::FEATURE_INCOMPAT);
        superblock.set(superblock::FEATURE_INCOMPAT, incompat & !features::RECOVER);
        self.adopt(superblock)?;
        match self.replayed.keys().next_back() {
            Some(last) if !self.layout.contains(*last, 1) => {
                Err(Ext4Error::corrupt(format!("the journal changes block {}, which does not exist", last.0)))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `block` lies in one of `runs`, which are in order.
fn holds(runs: &[Run], block: BlockNumber) -> bool {
    let behind = runs.partition_point(|other| other.start <= block);
    behind.checked_sub(1).and_then(|number| runs.get(number)).is_some_and(|run| run.end() > block)
}

fn external() -> Ext4Error {
    Ext4Error::Unsupported {
        what: "an external journal".into(),
        hint: Some(
            "where its journal is, take that away with `tune2fs -O ^has_journal`, then add one with `tune2fs -j`",
        ),
    }
}

fn refused(what: &str) -> Ext4Error {
    Ext4Error::Unsupported {
        what: what.into(),
        hint: Some("run `e2fsck -fy` on a copy of the image: it was not unmounted cleanly"),
    }
}
