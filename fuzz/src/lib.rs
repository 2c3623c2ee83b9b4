//! What the fuzz targets share: templates made by mke2fs, bytes put over their structures, edits, and what must hold.
//!
//! A target chooses the structures; [`run`] does the rest: it opens the patched template, looks at everything within
//! bounds, edits, finishes and looks again. A panic, a failed assertion, more than [`MEMORY`] bytes on the heap or ten
//! seconds are findings. `run` in this folder starts the targets.

mod checksum;
mod edit;
mod input;
mod judge;
mod look;
mod template;

use std::sync::Arc;

use arbitrary::Unstructured;
use imgbake::ext4::{Editor, Ext4Error, Reader};
use imgbake::{Disk as _, Overlay};

use edit::Edit;
use input::{Input, Switches};
use look::Snapshot;
pub use template::Kind;
use template::Template;

/// Bytes of heap that imgbake may have in use at once, whatever an image says.
pub const MEMORY: usize = 448 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, MEMORY);

/// Bytes to grow to at the most.
const LARGEST: u64 = 1 << 30;

/// The most edits of one input.
const MOST_EDITS: usize = 40;

/// One input of a target that patches structures of `kinds`; of the whole image if there are none.
pub fn run(kinds: &[Kind], bytes: &[u8]) {
    let Some(input) = Input::decode(bytes) else { return };
    let template = template::nth(input.template, kinds);
    let mut disk = Overlay::new(Arc::clone(template.image()) as _, input.disk_size(template));
    let patched = input.patch(template, kinds, &mut disk);
    if input.switches.repair {
        checksum::repair(template, &mut disk);
    }
    if let Ok(mut reader) = Reader::open(&disk) {
        let _ = look::look(&mut reader);
    }
    let mut rest = Unstructured::new(input.rest);
    let edits: Vec<Edit> = (0..MOST_EDITS).map_while(|_| (!rest.is_empty()).then(|| rest.arbitrary().ok())?).collect();
    match change(&mut disk, &edits, input.switches) {
        Ok(Some(before)) if !patched => must_hold(template, &disk, &before),
        Ok(_) => drop(Reader::open(&disk)),
        // Of an image that nobody damaged, no edit may be half done.
        Err(error) => assert!(patched || !matches!(error, Ext4Error::Torn | Ext4Error::Corrupt { .. }), "{error}"),
    }
}

/// Makes the edits; answers what the image is to hold, if it could be looked at whole.
fn change(disk: &mut Overlay, edits: &[Edit], switches: Switches) -> Result<Option<Snapshot>, Ext4Error> {
    // Growing costs what it makes, and whoever bakes an image chooses that, not the image.
    let size = disk.size().min(LARGEST);
    let mut editor = Editor::open(disk)?;
    let mut paths = look::paths(&mut editor);
    if switches.grow {
        let _ = editor.grow(size);
    }
    for edit in edits {
        edit.apply(&mut editor, &mut paths);
    }
    if switches.everything {
        edit::everything(&mut editor, &paths);
    }
    let before = look::look(&mut editor).ok();
    editor.finish()?;
    Ok(before)
}

/// After edits to an image that nobody damaged: it opens, holds what the editor said it would, and is consistent.
fn must_hold(template: &Template, disk: &Overlay, before: &Snapshot) {
    let mut reader = Reader::open(disk).unwrap_or_else(|error| panic!("{}: {error}", template.name));
    let after = look::look(&mut reader).unwrap_or_else(|error| panic!("{}: {error}", template.name));
    look::compare(template.name, before, &after);
    judge::e2fsck(template.name, disk);
}
