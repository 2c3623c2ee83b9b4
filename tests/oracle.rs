//! Outside tools judge what the byte rooms write. A missing tool fails with the name of its package.

#[path = "oracle/plan.rs"]
mod plan;
#[path = "oracle/spec.rs"]
mod spec;
