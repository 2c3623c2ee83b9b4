//! The journal of a file system that was not unmounted cleanly: what it holds is put into place first.
//!
//! Written from the kernel's Documentation/filesystems/ext4/journal.rst (jbd2, checksums v1 to v3, revoked
//! blocks, 64-bit numbers). A journal ends where a transaction is incomplete. Fast commits, asynchronous commits without checksums and external journals are refused by
//! name. Everything in a journal is big endian.

use std::collections::BTreeMap;

use super::checksum::crc32c;
use super::error::Ext4Error;
use super::features;
use super::inode::InodeNumber;
use super::layout::BlockNumber;
use super::record::{count, index};
use super::superblock;
use super::volume::Volume;

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

const COMPAT_CHECKSUM: u32 = 0x1;
const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
const INCOMPAT_CSUM_V2: u32 = 0x8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = 0x3f;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// Offsets in every block of the journal.
const HEADER_TYPE: usize = 4;
const HEADER_SEQUENCE: usize = 8;
const HEADER: usize = 12;
/// Offsets in the journal's superblock.
const S_BLOCKSIZE: usize = 0xc;
const S_MAXLEN: usize = 0x10;
const S_FIRST: usize = 0x14;
const S_SEQUENCE: usize = 0x18;
const S_START: usize = 0x1c;
const S_COMPAT: usize = 0x24;
const S_INCOMPAT: usize = 0x28;
const S_UUID: std::ops::Range<usize> = 0x30..0x40;
const S_CHECKSUM: usize = 0xfc;
const S_SIZE: usize = 1024;
/// Offsets of a commit block's kind and size of checksum (with v1), and of the checksum.
const COMMIT_KIND: usize = 0xc;
const COMMIT_CHECKSUM: usize = 0x10;
/// crc32, four bytes.
const COMMIT_CRC32: u32 = 0x0104_0000;
/// Offset of the count and of the numbers in a revoke block.
const REVOKE_COUNT: usize = 0xc;
const REVOKE_NUMBERS: usize = 0x10;

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at.saturating_add(4)).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(slot) = bytes.get_mut(at..at.saturating_add(4)) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// crc32, most significant bit first, as checksums v1 use it.
fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        let step = |crc: u32, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
        (0..8).fold(crc ^ u32::from(*byte) << 24, step)
    })
}

/// A block that a transaction changes, and where in the journal its new bytes are.
#[derive(Debug, Clone, Copy)]
struct Change {
    target: BlockNumber,
    source: u32,
    escaped: bool,
}

/// A transaction, as far as it was read.
#[derive(Debug, Default)]
struct Transaction {
    changes: Vec<Change>,
    revoked: Vec<BlockNumber>,
    /// The sum of all its blocks, with checksums v1.
    sum: Option<u32>,
}

impl Transaction {
    fn add(&mut self, journal: &Journal, block: &[u8]) {
        if journal.sums() {
            self.sum = Some(crc32_be(self.sum.unwrap_or(!0), block));
        }
    }

    /// Whether a commit block says the same; one of before the feature was switched on says nothing.
    fn is_whole(&self, journal: &Journal, commit: &[u8]) -> bool {
        let (kind, sum) = (be32(commit, COMMIT_KIND), be32(commit, COMMIT_CHECKSUM));
        !journal.sums() || kind == 0 && sum == 0 || kind == COMMIT_CRC32 && sum == self.sum.unwrap_or(!0)
    }
}

/// The journal's own blocks, and what its superblock says.
struct Journal {
    places: Vec<BlockNumber>,
    superblock: Vec<u8>,
    len: u32,
    first: u32,
    incompat: u32,
    seed: u32,
}

impl Journal {
    fn checked(&self) -> bool {
        self.incompat & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0
    }

    /// Whether commit blocks hold the sum of their transaction.
    fn sums(&self) -> bool {
        be32(&self.superblock, S_COMPAT) & COMPAT_CHECKSUM != 0 && !self.checked()
    }

    fn after(&self, block: u32) -> u32 {
        if block + 1 >= self.len { self.first } else { block + 1 }
    }

    fn tag_size(&self) -> usize {
        if self.incompat & INCOMPAT_CSUM_V3 != 0 {
            return 16;
        }
        let checksum = if self.incompat & INCOMPAT_CSUM_V2 != 0 { 2 } else { 0 };
        let high = if self.incompat & INCOMPAT_64BIT != 0 { 4 } else { 0 };
        8 + checksum + high
    }

    /// Whether the checksum at `at` of a block that begins with a header is right.
    fn is_right(&self, block: &[u8], at: usize) -> bool {
        let mut copy = block.to_vec();
        put_be32(&mut copy, at, 0);
        !self.checked() || be32(block, at) == crc32c(self.seed, &copy)
    }
}

