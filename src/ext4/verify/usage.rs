//! Which blocks somebody holds: a bit each, for the groups in which there are any.

use super::super::layout::{Layout, Run};
use super::super::record::index;

/// Blocks by group, in words of 64.
pub(super) struct Usage {
    first: u64,
    per_group: u64,
    words: usize,
    blocks: u64,
    groups: Vec<Option<Box<[u64]>>>,
    /// Blocks that more than one asked for, counted for each asking.
    contested: u64,
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The first block that somebody else held already.
    pub(super) first: u64,
    /// How many there are.
    pub(super) blocks: u64,
}

impl Usage {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            first: layout.first_data_block.into(),
            per_group: layout.blocks_per_group.into(),
            words: index(layout.blocks_per_group.div_ceil(64)),
            blocks: layout.blocks,
            groups: (0..layout.groups()).map(|_| None).collect(),
            contested: 0,
        }
    }

    /// Takes the blocks of `run`, which lie in the file system; answers those that were taken before.
    ///
    /// Where more is contested than the file system has blocks, nothing is counted any more: a small image could
    /// otherwise ask for all of them again and again.
    pub(super) fn claim(&mut self, run: Run) -> Option<Taken> {
        if self.contested > self.blocks {
            return Some(Taken { first: run.start.0, blocks: run.len });
        }
        let mut taken: Option<Taken> = None;
        let mut at = run.start.0;
        let end = run.start.0.saturating_add(run.len).min(self.blocks);
        while at < end {
            let (group, bit) = self.locate(at);
            let stop = end.min(at + (self.per_group - bit));
            let words = self.words;
            let Some(slot) = self.groups.get_mut(group) else { break };
            let bits = slot.get_or_insert_with(|| vec![0; words].into_boxed_slice());
            for (word, mask, start) in masks(bit, bit + (stop - at)) {
                let Some(word) = bits.get_mut(word) else { continue };
                let clash = *word & mask;
                if clash != 0 {
                    let first = at - bit + start + u64::from(clash.trailing_zeros());
                    let taken = taken.get_or_insert(Taken { first, blocks: 0 });
                    taken.blocks += u64::from(clash.count_ones());
                }
                *word |= mask;
            }
            at = stop;
        }
        if let Some(taken) = taken {
            self.contested = self.contested.saturating_add(taken.blocks);
        }
        taken
    }

    fn locate(&self, block: u64) -> (usize, u64) {
        let relative = block.saturating_sub(self.first);
        (index(relative / self.per_group), relative % self.per_group)
    }

    /// 64 bits of a group.
    pub(super) fn word(&self, group: usize, word: usize) -> u64 {
        let bits = self.groups.get(group).and_then(|bits| bits.as_ref());
        bits.and_then(|bits| bits.get(word)).copied().unwrap_or(0)
    }

    /// Blocks of `group` that somebody holds.
    pub(super) fn count_in(&self, group: usize) -> u64 {
        let bits = self.groups.get(group).and_then(|bits| bits.as_deref()).unwrap_or_default();
        bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// All blocks that somebody holds.
    pub(super) fn count(&self) -> u64 {
        (0..self.groups.len()).map(|group| self.count_in(group)).sum()
    }
}

/// The words that the bits `from..to` touch, which bits of them, and each word's first bit.
fn masks(from: u64, to: u64) -> impl Iterator<Item = (usize, u64, u64)> {
    (from / 64..to.div_ceil(64)).map(move |word| {
        let start = word * 64;
        let low = u64::MAX << from.saturating_sub(start);
        let high = u64::MAX >> (start + 64).saturating_sub(to);
        (index(word), low & high, start)
    })
}
