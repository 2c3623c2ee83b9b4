//! The one pass that writes: directories, contents, inodes, bitmaps, descriptors, superblocks.

use super::FileKind;
use super::editor::Editor;
use super::error::Ext4Error;
use super::inode::InodeNumber;
use super::layout::Run;
use super::record::index;
use super::superblock;
use crate::disk::{Content, FileRange};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The file system's size in bytes.
    pub size: u64,
    /// Free bytes that are not kept for root.
    pub free_bytes: u64,
    /// Files and folders that can still be made.
    pub free_inodes: u64,
    /// Bytes of contents mapped from files of the host.
    pub mapped_bytes: u64,
    /// Bytes of metadata and small contents written.
    pub written_bytes: u64,
}

/// A run of a file's blocks, and the part of its contents that goes there.
struct Placed {
    number: InodeNumber,
    run: Run,
    /// Where in the contents it begins.
    skip: u64,
}

impl Editor<'_> {
    /// Writes all edits.
    ///
    /// # Errors
    /// [`Ext4Error::Torn`] if an edit before had found the image damaged when half of it was done: nothing was
    /// written. [`Ext4Error::Io`] if the disk fails.
    #[must_use = "edits may not have been written"]
    pub fn finish(mut self) -> Result<Summary, Ext4Error> {
        if self.torn {
            return Err(Ext4Error::Torn);
        }
        self.store_directories()?;
        let placed = self.placed()?;
        if let Some(time) = self.time {
            let seconds = u64::try_from(time.seconds).unwrap_or_default();
            self.volume.superblock.set(superblock::WTIME, super::record::low32(seconds));
            let high = u8::try_from(seconds >> 32).unwrap_or_default();
            self.volume.superblock.set(superblock::WTIME_HI, high);
        }
        self.volume.flush_inodes()?;
        self.volume.flush_bitmaps();
        self.volume.flush_descriptors()?;
        let mut summary = Summary {
            size: self.size(),
            free_bytes: self.free_bytes(),
            free_inodes: self.free_inodes(),
            mapped_bytes: 0,
            written_bytes: self.volume.write()?,
        };
        for placed in placed {
            self.put_contents(&placed, &mut summary)?;
        }
        Ok(summary)
    }

    fn store_directories(&mut self) -> Result<(), Ext4Error> {
        let mut kept = self.reserved;
        for (number, directory) in std::mem::take(&mut self.directories) {
            if !directory.changed {
                continue;
            }
            kept = kept.saturating_sub(directory.reserved);
            let fresh = self.volume.inode(number)?.size() == 0;
            if let Some(time) = self.time.filter(|_| !fresh) {
                self.volume.inode(number)?.set_mtime(time);
            }
            let spare = self.volume.free.blocks.saturating_sub(kept);
            self.volume.store_directory(number, &directory, spare)?;
        }
        Ok(())
    }

    /// Where the new contents go, in the order of the disk.
    fn placed(&mut self) -> Result<Vec<Placed>, Ext4Error> {
        let numbers: Vec<InodeNumber> = self.contents.keys().copied().collect();
        let mut all: Vec<Placed> = Vec::with_capacity(numbers.len());
        for number in numbers {
            debug_assert!(matches!(self.kind(number), Ok(FileKind::File | FileKind::Symlink)));
            let mut logical = 0;
            for extent in self.volume.file_blocks(number)?.extents {
                match all.last_mut() {
                    Some(last) if last.number == number && last.run.start.plus(last.run.len) == extent.run.start => {
                        last.run.len += extent.run.len;
                    }
                    _ => all.push(Placed { number, run: extent.run, skip: self.volume.layout.bytes(logical) }),
                }
                logical += extent.run.len;
            }
        }
        all.sort_by_key(|placed| placed.run.start);
        Ok(all)
    }

    fn put_contents(&mut self, placed: &Placed, summary: &mut Summary) -> Result<(), Ext4Error> {
        const ACTION: &str = "write the contents of a file";
        let layout = &self.volume.layout;
        let offset = layout.bytes(placed.run.start.0);
        let room = layout.bytes(placed.run.len);
        let Some(content) = self.contents.get(&placed.number) else { return Ok(()) };
        let len = content.len().saturating_sub(placed.skip).min(room);
        match content {
            Content::Bytes(bytes) => {
                let from = index(placed.skip);
                let part = bytes.get(from..from.saturating_add(index(len))).unwrap_or_default();
                self.volume.disk.write_at(offset, part, ACTION)?;
                summary.written_bytes += len;
            }
            Content::File(range) => {
                let part: FileRange = range.slice(placed.skip, len).map_err(Ext4Error::disk(ACTION))?;
                self.volume.disk.map(offset, part, ACTION)?;
                summary.mapped_bytes += len;
            }
        }
        self.volume.disk.zero(offset + len, room - len, ACTION)
    }
}
