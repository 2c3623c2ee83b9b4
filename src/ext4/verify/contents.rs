//! What an inode's kind demands: devices and symbolic links, and fields that only some kinds may use.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::extent::Node;
use super::super::features;
use super::super::flags;
use super::super::inode::{self, Inode};
use super::super::layout::BlockNumber;
use super::super::record::{Number, index};
use super::Check;
use super::findings::Place;

/// Numbers in i_block.
const MAP: usize = 15;
/// Those of them that may say something about a device.
const DEVICE: usize = 4;

impl Check<'_, '_> {
    /// An inode that a name may stand for.
    pub(super) fn in_use(&mut self, number: u32, inode: &Inode) -> Result<(), Ext4Error> {
        let place = Place::Inode(number);
        self.foreign_fields(number, inode);
        let values = self.extra_space(number, inode)?;
        match inode.kind() {
            Some(FileKind::Directory | FileKind::File) => {}
            Some(FileKind::Symlink) => {
                if inode.has(inode::EXTENTS_FLAG) && is_fast(inode) {
                    self.malformed(place.clone(), "is a short symbolic link, and is marked as having extents");
                }
                if inode.has(flags::IMMUTABLE | flags::APPEND) {
                    self.malformed(place.clone(), "is marked as immutable, which its kind cannot be");
                }
                if !self.is_link(inode)? {
                    self.malformed(place, "is a symbolic link with a malformed target");
                } else if inode.has(inode::INLINE_DATA_FLAG) {
                    return Ok(());
                }
            }
            Some(_) => self.device(number, inode),
            None => self.malformed(place, "is of no known kind"),
        }
        self.contents_of(number, inode, values)
    }

    /// Fields that must be zero.
    fn foreign_fields(&mut self, number: u32, inode: &Inode) {
        let superblock = &self.volume.superblock;
        let folder = inode.kind() == Some(FileKind::Directory);
        let tests = [
            (inode.get(inode::FADDR) != 0, "has a fragment's address"),
            (
                folder && inode.get(inode::SIZE_HIGH) != 0 && !superblock.has_incompat(features::LARGEDIR),
                "is a folder of more than 4 GiB",
            ),
            (
                inode.get(inode::FILE_ACL_HIGH) != 0 && !superblock.has_incompat(features::BITS64),
                "has a block of extended attributes that only `64bit` could have",
            ),
            (
                inode.get(inode::BLOCKS_HIGH) != 0 && !superblock.has_ro_compat(features::HUGE_FILE),
                "has a number of blocks that only `huge_file` could have",
            ),
            (
                inode.kind() == Some(FileKind::File)
                    && inode.size() > 0x7fff_ffff
                    && !superblock.has_ro_compat(features::LARGE_FILE),
                "has a size that only `large_file` could have",
            ),
        ];
        for (_, what) in tests.into_iter().filter(|(wrong, _)| *wrong) {
            self.malformed(Place::Inode(number), what);
        }
    }

    /// Devices, pipes and sockets have no contents.
    fn device(&mut self, number: u32, inode: &Inode) {
        let immutable = inode.has(flags::IMMUTABLE | flags::APPEND);
        let mapped = (DEVICE..MAP).any(|slot| u32::load(inode.block(), slot * 4) != 0);
        let tests = [
            (
                inode.has(inode::INDEX_FLAG | inode::EXTENTS_FLAG | inode::INLINE_DATA_FLAG),
                "is marked as having contents, which its kind cannot have",
            ),
            (immutable && mapped, "has contents, which its kind cannot have"),
            (immutable, "is marked as immutable, which its kind cannot be"),
            (inode.size() != 0, "has a size, which its kind cannot have"),
        ];
        for (_, what) in tests.into_iter().filter(|(wrong, _)| *wrong) {
            self.malformed(Place::Inode(number), what);
        }
    }

    /// Whether a symbolic link's target is as long as the inode says.
    fn is_link(&self, inode: &Inode) -> Result<bool, Ext4Error> {
        if inode.size() == 0 || inode.get(inode::SIZE_HIGH) != 0 || inode.has(inode::INDEX_FLAG) {
            return Ok(false);
        }
        if inode.has(inode::INLINE_DATA_FLAG) {
            let right = !inode.has(inode::EXTENTS_FLAG) && self.inline_len(inode)? == Some(inode.size());
            return Ok(right);
        }
        let target = if is_fast(inode) {
            inode.block().to_vec()
        } else {
            let Some(block) = link_block(inode).filter(|block| self.volume.layout.contains(*block, 1)) else {
                return Ok(false);
            };
            self.volume.read_block(block)?
        };
        let len = if inode.has(flags::ENCRYPT) {
            index(u16::load(&target, 0)).saturating_add(2)
        } else {
            target.iter().position(|byte| *byte == 0).unwrap_or(target.len())
        };
        Ok(len < target.len() && len == index(inode.size()))
    }
}

/// Whether a symbolic link's target is in the inode.
pub(super) fn is_fast(inode: &Inode) -> bool {
    (1..60).contains(&inode.size())
}

/// The only block of a symbolic link.
fn link_block(inode: &Inode) -> Option<BlockNumber> {
    if inode.has(inode::EXTENTS_FLAG) {
        let node = Node::new(inode.block());
        let mut extents = node.extents();
        let only = extents.next().filter(|extent| extent.logical == 0 && extent.run.len == 1)?;
        return (node.header_is_right() && node.depth() == 0 && extents.next().is_none()).then_some(only.run.start);
    }
    let rest = (1..MAP).all(|slot| u32::load(inode.block(), slot * 4) == 0);
    rest.then(|| BlockNumber(u32::load(inode.block(), 0).into()))
}
