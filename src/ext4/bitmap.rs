//! A block that says which blocks or inodes of a group are in use, a bit each.

use super::record::{Number, index};

/// A bitmap of `len` bits; the padding behind them is set.
#[derive(Debug, Clone)]
pub(super) struct Bitmap {
    bytes: Vec<u8>,
    len: u32,
    pub(super) dirty: bool,
}

impl Bitmap {
    /// A bitmap of one block with the first `len` bits clear.
    pub(super) fn empty(block_size: u32, len: u32) -> Self {
        let mut bitmap = Self { bytes: vec![0xff; index(block_size)], len, dirty: true };
        bitmap.clear_range(0, len);
        bitmap
    }

    pub(super) fn from_disk(bytes: Vec<u8>, len: u32) -> Self {
        Self { bytes, len, dirty: false }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes it `len` bits long; new ones are clear.
    pub(super) fn grow(&mut self, len: u32) {
        self.clear_range(self.len, len);
        self.len = len;
        self.dirty = true;
    }

    pub(super) fn get(&self, bit: u32) -> bool {
        self.bytes.get(index(bit / 8)).is_none_or(|byte| byte >> (bit % 8) & 1 == 1)
    }

    pub(super) fn set_range(&mut self, start: u32, end: u32) {
        self.change(start, end, |byte, mask| *byte |= mask);
    }

    pub(super) fn clear_range(&mut self, start: u32, end: u32) {
        self.change(start, end, |byte, mask| *byte &= !mask);
    }

    /// Calls `change` with every byte that `start..end` touches, and the bits of it that are meant.
    fn change(&mut self, start: u32, end: u32, change: impl Fn(&mut u8, u8)) {
        self.dirty = true;
        let mut bit = start;
        while bit < end {
            let stop = ((bit / 8 + 1) * 8).min(end);
            let mask = (0xffu8 << (bit % 8)) & (0xffu8 >> (7 - (stop - 1) % 8));
            if let Some(byte) = self.bytes.get_mut(index(bit / 8)) {
                change(byte, mask);
            }
            bit = stop;
        }
    }

    /// The first clear bit at `from` or after it.
    pub(super) fn next_clear(&self, from: u32) -> Option<u32> {
        self.next(from, 0)
    }

    /// The first set bit at `from` or after it, or the length.
    pub(super) fn next_set(&self, from: u32) -> u32 {
        self.next(from, u64::MAX).unwrap_or(self.len)
    }

    /// The first bit at `from` or after it that is set once `flip` is applied to the complement.
    fn next(&self, from: u32, flip: u64) -> Option<u32> {
        let mut word = from / 64;
        let mut mask = u64::MAX << (from % 64);
        while word * 64 < self.len {
            let found = !(u64::load(&self.bytes, index(word * 8)) ^ flip) & mask;
            if found != 0 {
                let bit = word * 64 + found.trailing_zeros();
                return (bit < self.len).then_some(bit);
            }
            mask = u64::MAX;
            word += 1;
        }
        None
    }

    pub(super) fn count_clear(&self) -> u32 {
        let mut clear = 0;
        let mut at = 0;
        while let Some(start) = self.next_clear(at) {
            at = self.next_set(start);
            clear += at - start;
        }
        clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_searches_agree_with_single_bits() {
        let mut bitmap = Bitmap::empty(1024, 1000);
        assert_eq!(bitmap.count_clear(), 1000);
        assert!(bitmap.get(1000), "padding is set");
        bitmap.set_range(3, 130);
        bitmap.set_range(131, 132);
        assert_eq!(bitmap.next_clear(0), Some(0));
        assert_eq!(bitmap.next_clear(3), Some(130));
        assert_eq!(bitmap.next_set(0), 3);
        assert_eq!(bitmap.next_set(130), 131);
        assert_eq!(bitmap.next_set(132), 1000);
        bitmap.clear_range(8, 16);
        assert_eq!((bitmap.get(7), bitmap.get(8), bitmap.get(15), bitmap.get(16)), (true, false, false, true));
        assert_eq!(bitmap.count_clear(), 1000 - 127 - 1 + 8);
        bitmap.grow(1010);
        assert_eq!((bitmap.get(1009), bitmap.get(1010)), (false, true));
    }
}
