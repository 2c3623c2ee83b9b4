//! Outside tools judge what the byte rooms write. A missing tool fails with the name of its package.

#[path = "oracle/base.rs"]
mod base;
#[path = "oracle/disks.rs"]
mod disks;
#[path = "oracle/ext4.rs"]
mod ext4;