impl Volume<'_> {
    /// Puts into place what the journal holds; answers whether it held something.
    pub(super) fn recover(&mut self) -> Result<bool, Ext4Error> {
        if !self.superblock.has_incompat(features::RECOVER) {
            return Ok(false);
        }
        let number = self.superblock.get(superblock::JOURNAL_INUM);
        if !self.superblock.has_compat(features::HAS_JOURNAL) || number == 0 {
            return Err(refused("an external journal that holds changes"));
        }
        let mut journal = self.open_journal(InodeNumber(number))?;
        let start = be32(&journal.superblock, S_START);
        let mut sequence = be32(&journal.superblock, S_SEQUENCE);
        if start != 0 {
            let transactions = self.read_transactions(&journal, start, sequence)?;
            self.replay(&journal, &transactions)?;
            sequence = sequence.wrapping_add(u32::try_from(transactions.len()).unwrap_or(0)).wrapping_add(1);
        }
        put_be32(&mut journal.superblock, S_START, 0);
        put_be32(&mut journal.superblock, S_SEQUENCE, sequence);
        if journal.checked() {
            put_be32(&mut journal.superblock, S_CHECKSUM, 0);
            let checksum = crc32c(!0, journal.superblock.get(..S_SIZE).unwrap_or_default());
            put_be32(&mut journal.superblock, S_CHECKSUM, checksum);
        }
        if let Some(place) = journal.places.first() {
            self.change_block(*place, journal.superblock);
        }
        Ok(true)
    }

    fn open_journal(&mut self, number: InodeNumber) -> Result<Journal, Ext4Error> {
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("the journal {what}")));
        let mut places = Vec::new();
        for extent in self.file_blocks(number)?.extents {
            if extent.logical != count(places.len()) {
                return damaged("has a hole");
            }
            places.extend((0..extent.run.len).map(|block| extent.run.start.plus(block)));
        }
        let Some(place) = places.first() else { return damaged("is empty") };
        let superblock = self.read_block(*place)?;
        let (len, first) = (be32(&superblock, S_MAXLEN), be32(&superblock, S_FIRST));
        if be32(&superblock, 0) != MAGIC || be32(&superblock, HEADER_TYPE) != SUPERBLOCK_V2 {
            return damaged("has no superblock of version 2");
        }
        if be32(&superblock, S_BLOCKSIZE) != self.layout.block_size
            || index(len) > places.len()
            || first >= len
            || first == 0
        {
            return damaged("has a superblock that contradicts itself");
        }
        let incompat = be32(&superblock, S_INCOMPAT);
        let checksums = incompat & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0;
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(refused("a journal with unknown features that holds changes"));
        }
        if incompat & INCOMPAT_FAST_COMMIT != 0 {
            return Err(refused("a journal with `fast_commit` that holds changes"));
        }
        if incompat & INCOMPAT_ASYNC_COMMIT != 0 && !checksums {
            return Err(refused("a journal with `journal_async_commit` that holds changes"));
        }
        let seed = crc32c(!0, superblock.get(S_UUID).unwrap_or_default());
        let journal = Journal { places, superblock, len, first, incompat, seed };
        if checksums {
            let mut copy = journal.superblock.get(..S_SIZE).unwrap_or_default().to_vec();
            put_be32(&mut copy, S_CHECKSUM, 0);
            if be32(&journal.superblock, S_CHECKSUM) != crc32c(!0, &copy) {
                return damaged("has a superblock with a wrong checksum");
            }
        }
        Ok(journal)
    }

    fn read_journal(&self, journal: &Journal, block: u32) -> Result<Vec<u8>, Ext4Error> {
        match journal.places.get(index(block)) {
            Some(place) => self.read_block(*place),
            None => Err(Ext4Error::corrupt("the journal refers to a block past its end")),
        }
    }

    /// The complete transactions from block `start` on. Bounded by the journal's length.
    fn read_transactions(&self, journal: &Journal, start: u32, first: u32) -> Result<Vec<Transaction>, Ext4Error> {
        let mut complete = Vec::new();
        let mut current = Transaction::default();
        let (mut at, mut sequence, mut steps) = (start, first, 0u32);
        while steps < journal.len {
            let block = self.read_journal(journal, at)?;
            if be32(&block, 0) != MAGIC || be32(&block, HEADER_SEQUENCE) != sequence {
                break;
            }
            let tail = block.len() - 4;
            let at_header = at;
            at = journal.after(at);
            steps += 1;
            match be32(&block, HEADER_TYPE) {
                DESCRIPTOR if journal.is_right(&block, tail) => {
                    current.add(journal, &block);
                    for (change, checksum) in tags(journal, &block) {
                        let change = Change { source: at, ..change };
                        let data = self.read_journal(journal, at)?;
                        if !checksum.is_none_or(|checksum| checksum.matches(journal, sequence, &data)) {
                            // Damage in a block that was committed is not the end of the log: nobody may guess.
                            return Err(Ext4Error::corrupt(format!("block {at} of the journal has a wrong checksum")));
                        }
                        current.add(journal, &data);
                        current.changes.push(change);
                        at = journal.after(at);
                        steps = steps.saturating_add(1);
                    }
                }
                REVOKE if journal.is_right(&block, tail) => current.revoked.extend(revoked(journal, &block)),
                COMMIT if !current.is_whole(journal, &block) => break,
                COMMIT if journal.is_right(&block, COMMIT_CHECKSUM) => {
                    complete.push(std::mem::take(&mut current));
                    sequence = sequence.wrapping_add(1);
                }
                DESCRIPTOR | REVOKE | COMMIT => {
                    let what = format!("block {at_header} of the journal has a wrong checksum");
                    return Err(Ext4Error::corrupt(what));
                }
                _ => break,
            }
        }
        Ok(complete)
    }

    /// A block that a later transaction, or its own, revoked keeps what it has.
    fn replay(&mut self, journal: &Journal, transactions: &[Transaction]) -> Result<(), Ext4Error> {
        let mut revoked = BTreeMap::new();
        for (number, transaction) in transactions.iter().enumerate() {
            revoked.extend(transaction.revoked.iter().map(|block| (*block, number)));
        }
        for (number, transaction) in transactions.iter().enumerate() {
            for change in &transaction.changes {
                if revoked.get(&change.target).is_some_and(|last| *last >= number) {
                    continue;
                }
                let mut bytes = self.read_journal(journal, change.source)?;
                if change.escaped {
                    put_be32(&mut bytes, 0, MAGIC);
                }
                if change.target.0 >= self.layout.blocks {
                    let what = format!("the journal changes block {}, which does not exist", change.target.0);
                    return Err(Ext4Error::corrupt(what));
                }
                self.change_block(change.target, bytes);
            }
        }
        Ok(())
    }
}

