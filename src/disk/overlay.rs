//! A changed disk over one that never changes.
//!
//! A map from offsets to pieces; where it holds none, the base shows through, and past the base's end
//! there are zeros. Memory grows with the number of changes, not with the size of the disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Disk, DiskError, DiskMut, FileRange, Piece, Source, check};

/// A disk that differs from its base in the pieces written to it.
pub struct Overlay {
    base: Arc<dyn Disk>,
    size: u64,
    changes: BTreeMap<u64, Change>,
}

#[derive(Debug, Clone)]
struct Change {
    len: u64,
    source: ChangeSource,
}

#[derive(Debug, Clone)]
enum ChangeSource {
    Zero,
    Bytes(Arc<[u8]>, usize),
    File(FileRange),
}

impl Change {
    /// The part from `skip` on, `len` bytes long.
    fn part(&self, skip: u64, len: u64) -> Result<Self, DiskError> {
        check(skip, len, self.len)?;
        let source = match &self.source {
            ChangeSource::Zero => ChangeSource::Zero,
            ChangeSource::Bytes(bytes, from) => ChangeSource::Bytes(Arc::clone(bytes), from + skip as usize),
            ChangeSource::File(range) => ChangeSource::File(range.slice(skip, len)?),
        };
        Ok(Self { len, source })
    }

    fn read(&self, skip: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        match &self.source {
            ChangeSource::Zero => buffer.fill(0),
            ChangeSource::Bytes(bytes, from) => {
                let from = from + skip as usize;
                // Within bounds: a change is never longer than its bytes.
                buffer.copy_from_slice(bytes.get(from..from + buffer.len()).unwrap_or_default());
            }
            ChangeSource::File(range) => range.read_at(skip, buffer)?,
        }
        Ok(())
    }
}

impl Overlay {
    /// A disk of `size` bytes that begins as `base`, cut or padded with zeros.
    #[must_use]
    pub fn new(base: Arc<dyn Disk>, size: u64) -> Self {
        Self { base, size, changes: BTreeMap::new() }
    }

    /// Changes the size; what lies past a smaller one is forgotten.
    ///
    /// # Errors
    /// None today; a change that straddles the new end is cut.
    pub fn resize(&mut self, size: u64) -> Result<(), DiskError> {
        if size < self.size {
            self.clear(size..self.size)?;
        }
        self.size = size;
        Ok(())
    }

