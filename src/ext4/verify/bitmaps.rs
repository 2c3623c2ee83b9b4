//! Bitmaps against what was found, and the counts in descriptors.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::group::{self, Group};
use super::super::layout::BlockNumber;
use super::super::record::{Number, count, index};
use super::Check;
use super::findings::{Place, Problem};

/// Bits of a word.
const WORD: u64 = 64;

/// A run of bits in which a bitmap and the truth differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Difference {
    first: u64,
    last: u64,
    /// Whether the bitmap calls them used.
    called_used: bool,
}

/// Runs of differences, in order.
#[derive(Debug, Default)]
struct Differences {
    runs: Vec<Difference>,
}

impl Differences {
    /// Compares 64 bits, of which the first has number `start` and those in `mask` count.
    fn compare(&mut self, start: u64, stored: u64, found: u64, mask: u64) {
        let mut left = (stored ^ found) & mask;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let number = start + u64::from(bit);
            let called_used = stored >> bit & 1 == 1;
            match self.runs.last_mut() {
                Some(last) if last.last + 1 == number && last.called_used == called_used => last.last = number,
                _ => self.runs.push(Difference { first: number, last: number, called_used }),
            }
        }
    }
}

impl Check<'_, '_> {
    /// The superblock's own counts are passed over: the kernel brings them up to date only when it unmounts, and
    /// counts the groups' when it mounts.
    pub(super) fn bitmaps(&mut self) -> Result<(), Ext4Error> {
        for number in 0..self.volume.layout.groups() {
            let Some(group) = self.volume.groups.get(index(number)) else { break };
            let group = Group::new(group.bytes().to_vec());
            let used = self.usage.count_in(index(number));
            let free = u64::from(self.clusters_in(number)).saturating_sub(used);
            self.count(number, "free blocks", group.free_blocks().into(), free);
            self.block_bitmap(number, &group)?;
            self.inode_counts(number, &group)?;
        }
        Ok(())
    }

    fn count(&mut self, group: u32, what: &'static str, stored: u64, found: u64) {
        if stored != found {
            self.report(Place::Group(group), Problem::Count { what, stored, found });
        }
    }

    /// Bits of a group's block bitmap.
    fn clusters_in(&self, number: u32) -> u32 {
        let layout = &self.volume.layout;
        layout.group_len(number).div_ceil(layout.cluster_blocks)
    }

    fn block_bitmap(&mut self, number: u32, group: &Group) -> Result<(), Ext4Error> {
        let layout = self.volume.layout.clone();
        let cluster = u64::from(layout.cluster_blocks);
        let start = layout.group_start(number).0;
        let len = self.clusters_in(number);
        let place = Place::BlockBitmap(number);
        let uninit = self.volume.checksums.descriptors() && group.has(group::BLOCK_UNINIT);
        let bytes = if uninit {
            Vec::new()
        } else {
            let Some(bytes) = self.bitmap_block(group.block_bitmap())? else { return Ok(()) };
            if self.volume.checksums.metadata() {
                let checksum = self.volume.bitmap_checksum(&bytes, layout.blocks_per_group / layout.cluster_blocks);
                if !group.block_bitmap_checksum_is(checksum) {
                    self.report(place.clone(), Problem::Checksum);
                }
            }
            bytes
        };
        let mut differences = Differences::default();
        for word in 0..u64::from(len).div_ceil(WORD) {
            let found = self.usage.word(index(number), index(word));
            let stored = u64::load(&bytes, index(word * 8)) | self.unmapped.word(index(number), index(word));
            differences.compare(word * WORD, stored, found, mask(len, word));
        }
        for run in &mut differences.runs {
            (run.first, run.last) = (start + run.first * cluster, start + run.last * cluster + (cluster - 1));
        }
        if !uninit && !is_padded(&bytes, len) {
            self.malformed(place.clone(), "has bits behind its end that are not set");
        }
        self.differences(place, differences);
        Ok(())
    }

