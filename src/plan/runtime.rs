//! containerd, runc and the CNI plugins.

use super::{Draft, RootEdit};
use crate::spec::{ContainerdConfig, NodeSpec, Runtime};

/// The CNI plugins of Debian's containernetworking-plugins 1.1.1.
const DEBIAN_CNI_PLUGINS: [&str; 17] = [
    "bandwidth",
    "bridge",
    "dhcp",
    "firewall",
    "flannel",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tuning",
    "vlan",
    "vrf",
];

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    let config = match spec.containerd_config {
        ContainerdConfig::V2 => include_str!("guest/containerd-v2.toml"),
        ContainerdConfig::V3 => include_str!("guest/containerd-v3.toml"),
    };
    draft.text("/etc/containerd/config.toml", config.replace("@PAUSE_IMAGE@", &spec.pause_image));
    draft.directory("/etc/containerd/certs.d", 0o755, super::Owner::Root);
    draft.directory("/etc/cni/net.d", 0o755, super::Owner::Root);
    match spec.runtime {
        Runtime::Upstream => upstream(spec, draft),
        Runtime::Distro => distro(draft),
    }
}

fn upstream(spec: &NodeSpec, draft: &mut Draft) {
    let unpack = |archive: &super::Artifact| RootEdit::Unpack {
        archive: archive.clone(),
        from: String::new(),
        only: Vec::new(),
    };
    draft.edit("/usr/local", unpack(&spec.components.containerd));
    draft.edit("/opt/cni/bin", unpack(&spec.components.cni_plugins));
    draft.program("/usr/local/sbin/runc", &spec.components.runc);
    draft.enabled_unit("containerd.service", include_str!("guest/containerd.service"));
}

/// The packages bring programs and unit. Cluster networks put their plugins into /opt/cni/bin, so containerd looks there,
/// and there the distribution's are linked.
fn distro(draft: &mut Draft) {
    draft.enable("containerd.service", "/usr/lib/systemd/system/containerd.service");
    for plugin in DEBIAN_CNI_PLUGINS {
        draft.link(&format!("/opt/cni/bin/{plugin}"), &format!("/usr/lib/cni/{plugin}"));
    }
}
