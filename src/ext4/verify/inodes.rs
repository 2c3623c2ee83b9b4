//! Inodes: all that may be in use, group by group, and what each of them claims to be.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::extent::Node;
use super::super::features;
use super::super::flags;
use super::super::inode::{self, Inode, InodeNumber, ROOT};
use super::super::layout::BlockNumber;
use super::super::record::{Number, count, index};
use super::super::superblock as sb;
use super::Check;
use super::findings::{Place, Problem};
use super::known::Known;
use crate::disk::Source;

/// The list of bad blocks.
const BAD_BLOCKS: u32 = 1;
/// Where quotas of users and groups are unless the superblock says otherwise.
const QUOTAS: [u32; 2] = [3, 4];
const BOOT_LOADER: u32 = 5;
const RESIZE: u32 = 7;
/// What the journal's inode is, by convention.
const JOURNAL: u32 = 8;

/// What an inode is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    BadBlocks,
    Root,
    /// Something that the superblock refers to, by its name; whether it does.
    Internal(&'static str, bool),
    Reserved,
    Ordinary,
}

impl Check<'_, '_> {
    /// An inode's bytes, whatever they are; none if they lie outside of the file system.
    pub(super) fn peek(&self, number: u32) -> Result<Option<Inode>, Ext4Error> {
        let Ok((group, place)) = self.volume.layout.locate_inode(InodeNumber(number)) else { return Ok(None) };
        let size = u32::from(self.volume.layout.inode_size);
        let per_block = self.volume.layout.block_size / size;
        let Some(table) = self.volume.groups.get(index(group)).map(|group| group.inode_table()) else {
            return Ok(None);
        };
        let block = table.plus(u64::from(place / per_block));
        if !self.volume.layout.contains(block, 1) {
            return Ok(None);
        }
        let offset = index(place % per_block * size);
        let bytes = self.volume.read_block(block)?;
        Ok(bytes.get(offset..offset + index(size)).map(|bytes| Inode::from_disk(bytes.to_vec())))
    }

    /// Looks at every inode that may be in use.
    pub(super) fn inodes(&mut self) -> Result<(), Ext4Error> {
        let young = self.has_young_times();
        let size = usize::from(self.volume.layout.inode_size);
        let per_block = self.volume.layout.block_size / u32::from(self.volume.layout.inode_size);
        for group in 0..self.volume.groups.len() {
            let used = self.initialised_inodes(group);
            let Some(table) = self.volume.groups.get(group).map(|group| group.inode_table()) else { continue };
            if !self.volume.layout.contains(table, self.volume.layout.inode_table_blocks()) {
                continue;
            }
            let first = u64::try_from(group).unwrap_or(0) * u64::from(self.volume.layout.inodes_per_group) + 1;
            for block in self.stored_blocks(table, u64::from(used.div_ceil(per_block)))? {
                let bytes = self.volume.read_block(table.plus(block))?;
                let start = block * u64::from(per_block);
                let left = index(u64::from(used).saturating_sub(start));
                for (number, bytes) in (first + start..).zip(bytes.chunks_exact(size).take(left)) {
                    // One of nothing but zeros is free and needs no checksum; reserved ones are in use all the same.
                    if number < u64::from(self.volume.layout.first_inode) || bytes.iter().any(|byte| *byte != 0) {
                        let number = u32::try_from(number).unwrap_or(u32::MAX);
                        self.inode(number, &Inode::from_disk(bytes.to_vec()), young)?;
                    }
                }
            }
        }
        if self.inodes.get(ROOT.0).is_none_or(|root| root.kind != Some(FileKind::Directory)) {
            self.malformed(Place::Folder(ROOT.0), "is the root, and is no folder");
        }
        Ok(())
    }

