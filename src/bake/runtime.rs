//! Whether a base image brings the container runtime that its node is to use.

use super::error::BakeError;
use crate::ext4::Editor;
use crate::spec::{NodeSpec, Runtime};

/// What a node with its distribution's runtime cannot do without, and where distributions put it.
const PROGRAMS: [(&str, &[&str]); 2] =
    [("containerd", &["/usr/bin/containerd"]), ("runc", &["/usr/sbin/runc", "/usr/bin/runc"])];

/// Refuses a base without containerd and runc for a node that takes them from there.
pub(super) fn check(root: &mut Editor<'_>, spec: &NodeSpec) -> Result<(), BakeError> {
    if spec.runtime == Runtime::Upstream {
        return Ok(());
    }
    for (missing, places) in PROGRAMS {
        let mut there = false;
        for place in places {
            there |= root.resolve(place).map_err(BakeError::Root)?.is_some();
        }
        if !there {
            return Err(BakeError::NoRuntime { base: spec.base.name.clone(), missing });
        }
    }
    Ok(())
}
