//! Applies a plan's edits of the boot partition.

use std::ops::Range;

use super::error::BakeError;
use crate::disk::{Overlay, Window};
use crate::fat::Editor;
use crate::plan::{BootEdit, GuestPath, Plan, Transform};

/// `config.txt` and `cmdline.txt` are short texts.
const TEXT_LIMIT: u64 = 1 << 20;

/// Applies `plan.boot` to the FAT file system in `partition` of `disk`.
pub(super) fn apply(disk: &mut Overlay, partition: Range<u64>, plan: &Plan) -> Result<(), BakeError> {
    let mut window = Window::new(disk, partition).map_err(BakeError::Disk)?;
    let mut editor = Editor::open(&mut window, plan.timestamp).map_err(BakeError::Boot)?;
    for (path, edit) in &plan.boot {
        match edit {
            BootEdit::Write(text) => editor.write(path.as_str(), text.as_bytes()).map_err(BakeError::Boot)?,
            BootEdit::Remove => editor.remove(path.as_str()).map_err(BakeError::Boot)?,
            BootEdit::Transform(transform) => each(&mut editor, path, transform)?,
        }
    }
    editor.finish().map_err(BakeError::Boot)
}
