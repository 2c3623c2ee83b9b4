//! How everything hangs together: every folder below the root, every inode with as many names as it counts.

use super::super::FileKind;
use super::super::features;
use super::super::inode::ROOT;
use super::Check;
use super::findings::{Place, Problem};

/// The most links that a folder counts; one with more counts 1.
const MOST_LINKS: u32 = 65_000;

/// Whether a way leads from the root to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Unknown,
    Underway,
    Connected,
    Lost,
}

impl Check<'_, '_> {
    /// Folders that no name leads to, and those whose `..` leads elsewhere.
    pub(super) fn connections(&mut self) {
        let mut reach = vec![Reach::Unknown; self.folders.len()];
        for start in 0..self.folders.len() {
            let mut way = Vec::new();
            let mut at = start;
            let end = loop {
                match reach.get(at) {
                    Some(Reach::Unknown) => {}
                    Some(Reach::Connected) => break Reach::Connected,
                    _ => break Reach::Lost,
                }
                if let Some(slot) = reach.get_mut(at) {
                    *slot = Reach::Underway;
                }
                way.push(at);
                let Some(folder) = self.folders.get(at) else { break Reach::Lost };
                if folder.number == ROOT.0 {
                    break Reach::Connected;
                }
                match self.folders.binary_search_by_key(&folder.parent, |other| other.number) {
                    Ok(parent) => at = parent,
                    Err(_) => break Reach::Lost,
                }
            };
            for at in way {
                if let Some(slot) = reach.get_mut(at) {
                    *slot = end;
                }
            }
        }
        for (place, reach) in reach.into_iter().enumerate() {
            let Some(folder) = self.folders.get(place) else { continue };
            let (number, parent, dotdot) = (folder.number, folder.parent, folder.dotdot);
            if reach == Reach::Lost {
                self.malformed(Place::Folder(number), "cannot be reached from the root");
            } else if dotdot != 0 && dotdot != parent {
                self.report(Place::Folder(number), Problem::Parent { stored: dotdot, found: parent });
            }
        }
    }

    /// Inodes that count other links than there are names.
    pub(super) fn link_counts(&mut self) {
        let many = self.volume.superblock.has_ro_compat(features::DIR_NLINK);
        let mut wrong = Vec::new();
        for known in self.inodes.iter().filter(|known| !known.hidden) {
            let place = Place::Inode(known.number);
            let folder = known.kind == Some(FileKind::Directory);
            let names = if known.names == 0 && self.is_value(known.number) { 1 } else { known.names };
            // A lost folder was told of already.
            if names == 0 && !folder {
                wrong.push((place, Problem::Malformed("is in use, and has no name")));
            } else if folder && known.links == 1 && (many || names > MOST_LINKS) {
                // It had more links than can be counted, perhaps it still has.
            } else if u32::from(known.links) != names {
                let problem = Problem::Count { what: "links", stored: known.links.into(), found: names.into() };
                wrong.push((place, problem));
            }
        }
        for (place, problem) in wrong {
            self.report(place, problem);
        }
    }
}
