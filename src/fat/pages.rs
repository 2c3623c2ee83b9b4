//! The pages of the disk that fatfs changes, kept in memory until they are written in one go, and the few bytes
//! that fatfs gets wrong or leaves alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::rc::Rc;

use fatfs::{Date, DateTime, Time, TimeProvider};

use super::FatError;
use super::geometry::{FatKind, Geometry, Root};
use super::survey;
use crate::disk::{DiskError, DiskMut};

const PAGE: u64 = 4096;
/// Pages that are written together.
const RUN: usize = 1024 * 1024;

/// A disk with changed pages over it.
pub(super) struct Pages<'disk> {
    disk: &'disk mut dyn DiskMut,
    /// By page number; the last page may be short.
    pages: BTreeMap<u64, Page>,
    /// Cleared as soon as anything is written.
    zeros: Vec<Range<u64>>,
    dirty: bool,
}

struct Page {
    bytes: Box<[u8]>,
    dirty: bool,
}

impl<'disk> Pages<'disk> {
    pub fn new(disk: &'disk mut dyn DiskMut) -> Self {
        Self { disk, pages: BTreeMap::new(), zeros: Vec::new(), dirty: false }
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Notes bytes to be cleared if anything is written at all.
    pub fn prepare_zero(&mut self, range: Range<u64>) {
        self.zeros.push(range);
    }

    /// The parts of `len` bytes at `offset`, page by page: page number, offset within it, bytes.
    fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
        let mut at = offset;
        let end = offset.saturating_add(len as u64);
        std::iter::from_fn(move || {
            let stop = (at / PAGE + 1).saturating_mul(PAGE).min(end);
            // Both are at most a page.
            let part = (at / PAGE, (at % PAGE) as usize, (stop.saturating_sub(at)) as usize);
            at = stop;
            (part.2 > 0).then_some(part)
        })
    }

    pub fn read(&self, offset: u64, mut buffer: &mut [u8]) -> Result<(), DiskError> {
        for (number, skip, len) in Self::parts(offset, buffer.len()) {
            let (part, rest) = buffer.split_at_mut(len);
            match self.pages.get(&number).and_then(|page| page.bytes.get(skip..skip + len)) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => self.disk.read_at(number * PAGE + skip as u64, part)?,
            }
            buffer = rest;
        }
        Ok(())
    }

    /// As [`Pages::read`], but keeps the pages of small reads: fatfs reads the FAT entry by entry.
    fn read_cached(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if (buffer.len() as u64) < PAGE {
            for (number, ..) in Self::parts(offset, buffer.len()) {
                self.page(number)?;
            }
        }
        self.read(offset, buffer)
    }

    fn page(&mut self, number: u64) -> Result<&mut Page, DiskError> {
        match self.pages.entry(number) {
            std::collections::btree_map::Entry::Occupied(page) => Ok(page.into_mut()),
            std::collections::btree_map::Entry::Vacant(slot) => {
                let len = self.disk.size().saturating_sub(number * PAGE).min(PAGE);
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)].into_boxed_slice();
                self.disk.read_at(number * PAGE, &mut bytes)?;
                Ok(slot.insert(Page { bytes, dirty: false }))
            }
        }
    }

    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), DiskError> {
        self.dirty = true;
        for zeros in std::mem::take(&mut self.zeros) {
            let len = usize::try_from(zeros.end - zeros.start).unwrap_or(0);
            self.write(zeros.start, &vec![0; len])?;
        }
        for (number, skip, len) in Self::parts(offset, bytes.len()) {
            let (part, rest) = bytes.split_at(len);
            if part.len() as u64 == PAGE {
                self.pages.insert(number, Page { bytes: part.into(), dirty: true });
            } else {
                let size = self.disk.size();
                let page = self.page(number)?;
                let out_of_bounds = DiskError::OutOfBounds { offset, end: offset.saturating_add(len as u64), size };
                page.bytes.get_mut(skip..skip + len).ok_or(out_of_bounds)?.copy_from_slice(part);
                page.dirty = true;
            }
            bytes = rest;
        }
        Ok(())
    }

    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; len];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes the changed pages to the disk, neighbours together, zeros as holes.
    pub fn flush(&mut self) -> Result<(), FatError> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        while let Some((number, page)) = self.pages.pop_first() {
            if !page.dirty {
                continue;
            }
            let offset = number * PAGE;
            let zero = page.bytes.iter().all(|byte| *byte == 0);
            if zero || start + run.len() as u64 != offset || run.len() >= RUN {
                self.disk.write_at(start, &run)?;
                run.clear();
                start = offset;
            }
            if zero {
                self.disk.zero(offset, page.bytes.len() as u64)?;
                start = offset + page.bytes.len() as u64;
            } else {
                run.extend_from_slice(&page.bytes);
            }
        }
        self.disk.write_at(start, &run)?;
        self.dirty = false;
        Ok(())
    }

    /// Puts right what fatfs begins a directory with: `.` and `..` must be the first two entries, without long
    /// names, and `..` must say 0 where it means the root directory.
    pub fn straighten_dots(&mut self, geometry: &Geometry, directory: u64) -> Result<(), FatError> {
        let dot = self.bytes(directory + 32, 32)?;
        let dotdot = self.bytes(directory + 96, 32)?;
        let cluster = [self.bytes(directory + 96 + 26, 2)?, self.bytes(directory + 96 + 20, 2)?].concat();
        self.write(directory, &[dot, dotdot].concat())?;
        if matches!(geometry.root, Root::Chain(root) if cluster == root.to_le_bytes()) {
            self.write(directory + 32 + 26, &[0; 2])?;
            self.write(directory + 32 + 20, &[0; 2])?;
        }
        for slot in [64, 96] {
            // Deleted, and nothing of the old name left.
            let mut deleted = [0; 32];
            deleted[0] = 0xe5;
            self.write(directory + slot, &deleted)?;
        }
        Ok(())
    }

    /// Puts the number of free clusters into FAT32's information sector and takes the dirty marks away.
    pub fn settle(&mut self, geometry: &Geometry, free_clusters: u32) -> Result<(), FatError> {
        if let Some(info) = geometry.info {
            self.write(info + 488, &free_clusters.to_le_bytes())?;
        }
        let state = if geometry.kind == FatKind::Fat32 { 65 } else { 37 };
        let dirty = self.bytes(state, 1)?.iter().any(|state| state & 1 != 0);
        if dirty {
            let state_bits = self.bytes(state, 1)?.iter().map(|state| state & !1).collect::<Vec<u8>>();
            self.write(state, &state_bits)?;
        }
        // The "cleanly unmounted" bit is the highest of the entry of cluster 1.
        let (at, clean) = match geometry.kind {
            FatKind::Fat12 => return Ok(()),
            FatKind::Fat16 => (3, 0x80),
            FatKind::Fat32 => (7, 0x08),
        };
        for copy in 0..geometry.fats {
            let offset = geometry.fat + copy * geometry.fat_len + at;
            let marked: Vec<u8> = self.bytes(offset, 1)?.iter().map(|byte| byte | clean).collect();
            self.write(offset, &marked)?;
        }
        Ok(())
    }

    /// Hangs an empty cluster behind `last`, a FAT32 chain's last cluster.
    pub fn extend_chain(&mut self, geometry: &Geometry, last: u32) -> Result<(), FatError> {
        let free = survey::first_free(geometry, &|offset, bytes| self.read(offset, bytes))?;
        let no_space = || FatError::NoSpace { path: "/".to_owned(), needed: geometry.cluster, free: 0 };
        let new = free.ok_or_else(no_space)?;
        let empty = vec![0; usize::try_from(geometry.cluster).unwrap_or(0)];
        self.write(geometry.offset(new), &empty)?;
        for copy in 0..geometry.fats {
            let fat = geometry.fat + copy * geometry.fat_len;
            self.write(fat + u64::from(new) * 4, &0x0fff_ffff_u32.to_le_bytes())?;
            self.write(fat + u64::from(last) * 4, &new.to_le_bytes())?;
        }
        Ok(())
    }

    /// Dates the entry at `offset`.
    pub fn date_entry(&mut self, offset: u64, time: u64) -> Result<(), FatError> {
        let DateTime { date, time } = date_time(time);
        let clock = time.hour << 11 | time.min << 5 | time.sec / 2;
        let day = (date.year - 1980) << 9 | date.month << 5 | date.day;
        self.write(offset + 22, &[clock.to_le_bytes(), day.to_le_bytes()].concat())?;
        Ok(())
    }
}

