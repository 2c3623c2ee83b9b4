//! The log: transactions one after the other, each of descriptor blocks with the data they announce, revoke
//! blocks, and a commit block.
//!
//! Where the log ends and what is damage follows `do_one_pass` of fs/jbd2/recovery.c in Linux 6.12. A block of another
//! sequence number ends it, and with it a transaction that was never committed, whatever that one's checksums are.
//! A wrong checksum in a committed transaction is damage, unless the commit is older than the one before:
//! that is what an earlier round of the log left behind. With asynchronous commits the last commit block may be
//! there before its data, so that one may be wrong.

use super::super::checksum::crc32c;
use super::super::error::Ext4Error;
use super::super::layout::BlockNumber;
use super::super::record::{Number, index};
use super::super::volume::Volume;
use super::{HEADER_TYPE, INCOMPAT_64BIT, INCOMPAT_ASYNC_COMMIT, Journal, MAGIC, Sums, be32, be64, put_be32, refused};

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// Offsets in every block of the journal that is not data.
const HEADER_SEQUENCE: usize = 8;
const HEADER: usize = 12;
/// Bytes of the checksum that ends a descriptor or revoke block.
const TAIL: usize = 4;
/// Offsets of a commit block's kind and size of checksum (with v1), of the checksum, and of its time.
const COMMIT_KIND: usize = 0xc;
const COMMIT_CHECKSUM: usize = 0x10;
const COMMIT_SECONDS: usize = 0x30;
/// crc32, four bytes.
const COMMIT_CRC32: u32 = 0x0104;
/// Offset of the count of bytes and of the numbers in a revoke block.
const REVOKE_COUNT: usize = 0xc;
const REVOKE_NUMBERS: usize = 0x10;
/// The record that begins the fast commits after a transaction, and its length.
const FC_TAG_HEAD: u16 = 9;
const FC_HEAD_LENGTH: u16 = 8;

/// The table of crc32, most significant bit first, as checksums v1 use it.
const CRC32_BE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u32;
    // `byte` and its index count together: a constant can use neither iterators nor conversions.
    let mut at = 0;
    while at < 256 {
        let mut crc = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[at] = crc;
        byte += 1;
        at += 1;
    }
    table
};

fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let entry = index((crc >> 24) ^ u32::from(*byte));
        crc << 8 ^ CRC32_BE.get(entry).copied().unwrap_or_default()
    };
    bytes.iter().fold(seed, step)
}

/// A block that a transaction changes, and where in the journal its new bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) target: BlockNumber,
    pub(super) source: u32,
    /// Counted from the first in the log.
    pub(super) transaction: u32,
    /// Its first word looked like a journal block's and was blanked.
    pub(super) escaped: bool,
    checksum: Option<TagChecksum>,
}

/// What a tag says its block adds up to.
#[derive(Debug, Clone, Copy)]
enum TagChecksum {
    Low(u32),
    Whole(u32),
}

impl Change {
    /// Whether `data`, as the journal has it, is what was written.
    pub(super) fn is_right(&self, journal: &Journal, data: &[u8]) -> bool {
        let sequence = journal.sequence().wrapping_add(self.transaction);
        let sum = || crc32c(crc32c(journal.seed, &sequence.to_be_bytes()), data);
        match self.checksum {
            None => true,
            Some(TagChecksum::Low(low)) => sum() & 0xffff == low,
            Some(TagChecksum::Whole(whole)) => sum() == whole,
        }
    }
}

/// What the committed transactions of a log say. As long as the log at the most: contents stay where they are.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) transactions: u32,
    pub(super) changes: Vec<Change>,
    /// Blocks of the journal that list revoked blocks, each with its transaction.
    pub(super) revokes: Vec<(u32, u32)>,
}

