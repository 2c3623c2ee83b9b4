//! A disk from a root tree: partition table, FAT, ext4, boot loader, all as bytes.
//!
//! The layouts are Debian's own: on the Pi an MBR with the firmware's FAT32 partition before the root, for clouds a GPT
//! whose root has number 1 and lies last, so that it can grow. The empty ext4 file system is made by the host's mke2fs in
//! a sparse file; our own editor fills it. Files' contents stay in the tar until the disk is written out.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::BaseError;
use super::filling;
use super::grub;
use super::host::{command, output_of};
use super::recipe::{Platform, Recipe, id};
use super::tree::{Kind, Member};
use crate::disk::{DiskMut, FileRange, HostFile, Overlay, Window, ZeroDisk};
use crate::fat::{self, FatKind, FormatOptions};
use crate::partition::{Guid, NewGptPartition, NewMbrPartition, create_gpt, create_mbr};
use crate::progress::Progress;

const MIB: u64 = 1024 * 1024;
const BLOCK: u64 = 4096;
/// Sizes of the journal and of what is left free for the node to come up when nothing is baked in.
const JOURNAL_MIB: u64 = 64;
const SPARE: u64 = 192 * MIB;
/// Roots are multiples of this.
const GRAIN: u64 = 64 * MIB;

const TYPE_FAT32_LBA: u8 = 0x0c;
const TYPE_LINUX: u8 = 0x83;
const TYPE_BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const TYPE_ROOT_AMD64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const TYPE_ROOT_ARM64: &str = "b921b045-1df0-41c3-af44-4c6f280d3fae";

/// Where things lie on the disk, in bytes.
struct Layout {
    size: u64,
    bios: Option<Range<u64>>,
    fat: Range<u64>,
    root: Range<u64>,
}

impl Layout {
    fn of(platform: Platform, root: u64) -> Self {
        match platform {
            Platform::RaspberryPi => {
                let fat = 4 * MIB..516 * MIB;
                Self { size: fat.end + root, bios: None, root: fat.end..fat.end + root, fat }
            }
            Platform::CloudAmd64 | Platform::CloudArm64 => {
                let bios = (platform == Platform::CloudAmd64).then_some(MIB..4 * MIB);
                let fat = 4 * MIB..128 * MIB;
                // The last MiB holds the table's backup.
                Self { size: fat.end + root + MIB, bios, root: fat.end..fat.end + root, fat }
            }
        }
    }
}

