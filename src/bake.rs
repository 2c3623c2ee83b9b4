//! The story of a bake on one page, and the only place where words meet bytes:
//! resolve, plan, open, get, grow, apply, encode, finish.

mod architecture;
mod boot;
mod error;
mod fetch;
mod goods;
mod layout;
mod lock;
mod programs;
mod request;
mod root;
mod size;
mod summary;

use crate::disk::Overlay;
use crate::image;
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::sink::Sink;
use crate::spec::{self, SpecError};
use crate::store::Store;

pub use error::BakeError;
pub use fetch::fetch;
pub use lock::{LockRequest, LockSummary, Update, lock};
pub use request::{BakeRequest, prepare_base};
pub use summary::Summary;

use goods::Goods;
use layout::Layout;

/// Bakes the image that `request` describes into `sink`; `random` fills a slice with random bytes and is asked only
/// when a cluster's secrets are made.
///
/// Nothing is under the sink's final name unless all of it is there and right.
///
/// # Errors
/// [`BakeError`], with a hint where the user can do something.
pub fn bake(
    request: &BakeRequest,
    random: &mut dyn FnMut(&mut [u8]),
    mut sink: Sink,
    progress: &dyn Progress,
) -> Result<Summary, BakeError> {
    let spec = spec::resolve(&request.node, random).map_err(BakeError::Spec)?;
    let plan = plan::plan(&spec);
    let store = Store::open(request.store.clone()).map_err(BakeError::Store)?;

    request::check_format(&spec)?;
    goods::expect_locked(&spec, &store)?;
    fetch::check_offline(request, &spec, &plan, &store, progress)?;
    let base = request::open_base(request, &spec, &store, progress)?;
    let layout = Layout::find(&base, &spec)?;
    let goods = Goods::get(&plan, &store, progress)?;

    let size = size::of(&spec, &layout, goods.bytes(&plan, layout.block_size), base.size())?;
    let mut disk = Overlay::new(base, size);
    let root = layout.grow(&mut disk, &spec)?;
    if let Some(partition) = layout.boot.clone() {
        boot::apply(&mut disk, partition, &plan)?;
    }
    root::apply(&mut disk, root, &plan, &goods)?;

    image::write(&disk, &mut sink, progress).map_err(BakeError::Image)?;
    sink.commit().map_err(BakeError::Sink)?;
    Ok(Summary::new(&spec, &plan, size, layout.warnings))
}

/// What a bake of `request` would do. Reads and writes no image, no network and no secret.
///
/// # Errors
/// What is wrong with the request.
pub fn plan_node(request: &spec::Request) -> Result<Plan, SpecError> {
    Ok(plan::plan(&spec::preview(request)?))
}
