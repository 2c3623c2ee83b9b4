//! Which blocks somebody holds: a bit each, or one for a cluster of them, for the groups in which there are any.

use std::collections::BTreeMap;

use super::super::layout::{BlockNumber, Layout, Run};
use super::super::record::index;

/// Bits of a group where groups mean nothing.
const ANY: u64 = 1 << 15;

/// Blocks by group, in words of 64.
pub(super) struct Usage {
    first: u64,
    /// Blocks that a bit stands for.
    cluster: u64,
    /// Bits of a group.
    per_group: u64,
    blocks: u64,
    groups: BTreeMap<usize, Box<[u64]>>,
    /// Bits that more than one asked for, counted for each asking.
    contested: u64,
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The first block, or the first of a cluster, that somebody else held already.
    pub(super) first: u64,
    /// How many blocks or clusters there are.
    pub(super) blocks: u64,
}

impl Usage {
    /// Blocks or clusters, by the file system's own groups.
    pub(super) fn new(layout: &Layout) -> Self {
        let cluster = u64::from(layout.cluster_blocks);
        Self {
            first: layout.first_data_block.into(),
            cluster,
            per_group: u64::from(layout.blocks_per_group) / cluster,
            blocks: layout.blocks,
            groups: BTreeMap::new(),
            contested: 0,
        }
    }

    /// Single blocks, whatever the size of clusters and groups.
    pub(super) fn of_blocks(layout: &Layout) -> Self {
        Self { cluster: 1, per_group: ANY, ..Self::new(layout) }
    }

    /// Takes the blocks of `run`, which lie in the file system, and the rest of their clusters; answers those that
    /// were taken before.
    ///
    /// Where more is contested than the file system has blocks, nothing is counted any more: a small image could
    /// otherwise ask for all of them again and again.
    pub(super) fn claim(&mut self, run: Run) -> Option<Taken> {
        if self.contested > self.blocks {
            return Some(Taken { first: run.start.0, blocks: run.len });
        }
        let mut taken: Option<Taken> = None;
        let mut at = run.start.0.saturating_sub(self.first) / self.cluster;
        let end = run.start.0.saturating_add(run.len).min(self.blocks).saturating_sub(self.first);
        let end = end.div_ceil(self.cluster);
        let words = index(self.per_group.div_ceil(64));
        while at < end {
            let (group, bit) = (index(at / self.per_group), at % self.per_group);
            let stop = end.min(at + (self.per_group - bit));
            let bits = self.groups.entry(group).or_insert_with(|| vec![0; words].into_boxed_slice());
            for (word, mask, start) in masks(bit, bit + (stop - at)) {
                let Some(word) = bits.get_mut(word) else { continue };
                let clash = *word & mask;
                if clash != 0 {
                    let first = at - bit + start + u64::from(clash.trailing_zeros());
                    let first = self.first + first * self.cluster;
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

    /// Takes all that `other` has, which knows single blocks.
    pub(super) fn adopt(&mut self, other: &Usage) {
        for (group, bits) in &other.groups {
            for (place, word) in (0..).zip(bits) {
                let mut left = *word;
                while left != 0 {
                    let bit = u64::try_from(*group).unwrap_or(u64::MAX).saturating_mul(other.per_group);
                    let bit = bit.saturating_add(place * 64 + u64::from(left.trailing_zeros()));
                    left &= left - 1;
                    self.claim(Run { start: BlockNumber(other.first.saturating_add(bit)), len: 1 });
                }
            }
        }
        self.contested = 0;
    }

    /// 64 bits of a group.
    pub(super) fn word(&self, group: usize, word: usize) -> u64 {
        self.groups.get(&group).and_then(|bits| bits.get(word)).copied().unwrap_or(0)
    }

    /// Blocks or clusters of `group` that somebody holds.
    pub(super) fn count_in(&self, group: usize) -> u64 {
        let bits = self.groups.get(&group).map(Box::as_ref).unwrap_or_default();
        bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// All blocks that somebody holds, and the rest of their clusters.
    pub(super) fn count(&self) -> u64 {
        self.groups.keys().map(|group| self.count_in(*group)).sum::<u64>().saturating_mul(self.cluster)
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
