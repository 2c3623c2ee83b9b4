//! Looks at all of a FAT file system: every chain ends, no cluster belongs to two files, every entry points where
//! it may. On such a file system fatfs neither overflows nor runs for ever.

use std::ops::Range;

use super::FatError;
use super::geometry::{FatKind, Geometry, Root};
use crate::disk::DiskError;

/// Reads bytes of the file system at an offset.
pub(super) type ReadAt<'read> = &'read dyn Fn(u64, &mut [u8]) -> Result<(), DiskError>;

/// Entries that a directory can have (the specification's limit of 2 MiB).
const MOST_ENTRIES: usize = 65536;
/// Directories that are followed.
const MOST_DIRECTORIES: usize = 65536;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub free_clusters: u32,
    /// Bytes behind a directory's end mark that are not zero.
    pub stale_tails: Vec<Range<u64>>,
    /// Offsets of directories whose `.` and `..` have long names, as fatfs makes them.
    pub dotted: Vec<u64>,
}

/// The first FAT, decoded.
struct Chains {
    /// The entry of cluster `n` at `n - 2`.
    next: Vec<Next>,
    /// Whether a cluster is another one's successor or a chain's start that was seen.
    taken: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Free,
    Bad,
    End,
    Cluster(u32),
}

impl Survey {
    /// Checks the file system.
    pub fn take(geometry: &Geometry, read: ReadAt<'_>) -> Result<Self, FatError> {
        let mut chains = Chains::read(geometry, read)?;
        let mut survey = Self { free_clusters: chains.free(), ..Self::default() };
        let mut waiting = Vec::new();
        let root = match geometry.root {
            Root::Region { offset, len } => vec![offset..offset + len],
            Root::Chain(start) => chains.claim(geometry, start, "the root directory")?,
        };
        survey.directory(geometry, read, &mut chains, &root, &mut waiting)?;
        let mut seen = 0;
        while let Some(extents) = waiting.pop() {
            seen += 1;
            if seen > MOST_DIRECTORIES {
                return Err(FatError::Unsupported(format!("a boot partition of {MOST_DIRECTORIES} directories")));
            }
            survey.directory(geometry, read, &mut chains, &extents, &mut waiting)?;
        }
        Ok(survey)
    }

    /// Checks one directory, which lies in `extents`, and adds those in it to `waiting`.
    fn directory(
        &mut self,
        geometry: &Geometry,
        read: ReadAt<'_>,
        chains: &mut Chains,
        extents: &[Range<u64>],
        waiting: &mut Vec<Vec<Range<u64>>>,
    ) -> Result<(), FatError> {
        let mut ended = false;
        let mut first = true;
        let mut count = 0;
        for extent in extents {
            let bytes = load(read, extent)?;
            if first && has_long_dots(&bytes) {
                self.dotted.push(extent.start);
            }
            first = false;
            for (slot, offset) in bytes.chunks_exact(32).zip((extent.start..).step_by(32)) {
                ended |= slot.first() == Some(&0);
                if ended {
                    if slot.iter().any(|byte| *byte != 0) {
                        self.stale_tails.push(offset..offset + 32);
                    }
                    continue;
                }
                count += 1;
                if count > MOST_ENTRIES {
                    return Err(FatError::Corrupt("a directory has more than 65536 entries".to_owned()));
                }
                let Some(entry) = Entry::parse(geometry, slot) else { continue };
                let extents = entry.claim(geometry, chains)?;
                if entry.is_dir {
                    waiting.push(extents);
                }
            }
        }
        Ok(())
    }
}

fn load(read: ReadAt<'_>, extent: &Range<u64>) -> Result<Vec<u8>, FatError> {
    // At most a cluster (512 KiB) or the root region (2 MiB).
    let mut bytes = vec![0; usize::try_from(extent.end - extent.start).unwrap_or(0)];
    read(extent.start, &mut bytes)?;
    Ok(bytes)
}

