//! On-disk records as tables of fields over bytes.
//!
//! A record is never rebuilt from a struct: fields are read and set in place, so bytes that we do not
//! understand survive. All numbers of ext4 are little endian. A field that lies past the end of a short
//! record (a 128-byte inode, a 32-byte group descriptor) reads as zero and is not stored.

use std::marker::PhantomData;

/// An integer as records hold it.
pub(super) trait Number: Copy + Default {
    fn load(bytes: &[u8], at: usize) -> Self;
    fn store(self, bytes: &mut [u8], at: usize);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn load(bytes: &[u8], at: usize) -> Self {
                let end = at.saturating_add(size_of::<Self>());
                bytes.get(at..end).and_then(|slot| slot.try_into().ok()).map(Self::from_le_bytes).unwrap_or_default()
            }

            fn store(self, bytes: &mut [u8], at: usize) {
                let end = at.saturating_add(size_of::<Self>());
                if let Some(slot) = bytes.get_mut(at..end) {
                    slot.copy_from_slice(&self.to_le_bytes());
                }
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64);

/// Where a record holds a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<T> {
    offset: usize,
    number: PhantomData<T>,
}

impl<T: Number> Field<T> {
    pub(super) const fn at(offset: usize) -> Self {
        Self { offset, number: PhantomData }
    }

    /// Where the number ends.
    pub(super) const fn end(&self) -> usize {
        self.offset + size_of::<T>()
    }

    pub(super) fn get(&self, record: &[u8]) -> T {
        T::load(record, self.offset)
    }

    pub(super) fn set(&self, record: &mut [u8], value: T) {
        value.store(record, self.offset);
    }
}

/// A table of fields: offset, the specification's name, type, and a line of documentation.
macro_rules! fields {
    ($($offset:literal $name:ident: $type:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub(in crate::ext4) const $name: crate::ext4::record::Field<$type> = crate::ext4::record::Field::at($offset);
    )*};
}
pub(super) use fields;

/// A number from the disk as an index; one too large for this host finds nothing.
pub(super) fn index(number: impl Into<u64>) -> usize {
    usize::try_from(number.into()).unwrap_or(usize::MAX)
}

/// A length in memory as a number on the disk.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The low half of a number that the disk holds in two.
pub(super) fn low32(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap_or_default()
}

/// The high half of a number that the disk holds in two.
pub(super) fn high32(number: u64) -> u32 {
    low32(number >> 32)
}

/// The low half of a number that the disk holds in two.
pub(super) fn low16(number: u32) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or_default()
}

/// The high half of a number that the disk holds in two.
pub(super) fn high16(number: u32) -> u16 {
    low16(number >> 16)
}

/// Two halves as one number.
pub(super) fn join32(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Two halves as one number.
pub(super) fn join16(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}
