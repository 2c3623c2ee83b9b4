//! Programs that a node needs and that only its base image can bring. A base without them is baked all the same, as
//! somebody may add them by other means, but not without a warning: such a node would never join.

use super::error::BakeError;
use crate::ext4::Editor;
use crate::spec::{Network, NodeSpec, Runtime};

/// Where distributions keep programs.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A warning for each program that `root` lacks.
pub(super) fn missing(root: &mut Editor<'_>, spec: &NodeSpec) -> Result<Vec<String>, BakeError> {
    let gateway = matches!(&spec.network, Network::Static { gateway: Some(_), .. });
    let distro = spec.runtime == Runtime::Distro;
    let wanted = [
        (true, "iptables", "kubeadm refuses to start without it"),
        (gateway, "nft", "the gateway needs it to let the other nodes out"),
        (distro, "containerd", "`--runtime distro` takes it from the base image"),
        (distro, "runc", "`--runtime distro` takes it from the base image"),
    ];
    let mut warnings = Vec::new();
    for (_, program, reason) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
        let mut there = false;
        for folder in FOLDERS {
            there = there || root.resolve(format!("{folder}/{program}")).map_err(BakeError::Root)?.is_some();
        }
        if !there {
            warnings.push(format!("base image `{}` has no `{program}`: {reason}", spec.base.name));
        }
    }
    Ok(warnings)
}