/// What fatfs reads and writes: the pages, at a position of its own.
pub(super) struct Handle<'disk> {
    pages: Rc<RefCell<Pages<'disk>>>,
    position: u64,
}

impl<'disk> Handle<'disk> {
    pub fn new(pages: Rc<RefCell<Pages<'disk>>>) -> Self {
        Self { pages, position: 0 }
    }

    /// The part of `len` bytes at the position that lies on the disk.
    fn within(&self, len: usize) -> usize {
        let left = self.pages.borrow().disk.size().saturating_sub(self.position);
        len.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl Read for Handle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (part, _) = buffer.split_at_mut(self.within(buffer.len()));
        self.pages.borrow_mut().read_cached(self.position, part).map_err(io::Error::other)?;
        self.position += part.len() as u64;
        Ok(part.len())
    }
}

impl Write for Handle<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (part, _) = bytes.split_at(self.within(bytes.len()));
        if !part.is_empty() {
            self.pages.borrow_mut().write(self.position, part).map_err(io::Error::other)?;
            self.position += part.len() as u64;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Handle<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.pages.borrow().disk.size().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A clock that stands.
#[derive(Debug)]
struct Clock(DateTime);

impl TimeProvider for Clock {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// A clock for fatfs, which wants one that lives for ever: twenty bytes are given up for each file system opened.
pub(super) fn clock(time: u64) -> &'static dyn TimeProvider {
    Box::leak(Box::new(Clock(date_time(time))))
}

/// Seconds since 1970 as FAT has them: the years 1980 to 2107, two seconds apart.
fn date_time(time: u64) -> DateTime {
    // 1980-01-01 and 2107-12-31 23:59:58.
    let time = time.clamp(315_532_800, 4_354_819_198) / 2 * 2;
    let time = i64::try_from(time).ok().and_then(|time| time::OffsetDateTime::from_unix_timestamp(time).ok());
    let time = time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    DateTime {
        date: Date {
            year: u16::try_from(time.year()).unwrap_or(1980).max(1980),
            month: u16::from(u8::from(time.month())),
            day: u16::from(time.day()),
        },
        time: Time {
            hour: u16::from(time.hour()),
            min: u16::from(time.minute()),
            sec: u16::from(time.second()),
            millis: 0,
        },
    }
}
