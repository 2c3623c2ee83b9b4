//! How large the image becomes: what goes in, plus a stated reserve, or what the user says if that is enough.

use super::error::BakeError;
use super::layout::Layout;
use crate::spec::NodeSpec;

/// Images end on a whole multiple of this, as partitioning tools like it and every SD card holds.
const ALIGNMENT: u64 = 4 << 20;
/// Directories, extent trees and attributes of what goes in, beside their contents.
const METADATA: u64 = 4 << 20;

/// The size in bytes of the image that takes `payload` bytes more than the base, whose own size is `base`.
pub(super) fn of(spec: &NodeSpec, layout: &Layout, payload: u64, base: u64) -> Result<u64, BakeError> {
    let needed = needed(layout, payload.saturating_add(METADATA).saturating_add(spec.reserve)).max(base);
    let needed = needed.next_multiple_of(ALIGNMENT);
    match spec.size {
        None => Ok(needed),
        Some(size) if size >= needed => Ok(size / 512 * 512),
        Some(size) => Err(BakeError::TooSmall { size, needed, reserve: spec.reserve }),
    }
}

/// The disk that holds a root file system with `room` bytes free.
fn needed(layout: &Layout, room: u64) -> u64 {
    let missing = room.saturating_sub(layout.free_bytes);
    // What is added carries its own inode tables and bitmaps.
    let (tables, group) = layout.overhead;
    let groups = missing.div_ceil(group.saturating_sub(tables).max(1));
    let added = missing.saturating_add(groups.saturating_mul(tables));
    let file_system = layout.file_system_size.saturating_add(added);
    layout.root.start.saturating_add(file_system).saturating_add(layout.tail_bytes)
}
