//! Outside tools judge what the byte rooms write. A missing tool fails with the name of its package.

#[path = "oracle/disks.rs"]
mod disks;
#[path = "oracle/spec.rs"]
mod spec;
//! Outside tools judge what the byte rooms write. A missing tool fails the test and names its package.

#[path = "oracle/ext4.rs"]
mod ext4;
//! Outside tools judge what imgbake writes. A tool that is missing fails with its package's name.

#[path = "oracle/store.rs"]
mod store;
