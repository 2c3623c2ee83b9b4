//! Putting into place what a log holds: the last version of each block that no later transaction revoked.
//!
//! Contents are not read into memory: reads of a block are led to its place in the journal, and when everything is
//! written the host's bytes of the one are mapped over the other. A log of 1 GiB costs a few MiB.

use std::collections::BTreeMap;

use super::super::error::Ext4Error;
use super::super::layout::{BlockNumber, Run};
use super::super::record::{count, index};
use super::super::volume::Volume;
use super::log::{self, Log};
use super::{Journal, MAGIC, holds, put_be32};
use crate::disk::Source;

const ACTION: &str = "put a block of the journal into place";

/// Where the new bytes of a block are.
#[derive(Debug, Clone, Copy)]
pub(in crate::ext4) struct Replayed {
    source: BlockNumber,
    escaped: bool,
}

impl Volume<'_> {
    pub(super) fn read_journal(&self, journal: &Journal, block: u32) -> Result<Vec<u8>, Ext4Error> {
        self.read_block(journal.place(block)?)
    }

    /// A block that a later transaction, or its own, revoked keeps what it has.
    pub(super) fn replay(&mut self, journal: &Journal, log: &Log) -> Result<(), Ext4Error> {
        let revoked = self.revoked(journal, log)?;
        let mut own: Vec<Run> = journal.extents.iter().map(|extent| extent.run).collect();
        own.sort_by_key(|run| run.start);
        let mut replayed = BTreeMap::new();
        for change in &log.changes {
            let target = change.target;
            if revoked.get(&target).copied().flatten().is_some_and(|last| last >= change.transaction) {
                continue;
            }
            let data = self.read_journal(journal, change.source)?;
            if !change.is_right(journal, &data) {
                let what = format!("block {} of the journal has a wrong checksum", change.source);
                return Err(Ext4Error::corrupt(what));
            }
            // A log that grows the file system may reach past its old end.
            let end = self.layout.bytes(target.0).checked_add(self.layout.block_size.into());
            if target.0 < self.layout.first_data_block.into() || end.is_none_or(|end| end > self.disk.size()) {
                return Err(Ext4Error::corrupt(format!(
                    "the journal changes block {}, which does not exist",
                    target.0
                )));
            }
            if holds(&own, target) {
                return Err(Ext4Error::corrupt(format!("the journal changes block {}, its own", target.0)));
            }
            let source = journal.place(change.source)?;
            replayed.insert(target, Replayed { source, escaped: change.escaped });
        }
        self.replayed = replayed;
        Ok(())
    }

    /// For each block that the log changes, the last transaction that revoked it.
    fn revoked(&self, journal: &Journal, log: &Log) -> Result<BTreeMap<BlockNumber, Option<u32>>, Ext4Error> {
        let mut revoked: BTreeMap<BlockNumber, Option<u32>> =
            log.changes.iter().map(|change| (change.target, None)).collect();
        for (block, transaction) in &log.revokes {
            let bytes = self.read_journal(journal, *block)?;
            let numbers = log::revoked(journal, &bytes).ok_or_else(|| {
                Ext4Error::corrupt(format!("block {block} of the journal revokes more blocks than fit in it"))
            })?;
            for number in numbers {
                if let Some(last) = revoked.get_mut(&number) {
                    *last = (*last).max(Some(*transaction));
                }
            }
        }
        Ok(revoked)
    }

    /// The bytes that the journal holds for `block`, if it does.
    pub(in crate::ext4) fn read_replayed(&self, block: BlockNumber) -> Result<Option<Vec<u8>>, Ext4Error> {
        let Some(replayed) = self.replayed.get(&block) else { return Ok(None) };
        let mut bytes = vec![0; index(self.layout.block_size)];
        self.disk.read_at(self.layout.bytes(replayed.source.0), &mut bytes, "read a block of the journal")?;
        if replayed.escaped {
            put_be32(&mut bytes, 0, MAGIC);
        }
        Ok(Some(bytes))
    }

    /// Writes what the journal holds, as far as nothing newer takes its place; answers the number of bytes.
    /// Comes before all other writes: the journal's blocks are still what they were.
    pub(in crate::ext4) fn write_replayed(&mut self) -> Result<u64, Ext4Error> {
        let mut written = 0;
        let mut run: Option<(BlockNumber, Run)> = None;
        let targets: Vec<BlockNumber> =
            self.replayed.keys().filter(|target| !self.changed.contains_key(target)).copied().collect();
        for target in targets {
            let Some(Replayed { source, escaped }) = self.replayed.get(&target).copied() else { continue };
            if escaped {
                let bytes = self.read_replayed(target)?.unwrap_or_default();
                self.disk.write_at(self.layout.bytes(target.0), &bytes, ACTION)?;
                written += count(bytes.len());
                continue;
            }
            match &mut run {
                Some((to, from)) if to.plus(from.len) == target && from.end() == source => from.len += 1,
                _ => {
                    if let Some((to, from)) = run.replace((target, Run { start: source, len: 1 })) {
                        written += self.copy(from, to)?;
                    }
                }
            }
        }
        if let Some((to, from)) = run {
            written += self.copy(from, to)?;
        }
        self.replayed.clear();
        Ok(written)
    }

    /// Makes the blocks from `to` on be those of `from`.
    fn copy(&mut self, from: Run, to: BlockNumber) -> Result<u64, Ext4Error> {
        const LONGEST: u64 = 1 << 20;
        let (start, len) = (self.layout.bytes(from.start.0), self.layout.bytes(from.len));
        let shift = |offset: u64| self.layout.bytes(to.0).saturating_add(offset.saturating_sub(start));
        for piece in self.disk.pieces(start..start.saturating_add(len), ACTION)? {
            let target = shift(piece.offset);
            match piece.source {
                Source::Zero => self.disk.zero(target, piece.len, ACTION)?,
                Source::File(range) => self.disk.map(target, range, ACTION)?,
                Source::Bytes(bytes, skip) => {
                    let part = bytes.get(skip..skip.saturating_add(index(piece.len))).unwrap_or_default();
                    self.disk.write_at(target, part, ACTION)?;
                }
                Source::Opaque => {
                    let mut done = 0;
                    while done < piece.len {
                        let mut bytes = vec![0; index(LONGEST.min(piece.len - done))];
                        self.disk.read_at(piece.offset.saturating_add(done), &mut bytes, ACTION)?;
                        self.disk.write_at(target.saturating_add(done), &bytes, ACTION)?;
                        done += count(bytes.len());
                    }
                }
            }
        }
        Ok(len)
    }
}