/// Reads the log that begins at block `start` of the journal.
pub(super) fn read(volume: &Volume, journal: &Journal, start: u32) -> Result<Log, Ext4Error> {
    if journal.has(INCOMPAT_ASYNC_COMMIT) && journal.sums == Sums::None {
        return Err(refused("a journal with `journal_async_commit` and no checksums"));
    }
    let mut scan = Scan {
        volume,
        journal,
        at: start,
        steps: 0,
        log: Log::default(),
        pending: Pending::default(),
        doubtful: false,
        torn: false,
        committed: 0,
    };
    scan.run()?;
    Ok(scan.log)
}

/// A transaction whose commit block was not met yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    revokes: Vec<(u32, u32)>,
    /// The sum of its blocks, with checksums v1.
    sum: Option<u32>,
}

struct Scan<'a, 'disk> {
    volume: &'a Volume<'disk>,
    journal: &'a Journal,
    /// The next block, and how many were passed: the log never is longer than the journal.
    at: u32,
    steps: u32,
    log: Log,
    pending: Pending,
    /// Whether a block of the pending transaction has a wrong checksum.
    doubtful: bool,
    /// Whether an asynchronous commit was wrong, and so the log ended.
    torn: bool,
    /// When the last transaction was committed.
    committed: u64,
}

