//! Locking: what a node is made of, resolved once and written down. No image is opened and none is made.

use std::path::PathBuf;

use super::error::BakeError;
use crate::artifact::{Artifact, Checksum, Locked};
use crate::progress::Progress;
use crate::spec::{self, BaseSource, Choice, Component, NodeSpec, Runtime};
use crate::store::{Pin, Pins, Store, StoreError, StoreOptions};

/// Everything one lock is asked for.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// The node. What it says of locked releases does not count: `store` does.
    pub node: spec::Request,
    /// Cache, mirrors, and the lock file as it is.
    pub store: StoreOptions,
    /// Where the lock file is written.
    pub file: PathBuf,
    /// What is resolved although it is locked.
    pub update: Update,
}

/// What is resolved anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Only what is not locked yet.
    Missing,
    /// All that the node needs.
    All,
    /// And a component or the base image, by name.
    Only(String),
}

impl Update {
    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Missing => false,
            Self::All => true,
            Self::Only(only) => only == name,
        }
    }
}

/// A lock file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSummary {
    /// Files of the node that were resolved.
    pub resolved: usize,
    /// Files of the node that stand as they were locked.
    pub kept: usize,
    /// What does not work together as its makers want it, a line each.
    pub warnings: Vec<String>,
}

/// Adds what the node of `request` is made of to the lock file.
///
/// # Errors
/// [`BakeError`]; the lock file is then as it was.
pub fn lock(request: &LockRequest, progress: &dyn Progress) -> Result<LockSummary, BakeError> {
    let mut pins = request.store.pins.clone();
    // What is locked already has no say in what is learnt now.
    let store = Store::open(StoreOptions { pins: Pins::default(), ..request.store.clone() });
    let store = store.map_err(BakeError::Store)?;
    let spec = settle(request, &pins, &store, progress)?;
    check_name(&request.update, &spec)?;

    choose(&spec, &mut pins);
    let parts = parts(&spec);
    let (kept, open): (Vec<&Part>, Vec<&Part>) =
        parts.iter().partition(|part| pins.pin(&part.artifact.url).is_some() && !request.update.covers(&part.name));
    let artifacts: Vec<Artifact> = open.iter().map(|part| part.artifact.clone()).collect();
    let learnt = store.learn_all(&artifacts, progress).map_err(BakeError::Store)?;
    for (part, mut pin) in open.iter().zip(learnt) {
        (pin.name, pin.release) = (Some(part.name.clone()), part.release.clone());
        pins.insert(&part.artifact.url, pin);
    }
    pins.set_complete(true);
    pins.save(&request.file).map_err(BakeError::Store)?;
    Ok(LockSummary { resolved: open.len(), kept: kept.len(), warnings: spec.warnings })
}

/// Writes down which releases the node is made of.
pub(super) fn choose(spec: &NodeSpec, pins: &mut Pins) {
    for choice in spec.choices.iter().filter(|choice| is_used(choice.component, spec)) {
        pins.choose(choice.component.name(), &choice.asked, &choice.release.to_string());
    }
}

/// Writes down of what each file is, and beside those that are `here` what is `known` of those that the first boot is to
/// fetch. Answers whether all that the node needs is written down.
pub(super) fn label(spec: &NodeSpec, here: &[Artifact], known: &Pins, pins: &mut Pins) -> bool {
    for Part { name, release, artifact } in parts(spec) {
        let url = &artifact.url;
        let pin = pins.pin(url).cloned().or_else(|| match &artifact.checksum {
            _ if here.contains(&artifact) => None,
            Checksum::Pinned(digest) => {
                let bare = Pin { name: None, release: None, digest: digest.clone(), size: None, key: None };
                Some(known.pin(url).cloned().unwrap_or(bare))
            }
            Checksum::File { .. } => known.pin(url).cloned(),
        });
        if let Some(pin) = pin {
            pins.insert(url, Pin { name: Some(name), release, ..pin });
        }
    }
    parts(spec).iter().map(|part| &part.artifact).chain(here).all(|artifact| pins.pin(&artifact.url).is_some())
}

/// The node with every version settled: as it is locked, else as upstream's marker says, else as it is known here.
fn settle(request: &LockRequest, pins: &Pins, store: &Store, progress: &dyn Progress) -> Result<NodeSpec, BakeError> {
    let mut node = request.node.clone();
    let Locked { mut releases, .. } = pins.locked();
    releases.retain(|(component, _), _| !request.update.covers(component));
    node.locked = Locked { releases, ..Locked::default() };
    let spec = spec::preview(&node).map_err(BakeError::Spec)?;
    let is_open = |choice: &&Choice| node.locked.release(choice.component.name(), &choice.asked).is_none();
    let mut found = Vec::new();
    for choice in spec.choices.iter().filter(is_open) {
        if let Some(release) = newest(choice, store, progress)? {
            found.push(((choice.component.name().to_owned(), choice.asked.clone()), release));
        }
    }
    if found.is_empty() {
        return Ok(spec);
    }
    node.locked.releases.extend(found);
    spec::preview(&node).map_err(BakeError::Spec)
}

/// What upstream's marker says is the newest release, where it is newer than what is known here.
fn newest(choice: &Choice, store: &Store, progress: &dyn Progress) -> Result<Option<String>, BakeError> {
    let Some(url) = choice.marker() else { return Ok(None) };
    match store.unverified_text(&url, progress) {
        Ok(text) => {
            let newest = choice.newest(&text);
            if newest.is_none() {
                progress
                    .note(&format!("`{url}` says nothing of use: {} is the newest release known here", choice.release));
            }
            Ok(newest.map(|release| release.to_string()))
        }
        Err(StoreError::Offline { .. }) => {
            let (name, asked) = (choice.component.name(), &choice.asked);
            progress.note(&format!("offline: {} is the newest release known here of {name} {asked}", choice.release));
            Ok(None)
        }
        Err(error) => Err(BakeError::Store(error)),
    }
}

/// A file that a node is made of.
struct Part {
    /// Of which component or base image.
    name: String,
    release: Option<String>,
    artifact: Artifact,
}

/// Whether the node has the component from upstream; else its base image brings it.
fn is_used(component: Component, spec: &NodeSpec) -> bool {
    spec.runtime == Runtime::Upstream || matches!(component, Component::Kubernetes | Component::Crictl)
}

/// All that comes from upstream, what the first boot fetches included.
fn parts(spec: &NodeSpec) -> Vec<Part> {
    let base = match &spec.base.source {
        BaseSource::Vendor(artifact) => {
            Some(Part { name: spec.base.name.clone(), release: None, artifact: artifact.clone() })
        }
        BaseSource::Archive(_) | BaseSource::File(_) => None,
    };
    let choices = spec.choices.iter().filter(|choice| is_used(choice.component, spec));
    let components = choices.flat_map(|choice| {
        spec.components.of(choice.component).into_iter().map(|artifact| Part {
            name: choice.component.name().to_owned(),
            release: Some(choice.release.to_string()),
            artifact: artifact.clone(),
        })
    });
    base.into_iter().chain(components).collect()
}

/// Refuses a name that is nothing of this node's.
fn check_name(update: &Update, spec: &NodeSpec) -> Result<(), BakeError> {
    let Update::Only(name) = update else { return Ok(()) };
    let mut known: Vec<String> = parts(spec).into_iter().map(|part| part.name).collect();
    known.dedup();
    if known.contains(name) { Ok(()) } else { Err(BakeError::NotLockable { name: name.clone(), known }) }
}
