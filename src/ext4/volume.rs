//! The file system below paths and names: blocks, inodes and groups as they are to become.
//!
//! Reads see what was changed; nothing reaches the disk before [`Volume::write`]. Group bitmaps and
//! inodes are loaded when they are needed, so memory grows with what is touched.

use std::collections::BTreeMap;

use super::access::Access;
use super::alloc::{Cursors, Free};
use super::bitmap::Bitmap;
use super::checksum::{Checksums, crc32c};
use super::claims::Claims;
use super::error::Ext4Error;
use super::features;
use super::folders::Folders;
use super::group::{self, Group};
use super::inode::{Inode, InodeNumber};
use super::journal::Replayed;
use super::layout::{BlockNumber, Layout};
use super::record::{count, index};
use super::superblock::{self, Superblock};

/// An ext4 file system's metadata.
pub(super) struct Volume<'disk> {
    pub(super) disk: Access<'disk>,
    pub(super) superblock: Superblock,
    pub(super) layout: Layout,
    pub(super) checksums: Checksums,
    pub(super) groups: Vec<Group>,
    pub(super) claims: Claims,
    pub(super) cursors: Cursors,
    pub(super) free: Free,
    /// Blocks whose contents are still in the journal.
    pub(super) replayed: BTreeMap<BlockNumber, Replayed>,
    /// Metadata blocks with new contents.
    pub(super) changed: BTreeMap<BlockNumber, Vec<u8>>,
    /// Ranges of bytes to become zero before anything else is written: new inode tables.
    pub(super) zeroed: Vec<(u64, u64)>,
    pub(super) inodes: BTreeMap<InodeNumber, Inode>,
    /// The blocks of all folders that were read.
    pub(super) folders: Folders,
}

impl<'disk> Volume<'disk> {
    pub(super) fn open(disk: Access<'disk>) -> Result<Self, Ext4Error> {
        let mut bytes = vec![0; superblock::SIZE];
        let end = superblock::OFFSET + count(superblock::SIZE);
        if disk.size() < end {
            return Err(Ext4Error::NotExt4 { found: 0 });
        }
        disk.read_at(superblock::OFFSET, &mut bytes, "read the superblock")?;
        let superblock = Superblock::parse(bytes)?;
        let mut volume = Self::over(disk, superblock)?;
        volume.load_groups()?;
        volume.check_groups()?;
        volume.recover()?;
        if volume.disk.may_write() {
            volume.superblock.check_state()?;
            volume.check_unused()?;
            volume.release_orphans()?;
        }
        Ok(volume)
    }

    /// A volume with this superblock, of which nothing else has been looked at.
    pub(super) fn over(disk: Access<'disk>, superblock: Superblock) -> Result<Self, Ext4Error> {
        let layout = usable_layout(&superblock, &disk)?;
        let checksums = Checksums::new(&superblock);
        Ok(Self {
            disk,
            superblock,
            layout,
            checksums,
            groups: Vec::new(),
            claims: Claims::default(),
            cursors: Cursors::default(),
            free: Free::default(),
            replayed: BTreeMap::new(),
            changed: BTreeMap::new(),
            zeroed: Vec::new(),
            inodes: BTreeMap::new(),
            folders: Folders::default(),
        })
    }

    /// Takes another superblock for the one that it was opened with, and forgets what was read by that one.
    pub(super) fn adopt(&mut self, superblock: Superblock) -> Result<(), Ext4Error> {
        let layout = usable_layout(&superblock, &self.disk)?;
        if layout.block_size != self.layout.block_size {
            return Err(Ext4Error::corrupt("the journal holds another size of blocks"));
        }
        self.checksums = Checksums::new(&superblock);
        (self.superblock, self.layout) = (superblock, layout);
        self.inodes.clear();
        self.load_groups()?;
        self.check_groups()
    }

    pub(super) fn group(&mut self, number: u32) -> Result<&mut Group, Ext4Error> {
        self.groups
            .get_mut(index(number))
            .ok_or_else(|| Ext4Error::corrupt(format!("block group {number} does not exist")))
    }

