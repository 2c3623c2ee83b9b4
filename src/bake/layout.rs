//! Where an image's boot and root partitions are, and making room in them.

use std::ops::Range;
use std::sync::Arc;

use super::error::BakeError;
use super::{architecture, programs};
use crate::disk::{Disk, Overlay, Window};
use crate::ext4;
use crate::fat;
use crate::partition::{Partition, Table};
use crate::spec::{KernelArguments, NodeSpec};

/// What the firmware of a Raspberry Pi reads first; its partition is the boot partition.
pub(super) const FIRMWARE_FILE: &str = "config.txt";
/// A directory that only a root file system has; a separate /boot has none.
const ROOT_MARK: &str = "/etc";

/// The parts of a base image that a bake touches.
pub(super) struct Layout {
    table: Table,
    root_number: u32,
    /// Bytes of the root partition on the base.
    pub root: Range<u64>,
    /// Bytes of the boot partition, where the board has one that is edited.
    pub boot: Option<Range<u64>>,
    /// Size of the root file system in bytes.
    pub file_system_size: u64,
    /// Free bytes of the root file system.
    pub free_bytes: u64,
    /// Bytes in a block of the root file system.
    pub block_size: u64,
    /// Of so many bytes that the file system grows by (second), so many are its own tables (first).
    pub overhead: (u64, u64),
    /// Bytes behind the last partition that belong to the partition table.
    pub tail_bytes: u64,
    /// What the base image lacks, a line each.
    pub warnings: Vec<String>,
}

impl Layout {
    /// Looks at `base`; refuses what cannot be baked for `spec`.
    pub(super) fn find(base: &Arc<dyn Disk>, spec: &NodeSpec) -> Result<Self, BakeError> {
        let table = Table::read(base.as_ref())
            .map_err(|source| BakeError::Partition { base: spec.base.name.clone(), source })?;
        // Editors want a disk that can be changed; this one is thrown away unchanged.
        let mut disk = Overlay::new(Arc::clone(base), base.size());
        let boot = boot_partition(&mut disk, &table, spec)?;
        let partition = root_partition(&mut disk, &table)?;
        let root = partition.range();
        let mut window = Window::new(&mut disk, root.clone()).map_err(BakeError::Disk)?;
        let mut editor = ext4::Editor::open(&mut window).map_err(BakeError::Root)?;
        architecture::check(&mut editor, spec)?;
        let warnings = programs::missing(&mut editor, spec)?;
        Ok(Self {
            root_number: partition.number,
            boot,
            file_system_size: editor.size(),
            free_bytes: editor.free_bytes(),
            block_size: u64::from(editor.block_size()),
            overhead: editor.group_overhead(),
            tail_bytes: table.tail_bytes(),
            warnings,
            root,
            table,
        })
    }

    /// Makes the root partition reach to the end of `disk`; answers where it is now.
    pub(super) fn grow(&self, disk: &mut Overlay, spec: &NodeSpec) -> Result<Range<u64>, BakeError> {
        let mut table = self.table.clone();
        let grown = table
            .grow(disk, self.root_number)
            .map_err(|source| BakeError::Partition { base: spec.base.name.clone(), source })?;
        Ok(grown.range())
    }
}

fn boot_partition(disk: &mut Overlay, table: &Table, spec: &NodeSpec) -> Result<Option<Range<u64>>, BakeError> {
    match spec.firmware.kernel_arguments {
        KernelArguments::BootLoader => return Ok(None),
        KernelArguments::RaspberryPiCmdline => {}
    }
    for partition in table.partitions() {
        let range = partition.range();
        let mut window = Window::new(disk, range.clone()).map_err(BakeError::Disk)?;
        if fat::Editor::open(&mut window, 0).and_then(|editor| editor.exists(FIRMWARE_FILE)).unwrap_or(false) {
            return Ok(Some(range));
        }
    }
    Err(BakeError::NoBootPartition { base: spec.base.name.clone(), file: FIRMWARE_FILE })
}

/// The ext4 partition that holds a root file system. Where none does, the error says what each partition is.
fn root_partition<'table>(disk: &mut Overlay, table: &'table Table) -> Result<&'table Partition, BakeError> {
    let mut refused = None;
    for partition in table.partitions() {
        let mut window = Window::new(disk, partition.range()).map_err(BakeError::Disk)?;
        match ext4::Editor::open(&mut window) {
            Ok(mut editor) => {
                if editor.metadata(ROOT_MARK).map_err(BakeError::Root)?.is_some() {
                    return Ok(partition);
                }
            }
            Err(error) if error.is_foreign() => {}
            // A file system that is ext4 but cannot be edited is probably the one that was meant.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or_else(|| BakeError::NoRoot { partitions: table.partitions().len() }, BakeError::Root))
}
