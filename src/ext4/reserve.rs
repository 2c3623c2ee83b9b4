//! Room for what only the end of a batch writes: changed directories take their blocks in `finish`, so
//! every edit leaves as many free as they can need, or fails with nothing changed.
//!
//! While there is plenty of room an upper bound for each directory will do. Where it gets tight the leaves of
//! the directories are counted, which betters the bounds for many edits to come. Where that is not enough an
//! edit is made on trial, and undone if the directories need more than it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alloc::{Cursors, Free};
use super::dir::Directory;
use super::editor::Editor;
use super::error::Ext4Error;
use super::extent::{self, FileBlocks};
use super::group::Group;
use super::inode::{Inode, InodeNumber};
use super::layout::{BlockNumber, Layout};
use super::record::count;
use crate::disk::Content;

/// Blocks by which one name can make a directory's need grow: a leaf, a node on each level of the index, and as
/// much again for the tree that lists them.
const STEP: u64 = 8;

/// The blocks that a directory has on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    blocks: u64,
    runs: u64,
    tree: u64,
    /// Blocks for its attributes when it leaves its inode: it may share the one that they have.
    attributes: u64,
}

impl Held {
    pub(super) fn new(blocks: &FileBlocks) -> Self {
        Self {
            blocks: blocks.extents.iter().map(|extent| extent.run.len).sum(),
            runs: count(blocks.extents.len()),
            tree: count(blocks.tree.len()),
            attributes: 0,
        }
    }

    /// What a directory in its inode has, with a block of attributes or without.
    pub(super) fn inline(attributes: bool) -> Self {
        Self { attributes: attributes.into(), ..Self::default() }
    }

    /// How many more the directory takes at the most when it has `blocks` of its own, the tree that
    /// lists them, and its attributes.
    pub(super) fn missing(&self, blocks: u64, layout: &Layout) -> u64 {
        let runs = self.runs.saturating_add(blocks.saturating_sub(self.blocks));
        let tree = extent::most_tree_blocks(runs, blocks, layout);
        blocks.saturating_add(tree).saturating_sub(self.blocks + self.tree).saturating_add(self.attributes)
    }
}

/// All that an edit can change.
struct State {
    groups: Vec<Group>,
    cursors: Cursors,
    free: Free,
    changed: BTreeMap<BlockNumber, Vec<u8>>,
    inodes: BTreeMap<InodeNumber, Inode>,
    directories: BTreeMap<InodeNumber, Directory>,
    contents: BTreeMap<InodeNumber, Arc<Content>>,
    reserved: u64,
}

impl Editor<'_> {
    /// Runs the part of an edit that changes something, and takes `blocks` free blocks at the most, those
    /// that changed directories will need included. If there are too few, nothing has changed; if it fails
    /// otherwise, the image is damaged and this batch can no longer be written.
    pub(super) fn change<T>(
        &mut self,
        blocks: u64,
        edit: impl FnOnce(&mut Self) -> Result<T, Ext4Error>,
    ) -> Result<T, Ext4Error> {
        let enough = |editor: &Self, blocks: u64| blocks.saturating_add(editor.reserved) <= editor.volume.free.blocks;
        if enough(self, blocks) || {
            self.count_leaves()?;
            enough(self, blocks.saturating_add(STEP))
        } {
            let result = edit(self);
            self.torn |= result.is_err();
            return result;
        }
        let before = self.state();
        let result = edit(self).and_then(|result| self.check_directories().map(|()| result));
        if result.is_err() {
            self.restore(before);
        }
        result
    }

    /// Betters the bounds of the directories that blocks are kept for.
    fn count_leaves(&mut self) -> Result<(), Ext4Error> {
        let kept = self.directories.iter().filter(|(_, directory)| directory.reserved > 0);
        let kept: Vec<InodeNumber> = kept.map(|(number, _)| *number).collect();
        for number in kept {
            if let Some(directory) = self.directories.get_mut(&number) {
                self.volume.count_leaves(directory);
            }
            self.mark_changed(number)?;
        }
        Ok(())
    }

    fn state(&self) -> State {
        State {
            groups: self.volume.groups.clone(),
            cursors: self.volume.cursors.clone(),
            free: self.volume.free,
            changed: self.volume.changed.clone(),
            inodes: self.volume.inodes.clone(),
            directories: self.directories.clone(),
            contents: self.contents.clone(),
            reserved: self.reserved,
        }
    }

    fn restore(&mut self, state: State) {
        self.volume.groups = state.groups;
        self.volume.cursors = state.cursors;
        self.volume.free = state.free;
        self.volume.changed = state.changed;
        self.volume.inodes = state.inodes;
        self.directories = state.directories;
        self.contents = state.contents;
        self.reserved = state.reserved;
    }

    /// Counts what the changed directories need, and whether it is there.
    fn check_directories(&mut self) -> Result<(), Ext4Error> {
        let mut needed = 0u64;
        // Where the upper bound is zero there is nothing to count.
        for (number, directory) in self.directories.iter().filter(|(_, directory)| directory.reserved > 0) {
            let blocks = self.volume.least_blocks(*number, directory)?;
            needed = needed.saturating_add(directory.held.missing(blocks, &self.volume.layout));
        }
        let free = self.volume.free.blocks;
        if needed > free {
            let layout = &self.volume.layout;
            return Err(Ext4Error::NoSpace { needed: layout.bytes(needed), free: layout.bytes(free) });
        }
        Ok(())
    }

    /// How many blocks more than reserved directory `number` needs at the most when it is changed, and
    /// `name` comes in.
    ///
    /// # Errors
    /// [`Ext4Error::DirectoryTooLarge`].
    pub(super) fn growth(&mut self, number: InodeNumber, name: Option<&[u8]>) -> Result<u64, Ext4Error> {
        self.directory(number)?;
        let Some(directory) = self.directories.get_mut(&number) else { return Ok(0) };
        let blocks = match name {
            Some(name) => self.volume.blocks_with(directory, name)?,
            None => self.volume.most_blocks(directory),
        };
        Ok(directory.held.missing(blocks, &self.volume.layout).saturating_sub(directory.reserved))
    }

    /// Notes that directory `number` is to be written, and keeps blocks for it.
    pub(super) fn mark_changed(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        self.directory(number)?;
        let Some(directory) = self.directories.get_mut(&number) else { return Ok(()) };
        directory.changed = true;
        let needed = directory.held.missing(self.volume.most_blocks(directory), &self.volume.layout);
        let before = std::mem::replace(&mut directory.reserved, needed);
        self.reserved = self.reserved.saturating_sub(before).saturating_add(needed);
        Ok(())
    }

    /// Forgets a directory that is gone.
    pub(super) fn forget_directory(&mut self, number: InodeNumber) {
        if let Some(directory) = self.directories.remove(&number) {
            self.reserved = self.reserved.saturating_sub(directory.reserved);
        }
    }
}
