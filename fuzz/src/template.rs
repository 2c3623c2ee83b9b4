//! The templates: file systems that `templates/make` had mke2fs make, and where their structures are.

use std::io::Read as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use imgbake::{Disk, DiskError, Piece, Source};

/// What a structure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The superblock.
    Superblock,
    /// A group descriptor.
    Descriptor,
    /// A bitmap of blocks or inodes.
    Bitmap,
    /// An inode.
    Inode,
    /// A block of an extent tree or of block numbers.
    Tree,
    /// A block of a directory.
    Directory,
    /// A block of extended attributes.
    Attributes,
    /// A block of the journal.
    Journal,
}

/// A structure of a template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) len: u64,
    /// The inode that it is or belongs to; the group's number of descriptors and bitmaps.
    pub(crate) number: u32,
}

/// A file system in memory.
pub(crate) struct Image {
    bytes: Arc<[u8]>,
}

impl Disk for Image {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = offset.saturating_add(buffer.len() as u64);
        let out = DiskError::OutOfBounds { offset, end, size: self.size() };
        let bytes = self.bytes.get(offset as usize..end as usize).ok_or(out)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>, DiskError> {
        let source = Source::Bytes(Arc::clone(&self.bytes), range.start as usize);
        Ok(vec![Piece { offset: range.start, len: range.end - range.start, source }])
    }
}

/// A file system made by mke2fs.
pub(crate) struct Template {
    /// The name of its files.
    pub(crate) name: &'static str,
    packed: &'static [u8],
    list: &'static str,
    image: OnceLock<Arc<Image>>,
    places: OnceLock<Vec<Place>>,
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// All templates. The order is part of the inputs' format: new ones go to the end.
        static TEMPLATES: [Template; [$($name),*].len()] = [$(Template {
            name: $name,
            packed: include_bytes!(concat!("../templates/", $name, ".img.gz")),
            list: include_str!(concat!("../templates/", $name, ".places")),
            image: OnceLock::new(),
            places: OnceLock::new(),
        }),*];
    };
}
templates!(
    "plain",
    "checked",
    "stock",
    "old",
    "meta_bg",
    "sparse_super2",
    "mapped",
    "ext2",
    "inline",
    "bigalloc",
    "quota",
    "orphans",
    "journal",
    "journal_v1",
    "journal_v2",
    "journal_v3",
);

/// The template that `number` chooses for a target that patches `kinds`.
pub(crate) fn nth(number: u8, kinds: &[Kind]) -> &'static Template {
    let journals = kinds.contains(&Kind::Journal);
    let fit: Vec<&Template> = TEMPLATES.iter().filter(|template| !journals || template.is(Kind::Journal)).collect();
    fit[usize::from(number) % fit.len()]
}

impl Template {
    /// Its bytes.
    pub(crate) fn image(&self) -> &Arc<Image> {
        self.image.get_or_init(|| {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(self.packed).read_to_end(&mut bytes).expect("templates/make wrote it");
            Arc::new(Image { bytes: bytes.into() })
        })
    }

    /// Its structures.
    pub(crate) fn places(&self) -> &[Place] {
        self.places
            .get_or_init(|| self.list.lines().map(|line| place(line).expect("templates/make wrote it")).collect())
    }

    fn is(&self, kind: Kind) -> bool {
        self.places().iter().any(|place| place.kind == kind)
    }

    /// The inode `number`, if it is on the list.
    pub(crate) fn inode(&self, number: u32) -> Option<Place> {
        self.places().iter().copied().find(|place| place.kind == Kind::Inode && place.number == number)
    }
}

fn place(line: &str) -> Option<Place> {
    let mut words = line.split(' ');
    let kind = match words.next()? {
        "superblock" => Kind::Superblock,
        "descriptor" => Kind::Descriptor,
        "bitmap" => Kind::Bitmap,
        "inode" => Kind::Inode,
        "tree" => Kind::Tree,
        "directory" => Kind::Directory,
        "attributes" => Kind::Attributes,
        "journal" => Kind::Journal,
        _ => return None,
    };
    let mut number = || words.next().map_or(Some(0), |word| word.parse().ok());
    Some(Place { kind, offset: number()?, len: number()?, number: u32::try_from(number()?).ok()? })
}