    /// Takes all changes out of `range`, cutting those that straddle its ends.
    fn clear(&mut self, range: Range<u64>) -> Result<(), DiskError> {
        // Mostly there are none.
        if self.changes.range(..range.end).next_back().is_none_or(|(start, change)| start + change.len <= range.start) {
            return Ok(());
        }
        let before = self.changes.range(..range.start).next_back().map(|(start, change)| (*start, change.clone()));
        if let Some((start, change)) = before {
            let end = start + change.len;
            if end > range.start {
                self.changes.insert(start, change.part(0, range.start - start)?);
            }
            if end > range.end {
                self.changes.insert(range.end, change.part(range.end - start, end - range.end)?);
            }
        }
        let inside: Vec<u64> = self.changes.range(range.clone()).map(|(start, _)| *start).collect();
        for start in inside {
            if let Some(change) = self.changes.remove(&start) {
                let end = start + change.len;
                if end > range.end {
                    self.changes.insert(range.end, change.part(range.end - start, end - range.end)?);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, offset: u64, change: Change) -> Result<(), DiskError> {
        let end = check(offset, change.len, self.size)?;
        if change.len > 0 {
            self.clear(offset..end)?;
            self.changes.insert(offset, change);
        }
        Ok(())
    }

    /// Calls `visit` for each stretch of `range`: with the change and how far into it, or with none
    /// where the base shows through.
    fn walk(
        &self,
        range: Range<u64>,
        mut visit: impl FnMut(Range<u64>, Option<(&Change, u64)>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut at = range.start;
        let before = self.changes.range(..=range.start).next_back();
        let rest = self
            .changes
            .range((std::ops::Bound::Excluded(range.start), std::ops::Bound::Excluded(range.end.max(range.start + 1))));
        for (start, change) in before.into_iter().chain(rest) {
            let end = (start + change.len).min(range.end);
            if end <= at {
                continue;
            }
            if *start > at {
                visit(at..*start, None)?;
                at = *start;
            }
            visit(at..end, Some((change, at - start)))?;
            at = end;
        }
        if at < range.end {
            visit(at..range.end, None)?;
        }
        Ok(())
    }
}

impl Disk for Overlay {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = check(offset, buffer.len() as u64, self.size)?;
        let base_size = self.base.size();
        self.walk(offset..end, |range, change| {
            let from = (range.start - offset) as usize;
            let part = buffer.get_mut(from..(range.end - offset) as usize).unwrap_or_default();
            if let Some((change, skip)) = change {
                return change.read(skip, part);
            }
            let in_base = base_size.clamp(range.start, range.end) - range.start;
            let (base, past) = part.split_at_mut(in_base as usize);
            past.fill(0);
            if base.is_empty() { Ok(()) } else { self.base.read_at(range.start, base) }
        })
    }

    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError> {
        check(range.start, range.end.saturating_sub(range.start), self.size)?;
        let base_size = self.base.size();
        let mut pieces = Vec::new();
        self.walk(range, |range, change| {
            let len = range.end - range.start;
            match change {
                Some((change, skip)) => match change.part(skip, len)?.source {
                    ChangeSource::Zero => pieces.push(Piece { offset: range.start, len, source: Source::Zero }),
                    ChangeSource::Bytes(bytes, from) => {
                        pieces.push(Piece { offset: range.start, len, source: Source::Bytes(bytes, from) });
                    }
                    ChangeSource::File(file) => pieces.extend(file.pieces(range.start)),
                },
                None => {
                    let base_end = base_size.clamp(range.start, range.end);
                    if base_end > range.start {
                        pieces.extend(self.base.pieces(range.start..base_end)?);
                    }
                    if base_end < range.end {
                        pieces.push(Piece { offset: base_end, len: range.end - base_end, source: Source::Zero });
                    }
                }
            }
            Ok(())
        })?;
        Ok(pieces)
    }
}

impl DiskMut for Overlay {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.put(offset, Change { len: bytes.len() as u64, source: ChangeSource::Bytes(bytes.into(), 0) })
    }

    fn map(&mut self, offset: u64, range: FileRange) -> Result<(), DiskError> {
        self.put(offset, Change { len: range.len(), source: ChangeSource::File(range) })
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.put(offset, Change { len, source: ChangeSource::Zero })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ZeroDisk;
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Edit {
        Write(u64, Vec<u8>),
        Zero(u64, u64),
    }

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let edit = prop_oneof![
            (0u64..200, prop::collection::vec(1u8.., 1..40)).prop_map(|(at, bytes)| Edit::Write(at, bytes)),
            (0u64..200, 1u64..60).prop_map(|(at, len)| Edit::Zero(at, len)),
        ];
        prop::collection::vec(edit, 0..40)
    }

    proptest! {
        #[test]
        fn an_overlay_reads_like_an_array(edits in edits(), reads in prop::collection::vec((0u64..256, 0u64..256), 20)) {
            let mut model = vec![0u8; 256];
            let mut overlay = Overlay::new(Arc::new(ZeroDisk::new(100)), 256);
            for edit in edits {
                match edit {
                    Edit::Write(at, bytes) => {
                        model[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                        overlay.write_at(at, &bytes).unwrap();
                    }
                    Edit::Zero(at, len) => {
                        let len = len.min(256 - at);
                        model[at as usize..(at + len) as usize].fill(0);
                        overlay.zero(at, len).unwrap();
                    }
                }
            }
            for (a, b) in reads {
                let range = a.min(b)..a.max(b);
                let want = &model[range.start as usize..range.end as usize];
                let mut got = vec![0xff; want.len()];
                overlay.read_at(range.start, &mut got).unwrap();
                prop_assert_eq!(&got, want);
                let mut at = range.start;
                for piece in overlay.pieces(range.clone()).unwrap() {
                    prop_assert_eq!(piece.offset, at);
                    prop_assert!(piece.len > 0);
                    at += piece.len;
                    let want = &model[piece.offset as usize..at as usize];
                    match piece.source {
                        Source::Zero => prop_assert!(want.iter().all(|byte| *byte == 0)),
                        Source::Bytes(bytes, from) => prop_assert_eq!(&bytes[from..from + want.len()], want),
                        other => prop_assert!(false, "unexpected {:?}", other),
                    }
                }
                prop_assert_eq!(at, range.end);
            }
        }
    }

    #[test]
    fn writing_past_the_end_is_refused() {
        let mut overlay = Overlay::new(Arc::new(ZeroDisk::new(10)), 10);
        let error = overlay.write_at(8, b"abc").unwrap_err();
        assert_eq!(error.to_string(), "bytes 8..11 lie past the end of the disk (10 bytes)");
    }

    #[test]
    fn a_smaller_size_forgets_what_lay_behind_it() {
        let mut overlay = Overlay::new(Arc::new(ZeroDisk::new(0)), 10);
        overlay.write_at(2, b"abcdef").unwrap();
        overlay.resize(4).unwrap();
        overlay.resize(10).unwrap();
        let mut got = [1; 10];
        overlay.read_at(0, &mut got).unwrap();
        assert_eq!(&got, b"\0\0ab\0\0\0\0\0\0");
    }
}
