//! Checksums of ext4's metadata: crc32c (metadata_csum), or crc16 of group descriptors alone (uninit_bg).
//! Written from the kernel's Documentation/filesystems/ext4/checksums.rst.

use super::features;
use super::inode::InodeNumber;
use super::record::low16;
use super::superblock::{self, Superblock};

/// crc32c as ext4 seeds and continues it: without the customary inversion at either end.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// crc16 (polynomial 0x8005, reflected) as the kernel's lib/crc16.c has it.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Descriptors,
    Metadata,
}

/// Which checksums this file system has, and from where they start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksums {
    kind: Kind,
    seed: u32,
    uuid: [u8; 16],
}

const DESCRIPTOR_CHECKSUM: usize = 0x1e;

impl Checksums {
    pub(super) fn new(superblock: &Superblock) -> Self {
        let uuid = superblock.uuid();
        let kind = if superblock.has_ro_compat(features::METADATA_CSUM) {
            Kind::Metadata
        } else if superblock.has_ro_compat(features::GDT_CSUM) {
            Kind::Descriptors
        } else {
            Kind::None
        };
        let seed = if superblock.has_incompat(features::CSUM_SEED) {
            superblock.get(superblock::CHECKSUM_SEED)
        } else {
            crc32c(!0, &uuid)
        };
        Self { kind, seed, uuid }
    }

    /// Whether group descriptors have checksums, and so may call their bitmaps and tables uninitialised.
    pub(super) fn descriptors(&self) -> bool {
        self.kind != Kind::None
    }

    /// Whether all metadata has checksums.
    pub(super) fn metadata(&self) -> bool {
        self.kind == Kind::Metadata
    }

    /// Where the checksums of everything that belongs to no inode start.
    pub(super) fn seed(&self) -> u32 {
        self.seed
    }

    /// Where the checksums of everything that belongs to an inode start.
    pub(super) fn inode_seed(&self, number: InodeNumber, generation: u32) -> u32 {
        crc32c(crc32c(self.seed, &number.0.to_le_bytes()), &generation.to_le_bytes())
    }

    /// The checksum of group `number`'s descriptor.
    pub(super) fn descriptor(&self, number: u32, bytes: &[u8]) -> u16 {
        let before = bytes.get(..DESCRIPTOR_CHECKSUM).unwrap_or_default();
        let after = bytes.get(DESCRIPTOR_CHECKSUM + 2..).unwrap_or_default();
        match self.kind {
            Kind::None => 0,
            Kind::Descriptors => {
                [self.uuid.as_slice(), &number.to_le_bytes(), before, after].into_iter().fold(!0, crc16)
            }
            Kind::Metadata => {
                low16([number.to_le_bytes().as_slice(), before, &[0; 2], after].into_iter().fold(self.seed, crc32c))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), crc32c(!0, b"123456789"));
    }
}
