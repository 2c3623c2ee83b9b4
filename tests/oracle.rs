//! Outside tools judge what imgbake writes. A tool that is missing fails its test and names the package.

#[path = "oracle/base.rs"]
mod base;
#[path = "oracle/disks.rs"]
mod disks;
#[path = "oracle/ext4.rs"]
mod ext4;
#[path = "oracle/plan.rs"]
mod plan;
#[path = "oracle/spec.rs"]
mod spec;
#[path = "oracle/store.rs"]
mod store;