    /// Compares a group's inodes with bitmap and descriptor.
    fn inode_counts(&mut self, number: u32, group: &Group) -> Result<(), Ext4Error> {
        let inodes = self.volume.layout.inodes_per_group;
        let first = u64::from(number) * u64::from(inodes) + 1;
        let known = self.inodes.between(first, first + u64::from(inodes));
        let used = count(known.len());
        let folders = count(known.iter().filter(|known| known.kind == Some(FileKind::Directory)).count());
        let mut found = vec![0u64; index(inodes.div_ceil(64))];
        for known in known {
            let bit = u64::from(known.number).saturating_sub(first);
            if let Some(word) = found.get_mut(index(bit / WORD)) {
                *word |= 1 << (bit % WORD);
            }
        }
        let free = u64::from(inodes).saturating_sub(used);
        self.count(number, "free inodes", group.free_inodes().into(), free);
        self.count(number, "folders", group.used_directories().into(), folders);
        let place = Place::InodeBitmap(number);
        let uninit = self.volume.checksums.descriptors() && group.has(group::INODE_UNINIT);
        let bytes = if uninit { Some(Vec::new()) } else { self.bitmap_block(group.inode_bitmap())? };
        let Some(bytes) = bytes else { return Ok(()) };
        if !uninit && self.volume.checksums.metadata() {
            let checksum = self.volume.bitmap_checksum(&bytes, inodes);
            if !group.inode_bitmap_checksum_is(checksum) {
                self.report(place.clone(), Problem::Checksum);
            }
        }
        let mut differences = Differences::default();
        for (word, found) in (0..).zip(&found) {
            let stored = u64::load(&bytes, index(word * 8));
            differences.compare(first + word * WORD, stored, *found, mask(inodes, word));
        }
        if !uninit && !is_padded(&bytes, inodes) {
            self.malformed(place.clone(), "has bits behind its end that are not set");
        }
        self.differences(place, differences);
        Ok(())
    }

    /// A bitmap's block; none if it lies elsewhere, which was told of already.
    fn bitmap_block(&self, place: BlockNumber) -> Result<Option<Vec<u8>>, Ext4Error> {
        if self.volume.layout.contains(place, 1) { self.volume.read_block(place).map(Some) } else { Ok(None) }
    }

    fn differences(&mut self, place: Place, differences: Differences) {
        for Difference { first, last, called_used } in differences.runs {
            let problem = match called_used {
                true => Problem::CalledUsed { first, last },
                false => Problem::CalledFree { first, last },
            };
            self.report(place.clone(), problem);
        }
    }
}

/// The bits of a word that count, of `len` in all.
fn mask(len: u32, word: u64) -> u64 {
    match u64::from(len).saturating_sub(word * WORD) {
        0 => 0,
        left if left >= WORD => u64::MAX,
        left => u64::MAX >> (WORD - left),
    }
}

/// Whether all bits from `len` on are set.
fn is_padded(bytes: &[u8], len: u32) -> bool {
    let (whole, rest) = (index(len / 8), len % 8);
    let split = bytes.get(whole).is_none_or(|byte| rest == 0 || byte >> rest == 0xff >> rest);
    let tail = bytes.get(whole + usize::from(rest != 0)..).unwrap_or_default();
    split && tail.iter().all(|byte| *byte == 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_begins_where_the_bits_end() {
        assert!(is_padded(&[0, 0xff], 8));
        assert!(is_padded(&[0xf0, 0xff], 4));
        assert!(!is_padded(&[0xe0, 0xff], 4));
        assert!(!is_padded(&[0, 0xfe], 8));
    }

    #[test]
    fn differences_are_runs() {
        let mut differences = Differences::default();
        differences.compare(64, 0b1100_0011, 0b1010_0000, u64::MAX);
        let runs: Vec<_> = differences.runs.iter().map(|run| (run.first, run.last, run.called_used)).collect();
        assert_eq!(runs, [(64, 65, true), (69, 69, false), (70, 70, true)]);
        assert_eq!((mask(70, 0), mask(70, 1), mask(64, 1)), (u64::MAX, 0x3f, 0));
    }
}
