//! Kubernetes' programs, and the system as kubeadm's preflight and the kubelet want it.

use super::{Artifact, Body, Draft, Owner, RootEdit, Transform};
use crate::artifact::Checksum;
use crate::spec::NodeSpec;

const CRICTL: &str = "/usr/local/bin";

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    draft.text("/etc/modules-load.d/imgbake-kubernetes.conf", "overlay\nbr_netfilter\nvxlan\n");
    draft.text("/etc/sysctl.d/99-imgbake-kubernetes.conf", include_str!("guest/sysctl.conf"));
    swap_off(draft);
    if spec.defer_kubernetes {
        fetched(spec, draft)
    } else {
        baked(spec, draft)
    }
    draft.text(
        "/etc/crictl.yaml",
        "runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: unix:///run/containerd/containerd.sock\n",
    );
    draft.enabled_unit("kubelet.service", include_str!("guest/kubelet.service"));
    draft.text("/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", include_str!("guest/10-kubeadm.conf"));
    draft.text("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=\n");
    draft.directory("/etc/kubernetes/manifests", 0o755, Owner::Root);
}

/// The kubelet does not start on a machine that swaps. Each system has its own way to switch it on.
fn swap_off(draft: &mut Draft) {
    draft.transform("/etc/fstab", Transform::CommentSwap);
    ["/swapfile", "/swap.img", "/var/swap"].iter().for_each(|path| draft.remove(path));
    // Whatever makes a swap unit, this is what pulls it in.
    draft.mask("swap.target");
    draft.mask("dphys-swapfile.service");
    draft.mask("zramswap.service");
    // An empty file hides the distribution's.
    draft.text("/etc/systemd/zram-generator.conf", "");
    draft.text("/etc/rpi/swap.conf.d/99-imgbake.conf", "[Main]\nMechanism=none\n");
}

/// The programs, by the path each gets.
fn programs(spec: &NodeSpec) -> [(&'static str, &Artifact); 3] {
    let components = &spec.components;
    [
        ("/usr/bin/kubeadm", &components.kubeadm),
        ("/usr/bin/kubelet", &components.kubelet),
        ("/usr/bin/kubectl", &components.kubectl),
    ]
}

fn baked(spec: &NodeSpec, draft: &mut Draft) {
    for (path, artifact) in programs(spec) {
        draft.program(path, artifact);
    }
    draft.edit(
        CRICTL,
        RootEdit::Unpack {
            archive: spec.components.crictl.clone(),
            from: String::new(),
            only: vec!["crictl".to_owned()],
        },
    );
}

/// The first boot's list, a line each: path, digest (or where the publisher's checksum is), URL, and the archive's member.
fn fetched(spec: &NodeSpec, draft: &mut Draft) {
    let line = |path: &str, artifact: &Artifact, member: &str| {
        let checksum = match &artifact.checksum {
            Checksum::Pinned(digest) => digest.to_string(),
            Checksum::File { url } => url.clone(),
        };
        format!("{path} {checksum} {} {member}", artifact.url).trim_end().to_owned() + "\n"
    };
    let mut list: String = programs(spec).iter().map(|(path, artifact)| line(path, artifact, "")).collect();
    list += &line(&format!("{CRICTL}/crictl"), &spec.components.crictl, "crictl");
    draft.write("/etc/imgbake/fetch", 0o644, Body::Text(list));
    draft.notes.push("Kubernetes' programs are fetched by the node's first boot, which needs the internet".to_owned());
}
