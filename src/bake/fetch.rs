//! All that a bake takes from the network.

use std::path::Path;

use super::error::BakeError;
use super::goods;
use super::lock;
use super::request::{self, BakeRequest};
use crate::artifact::Artifact;
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::spec::{self, BaseSource, NodeSpec};
use crate::store::{Collected, Pins, Store, StoreError};

/// The lock file's name in a folder for a site without network.
const LOCK: &str = "imgbake.lock";

/// Gets all that a bake of `request` needs from the network: into the cache, and from there into the folder `to` if one is
/// given, which serves as a mirror at a site without network and gets a lock file. Answers the files there, else those in
/// the cache.
///
/// A base image of the Debian archive is made and stays in the cache, which is said: nobody publishes it.
///
/// # Errors
/// [`BakeError`], as of a bake.
pub fn fetch(request: &BakeRequest, to: Option<&Path>, progress: &dyn Progress) -> Result<Vec<Collected>, BakeError> {
    let spec = spec::preview(&request.node).map_err(BakeError::Spec)?;
    request::check_format(&spec)?;
    let plan = plan::plan(&spec);
    let store = Store::open(request.store.clone()).map_err(BakeError::Store)?;
    goods::expect_locked(&spec, &store)?;
    let artifacts = artifacts(&spec, &plan);
    let collected = match to {
        Some(folder) => collect(request, &spec, &artifacts, &store, folder, progress),
        None => store.warm(&artifacts, progress),
    };
    let collected = collected.map_err(BakeError::Store)?;
    if let BaseSource::Archive(name) = &spec.base.source {
        let file = request::archive_base(name, request, &store, progress)?;
        if to.is_some() {
            progress.note(&format!(
                "base image `{name}` is made here, not fetched: take `{}` along and name it with `--base`",
                file.path().display()
            ));
        }
    }
    Ok(collected)
}

/// Gets `artifacts` into `folder`, and adds what the node is made of to the lock file there. That claims to hold all only
/// if it does, for this node as for those before.
fn collect(
    request: &BakeRequest,
    spec: &NodeSpec,
    artifacts: &[Artifact],
    store: &Store,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Collected>, StoreError> {
    let path = folder.join(LOCK);
    let mut pins = if path.exists() { Pins::read(&path)? } else { Pins::empty(&path) };
    lock::choose(spec, &mut pins);
    let mut collected = store.collect(artifacts, folder, &mut pins, progress)?;
    let is_complete = lock::label(spec, artifacts, &request.store.pins, &mut pins);
    if !is_complete {
        progress.note(&format!(
            "`{}` does not hold all that this node needs: what is not in it is recognised as without it",
            path.display()
        ));
    }
    pins.set_complete(is_complete && pins.is_complete());
    pins.save(&path)?;
    collected.push(Collected::of(&path)?);
    collected.sort();
    Ok(collected)
}

/// Without the network, fails with the names of all that is missing. With it the base image comes first, and nothing is
/// fetched for one that does not serve.
pub(super) fn check_offline(
    request: &BakeRequest,
    spec: &NodeSpec,
    plan: &Plan,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(), BakeError> {
    if !request.store.offline {
        return Ok(());
    }
    store.get_all(&artifacts(spec, plan), progress).map(drop).map_err(BakeError::Store)
}

/// The base image, if it is a vendor's, and all that `plan` names; the same file once.
fn artifacts(spec: &NodeSpec, plan: &Plan) -> Vec<Artifact> {
    let base = match &spec.base.source {
        BaseSource::Vendor(artifact) => Some(artifact),
        BaseSource::File(_) | BaseSource::Archive(_) => None,
    };
    let mut all: Vec<Artifact> = Vec::new();
    for artifact in base.into_iter().chain(goods::artifacts(plan).map(|wanted| wanted.artifact())) {
        if !all.contains(artifact) {
            all.push(artifact.clone());
        }
    }
    all
}
