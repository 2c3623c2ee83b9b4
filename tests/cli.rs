//! The command line from outside: a module per subject, whole outputs compared.

#[path = "cli/fetch.rs"]
mod fetch;
#[path = "cli/guest.rs"]
mod guest;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/output.rs"]
mod output;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/run.rs"]
mod run;
