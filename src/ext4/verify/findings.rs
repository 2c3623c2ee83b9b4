//! What a check finds wrong, as data with words, and how much of it is told.

use std::fmt;

use super::super::error::show;

/// Findings of one kind that are told in detail.
const IN_DETAIL: u64 = 20;

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The superblock.
    Superblock,
    /// The journal.
    Journal,
    /// A block group: its descriptor and what that refers to.
    Group(u32),
    /// The bitmap of a group's blocks.
    BlockBitmap(u32),
    /// The bitmap of a group's inodes.
    InodeBitmap(u32),
    /// An inode and its contents.
    Inode(u32),
    /// A folder, by its inode.
    Folder(u32),
    /// A block of a folder: its inode, and the block's number in it.
    FolderBlock(u32, u64),
    /// A name in a folder.
    Name {
        /// The folder's inode.
        folder: u32,
        /// The name.
        name: Vec<u8>,
    },
    /// A block of extended attributes, by its number.
    XattrBlock(u64),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A checksum that does not fit.
    Checksum,
    /// A field with a value that it cannot have.
    Value {
        /// The field, as e2fsprogs calls it.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A count that differs from what was counted.
    Count {
        /// What is counted.
        what: &'static str,
        /// As stored.
        stored: u64,
        /// As found.
        found: u64,
    },
    /// A block where it cannot be.
    Outside {
        /// What the block holds.
        what: &'static str,
        /// Its number.
        block: u64,
    },
    /// Blocks that somebody else holds already.
    Taken {
        /// The first of them.
        first: u64,
        /// How many there are.
        blocks: u64,
    },
    /// Blocks or inodes in use that a bitmap calls free.
    CalledFree {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Blocks or inodes that a bitmap calls used and nobody holds.
    CalledUsed {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A name that stands for an inode that it cannot stand for.
    Names {
        /// The inode.
        inode: u32,
        /// Why not.
        why: &'static str,
    },
    /// A folder whose `..` is not the folder that holds it.
    Parent {
        /// The inode that `..` stands for.
        stored: u32,
        /// The folder that holds it.
        found: u32,
    },
    /// A structure that contradicts itself, as a predicate of the place.
    Malformed(&'static str),
    /// What kept a part from being read.
    Unreadable(String),
    /// More of the same kind as the one in words.
    More {
        /// How many.
        count: u64,
        /// One of them.
        like: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::More { count, like } => write!(f, "and {count} more like: {like}"),
            problem => write!(f, "{} {problem}", self.place),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock => write!(f, "the superblock"),
            Self::Journal => write!(f, "the journal"),
            Self::Group(number) => write!(f, "group {number}"),
            Self::BlockBitmap(number) => write!(f, "group {number}'s block bitmap"),
            Self::InodeBitmap(number) => write!(f, "group {number}'s inode bitmap"),
            Self::Inode(number) => write!(f, "inode {number}"),
            Self::Folder(number) => write!(f, "folder inode {number}"),
            Self::FolderBlock(number, block) => write!(f, "block {block} of folder inode {number}"),
            Self::Name { folder, name } => write!(f, "`{}` in folder inode {folder}", show(name).escape_debug()),
            Self::XattrBlock(block) => write!(f, "the extended attribute block {block}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |f: &mut fmt::Formatter<'_>, first: u64, last: u64| match first == last {
            true => write!(f, "{first}"),
            false => write!(f, "{first} to {last}"),
        };
        match self {
            Self::Checksum => write!(f, "has a wrong checksum"),
            Self::Value { field, value } => write!(f, "has an impossible {field}: {value}"),
            Self::Count { what, stored, found } => write!(f, "says that it has {stored} {what}, and has {found}"),
            Self::Outside { what, block } => write!(f, "has its {what} at block {block}, where it cannot be"),
            Self::Taken { first, blocks: 1 } => write!(f, "claims block {first}, which is taken already"),
            Self::Taken { first, blocks } => {
                write!(f, "claims {blocks} blocks that are taken already, the first is {first}")
            }
            Self::CalledFree { first, last } => {
                write!(f, "calls free what is in use: ")?;
                range(f, *first, *last)
            }
            Self::CalledUsed { first, last } => {
                write!(f, "calls used what is free: ")?;
                range(f, *first, *last)
            }
            Self::Names { inode, why } => write!(f, "stands for inode {inode}, {why}"),
            Self::Parent { stored, found } => {
                write!(f, "calls folder inode {stored} its parent, and is held by folder inode {found}")
            }
            Self::Malformed(what) => write!(f, "{what}"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::More { count, like } => write!(f, "{count} more like: {like}"),
        }
    }
}

/// Findings of a kind are alike but for their numbers.
type Kind = (&'static str, &'static str);

impl Finding {
    fn kind(&self) -> Kind {
        let place = match self.place {
            Place::Superblock => "superblock",
            Place::Journal => "journal",
            Place::Group(_) => "group",
            Place::BlockBitmap(_) => "block bitmap",
            Place::InodeBitmap(_) => "inode bitmap",
            Place::Inode(_) => "inode",
            Place::Folder(_) => "folder",
            Place::FolderBlock(..) => "folder block",
            Place::Name { .. } => "name",
            Place::XattrBlock(_) => "xattr block",
        };
        let problem = match self.problem {
            Problem::Checksum => "checksum",
            Problem::Value { field, .. } => field,
            Problem::Count { what, .. } | Problem::Outside { what, .. } => what,
            Problem::Taken { .. } => "taken",
            Problem::CalledFree { .. } => "called free",
            Problem::CalledUsed { .. } => "called used",
            Problem::Names { why, .. } => why,
            Problem::Parent { .. } => "parent",
            Problem::Malformed(what) => what,
            Problem::Unreadable(_) => "unreadable",
            Problem::More { .. } => "more",
        };
        (place, problem)
    }
}

/// Hands findings on, but no more than some of each kind.
pub(super) struct Findings<'report> {
    report: &'report mut dyn FnMut(Finding),
    /// Kinds in the order of their first finding, with how many there were and, past the limit, the latest.
    seen: Vec<(Kind, u64, Option<Finding>)>,
    total: u64,
}

impl<'report> Findings<'report> {
    pub(super) fn new(report: &'report mut dyn FnMut(Finding)) -> Self {
        Self { report, seen: Vec::new(), total: 0 }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.total = self.total.saturating_add(1);
        let kind = finding.kind();
        let Some((_, count, latest)) = self.seen.iter_mut().find(|(other, ..)| *other == kind) else {
            self.seen.push((kind, 1, None));
            return (self.report)(finding);
        };
        *count = count.saturating_add(1);
        if *count > IN_DETAIL {
            *latest = Some(finding);
        } else {
            (self.report)(finding);
        }
    }

    /// Tells how many were not told; answers how many there were at all.
    pub(super) fn finish(self) -> u64 {
        for (_, count, latest) in self.seen {
            if let Some(Finding { place, problem }) = latest {
                let like = format!("{place} {problem}");
                let problem = Problem::More { count: count.saturating_sub(IN_DETAIL), like };
                (self.report)(Finding { place, problem });
            }
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_in_detail_only_so_often() {
        let mut told = Vec::new();
        let mut report = |finding: Finding| told.push(finding.to_string());
        let mut findings = Findings::new(&mut report);
        for number in 0..50 {
            findings.add(Finding { place: Place::Inode(number), problem: Problem::Checksum });
        }
        findings.add(Finding { place: Place::Superblock, problem: Problem::Checksum });
        assert_eq!(findings.finish(), 51);
        assert_eq!(told.len(), 22);
        assert_eq!(told[20], "the superblock has a wrong checksum");
        assert_eq!(told[21], "and 30 more like: inode 49 has a wrong checksum");
    }
}