    /// Those of the first `len` blocks of a table that the disk holds something for, by their numbers in it.
    fn stored_blocks(&self, table: BlockNumber, len: u64) -> Result<Vec<u64>, Ext4Error> {
        let layout = &self.volume.layout;
        if self.replayed {
            return Ok((0..len).collect());
        }
        let start = layout.bytes(table.0);
        let mut blocks: Vec<u64> = Vec::new();
        let pieces =
            self.volume.disk.pieces(start..start.saturating_add(layout.bytes(len)), "look at an inode table")?;
        for piece in pieces.iter().filter(|piece| !matches!(piece.source, Source::Zero)) {
            let (from, to) = (piece.offset.saturating_sub(start), (piece.offset + piece.len).saturating_sub(start));
            let first = from / u64::from(layout.block_size);
            let first = blocks.last().map_or(first, |last| first.max(last + 1));
            blocks.extend(first..layout.blocks_for(to));
        }
        // The reserved inodes are looked at in any case.
        if blocks.first() != Some(&0) && len > 0 {
            blocks.insert(0, 0);
        }
        Ok(blocks)
    }

    fn inode(&mut self, number: u32, inode: &Inode, young: bool) -> Result<(), Ext4Error> {
        let place = Place::Inode(number);
        let empty = inode.bytes().iter().all(|byte| *byte == 0);
        if self.volume.checksums.metadata()
            && !empty
            && !inode.checksum_is_right(InodeNumber(number), &self.volume.checksums)
        {
            self.report(place.clone(), Problem::Checksum);
        }
        let orphan = self.orphans.contains(number);
        let deleted = inode.get(inode::DTIME);
        let inodes = self.volume.superblock.get(sb::INODES_COUNT);
        if deleted != 0 && deleted < inodes && !young && !orphan {
            self.malformed(place.clone(), "seems to be on a list of deleted files that is gone");
        }
        let role = self.role(number);
        let links = inode.get(inode::LINKS_COUNT);
        let orphan_file = self.volume.superblock.get(sb::ORPHAN_FILE_INUM);
        if links == 0 && number == ROOT.0 {
            self.malformed(place.clone(), "is the root, and has no links");
        }
        if links == 0 && (role == Role::Ordinary || number == orphan_file && number >= self.volume.layout.first_inode) {
            if inode.get(inode::MODE) == 0 {
                return Ok(());
            }
            if !orphan {
                if deleted == 0 {
                    self.malformed(place, "is not in use, and lacks a time of its deletion");
                }
                return Ok(());
            }
            self.malformed(place.clone(), "was deleted while it was still open (an orphan)");
        }
        self.flags(number, inode);
        self.inline_attribute(number, inode)?;
        let hidden = !matches!(role, Role::Root | Role::Ordinary);
        let known = Known { number, kind: inode.kind().filter(|_| links > 0 || !hidden), links, names: 0, hidden };
        self.inodes.add(Known { hidden: hidden || links == 0, ..known });
        match role {
            Role::BadBlocks => self.bad_blocks(inode),
            Role::Internal(what, true) => {
                if inode.kind() != Some(FileKind::File) || links == 0 && number == JOURNAL {
                    self.malformed(place, what);
                }
                self.contents_of(number, inode, 0)
            }
            Role::Internal(what, false) => {
                if links != 0 || inode.get(inode::BLOCKS_LO) != 0 || u32::load(inode.block(), 0) != 0 {
                    self.malformed(place, what);
                }
                Ok(())
            }
            Role::Reserved => {
                let right = match number {
                    BOOT_LOADER => inode.kind() != Some(FileKind::Directory),
                    RESIZE => inode.get(inode::MODE) == 0 || inode.kind() == Some(FileKind::File),
                    _ => inode.get(inode::MODE) == 0,
                };
                if !right {
                    self.malformed(place, "is reserved, and has a kind that it cannot have");
                }
                self.contents_of(number, inode, 0)
            }
            Role::Root | Role::Ordinary => {
                if deleted != 0 && links != 0 {
                    self.malformed(place, "is in use, and has a time of its deletion");
                }
                self.in_use(number, inode)
            }
        }
    }

