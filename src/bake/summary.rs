//! What is said about a bake that went well.

use std::fmt;

use crate::plan::Plan;
use crate::spec::NodeSpec;

/// A finished bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The node's name.
    pub node: String,
    /// What the node was made from.
    pub base: String,
    /// Size of the image in bytes.
    pub size: u64,
    /// What will keep the node from joining unless something is done, a line each.
    pub warnings: Vec<String>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
}

impl Summary {
    pub(super) fn new(spec: &NodeSpec, plan: &Plan, size: u64, found: Vec<String>) -> Self {
        let warnings = plan.warnings.iter().cloned().chain(found).collect();
        Self { warnings, node: spec.hostname.clone(), base: spec.base.name.clone(), size, notes: plan.notes.clone() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "baked {} from {}, {} MiB", self.node, self.base, self.size >> 20)
    }
}