    /// A block's bytes, as they are to become.
    pub(super) fn read_block(&self, block: BlockNumber) -> Result<Vec<u8>, Ext4Error> {
        self.read_part(block, 0..index(self.layout.block_size))
    }

    /// Some of a block's bytes.
    fn read_part(&self, block: BlockNumber, part: std::ops::Range<usize>) -> Result<Vec<u8>, Ext4Error> {
        if let Some(bytes) = self.changed.get(&block) {
            return Ok(bytes.get(part).unwrap_or_default().to_vec());
        }
        if !self.layout.contains(block, 1) {
            return Err(Ext4Error::corrupt(format!("block {} lies outside of the file system", block.0)));
        }
        if let Some(bytes) = self.read_replayed(block)? {
            return Ok(bytes.get(part).unwrap_or_default().to_vec());
        }
        let offset = self.layout.bytes(block.0).saturating_add(count(part.start));
        let mut bytes = vec![0; part.len()];
        self.disk.read_at(offset, &mut bytes, "read a block")?;
        Ok(bytes)
    }

    /// Gives a block new bytes: exactly a block of them.
    pub(super) fn change_block(&mut self, block: BlockNumber, mut bytes: Vec<u8>) {
        bytes.resize(index(self.layout.block_size), 0);
        self.changed.insert(block, bytes);
    }

    /// The bitmap of `number`'s blocks, loaded or computed.
    pub(super) fn block_bitmap(&mut self, number: u32) -> Result<&mut Bitmap, Ext4Error> {
        if self.group(number)?.blocks.is_none() {
            let bitmap = self.load_block_bitmap(number)?;
            let group = self.group(number)?;
            group.clear_flag(group::BLOCK_UNINIT);
            group.blocks = Some(bitmap);
        }
        let group = self.group(number)?;
        group.blocks.as_mut().ok_or_else(|| Ext4Error::corrupt(format!("group {number} has no block bitmap")))
    }

