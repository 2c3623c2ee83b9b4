//! Which blocks belong to the groups themselves: superblocks, descriptors, bitmaps and inode tables.
//!
//! With `flex_bg` a group's bitmaps and inode table may lie in any other group. Nobody may use or free such a
//! block, and no two groups may claim the same one, or writing for one would destroy the other.

use super::bitmap::Bitmap;
use super::error::Ext4Error;
use super::group::Group;
use super::layout::{BlockNumber, Layout, Run};

/// The claimed blocks, as runs in ascending order that neither meet nor overlap.
#[derive(Debug, Default)]
pub(super) struct Claims {
    runs: Vec<Run>,
}

impl Claims {
    /// Collects what `groups` claim; refuses two claims to one block.
    pub(super) fn new(layout: &Layout, groups: &[Group]) -> Result<Self, Ext4Error> {
        let mut all: Vec<(Run, u32)> = (0..)
            .zip(groups)
            .flat_map(|(number, group)| group.places(number, layout).map(|run| (run, number)))
            .filter(|(run, _)| run.len > 0)
            .collect();
        all.sort_unstable_by_key(|(run, number)| (run.start, *number));
        let mut claims = Self::default();
        let mut last = 0;
        for (run, number) in all {
            if claims.runs.last().is_some_and(|before| run.start < before.end()) {
                let what =
                    format!("the groups {last} and {number} both claim block {} for their metadata", run.start.0);
                return Err(Ext4Error::corrupt(what));
            }
            last = number;
            claims.push(run);
        }
        Ok(claims)
    }

    /// Adds a run that begins where the last one ends, or after it.
    pub(super) fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => self.runs.push(run),
        }
    }

    /// The claims that reach beyond `start`.
    fn beyond(&self, start: BlockNumber) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|run| run.end() <= start);
        self.runs.get(first..).unwrap_or_default().iter()
    }

    /// The claims within the `len` blocks from `start`, as ranges of blocks counted from there.
    pub(super) fn within(&self, start: BlockNumber, len: u32) -> impl Iterator<Item = (u32, u32)> {
        let bit = move |block: BlockNumber| u32::try_from(block.0.saturating_sub(start.0)).unwrap_or(u32::MAX).min(len);
        self.beyond(start)
            .take_while(move |run| run.start < start.plus(len.into()))
            .map(move |run| (bit(run.start), bit(run.end())))
    }

    /// Whether any block of `run` is claimed.
    pub(super) fn touch(&self, run: Run) -> bool {
        self.beyond(run.start).next().is_some_and(|claim| claim.start < run.end())
    }

    /// The block bitmap of a group in which nothing else is in use.
    pub(super) fn bitmap(&self, layout: &Layout, number: u32) -> Bitmap {
        let len = layout.group_len(number);
        let mut bitmap = Bitmap::empty(layout.block_size, len);
        for (from, to) in self.within(layout.group_start(number), len) {
            bitmap.set_range(from, to);
        }
        bitmap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, len: u64) -> Run {
        Run { start: BlockNumber(start), len }
    }

    #[test]
    fn claims_are_found_from_any_side() {
        let mut claims = Claims::default();
        for run in [run(10, 5), run(15, 5), run(30, 1)] {
            claims.push(run);
        }
        assert_eq!(claims.runs, [run(10, 10), run(30, 1)]);
        assert_eq!(claims.within(BlockNumber(12), 20).collect::<Vec<_>>(), [(0, 8), (18, 19)]);
        assert_eq!(claims.within(BlockNumber(5), 25).collect::<Vec<_>>(), [(5, 15)]);
        assert_eq!(claims.within(BlockNumber(20), 10).count(), 0);
        for (start, len, touches) in [(9, 1, false), (9, 2, true), (19, 1, true), (20, 10, false), (20, 11, true)] {
            assert_eq!(claims.touch(run(start, len)), touches, "{start} {len}");
        }
    }
}