/// Whether a directory begins with long name, `.`, long name, `..`.
fn has_long_dots(bytes: &[u8]) -> bool {
    let slot = |at: usize, len: usize| bytes.get(at..at + len);
    slot(11, 1) == Some(&[0x0f])
        && slot(32, 11) == Some(b".          ")
        && slot(75, 1) == Some(&[0x0f])
        && slot(96, 11) == Some(b"..         ")
}

/// A file or directory, as its short entry has it.
struct Entry {
    name: String,
    is_dir: bool,
    cluster: u32,
    size: u64,
}

impl Entry {
    /// None for what is neither: deleted, a long name's part, the label, `.` and `..`.
    fn parse(geometry: &Geometry, slot: &[u8]) -> Option<Self> {
        let byte = |at: usize| slot.get(at).copied().map_or(0, u32::from);
        let name = slot.get(..11)?;
        let attributes = byte(11);
        if byte(0) == 0xe5 || attributes & 0x08 != 0 || name == b".          " || name == b"..         " {
            return None;
        }
        let high = if geometry.kind == FatKind::Fat32 { byte(20) << 16 | byte(21) << 24 } else { 0 };
        Some(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            is_dir: attributes & 0x10 != 0,
            cluster: byte(26) | byte(27) << 8 | high,
            size: u64::from(byte(28) | byte(29) << 8 | byte(30) << 16 | byte(31) << 24),
        })
    }

    fn claim(&self, geometry: &Geometry, chains: &mut Chains) -> Result<Vec<Range<u64>>, FatError> {
        if self.cluster == 0 && !self.is_dir {
            let empty = self.size == 0;
            return if empty { Ok(Vec::new()) } else { Err(corrupt(&self.name, "has a size but no clusters")) };
        }
        let extents = chains.claim(geometry, self.cluster, &self.name)?;
        if self.size > extents.len() as u64 * geometry.cluster {
            return Err(corrupt(&self.name, "is longer than its clusters"));
        }
        Ok(extents)
    }
}

fn corrupt(name: &str, what: &str) -> FatError {
    FatError::Corrupt(format!("`{}` {what}", name.trim_end()))
}

impl Chains {
    /// Decodes the first FAT, which the other must equal.
    fn read(geometry: &Geometry, read: ReadAt<'_>) -> Result<Self, FatError> {
        let fat = load_fat(geometry, read, 0)?;
        if geometry.fats > 1 && load_fat(geometry, read, 1)? != fat {
            return Err(FatError::Corrupt("its two FATs differ".to_owned()));
        }
        let next: Vec<Next> = (2..geometry.clusters + 2).map(|cluster| decode(geometry.kind, &fat, cluster)).collect();
        let mut taken = vec![false; next.len()];
        for value in &next {
            let Next::Cluster(to) = value else { continue };
            let slot = to.checked_sub(2).and_then(|at| usize::try_from(at).ok());
            let target = slot.and_then(|at| next.get(at).zip(taken.get_mut(at)));
            match target {
                None => return Err(FatError::Corrupt(format!("a chain leads to cluster {to}, which does not exist"))),
                Some((Next::Free | Next::Bad, _)) => {
                    return Err(FatError::Corrupt(format!("a chain leads to cluster {to}, which is not in use")));
                }
                Some((_, taken)) if *taken => {
                    return Err(FatError::Corrupt(format!("two chains lead to cluster {to}")));
                }
                Some((_, taken)) => *taken = true,
            }
        }
        Ok(Self { next, taken })
    }

    fn free(&self) -> u32 {
        u32::try_from(self.next.iter().filter(|next| **next == Next::Free).count()).unwrap_or(u32::MAX)
    }

