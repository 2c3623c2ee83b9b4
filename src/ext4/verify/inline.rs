//! What inodes keep in themselves: contents of files need no check, folders have two runs of entries, behind the
//! number of the parent and in the attribute for the rest.
//! Written from the kernel's Documentation/filesystems/ext4/inlinedata.rst and what e2fsck checks.

use super::super::FileKind;
use super::super::error::Ext4Error;
use super::super::features;
use super::super::inode::{self, Inode};
use super::super::layout::BlockNumber;
use super::super::record::{Number, count};
use super::super::xattr::{BLOCK_HEADER, BODY_HEADER, HEADER_MAGIC, MAGIC};
use super::super::xattr_entry;
use super::super::xattr_name::{Name, Value};
use super::Check;
use super::findings::{Place, Problem};
use super::folders::Reading;

/// Bytes of the parent's number.
const PARENT: usize = 4;

impl Check<'_, '_> {
    /// Whether an inode keeps its contents in itself.
    pub(super) fn is_inline(&self, inode: &Inode) -> bool {
        self.volume.superblock.has_incompat(features::INLINE_DATA) && inode.has(inode::INLINE_DATA_FLAG)
    }

    /// The part of an inode's contents that is an attribute; none if there is no such attribute.
    fn inline_rest(&self, inode: &Inode) -> Result<Option<Vec<u8>>, Ext4Error> {
        let body = inode.xattr_body();
        let inside = body.get(BODY_HEADER..).filter(|_| HEADER_MAGIC.get(body) == MAGIC).unwrap_or_default();
        if let Some(rest) = value(inside, inside) {
            return Ok(Some(rest));
        }
        // No kernel looks for it there.
        let block = inode.xattr_block().map(BlockNumber).filter(|block| self.volume.layout.contains(*block, 1));
        let Some(block) = block else { return Ok(None) };
        let bytes = self.volume.read_block(block)?;
        Ok(value(bytes.get(BLOCK_HEADER..).unwrap_or_default(), &bytes))
    }

    /// Whether the attribute is there for whom it must be.
    pub(super) fn inline_attribute(&mut self, number: u32, inode: &Inode) -> Result<(), Ext4Error> {
        let must = self.is_inline(inode) && number >= self.volume.layout.first_inode;
        if must && self.inline_rest(inode)?.is_none() {
            self.malformed(Place::Inode(number), "is stored inline and has no attribute for its contents");
        }
        Ok(())
    }

    /// Bytes that an inode has in itself.
    pub(super) fn inline_len(&self, inode: &Inode) -> Result<Option<u64>, Ext4Error> {
        Ok(self.inline_rest(inode)?.map(|rest| count(inode::BLOCK_SIZE + rest.len())))
    }

    /// The size of one that is stored inline; only a folder's is bound to what there is.
    pub(super) fn inline_size(&mut self, number: u32, inode: &Inode, most: u64) -> Result<(), Ext4Error> {
        let size = inode.size();
        let wrong = match inode.kind() {
            Some(FileKind::Directory) => self.inline_len(inode)? != Some(size),
            Some(FileKind::Symlink) => false,
            _ => size > most,
        };
        if wrong {
            self.report(Place::Inode(number), Problem::Value { field: "size", value: size });
        }
        Ok(())
    }

    /// The entries of a folder that is stored inline.
    pub(super) fn inline_folder(&mut self, reading: &mut Reading<'_>) -> Result<(), Ext4Error> {
        let Some(inode) = self.peek(reading.number)? else { return Ok(()) };
        let number = reading.number;
        self.dot_of_inline(number, u32::load(inode.block(), 0));
        let start = inode.block().get(PARENT..).unwrap_or_default().to_vec();
        self.entries(reading, &start, start.len(), 2)?;
        let rest = self.inline_rest(&inode)?.unwrap_or_default();
        reading.block = 1;
        self.entries(reading, &rest, rest.len(), 2)
    }
}

/// The attribute for inline contents, if it is among these entries.
fn value(area: &[u8], values: &[u8]) -> Option<Vec<u8>> {
    let wanted = Name::inline_data();
    // As e2fsck does, a name is read up to a zero.
    let is_it =
        |name: &Name| name.index == wanted.index && name.rest.split(|byte| *byte == 0).next() == Some(&wanted.rest);
    match xattr_entry::parse(area, values, true)?.into_iter().find(|(name, _)| is_it(name))? {
        (_, Value::Bytes(bytes)) => Some(bytes),
        (_, Value::Outside(_)) => None,
    }
}