    fn role(&self, number: u32) -> Role {
        let superblock = &self.volume.superblock;
        let quota = superblock.has_ro_compat(features::QUOTA);
        let project = superblock.get(sb::PRJ_QUOTA_INUM);
        let orphan_file = superblock.get(sb::ORPHAN_FILE_INUM);
        let listed = [sb::USR_QUOTA_INUM, sb::GRP_QUOTA_INUM].into_iter().any(|field| superblock.get(field) == number);
        match number {
            BAD_BLOCKS => Role::BadBlocks,
            number if number == ROOT.0 => Role::Root,
            JOURNAL => Role::Internal(
                "is the journal's, and is no file or not used",
                superblock.get(sb::JOURNAL_INUM) == JOURNAL,
            ),
            number if QUOTAS.contains(&number) || number == project && project != 0 => {
                Role::Internal("is for quotas, and is no file or not used", quota && (listed || number == project))
            }
            number if number == orphan_file && orphan_file != 0 => Role::Internal(
                "is for orphans, and is no file or not used",
                superblock.has_compat(features::ORPHAN_FILE),
            ),
            number if number < self.volume.layout.first_inode => Role::Reserved,
            _ => Role::Ordinary,
        }
    }

    /// Flags that need a feature, or that exclude each other.
    fn flags(&mut self, number: u32, inode: &Inode) {
        let superblock = &self.volume.superblock;
        let kind = inode.kind();
        let extents = superblock.has_incompat(features::EXTENTS);
        let plain = matches!(kind, Some(FileKind::File | FileKind::Directory));
        let tests = [
            (
                inode.has(flags::CASEFOLD)
                    && (kind != Some(FileKind::Directory) || !superblock.has_incompat(features::CASEFOLD)),
                "is marked as folding case, which it cannot",
            ),
            (
                inode.has(inode::INLINE_DATA_FLAG) && inode.has(inode::EXTENTS_FLAG),
                "is marked as having both extents and inline data",
            ),
            (
                inode.has(inode::INLINE_DATA_FLAG)
                    && !superblock.has_incompat(features::INLINE_DATA)
                    && number >= self.volume.layout.first_inode,
                "is marked as having inline data, which the superblock does not know",
            ),
            (
                inode.has(inode::EXTENTS_FLAG) && !extents && inode.get(inode::LINKS_COUNT) != 0,
                "is marked as having extents, which the superblock does not know",
            ),
            (
                extents
                    && !inode.has(inode::EXTENTS_FLAG)
                    && plain
                    && inode.get(inode::LINKS_COUNT) != 0
                    && Node::new(inode.block()).header_is_right(),
                "has extents, and is not marked so",
            ),
            (
                inode.has(inode::IMAGIC_FLAG)
                    && inode.get(inode::LINKS_COUNT) != 0
                    && number >= self.volume.layout.first_inode
                    && !superblock.has_compat(features::IMAGIC_INODES),
                "is marked as an AFS inode",
            ),
        ];
        for (_, what) in tests.into_iter().filter(|(wrong, _)| *wrong) {
            self.malformed(Place::Inode(number), what);
        }
    }

    /// The bytes past the first 128: extended attributes. (A time of 2310 or later, which e2fsck takes for one of before
    /// 1970 as old kernels wrote it, is a time like any other: it says so and calls the file system clean.)
    /// Answers what the inode counts for values of its attributes that have an inode of their own.
    pub(super) fn extra_space(&mut self, number: u32, inode: &Inode) -> Result<u64, Ext4Error> {
        let room = usize::from(self.volume.layout.inode_size).saturating_sub(inode::BASE_SIZE);
        let extra = usize::from(inode.get(inode::EXTRA_ISIZE));
        if room == 0 {
            return Ok(0);
        }
        if extra != 0 && (extra < 4 || extra > room || !extra.is_multiple_of(4)) {
            self.report(Place::Inode(number), Problem::Value { field: "extra_isize", value: count(extra) });
            return Ok(0);
        }
        if extra.saturating_add(4) >= room {
            return Ok(0);
        }
        self.attributes_in(number, inode)
    }
}
