//! Outside tools judge what imgbake writes. A tool that is missing fails with its package's name.

#[path = "oracle/store.rs"]
mod store;