    /// Follows the chain from `start`, which must be nobody else's, and answers where its clusters lie. It ends:
    /// no cluster has two predecessors and the first has none.
    fn claim(&mut self, geometry: &Geometry, start: u32, name: &str) -> Result<Vec<Range<u64>>, FatError> {
        let slot = |cluster: u32| usize::try_from(cluster.wrapping_sub(2)).unwrap_or(usize::MAX);
        match self.taken.get_mut(slot(start)) {
            None => return Err(corrupt(name, "starts at a cluster that does not exist")),
            Some(true) => return Err(corrupt(name, "shares clusters with another file")),
            Some(taken) => *taken = true,
        }
        let mut extents = Vec::new();
        let mut at = Some(start);
        while let Some(cluster) = at {
            let offset = geometry.offset(cluster);
            extents.push(offset..offset + geometry.cluster);
            at = match self.next.get(slot(cluster)) {
                Some(Next::Cluster(next)) => Some(*next),
                Some(Next::End) => None,
                _ => return Err(corrupt(name, "uses a cluster that is marked free or bad")),
            };
        }
        Ok(extents)
    }
}

fn load_fat(geometry: &Geometry, read: ReadAt<'_>, copy: u64) -> Result<Vec<u8>, FatError> {
    let start = geometry.fat + copy * geometry.fat_len;
    let entries = u64::from(geometry.clusters) + 2;
    let used = match geometry.kind {
        FatKind::Fat12 => (entries * 3).div_ceil(2),
        FatKind::Fat16 => entries * 2,
        FatKind::Fat32 => entries * 4,
    };
    // Bounded: the geometry refuses large FATs.
    let mut fat = vec![0; usize::try_from(used).unwrap_or(0)];
    read(start, &mut fat)?;
    Ok(fat)
}

fn decode(kind: FatKind, fat: &[u8], cluster: u32) -> Next {
    let at = usize::try_from(cluster).unwrap_or(usize::MAX);
    let byte = |at: usize| fat.get(at).copied().map_or(0, u32::from);
    let (value, bad) = match kind {
        FatKind::Fat12 => {
            let both = byte(at + at / 2) | byte(at + at / 2 + 1) << 8;
            (if cluster % 2 == 0 { both & 0xfff } else { both >> 4 }, 0xff7)
        }
        FatKind::Fat16 => (byte(at * 2) | byte(at * 2 + 1) << 8, 0xfff7),
        FatKind::Fat32 => {
            let high = byte(at * 4 + 2) << 16 | (byte(at * 4 + 3) & 0x0f) << 24;
            (byte(at * 4) | byte(at * 4 + 1) << 8 | high, 0x0fff_fff7)
        }
    };
    match value {
        0 => Next::Free,
        value if value == bad => Next::Bad,
        value if value > bad => Next::End,
        value => Next::Cluster(value),
    }
}

/// Clusters that are free now.
pub(super) fn free_clusters(geometry: &Geometry, read: ReadAt<'_>) -> Result<u32, FatError> {
    Ok(Chains::read(geometry, read)?.free())
}

/// The first free cluster, if there is one.
pub(super) fn first_free(geometry: &Geometry, read: ReadAt<'_>) -> Result<Option<u32>, FatError> {
    let chains = Chains::read(geometry, read)?;
    let at = chains.next.iter().position(|next| *next == Next::Free);
    Ok(at.and_then(|at| u32::try_from(at + 2).ok()))
}

/// Room behind the root directory's last entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct RootRoom {
    /// Unused slots.
    pub slots: u64,
    /// The last cluster, behind which another can be hung; none where the root directory is fixed.
    pub last_cluster: Option<u32>,
}

pub(super) fn room_in_root(geometry: &Geometry, read: ReadAt<'_>) -> Result<RootRoom, FatError> {
    let (extents, chained) = match geometry.root {
        Root::Region { offset, len } => (vec![offset..offset + len], false),
        Root::Chain(start) => (Chains::read(geometry, read)?.claim(geometry, start, "the root directory")?, true),
    };
    let mut slots = 0;
    for extent in extents.iter().rev() {
        let bytes = load(read, extent)?;
        let unused = bytes.chunks_exact(32).rev().take_while(|slot| slot.first() == Some(&0)).count() as u64;
        slots += unused;
        if unused * 32 < extent.end - extent.start {
            break;
        }
    }
    let last = extents.last().filter(|_| chained);
    let last_cluster = last.and_then(|last| u32::try_from((last.start - geometry.data) / geometry.cluster + 2).ok());
    Ok(RootRoom { slots, last_cluster })
}