impl Scan<'_, '_> {
    fn run(&mut self) -> Result<(), Ext4Error> {
        let length = self.journal.last;
        while self.steps < length {
            let here = self.advance();
            let block = self.volume.read_journal(self.journal, here)?;
            let sequence = self.journal.sequence().wrapping_add(self.log.transactions).wrapping_add(self.torn.into());
            if be32(&block, 0) != MAGIC || be32(&block, HEADER_SEQUENCE) != sequence {
                break;
            }
            match be32(&block, HEADER_TYPE) {
                DESCRIPTOR => self.descriptor(&block)?,
                REVOKE => {
                    self.doubtful |= !has_right_tail(self.journal, &block);
                    self.pending.revokes.push((here, self.log.transactions));
                }
                COMMIT if !self.commit(&block)? => break,
                COMMIT => {}
                _ => break,
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> u32 {
        let here = self.at;
        self.at = self.journal.after(here);
        self.steps = self.steps.saturating_add(1);
        here
    }

    fn descriptor(&mut self, block: &[u8]) -> Result<(), Ext4Error> {
        self.doubtful |= !has_right_tail(self.journal, block);
        self.add(block);
        for mut change in tags(self.journal, block) {
            change.source = self.advance();
            change.transaction = self.log.transactions;
            if self.journal.sums == Sums::V1 {
                let data = self.volume.read_journal(self.journal, change.source)?;
                self.add(&data);
            }
            self.pending.changes.push(change);
        }
        Ok(())
    }

    fn add(&mut self, block: &[u8]) {
        if self.journal.sums == Sums::V1 {
            self.pending.sum = Some(crc32_be(self.pending.sum.unwrap_or(!0), block));
        }
    }

    /// Ends the pending transaction; whether the log goes on.
    fn commit(&mut self, block: &[u8]) -> Result<bool, Ext4Error> {
        let pending = std::mem::take(&mut self.pending);
        let number = self.journal.sequence().wrapping_add(self.log.transactions);
        let damaged = || Ext4Error::corrupt(format!("transaction {number} of the journal has a wrong checksum"));
        let seconds = be64(block, COMMIT_SECONDS);
        if self.torn {
            return Err(damaged());
        }
        if self.doubtful || !self.commit_is_right(block, &pending) {
            if seconds < self.committed {
                return Ok(false);
            }
            if self.doubtful || !self.journal.has(INCOMPAT_ASYNC_COMMIT) {
                return Err(damaged());
            }
            self.torn = true;
            return Ok(true);
        }
        self.committed = seconds;
        self.log.changes.extend(pending.changes);
        self.log.revokes.extend(pending.revokes);
        self.log.transactions = self.log.transactions.wrapping_add(1);
        Ok(true)
    }

    fn commit_is_right(&self, block: &[u8], pending: &Pending) -> bool {
        let (kind, sum) = (be32(block, COMMIT_KIND) >> 16, be32(block, COMMIT_CHECKSUM));
        match self.journal.sums {
            Sums::None => true,
            // One from before the feature was switched on says nothing.
            Sums::V1 => kind == 0 && sum == 0 || kind == COMMIT_CRC32 && sum == pending.sum.unwrap_or(!0),
            Sums::V2 | Sums::V3 => is_right(self.journal, block, COMMIT_CHECKSUM),
        }
    }
}

/// Whether the checksum at `at` of a block that begins with a header is right.
fn is_right(journal: &Journal, block: &[u8], at: usize) -> bool {
    let mut copy = block.to_vec();
    put_be32(&mut copy, at, 0);
    be32(block, at) == crc32c(journal.seed, &copy)
}

fn has_right_tail(journal: &Journal, block: &[u8]) -> bool {
    !journal.checked() || is_right(journal, block, block.len().saturating_sub(TAIL))
}

/// Bytes of a block without the tail that checksums add.
fn room(journal: &Journal, block: &[u8]) -> usize {
    block.len().saturating_sub(if journal.checked() { TAIL } else { 0 })
}

/// The tags of a descriptor block; the places of their blocks are for the caller to fill in.
fn tags(journal: &Journal, block: &[u8]) -> Vec<Change> {
    let wide = journal.has(INCOMPAT_64BIT);
    let size = match journal.sums {
        Sums::V3 => 16,
        Sums::V2 => 10 + if wide { 4 } else { 0 },
        Sums::V1 | Sums::None => 8 + if wide { 4 } else { 0 },
    };
    let end = room(journal, block);
    let mut tags = Vec::new();
    let mut at = HEADER;
    while at + size <= end {
        let word = be32(block, at + 4);
        let (flags, checksum) = match journal.sums {
            Sums::V3 => (word, Some(TagChecksum::Whole(be32(block, at + 12)))),
            Sums::V2 => (word & 0xffff, Some(TagChecksum::Low(word >> 16))),
            Sums::V1 | Sums::None => (word & 0xffff, None),
        };
        let high = if wide { be32(block, at + 8) } else { 0 };
        let target = BlockNumber(u64::from(high) << 32 | u64::from(be32(block, at)));
        tags.push(Change { target, source: 0, transaction: 0, escaped: flags & TAG_ESCAPED != 0, checksum });
        at += size + if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
        if flags & TAG_LAST != 0 {
            break;
        }
    }
    tags
}

/// The numbers in a revoke block; none if it says that it holds more than fit.
pub(super) fn revoked(journal: &Journal, block: &[u8]) -> Option<Vec<BlockNumber>> {
    let end = index(be32(block, REVOKE_COUNT));
    if end > room(journal, block) {
        return None;
    }
    let numbers = block.get(REVOKE_NUMBERS..end).unwrap_or_default();
    Some(if journal.has(INCOMPAT_64BIT) {
        numbers.chunks_exact(8).map(|word| BlockNumber(be64(word, 0))).collect()
    } else {
        numbers.chunks_exact(4).map(|word| BlockNumber(be32(word, 0).into())).collect()
    })
}

/// Whether fast commits follow the last transaction: the next one would have the number `sequence`. They begin one
/// block behind the log, with a record of that number; an older one's, or nothing at all, means that there are none.
pub(super) fn has_fast_commits(volume: &Volume, journal: &Journal, sequence: u32) -> Result<bool, Ext4Error> {
    let block = volume.read_journal(journal, journal.last.saturating_add(1))?;
    let (tag, length) = (u16::load(&block, 0), u16::load(&block, 2));
    let stale = (tag, length) == (FC_TAG_HEAD, FC_HEAD_LENGTH) && u32::load(&block, 8) != sequence;
    Ok((tag, length) != (0, 0) && !stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_version_1_is_that_of_the_kernel_s_crc32_be() {
        // The check value of CRC-32/MPEG-2, which begins with all ones and inverts nothing.
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_e6e7);
    }
}
