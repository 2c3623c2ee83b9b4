//! e2fsprogs, the kernel and the crate ext4-view judge the ext4 editor.

#[path = "ext4_alike.rs"]
mod alike;
#[path = "ext4_debugfs.rs"]
mod debugfs;
#[path = "ext4_edits.rs"]
mod edits;
#[path = "ext4_extents.rs"]
mod extents;
#[path = "ext4_features.rs"]
mod features;
#[path = "ext4_growth.rs"]
mod growth;
#[path = "ext4_hostile.rs"]
mod hostile;
#[path = "ext4_image.rs"]
mod image;
#[path = "ext4_journal.rs"]
mod journal;
#[path = "ext4_journal_damage.rs"]
mod journal_damage;
#[path = "ext4_limits.rs"]
mod limits;
#[path = "ext4_marks.rs"]
mod marks;
#[path = "ext4_matrix.rs"]
mod matrix;
#[path = "ext4_model.rs"]
mod model;
#[path = "ext4_orphan.rs"]
mod orphan;
#[path = "ext4_scale.rs"]
mod scale;
#[path = "ext4_shuffle.rs"]
mod shuffle;
#[path = "ext4_small.rs"]
mod small;
