//! e2fsprogs, the kernel and the crate ext4-view judge the ext4 editor.

#[path = "ext4/alike.rs"]
mod alike;
#[path = "ext4/comparison.rs"]
mod comparison;
#[path = "ext4/debugfs.rs"]
mod debugfs;
#[path = "ext4/edits.rs"]
mod edits;
#[path = "ext4/extents.rs"]
mod extents;
#[path = "ext4/features.rs"]
mod features;
#[path = "ext4/growth.rs"]
mod growth;
#[path = "ext4/hostile.rs"]
mod hostile;
#[path = "ext4/image.rs"]
mod image;
#[path = "ext4/journal.rs"]
mod journal;
#[path = "ext4/journal_damage.rs"]
mod journal_damage;
#[path = "ext4/limits.rs"]
mod limits;
#[path = "ext4/marks.rs"]
mod marks;
#[path = "ext4/matrix.rs"]
mod matrix;
#[path = "ext4/model.rs"]
mod model;
#[path = "ext4/orphan.rs"]
mod orphan;
#[path = "ext4/scale.rs"]
mod scale;
#[path = "ext4/shuffle.rs"]
mod shuffle;
#[path = "ext4/small.rs"]
mod small;
#[path = "ext4/verify.rs"]
mod verify;
#[path = "ext4/verify_features.rs"]
mod verify_features;
