//! The format of an input: a template, switches, patches, and edits in what is left.
//!
//! Byte 0 chooses the template, byte 1 holds the [`Switches`], byte 2 the disk's size beyond the template's, byte 3 the number
//! of patches. A patch is a place (three bytes, little endian: a byte of the structures that the target is about, one
//! after the other, or of the image), a length (one byte) and as many bytes.

use imgbake::{Disk as _, DiskMut as _, Overlay};

use crate::template::{Kind, Template};

/// What is done beside the edits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switches {
    /// Checksums behind the patches are made right again.
    pub(crate) repair: bool,
    /// Every file is changed, moved and removed.
    pub(crate) everything: bool,
    /// The file system grows to the size of the disk.
    pub(crate) grow: bool,
}

pub(crate) struct Input<'bytes> {
    pub(crate) template: u8,
    pub(crate) switches: Switches,
    extra: u8,
    patches: Vec<(u32, &'bytes [u8])>,
    pub(crate) rest: &'bytes [u8],
}

impl<'bytes> Input<'bytes> {
    pub(crate) fn decode(bytes: &'bytes [u8]) -> Option<Self> {
        let (&[template, bits, extra, count], mut rest) = bytes.split_first_chunk::<4>()?;
        let mut patches = Vec::new();
        for _ in 0..count {
            let Some((&[low, middle, high, len], after)) = rest.split_first_chunk::<4>() else { break };
            let (patch, after) = after.split_at(usize::from(len).min(after.len()));
            patches.push((u32::from_le_bytes([low, middle, high, 0]), patch));
            rest = after;
        }
        let switches = Switches { repair: bits & 1 != 0, everything: bits & 2 != 0, grow: bits & 4 != 0 };
        Some(Self { template, switches, extra, patches, rest })
    }

    /// The template's size and some MiB, or, from 128 on, a power of two.
    pub(crate) fn disk_size(&self, template: &Template) -> u64 {
        let own = template.image().size();
        match self.extra {
            mib @ ..128 => own + (u64::from(mib) << 20),
            power => own.max(1 << (power - 128).clamp(20, 62)),
        }
    }

    /// Puts the patches into place; whether one changed anything.
    pub(crate) fn patch(&self, template: &Template, kinds: &[Kind], disk: &mut Overlay) -> bool {
        let mut changed = false;
        for (place, bytes) in &self.patches {
            let Some((offset, room)) = locate(template, kinds, u64::from(*place)) else { continue };
            let bytes = &bytes[..bytes.len().min(room as usize)];
            let mut before = vec![0; bytes.len()];
            disk.read_at(offset, &mut before).expect("within the template");
            if before != *bytes {
                disk.write_at(offset, bytes).expect("within the template");
                changed = true;
            }
        }
        changed
    }
}

/// Where byte `at` of the structures of `kinds` is, and how many follow it in the same.
fn locate(template: &Template, kinds: &[Kind], at: u64) -> Option<(u64, u64)> {
    if kinds.is_empty() {
        let size = template.image().size();
        return Some((at % size, size - at % size));
    }
    let places = || template.places().iter().filter(|place| kinds.contains(&place.kind));
    let mut at = at % places().map(|place| place.len).sum::<u64>().max(1);
    for place in places() {
        if at < place.len {
            return Some((place.offset + at, place.len - at));
        }
        at -= place.len;
    }
    None
}
