//! `imgbake lock`: writes down what a node is made of.

use std::path::{Path, PathBuf};

use imgbake::{LockRequest, Pins, Progress, Update};

use super::arguments::{NodeOptions, SourceArguments};
use super::places::Places;
use super::terminal::Terminal;
use super::{Failure, LOCK_FILE, Name, node_request, store_options};

/// What the command is told beside the node's options.
pub struct Order {
    pub profile: String,
    pub node: Option<String>,
    /// `--update`, with its name if it has one.
    pub update: Option<Option<String>>,
    pub quiet: bool,
}

/// Locks one node.
pub fn lock(order: Order, options: &NodeOptions, sources: &SourceArguments) -> Result<(), Failure> {
    let terminal = Terminal::new(order.quiet);
    let places = Places::find(options.places.config_dir.clone(), sources.cache.cache_dir.clone())?;
    let (name, update) = words(order)?;
    let file = sources.lock.clone().unwrap_or_else(|| PathBuf::from(LOCK_FILE));
    let pins = read(&file)?;
    let request = LockRequest {
        node: node_request(name, options, &places, &pins)?,
        store: store_options(sources, &places, pins)?,
        file,
        update,
    };
    match imgbake::lock(&request, &terminal) {
        Ok(summary) => {
            summary.warnings.iter().for_each(|warning| terminal.note(&format!("warning: {warning}")));
            let (file, resolved, kept) = (request.file.display(), summary.resolved, summary.kept);
            terminal.done(&format!("{file}: {resolved} files resolved, {kept} as they were"));
            Ok(())
        }
        Err(error) => Err(Failure::failed(error.hint(), error)),
    }
}

/// The lock file as it is; one that is not there yet holds nothing.
fn read(file: &Path) -> Result<Pins, Failure> {
    if file.exists() {
        Pins::read(file).map_err(|error| Failure::failed(error.hint(), error))
    } else {
        Ok(Pins::empty(file))
    }
}

/// `--update PROFILE NODE` and `--update NAME PROFILE NODE` look alike until the words are counted.
fn words(order: Order) -> Result<(Name, Update), Failure> {
    match (order.update, order.profile, order.node) {
        (None, profile, Some(node)) => Ok((Name { profile, node }, Update::Missing)),
        (Some(None), profile, Some(node)) => Ok((Name { profile, node }, Update::All)),
        (Some(Some(name)), profile, Some(node)) => Ok((Name { profile, node }, Update::Only(name))),
        (Some(Some(profile)), node, None) => Ok((Name { profile, node }, Update::All)),
        (_, profile, None) => Err(Failure::usage(
            format!("no node given for profile `{profile}`"),
            format!("try `imgbake lock {profile} node-2`; `imgbake lock --help` explains"),
        )),
    }
}