fn refused(what: &str) -> Ext4Error {
    Ext4Error::Unsupported {
        what: what.into(),
        hint: Some("run `e2fsck -fy` on a copy of the image: it was not unmounted cleanly"),
    }
}

/// What a tag says its block adds up to.
#[derive(Debug, Clone, Copy)]
enum TagChecksum {
    Low(u32),
    Whole(u32),
}

impl TagChecksum {
    fn matches(self, journal: &Journal, sequence: u32, data: &[u8]) -> bool {
        let sum = crc32c(crc32c(journal.seed, &sequence.to_be_bytes()), data);
        match self {
            Self::Low(low) => sum & 0xffff == low,
            Self::Whole(whole) => sum == whole,
        }
    }
}

/// The tags of a descriptor block; the places of their blocks are for the caller to fill in.
fn tags(journal: &Journal, block: &[u8]) -> Vec<(Change, Option<TagChecksum>)> {
    let size = journal.tag_size();
    let end = block.len() - if journal.checked() { 4 } else { 0 };
    let wide = journal.incompat & INCOMPAT_64BIT != 0;
    let v3 = journal.incompat & INCOMPAT_CSUM_V3 != 0;
    let mut tags = Vec::new();
    let mut at = HEADER;
    while at + size <= end {
        let word = be32(block, at + 4);
        let (flags, checksum) = match (v3, journal.checked()) {
            (true, _) => (word, Some(TagChecksum::Whole(be32(block, at + 12)))),
            (false, true) => (word & 0xffff, Some(TagChecksum::Low(word >> 16))),
            (false, false) => (word & 0xffff, None),
        };
        let high = if wide { be32(block, at + 8) } else { 0 };
        let target = BlockNumber(u64::from(high) << 32 | u64::from(be32(block, at)));
        tags.push((Change { target, source: 0, escaped: flags & TAG_ESCAPED != 0 }, checksum));
        at += size + if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
        if flags & TAG_LAST != 0 {
            break;
        }
    }
    tags
}

/// The numbers in a revoke block.
fn revoked(journal: &Journal, block: &[u8]) -> Vec<BlockNumber> {
    let end = index(be32(block, REVOKE_COUNT)).min(block.len());
    let numbers = block.get(REVOKE_NUMBERS..end).unwrap_or_default();
    if journal.incompat & INCOMPAT_64BIT != 0 {
        let number = |word: &[u8]| BlockNumber(u64::from(be32(word, 0)) << 32 | u64::from(be32(word, 4)));
        numbers.chunks_exact(8).map(number).collect()
    } else {
        numbers.chunks_exact(4).map(|word| BlockNumber(be32(word, 0).into())).collect()
    }
}
