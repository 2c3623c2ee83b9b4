//! Applies a plan's edits of the boot partition.

use std::ops::Range;

use super::error::BakeError;
use super::layout::FIRMWARE_FILE;
use crate::disk::{Overlay, Window};
use crate::fat::Editor;
use crate::plan::{self, BootEdit, GuestPath, Plan, Transform};

/// `config.txt` and `cmdline.txt` are short texts.
const TEXT_LIMIT: u64 = 1 << 20;
/// The usual place of the kernel's arguments; `config.txt` tells which files are really used.
const KERNEL_ARGUMENTS: &str = "/cmdline.txt";

/// Applies `plan.boot` to the FAT file system in `partition` of `disk`.
pub(super) fn apply(disk: &mut Overlay, partition: Range<u64>, plan: &Plan) -> Result<(), BakeError> {
    let mut window = Window::new(disk, partition).map_err(BakeError::Disk)?;
    let mut editor = Editor::open(&mut window, plan.timestamp.unsigned_abs()).map_err(BakeError::Boot)?;
    for (path, edit) in &plan.boot {
        match edit {
            BootEdit::Write(text) => editor.write(path.as_str(), text.as_bytes()).map_err(BakeError::Boot)?,
            BootEdit::Remove => drop(editor.remove(path.as_str()).map_err(BakeError::Boot)?),
            BootEdit::Transform(transform) => {
                for path in places(&mut editor, path)? {
                    change(&mut editor, &path, transform)?;
                }
            }
        }
    }
    editor.finish().map_err(BakeError::Boot)
}

/// The files that an edit of `path` is about: for the kernel's arguments those that are there.
fn places(editor: &mut Editor<'_>, path: &GuestPath) -> Result<Vec<GuestPath>, BakeError> {
    if path.as_str() != KERNEL_ARGUMENTS {
        return Ok(vec![path.clone()]);
    }
    let config = text(editor, &GuestPath::from(FIRMWARE_FILE))?.unwrap_or_default();
    let mut there = Vec::new();
    for place in plan::cmdline_paths(&config) {
        if editor.exists(place.as_str()).map_err(BakeError::Boot)? {
            there.push(place);
        }
    }
    // The firmware would start the kernel without its root file system: not an image for this board.
    if there.is_empty() {
        return Err(BakeError::Text { path: path.as_str().to_owned(), problem: "it is not there".to_owned() });
    }
    Ok(there)
}

fn change(editor: &mut Editor<'_>, path: &GuestPath, transform: &Transform) -> Result<(), BakeError> {
    let old = text(editor, path)?;
    if old.is_none() && !transform.makes_file() {
        return Ok(());
    }
    let new = transform.apply(old.as_deref().unwrap_or_default());
    if old.as_ref() == Some(&new) {
        Ok(())
    } else {
        editor.write(path.as_str(), new.as_bytes()).map_err(BakeError::Boot)
    }
}

fn text(editor: &mut Editor<'_>, path: &GuestPath) -> Result<Option<String>, BakeError> {
    let Some(bytes) = editor.read(path.as_str(), TEXT_LIMIT).map_err(BakeError::Boot)? else { return Ok(None) };
    let not_text = |_| BakeError::Text { path: path.as_str().to_owned(), problem: "it is not UTF-8 text".to_owned() };
    String::from_utf8(bytes).map(Some).map_err(not_text)
}
