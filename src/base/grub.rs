//! Puts grub where a PC's BIOS finds it: boot.img into sector 0, core.img into the BIOS boot partition of a GPT.
//!
//! The same bytes as `grub-bios-setup` writes (grub's util/setup.c; offsets of include/grub/i386/pc/boot.h), on a disk
//! that is not attached to anything. Leaves out Reed-Solomon redundancy, floppies and embedding between MBR and partition.

use std::ops::Range;

use crate::disk::{DiskError, DiskMut};

const SECTOR: usize = 512;
/// The disk's own BIOS parameter block, which boot.img leaves room for.
const PARAMETER_BLOCK: Range<usize> = 0x03..0x5a;
/// The sector of core.img, a 64-bit number (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
const KERNEL_SECTOR: Range<usize> = 0x5c..0x64;
/// The drive to read from (`GRUB_BOOT_MACHINE_BOOT_DRIVE`): all ones is the one that the BIOS started.
const BOOT_DRIVE: Range<usize> = 0x64..0x65;
/// A jump to the floppy probe (`GRUB_BOOT_MACHINE_DRIVE_CHECK`), which grub-bios-setup makes two NOPs for hard disks.
const DRIVE_CHECK: Range<usize> = 0x66..0x68;
/// Disk signature, MBR table and the mark at its end: the disk's own.
const TABLE: Range<usize> = 0x1b8..0x200;
/// Where core.img's first sector says which sectors the rest has: start (64 bits), count (16), segment (16).
const BLOCK_LIST: Range<usize> = 0x1f4..0x200;
/// Where the rest goes in memory (`GRUB_BOOT_MACHINE_KERNEL_SEG` and the first sector's 32 paragraphs).
const CORE_SEGMENT: u16 = 0x820;

/// What is wrong with grub's images or the place for them.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrubError {
    #[error("boot.img of grub has {0} bytes instead of 512")]
    BootImage(usize),
    #[error("core.img of grub ({core} bytes) does not fit the BIOS boot partition ({partition} bytes)")]
    CoreImage { core: usize, partition: u64 },
    #[error("cannot write grub to the disk")]
    Disk(#[from] DiskError),
}

/// Makes `disk` start grub from `partition`, its BIOS boot partition.
pub(super) fn embed(
    disk: &mut dyn DiskMut,
    partition: Range<u64>,
    boot_image: &[u8],
    core_image: &[u8],
) -> Result<(), GrubError> {
    let mut boot: [u8; SECTOR] = boot_image.try_into().map_err(|_| GrubError::BootImage(boot_image.len()))?;
    let too_large =
        || GrubError::CoreImage { core: core_image.len(), partition: partition.end.saturating_sub(partition.start) };
    let mut core = core_image.to_vec();
    core.resize(core_image.len().next_multiple_of(SECTOR), 0);
    let rest = u16::try_from(core.len() / SECTOR).ok().and_then(|count| count.checked_sub(1)).ok_or_else(too_large)?;
    if rest == 0 || partition.start.checked_add(core.len() as u64).is_none_or(|end| end > partition.end) {
        return Err(too_large());
    }
    let first = partition.start / SECTOR as u64;
    let list = [&(first + 1).to_le_bytes()[..], &rest.to_le_bytes(), &CORE_SEGMENT.to_le_bytes()].concat();
    put(&mut core, BLOCK_LIST, &list);

    let mut own = [0; SECTOR];
    disk.read_at(0, &mut own)?;
    for kept in [PARAMETER_BLOCK, TABLE] {
        put(&mut boot, kept.clone(), own.get(kept).unwrap_or_default());
    }
    put(&mut boot, KERNEL_SECTOR, &first.to_le_bytes());
    put(&mut boot, BOOT_DRIVE, &[0xff]);
    put(&mut boot, DRIVE_CHECK, &[0x90, 0x90]);
    disk.write_at(0, &boot)?;
    disk.write_at(partition.start, &core)?;
    Ok(())
}

/// Overwrites `range` of a buffer of at least one sector; all ranges here lie within the first.
fn put(buffer: &mut [u8], range: Range<usize>, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(range) {
        place.iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Disk, Overlay, ZeroDisk};

    const MIB: u64 = 1024 * 1024;

    fn disk() -> Overlay {
        let mut disk = Overlay::new(Arc::new(ZeroDisk::new(8 * MIB)), 8 * MIB);
        disk.write_at(0, &[0x77; SECTOR]).unwrap();
        disk
    }

    #[test]
    fn the_disks_table_and_parameters_stay_and_the_block_list_points_behind_the_first_sector() {
        let mut disk = disk();
        embed(&mut disk, MIB..4 * MIB, &[0x11; SECTOR], &[0x22; 1300]).unwrap();
        let mut sector = [0; SECTOR];
        disk.read_at(0, &mut sector).unwrap();
        assert_eq!(sector[0..3], [0x11; 3]);
        assert_eq!(sector[0x03..0x5a], [0x77; 0x57]);
        assert_eq!(sector[0x5c..0x68], [0, 8, 0, 0, 0, 0, 0, 0, 0xff, 0x11, 0x90, 0x90]);
        assert_eq!(sector[0x1b8..], [0x77; 0x48]);
        disk.read_at(MIB, &mut sector).unwrap();
        assert_eq!(sector[0x1f4..], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        disk.read_at(MIB + 1024, &mut sector).unwrap();
        assert_eq!((sector[275], sector[276]), (0x22, 0));
    }

    #[test]
    fn an_image_that_does_not_fit_is_refused() {
        let error = embed(&mut disk(), MIB..MIB + 1024, &[0; SECTOR], &[0; 1025]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "core.img of grub (1025 bytes) does not fit the BIOS boot partition (1024 bytes)"
        );
        let error = embed(&mut disk(), MIB..2 * MIB, &[0; 510], &[0; 1025]).unwrap_err();
        assert_eq!(error.to_string(), "boot.img of grub has 510 bytes instead of 512");
    }
}
