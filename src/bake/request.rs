//! What one bake is asked for, and the parts it is turned into.

use std::fs::File;
use std::sync::Arc;

use super::error::BakeError;
use crate::base;
use crate::disk::{Disk, FileDisk, HostFile};
use crate::image;
use crate::progress::Progress;
use crate::spec::{self, BaseFormat, BaseSource, NodeSpec};
use crate::store::{Store, StoreOptions};

/// Everything one bake is asked for.
#[derive(Debug, Clone)]
pub struct BakeRequest {
    /// The node.
    pub node: spec::Request,
    /// Cache, mirrors, pins.
    pub store: StoreOptions,
    /// How a base image is made from the Debian archive, where one is needed and missing.
    pub archive: base::BuildOptions,
}

/// The base image that `spec` names, as a raw disk.
pub(super) fn open_base(
    request: &BakeRequest,
    spec: &NodeSpec,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Arc<dyn Disk>, BakeError> {
    let unpack = |packed: &Arc<HostFile>, raw: &mut File, progress: &dyn Progress| {
        image::unpack(packed, raw, progress).map(drop)
    };
    let file = match &spec.base.source {
        BaseSource::Vendor(artifact) => store.base(artifact, progress, unpack).map_err(BakeError::Store)?,
        BaseSource::File(path) => store.unpacked(path, progress, unpack).map_err(BakeError::Store)?,
        BaseSource::Archive(name) => archive_base(name, request, store, progress)?,
    };
    Ok(Arc::new(FileDisk::new(file)))
}

/// Refuses a base image that is not read yet, before it is fetched.
pub(super) fn check_format(spec: &NodeSpec) -> Result<(), BakeError> {
    match spec.base.format {
        Some(BaseFormat::Qcow2) => Err(BakeError::Format { base: spec.base.name.clone() }),
        _ => Ok(()),
    }
}

/// The base image `name` of the Debian archive, made now if the cache does not hold it and the network is on.
pub(super) fn archive_base(
    name: &str,
    request: &BakeRequest,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Arc<HostFile>, BakeError> {
    if request.store.offline {
        return cached_base(name, &request.archive, store);
    }
    prepare_base(name, &request.archive, false, store, progress)
}

/// The base image `name` of the Debian archive if the cache holds it: making it needs the network.
fn cached_base(name: &str, options: &base::BuildOptions, store: &Store) -> Result<Arc<HostFile>, BakeError> {
    let (_, key) = recipe(name, options)?;
    let file = store.find_made(&key).map_err(BakeError::Store)?;
    file.ok_or_else(|| BakeError::BaseOffline { name: name.to_owned() })
}

/// The recipe called `name`, and the name of what it makes in the store.
fn recipe(name: &str, options: &base::BuildOptions) -> Result<(base::Recipe, String), BakeError> {
    let recipe = base::Recipe::by_name(name)
        .ok_or_else(|| BakeError::UnknownBase { name: name.to_owned(), known: base::names() })?;
    let suite = options.suite.as_ref().map_or_else(String::new, |suite| format!("-{suite}"));
    let key = format!("{name}-{}{suite}.img", recipe.edition());
    Ok((recipe, key))
}

/// The base image `name` of the Debian archive: the cache's unless it is wanted `again`, or made now and kept there.
///
/// # Errors
/// [`BakeError`]: no such recipe, the store's errors, or those of building.
pub fn prepare_base(
    name: &str,
    options: &base::BuildOptions,
    again: bool,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Arc<HostFile>, BakeError> {
    let (recipe, key) = recipe(name, options)?;
    if again {
        store.discard_made(&key).map_err(BakeError::Store)?;
    }
    store.made(&key, progress, |path| base::build(&recipe, options, path, progress)).map_err(BakeError::Store)
}
