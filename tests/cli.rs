//! The command line from outside: a module per subject, whole outputs compared.

#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/fetch.rs"]
mod fetch;
#[path = "cli/guest.rs"]
mod guest;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/lock.rs"]
mod lock;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/verify.rs"]
mod verify;