    fn load_block_bitmap(&mut self, number: u32) -> Result<Bitmap, Ext4Error> {
        let len = self.layout.group_len(number);
        let uninit = self.checksums.descriptors() && self.group(number)?.has(group::BLOCK_UNINIT);
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("group {number}'s block bitmap {what}")));
        if uninit {
            let bitmap = self.claims.bitmap(&self.layout, number);
            if bitmap.count_clear() != self.group(number)?.free_blocks() {
                return damaged("is marked as not in use although blocks are");
            }
            return Ok(bitmap);
        }
        let place = self.group(number)?.block_bitmap();
        let bytes = self.read_block(place)?;
        if self.checksums.metadata() {
            let checksum = self.bitmap_checksum(&bytes, self.layout.blocks_per_group);
            if !self.group(number)?.block_bitmap_checksum_is(checksum) {
                return damaged("has a wrong checksum");
            }
        }
        let bitmap = Bitmap::from_disk(bytes, len);
        if bitmap.count_clear() != self.group(number)?.free_blocks() {
            return damaged("and its count of free blocks disagree");
        }
        let mut claimed = self.claims.within(self.layout.group_start(number), len);
        if claimed.any(|(from, to)| bitmap.next_clear(from).is_some_and(|bit| bit < to)) {
            return damaged("calls metadata of groups free");
        }
        Ok(bitmap)
    }

    /// The bitmap of `number`'s inodes, loaded or computed.
    pub(super) fn inode_bitmap(&mut self, number: u32) -> Result<&mut Bitmap, Ext4Error> {
        if self.group(number)?.inodes.is_none() {
            let bitmap = self.load_inode_bitmap(number)?;
            let group = self.group(number)?;
            group.clear_flag(group::INODE_UNINIT);
            group.inodes = Some(bitmap);
        }
        let group = self.group(number)?;
        group.inodes.as_mut().ok_or_else(|| Ext4Error::corrupt(format!("group {number} has no inode bitmap")))
    }

    fn load_inode_bitmap(&mut self, number: u32) -> Result<Bitmap, Ext4Error> {
        let inodes = self.layout.inodes_per_group;
        let damaged = |what: &str| Err(Ext4Error::corrupt(format!("group {number}'s inode bitmap {what}")));
        let bitmap = if self.checksums.descriptors() && self.group(number)?.has(group::INODE_UNINIT) {
            Bitmap::empty(self.layout.block_size, inodes)
        } else {
            let place = self.group(number)?.inode_bitmap();
            let bytes = self.read_block(place)?;
            if self.checksums.metadata() {
                let checksum = self.bitmap_checksum(&bytes, inodes);
                if !self.group(number)?.inode_bitmap_checksum_is(checksum) {
                    return damaged("has a wrong checksum");
                }
            }
            Bitmap::from_disk(bytes, inodes)
        };
        if bitmap.count_clear() != self.group(number)?.free_inodes() {
            return damaged("and its count of free inodes disagree");
        }
        Ok(bitmap)
    }

    /// The checksum of a bitmap with `bits` bits.
    pub(super) fn bitmap_checksum(&self, bytes: &[u8], bits: u32) -> u32 {
        crc32c(self.checksums.seed(), bytes.get(..index(bits / 8)).unwrap_or_default())
    }

    /// The block of the inode table that holds `number`, and where in it.
    fn inode_place(&mut self, number: InodeNumber) -> Result<(BlockNumber, usize), Ext4Error> {
        let (group, place) = self.layout.locate_inode(number)?;
        let size = u32::from(self.layout.inode_size);
        let per_block = self.layout.block_size / size;
        let block = self.group(group)?.inode_table().plus(u64::from(place / per_block));
        Ok((block, index(place % per_block * size)))
    }

    fn load_inode(&mut self, number: InodeNumber) -> Result<(), Ext4Error> {
        if self.inodes.contains_key(&number) {
            return Ok(());
        }
        let (block, offset) = self.inode_place(number)?;
        let inode = Inode::from_disk(self.read_part(block, offset..offset + usize::from(self.layout.inode_size))?);
        if self.checksums.metadata() && !inode.checksum_is_right(number, &self.checksums) {
            return Err(Ext4Error::corrupt(format!("inode {} has a wrong checksum", number.0)));
        }
        self.inodes.insert(number, inode);
        Ok(())
    }

    /// An inode, as it is to become.
    pub(super) fn inode(&mut self, number: InodeNumber) -> Result<&mut Inode, Ext4Error> {
        self.load_inode(number)?;
        self.inodes.get_mut(&number).ok_or_else(|| Ext4Error::corrupt(format!("inode {} does not exist", number.0)))
    }

    /// Puts an inode in place of what was there.
    pub(super) fn put_inode(&mut self, number: InodeNumber, inode: Inode) {
        self.inodes.insert(number, inode);
    }

    /// Where the checksums of inode `number`'s blocks start.
    pub(super) fn inode_seed(&mut self, number: InodeNumber) -> Result<u32, Ext4Error> {
        let generation = self.inode(number)?.get(super::inode::GENERATION);
        Ok(self.checksums.inode_seed(number, generation))
    }

    /// Moves the changed inodes into the blocks of the inode tables.
    pub(super) fn flush_inodes(&mut self) -> Result<(), Ext4Error> {
        let inodes = std::mem::take(&mut self.inodes);
        let mut open: Option<(BlockNumber, Vec<u8>)> = None;
        for (number, mut inode) in inodes {
            if !inode.dirty {
                continue;
            }
            inode.set_checksum(number, &self.checksums);
            let (block, offset) = self.inode_place(number)?;
            if open.as_ref().is_none_or(|(place, _)| *place != block) {
                if let Some((place, bytes)) = open.take() {
                    self.change_block(place, bytes);
                }
                open = Some((block, self.inode_table_block(number, block)?));
            }
            if let Some((_, bytes)) = &mut open {
                let end = offset + inode.bytes().len();
                if let Some(slot) = bytes.get_mut(offset..end) {
                    slot.copy_from_slice(inode.bytes());
                }
            }
        }
        if let Some((place, bytes)) = open {
            self.change_block(place, bytes);
        }
        Ok(())
    }

    /// The block of an inode table that holds `number`, with zeros where nothing was ever stored.
    fn inode_table_block(&mut self, number: InodeNumber, block: BlockNumber) -> Result<Vec<u8>, Ext4Error> {
        let mut bytes = self.read_block(block)?;
        if self.checksums.descriptors() {
            let (group, place) = self.layout.locate_inode(number)?;
            let size = u32::from(self.layout.inode_size);
            let per_block = self.layout.block_size / size;
            let used = self.layout.inodes_per_group.saturating_sub(self.group(group)?.unused_on_disk);
            let first = place - place % per_block;
            let meaningful = used.saturating_sub(first).min(per_block) * size;
            bytes.get_mut(index(meaningful)..).unwrap_or_default().fill(0);
        }
        Ok(bytes)
    }

    /// Moves the changed bitmaps into blocks, and their checksums into the descriptors.
    pub(super) fn flush_bitmaps(&mut self) {
        let metadata = self.checksums.metadata();
        for number in 0..self.groups.len() {
            let Some(group) = self.groups.get_mut(number) else { break };
            let blocks = group.blocks.take_if(|bitmap| bitmap.dirty).map(Bitmap::into_bytes);
            let inodes = group.inodes.take_if(|bitmap| bitmap.dirty).map(Bitmap::into_bytes);
            let places = (group.block_bitmap(), group.inode_bitmap());
            let checksum = |bytes: &Option<Vec<u8>>, bits: u32| {
                bytes.as_ref().filter(|_| metadata).map(|bytes| self.bitmap_checksum(bytes, bits))
            };
            let checksums =
                (checksum(&blocks, self.layout.blocks_per_group), checksum(&inodes, self.layout.inodes_per_group));
            if let Some(group) = self.groups.get_mut(number) {
                group.set_bitmap_checksums(checksums.0, checksums.1);
            }
            for (place, bytes) in [(places.0, blocks), (places.1, inodes)] {
                if let Some(bytes) = bytes {
                    self.change_block(place, bytes);
                }
            }
        }
    }

    /// Writes everything that changed; answers the number of bytes.
    pub(super) fn write(&mut self) -> Result<u64, Ext4Error> {
        const LONGEST: usize = 4 << 20;
        const ACTION: &str = "write the metadata";
        let mut written = self.write_replayed()?;
        for (offset, len) in std::mem::take(&mut self.zeroed) {
            self.disk.zero(offset, len, ACTION)?;
        }
        let mut run: Option<(BlockNumber, Vec<u8>)> = None;
        let mut next = BlockNumber(0);
        for (block, bytes) in std::mem::take(&mut self.changed) {
            match &mut run {
                Some((_, pending)) if block == next && pending.len() < LONGEST => pending.extend_from_slice(&bytes),
                _ => {
                    if let Some((start, pending)) = run.replace((block, bytes)) {
                        written += count(pending.len());
                        self.disk.write_at(self.layout.bytes(start.0), &pending, ACTION)?;
                    }
                }
            }
            next = block.plus(1);
        }
        if let Some((start, pending)) = run {
            written += count(pending.len());
            self.disk.write_at(self.layout.bytes(start.0), &pending, ACTION)?;
        }
        Ok(written)
    }
}

/// The geometry of a file system that `disk` can hold, and whose features allow what is meant to be done.
fn usable_layout(superblock: &Superblock, disk: &Access) -> Result<Layout, Ext4Error> {
    if disk.may_write() {
        features::check_writable(superblock)?;
    }
    let layout = Layout::new(superblock)?;
    if disk.may_write() {
        layout.check_copies()?;
    }
    if layout.bytes(layout.blocks) > disk.size() {
        let what = format!(
            "it has {} bytes and its disk or partition only {} (a truncated image?)",
            layout.bytes(layout.blocks),
            disk.size()
        );
        return Err(Ext4Error::corrupt(what));
    }
    Ok(layout)
}
