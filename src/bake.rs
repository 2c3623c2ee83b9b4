//! The story of a bake on one page, and the only place where words meet bytes:
//! resolve, plan, get, open, grow, apply, encode, finish.

mod architecture;
mod boot;
mod error;
mod goods;
mod layout;
mod request;
mod root;
mod size;
mod summary;

use std::sync::Arc;

use crate::disk::Overlay;
use crate::image;
use crate::plan::{self, Plan};
use crate::progress::Progress;
use crate::sink::Sink;
use crate::spec::NodeSpec;
use crate::store::Store;

pub use error::BakeError;
pub use request::BakeRequest;
pub use summary::Summary;

use goods::Goods;
use layout::Layout;

/// Bakes the image that `request` describes into `sink`.
///
/// Nothing is under the sink's final name unless all of it is there and right.
///
/// # Errors
/// [`BakeError`], with a hint where the user can do something.
pub fn bake(request: &BakeRequest<'_>, sink: Sink, progress: &dyn Progress) -> Result<Summary, BakeError> {
    let spec = request.resolve()?;
    let plan = plan::plan(&spec);
    let store = request.open_store()?;
    let base = request.open_base(&spec, &store, progress)?;
    let goods = Goods::get(&plan, &store, progress)?;

    let layout = Layout::find(&base, &spec)?;
    let size = size::of(&spec, &layout, goods.bytes(&plan, layout.block_size)?, base.size())?;
    let mut disk = Overlay::new(Arc::clone(&base), size);
    layout.grow(&mut disk)?;
    edit(&mut disk, &layout, &plan, &goods, &spec)?;

    write(&disk, sink, progress)?;
    Ok(Summary::new(&spec, &plan, size))
}