/// Puts the disk of `recipe` together from the members of its root tree; `epoch` is the time of all that is made here.
pub(super) fn assemble(
    recipe: &Recipe,
    members: Vec<Member>,
    epoch: u64,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Overlay, BaseError> {
    progress.begin("putting the disk together", None);
    let boot_images = boot_images(recipe.platform(), &members)?;
    let (on_fat, on_root) = filling::split(members, recipe.platform().fat_mount());
    let layout = Layout::of(recipe.platform(), root_size(&on_root));
    let mut disk = Overlay::new(Arc::new(ZeroDisk::new(layout.size)), layout.size);
    make_table(&mut disk, recipe.platform(), &layout)?;
    make_fat(&mut disk, recipe.platform(), &layout, epoch, &on_fat)?;
    let empty = make_empty_ext4(recipe, layout.root.end - layout.root.start, epoch, folder, progress)?;
    disk.map(layout.root.start, empty).map_err(BaseError::assembly("place the root file system"))?;
    let mut window = Window::new(&mut disk, layout.root.clone()).map_err(BaseError::assembly("find the root"))?;
    filling::fill_root(&mut window, &on_root, epoch)?;
    if let (Some(bios), Some(grub)) = (layout.bios, boot_images) {
        grub::embed(&mut disk, bios, &grub.boot, &grub.core).map_err(BaseError::assembly("install grub"))?;
    }
    progress.end();
    Ok(disk)
}

/// What the root needs: its files in whole blocks, a margin for directories, inodes and the reserve, a journal, and room.
fn root_size(members: &[Member]) -> u64 {
    let blocks: u64 = members
        .iter()
        .map(|member| match &member.kind {
            Kind::File(range) => range.len().div_ceil(BLOCK),
            Kind::Directory => 1,
            _ => 0,
        })
        .sum();
    let contents = blocks * BLOCK;
    (contents + contents / 7 + JOURNAL_MIB * MIB + SPARE).next_multiple_of(GRAIN)
}

/// What the BIOS starts.
struct BootImages {
    boot: Vec<u8>,
    core: Vec<u8>,
}

/// grub's boot.img and core.img from the tree, where the platform has a BIOS.
fn boot_images(platform: Platform, members: &[Member]) -> Result<Option<BootImages>, BaseError> {
    if platform != Platform::CloudAmd64 {
        return Ok(None);
    }
    let image = |name: &str| {
        let path = format!("boot/grub/i386-pc/{name}");
        let range = members.iter().find_map(|member| match &member.kind {
            Kind::File(range) if member.path == path => Some(range),
            _ => None,
        });
        filling::contents(range.ok_or_else(|| BaseError::Tree(format!("`{path}` is missing")))?)
    };
    Ok(Some(BootImages { boot: image("boot.img")?, core: image("core.img")? }))
}

fn make_table(disk: &mut Overlay, platform: Platform, layout: &Layout) -> Result<(), BaseError> {
    let failed = || BaseError::assembly("make the partition table");
    let root_type = match platform {
        Platform::RaspberryPi => {
            let fat = NewMbrPartition { number: 1, range: layout.fat.clone(), kind: TYPE_FAT32_LBA, bootable: true };
            let root = NewMbrPartition { number: 2, range: layout.root.clone(), kind: TYPE_LINUX, bootable: false };
            return create_mbr(disk, id::MBR_DISK, &[fat, root]).map(drop).map_err(failed());
        }
        Platform::CloudAmd64 => TYPE_ROOT_AMD64,
        Platform::CloudArm64 => TYPE_ROOT_ARM64,
    };
    let mut partitions = vec![
        gpt_partition(1, &layout.root, root_type, id::ROOT_PARTITION)?,
        gpt_partition(15, &layout.fat, TYPE_ESP, id::ESP_PARTITION)?,
    ];
    if let Some(bios) = &layout.bios {
        partitions.push(gpt_partition(14, bios, TYPE_BIOS_BOOT, id::BIOS_PARTITION)?);
    }
    create_gpt(disk, guid(id::GPT_DISK)?, &partitions).map(drop).map_err(failed())
}

fn gpt_partition(number: u32, range: &Range<u64>, kind: &str, own: &str) -> Result<NewGptPartition, BaseError> {
    let (kind, guid) = (guid(kind)?, guid(own)?);
    Ok(NewGptPartition { number, range: range.clone(), kind, guid, name: String::new(), attributes: 0 })
}

fn guid(text: &str) -> Result<Guid, BaseError> {
    text.parse().map_err(BaseError::assembly("read an identifier"))
}

fn make_fat(
    disk: &mut Overlay,
    platform: Platform,
    layout: &Layout,
    epoch: u64,
    members: &[Member],
) -> Result<(), BaseError> {
    let (label, kind) = match platform {
        Platform::RaspberryPi => (id::BOOT_LABEL, FatKind::Fat32),
        Platform::CloudAmd64 | Platform::CloudArm64 => (id::ESP_LABEL, FatKind::Fat16),
    };
    let options = FormatOptions { label: label.to_owned(), volume_id: id::FAT_VOLUME, kind, time: epoch };
    let mut window = Window::new(disk, layout.fat.clone()).map_err(BaseError::assembly("find the boot partition"))?;
    fat::format(&mut window, &options).map_err(BaseError::assembly("make the boot partition"))?;
    filling::fill_fat(&mut window, members, epoch)
}

/// An empty ext4 file system of `size` bytes in a sparse file, with the features that the release's own tools choose.
fn make_empty_ext4(
    recipe: &Recipe,
    size: u64,
    epoch: u64,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<FileRange, BaseError> {
    let path = folder.join("root.ext4");
    let file = std::fs::File::create(&path).map_err(BaseError::io("create", &path))?;
    file.set_len(size).map_err(BaseError::io("enlarge", &path))?;
    drop(file);
    let mut features = recipe.ext4_features();
    if features.contains(&"orphan_file") && !knows_orphan_file() {
        features.retain(|feature| *feature != "orphan_file");
        progress.note("this host's mke2fs is older than 1.47: the root is made without `orphan_file`");
    }
    let mut mke2fs = command("mke2fs");
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "5"])
        .args(["-U", id::ROOT_UUID, "-L", if recipe.platform() == Platform::RaspberryPi { id::ROOT_LABEL } else { "" }])
        .args(["-O", &format!("none,{}", features.join(",")), "-J", &format!("size={JOURNAL_MIB}")])
        // The inode tables count as zeroed, or the node's kernel would write them all on its first day.
        .args([
            "-E",
            &format!("root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard,hash_seed={}", id::ROOT_UUID),
        ])
        .arg(&path)
        .envs([("E2FSPROGS_FAKE_TIME", epoch.to_string()), ("SOURCE_DATE_EPOCH", epoch.to_string())]);
    output_of(mke2fs).map_err(|source| BaseError::Program { action: "make the root file system", source })?;
    Ok(FileRange::whole(HostFile::open(&path).map_err(BaseError::io("open", &path))?))
}

/// `mke2fs -V` says `mke2fs 1.47.0 (5-Feb-2023)`, to standard error.
fn knows_orphan_file() -> bool {
    let mut version = command("mke2fs");
    version.arg("-V");
    let said = version.output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    let number = said.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(1), Some(47))
}
