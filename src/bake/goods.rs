//! The files a plan needs from the store, at hand as contents.

use std::collections::BTreeMap;

use super::error::BakeError;
use crate::artifact::Artifact;
use crate::disk::{Content, FileRange};
use crate::plan::{Body, Plan, RootEdit};
use crate::progress::Progress;
use crate::spec::{Component, NodeSpec};
use crate::store::{Archive, Member, Store};

/// An artifact, and what a plan wants of it.
pub(super) enum Wanted<'plan> {
    /// Its bytes.
    File(&'plan Artifact),
    /// Members of it.
    Archive(&'plan Artifact),
}

impl<'plan> Wanted<'plan> {
    pub(super) fn artifact(&self) -> &'plan Artifact {
        match self {
            Self::File(artifact) | Self::Archive(artifact) => artifact,
        }
    }
}

/// The artifacts that `plan` names.
pub(super) fn artifacts(plan: &Plan) -> impl Iterator<Item = Wanted<'_>> {
    plan.root.values().filter_map(|edit| match edit {
        RootEdit::Write { body: Body::Artifact(artifact), .. } => Some(Wanted::File(artifact)),
        RootEdit::Unpack { archive, .. } => Some(Wanted::Archive(archive)),
        _ => None,
    })
}

/// All artifacts of one plan, verified.
pub(super) struct Goods {
    files: BTreeMap<Artifact, FileRange>,
    archives: BTreeMap<Artifact, Archive>,
}

impl Goods {
    /// Gets everything `plan` names, all of it before the first byte is written.
    pub(super) fn get(plan: &Plan, store: &Store, progress: &dyn Progress) -> Result<Self, BakeError> {
        let all: Vec<Artifact> = artifacts(plan).map(|wanted| wanted.artifact().clone()).collect();
        // Held until the end, so that nothing of it is pruned before its turn comes.
        let _held = store.get_all(&all, progress).map_err(BakeError::Store)?;
        let mut goods = Self { files: BTreeMap::new(), archives: BTreeMap::new() };
        for wanted in artifacts(plan) {
            match wanted {
                Wanted::File(artifact) => {
                    let file = store.get(artifact, progress).map_err(BakeError::Store)?;
                    goods.files.insert(artifact.clone(), FileRange::whole(file));
                }
                Wanted::Archive(artifact) => {
                    let archive = store.archive(artifact, progress).map_err(BakeError::Store)?;
                    goods.archives.insert(artifact.clone(), archive);
                }
            }
        }
        Ok(goods)
    }

    /// An artifact's own bytes.
    pub(super) fn content(&self, artifact: &Artifact) -> Content {
        // `get` got all that the plan names; an artifact it does not name has no bytes.
        self.files.get(artifact).map_or_else(|| Content::Bytes(Vec::new()), |range| Content::File(range.clone()))
    }

    /// An archive's members below `from`, only those named in `only` unless that is empty, each with its path seen
    /// from there; in the archive's order.
    pub(super) fn unpacked<'goods>(
        &'goods self,
        archive: &Artifact,
        from: &'goods str,
        only: &'goods [String],
    ) -> impl Iterator<Item = (&'goods str, &'goods Member)> {
        let members = self.archives.get(archive).into_iter().flat_map(Archive::members);
        members.filter_map(move |member| {
            let path = below(&member.path, from)?;
            let wanted = only.is_empty() || only.iter().any(|name| name == path);
            wanted.then_some((path, member))
        })
    }

    /// How many bytes of blocks the plan's files take in a file system with blocks of `block_size` bytes.
    pub(super) fn bytes(&self, plan: &Plan, block_size: u64) -> u64 {
        let on_disk = |len: u64| len.next_multiple_of(block_size.max(1));
        plan.root
            .values()
            .map(|edit| match edit {
                RootEdit::Write { body: Body::Artifact(artifact), .. } => on_disk(self.content(artifact).len()),
                RootEdit::Unpack { archive, from, only } => {
                    let members = self.unpacked(archive, from, only);
                    members.map(|(_, member)| on_disk(member.range.len().max(1))).sum()
                }
                // Texts and links are short: a block each, for the longest of them two.
                _ => 2 * block_size,
            })
            .sum()
    }
}

/// Refuses to leave to the first boot what the lock file does not hold.
pub(super) fn expect_locked(spec: &NodeSpec, store: &Store) -> Result<(), BakeError> {
    let deferred: &[Component] = if spec.defer_kubernetes { &[Component::Kubernetes, Component::Crictl] } else { &[] };
    let mut artifacts = deferred.iter().flat_map(|component| spec.components.of(*component));
    artifacts.try_for_each(|artifact| store.expect_locked(artifact)).map_err(BakeError::Store)
}

/// `path` relative to the directory `from`; nothing for what lies elsewhere and for `from` itself.
fn below<'path>(path: &'path str, from: &str) -> Option<&'path str> {
    let from = from.trim_matches('/');
    let rest = if from.is_empty() { path } else { path.strip_prefix(from)?.strip_prefix('/')? };
    (!rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn members_are_seen_from_the_directory_asked_for() {
        assert_eq!(below("bin/containerd", "bin"), Some("containerd"));
        assert_eq!(below("bin/containerd", "/bin/"), Some("containerd"));
        assert_eq!(below("binary", "bin"), None);
        assert_eq!(below("bin", "bin"), None);
        assert_eq!(below("bridge", ""), Some("bridge"));
    }
}
