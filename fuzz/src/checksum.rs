//! Makes the checksums of a patched template right again, and the number of inodes that must agree with the number of
//! groups, so that patches get past them.

use imgbake::{Disk as _, DiskMut as _, Overlay};

use crate::template::{Kind, Place, Template};

const GDT_CSUM: u32 = 0x10;
const METADATA_CSUM: u32 = 0x400;
const BITS64: u32 = 0x80;
const CSUM_SEED: u32 = 0x2000;
const JOURNAL_MAGIC: u32 = 0xc03b_3998;

/// crc32c as ext4 continues it.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes(word.try_into().expect("four bytes")))
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |word| u16::from_le_bytes(word.try_into().expect("two bytes")))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}

fn read(disk: &Overlay, place: Place) -> Vec<u8> {
    let mut bytes = vec![0; place.len as usize];
    disk.read_at(place.offset, &mut bytes).expect("within the template");
    bytes
}

/// What the superblock says about checksums.
struct Sums<'template> {
    template: &'template Template,
    metadata: bool,
    descriptors: bool,
    seed: u32,
    uuid: [u8; 16],
}

pub(crate) fn repair(template: &Template, disk: &mut Overlay) {
    let superblock = Place { kind: Kind::Superblock, offset: 1024, len: 1024, number: 0 };
    let bytes = read(disk, superblock);
    let uuid: [u8; 16] = bytes[0x68..0x78].try_into().expect("sixteen bytes");
    let seeded = le32(&bytes, 0x60) & CSUM_SEED != 0;
    let sums = Sums {
        template,
        metadata: le32(&bytes, 0x64) & METADATA_CSUM != 0,
        descriptors: le32(&bytes, 0x64) & GDT_CSUM != 0,
        seed: if seeded { le32(&bytes, 0x270) } else { crc32c(!0, &uuid) },
        uuid,
    };
    // Bitmaps before the descriptors that hold their checksums, inodes before what their generations seed.
    let order = [
        Kind::Superblock,
        Kind::Bitmap,
        Kind::Descriptor,
        Kind::Inode,
        Kind::Tree,
        Kind::Directory,
        Kind::Attributes,
        Kind::Journal,
    ];
    for kind in order {
        for place in template.places().iter().filter(|place| place.kind == kind) {
            let before = read(disk, *place);
            let mut bytes = before.clone();
            sums.repair(*place, &mut bytes, disk);
            if bytes != before {
                disk.write_at(place.offset, &bytes).expect("within the template");
            }
        }
    }
}

/// s_inodes_count is what the numbers of groups and of inodes in a group make it.
fn count_inodes(superblock: &mut [u8]) {
    let high = if le32(superblock, 0x60) & BITS64 != 0 { le32(superblock, 0x150) } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(le32(superblock, 0x4));
    let groups = blocks.saturating_sub(le32(superblock, 0x14).into()).div_ceil(le32(superblock, 0x20).max(1).into());
    if let Ok(inodes) = u32::try_from(groups.saturating_mul(le32(superblock, 0x28).into())) {
        put(superblock, 0, &inodes.to_le_bytes());
    }
}

impl Sums<'_> {
    fn repair(&self, place: Place, bytes: &mut [u8], disk: &Overlay) {
        let len = bytes.len();
        if place.kind == Kind::Superblock {
            count_inodes(bytes);
        }
        match place.kind {
            Kind::Journal => return self.repair_journal(bytes, disk),
            Kind::Descriptor if self.metadata || self.descriptors => return self.repair_descriptor(place, bytes),
            _ if !self.metadata => return,
            _ => {}
        }
        match place.kind {
            Kind::Superblock => {
                let sum = crc32c(!0, &bytes[..len - 4]);
                put(bytes, len - 4, &sum.to_le_bytes());
            }
            Kind::Inode => {
                let wide = len > 128 && le16(bytes, 0x80) >= 4;
                put(bytes, 0x7c, &[0; 2]);
                if wide {
                    put(bytes, 0x82, &[0; 2]);
                }
                let sum = crc32c(self.inode_seed(place.number, bytes), bytes).to_le_bytes();
                put(bytes, 0x7c, &sum[..2]);
                if wide {
                    put(bytes, 0x82, &sum[2..]);
                }
            }
            Kind::Tree => {
                let tail = 12 + usize::from(le16(bytes, 4)) * 12;
                if le16(bytes, 0) == 0xf30a && tail + 4 <= len {
                    let sum = crc32c(self.owner_seed(place, disk), &bytes[..tail]);
                    put(bytes, tail, &sum.to_le_bytes());
                }
            }
            Kind::Directory => {
                // The first block of an index and its nodes have their sums elsewhere, and nobody asks for them.
                if bytes[len - 5] == 0xde {
                    let sum = crc32c(self.owner_seed(place, disk), &bytes[..len - 12]);
                    put(bytes, len - 4, &sum.to_le_bytes());
                }
            }
            Kind::Attributes => {
                put(bytes, 0x10, &[0; 4]);
                let block = place.offset / place.len;
                let sum = crc32c(crc32c(self.seed, &block.to_le_bytes()), bytes);
                put(bytes, 0x10, &sum.to_le_bytes());
            }
            Kind::Bitmap | Kind::Descriptor | Kind::Journal => {}
        }
    }

    fn repair_descriptor(&self, place: Place, bytes: &mut [u8]) {
        put(bytes, 0x1e, &[0; 2]);
        let number = place.number.to_le_bytes();
        let sum = if self.metadata {
            crc32c(crc32c(self.seed, &number), bytes) as u16
        } else {
            [self.uuid.as_slice(), &number, &bytes[..0x1e], &bytes[0x20..]].into_iter().fold(!0, crc16)
        };
        put(bytes, 0x1e, &sum.to_le_bytes());
    }

    fn inode_seed(&self, number: u32, inode: &[u8]) -> u32 {
        crc32c(crc32c(self.seed, &number.to_le_bytes()), &le32(inode, 0x64).to_le_bytes())
    }

    fn owner_seed(&self, place: Place, disk: &Overlay) -> u32 {
        self.template.inode(place.number).map_or(0, |owner| self.inode_seed(place.number, &read(disk, owner)))
    }

    /// The sums in the journal's superblock, descriptors, revoke and commit blocks.
    fn repair_journal(&self, bytes: &mut [u8], disk: &Overlay) {
        let Some(first) = self.template.places().iter().find(|place| place.kind == Kind::Journal) else { return };
        let journal = read(disk, *first);
        let len = bytes.len();
        if be32(&journal, 0x28) & 0x18 == 0 || be32(bytes, 0) != JOURNAL_MAGIC {
            return;
        }
        let seed = crc32c(!0, &journal[0x30..0x40]);
        let at = match be32(bytes, 4) {
            4 => 0xfc,
            1 | 5 => len - 4,
            2 => 0x10,
            _ => return,
        };
        put(bytes, at, &[0; 4]);
        let sum = if at == 0xfc { crc32c(!0, bytes) } else { crc32c(seed, bytes) };
        put(bytes, at, &sum.to_be_bytes());
    }
}
