//! Where the programs of a Kubernetes node are had, and the digests of those that are baked by default.
//!
//! A digest that is neither locked nor listed here comes from the publisher's checksum file.

use super::release::Releases;
use super::{Architecture, Components};
use crate::artifact::{Artifact, Checksum, Digest, Locked, Signature, Signed};

/// A known file: name, version, SHA-256 for amd64 and for arm64.
type Pin = (&'static str, &'static str, &'static str, &'static str);

const PINS: [Pin; 7] = [
    (
        "kubeadm",
        "1.36.4",
        "10d054585907f2c8bb823c84f6a66b3bd2a474c3d795475f04e9a44f78650fe6",
        "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad",
    ),
    (
        "kubelet",
        "1.36.4",
        "cf2562db46c48ab84cc3791540778ee7fb1a0a008529adbb434723dd02ed8b4b",
        "fd53ea3fcbd077844f50a3c67e9b52f62972a563674956bab0c0f4fb7ea37d50",
    ),
    (
        "kubectl",
        "1.36.4",
        "8b8f088da2dab964f853b38464033b1be15ede2839eca751482357c45abdd05a",
        "0ecf44450ee6063bf19dd166a103ee6df4a9034455c2abce626e6eea657d73fb",
    ),
    (
        "crictl",
        "1.36.0",
        "83855e114566a8a8c44c548d515670f51de3a5e1da8b2effb59870e2f10c25a3",
        "68328594ccf780a80ae2b092d9f6ce484eec7cf540c275242e8fd954bfd95332",
    ),
    (
        "containerd-static",
        "2.3.4",
        "1d0eccd52471ab75e8d4645b538f73dc635f905cd2be776366eb1036a0089595",
        "ad21f456a69bca9c183a8bde892a7576d5d09ae88b3e376a47bde4a886037ab3",
    ),
    (
        "runc",
        "1.4.3",
        "f6ae8efc0fa40079e1475e97cbe9d1bd3f106a28d6af78a11d9f1bd565515e60",
        "633301e2e32f8a5ad54031aab4901eb00308bec677dd15faa2751e8f9dab5ca4",
    ),
    (
        "cni-plugins",
        "1.9.1",
        "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303",
        "56171987d3947707c3563db2f4001bccaf50fd63468611b9f3cbecb1375ee7ec",
    ),
];

/// The pinned digest, else the publisher's checksum file.
fn checksum(name: &str, version: &str, architecture: Architecture, published: String) -> Checksum {
    let pin = PINS.iter().find(|(pinned, of, _, _)| *pinned == name && *of == version);
    let digest = pin.and_then(|(_, _, amd64, arm64)| {
        let text = match architecture {
            Architecture::Amd64 => amd64,
            Architecture::Arm64 => arm64,
        };
        text.parse::<Digest>().ok()
    });
    digest.map_or(Checksum::File { url: published }, Checksum::Pinned)
}

/// The programs of a node, in these releases.
pub(super) fn components(releases: Releases, architecture: Architecture, locked: &Locked) -> Components {
    let [kubernetes, containerd, runc, cni_plugins, crictl] =
        [releases.kubernetes, releases.containerd, releases.runc, releases.cni_plugins, releases.crictl]
            .map(|release| release.to_string());
    // Whatever comes of it, such as the list of a first boot, carries the digest that was locked.
    let as_locked = |url: &str, checksum| locked.digests.get(url).cloned().map_or(checksum, Checksum::Pinned);
    let kubernetes_program = |name: &str| {
        let version = &kubernetes;
        let url = format!("https://dl.k8s.io/release/v{version}/bin/linux/{architecture}/{name}");
        let checksum = checksum(name, version, architecture, format!("{url}.sha256"));
        let checksum = as_locked(&url, checksum);
        Artifact { url, checksum, signature: None }
    };
    let release = |name: &str, version: &str, repository: &str, file: String, sums: &str| {
        let folder = format!("https://github.com/{repository}/releases/download/v{version}");
        let published = match sums.strip_prefix('.') {
            Some(_) => format!("{folder}/{file}{sums}"),
            None => format!("{folder}/{sums}"),
        };
        let url = format!("{folder}/{file}");
        let checksum = as_locked(&url, checksum(name, version, architecture, published));
        Artifact { url, checksum, signature: None }
    };
    Components {
        kubeadm: kubernetes_program("kubeadm"),
        kubelet: kubernetes_program("kubelet"),
        kubectl: kubernetes_program("kubectl"),
        crictl: release(
            "crictl",
            &crictl,
            "kubernetes-sigs/cri-tools",
            format!("crictl-v{crictl}-linux-{architecture}.tar.gz"),
            ".sha256",
        ),
        // The static build runs on every base, whatever its libc.
        containerd: release(
            "containerd-static",
            &containerd,
            "containerd/containerd",
            format!("containerd-static-{containerd}-linux-{architecture}.tar.gz"),
            ".sha256sum",
        ),
        // The only one of these projects whose OpenPGP signatures are known.
        runc: Artifact {
            signature: Some(Signature { by: "runc".to_owned(), over: Signed::ClearSignedChecksums }),
            ..release("runc", &runc, "opencontainers/runc", format!("runc.{architecture}"), "runc.sha256sum")
        },
        cni_plugins: release(
            "cni-plugins",
            &cni_plugins,
            "containernetworking/plugins",
            format!("cni-plugins-linux-{architecture}-v{cni_plugins}.tgz"),
            ".sha256",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Version, version};
    use super::*;

    fn releases(kubernetes: Version) -> Releases {
        Releases::defaults(kubernetes)
    }

    fn all(components: &Components) -> [&Artifact; 7] {
        let Components { kubeadm, kubelet, kubectl, crictl, containerd, runc, cni_plugins } = components;
        [kubeadm, kubelet, kubectl, crictl, containerd, runc, cni_plugins]
    }

    #[test]
    fn every_default_component_is_pinned() {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            for artifact in all(&components(releases(version::DEFAULT), architecture, &Locked::default())) {
                assert!(matches!(artifact.checksum, Checksum::Pinned(Digest::Sha256(_))), "{}", artifact.url);
                assert!(artifact.url.contains(&architecture.to_string()), "{}", artifact.url);
            }
        }
    }

    #[test]
    fn the_default_components_urls() {
        let components = components(releases(version::DEFAULT), Architecture::Arm64, &Locked::default());
        let urls: Vec<&str> = all(&components).iter().map(|artifact| artifact.url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm",
                "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubelet",
                "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubectl",
                "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-arm64.tar.gz",
                "https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-static-2.3.4-linux-arm64.tar.gz",
                "https://github.com/opencontainers/runc/releases/download/v1.4.3/runc.arm64",
                "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz",
            ]
        );
    }

    #[test]
    fn other_versions_rely_on_the_publishers_checksums() {
        let old =
            components(releases(Version { major: 1, minor: 22, patch: 17 }), Architecture::Amd64, &Locked::default());
        let url = "https://dl.k8s.io/release/v1.22.17/bin/linux/amd64/kubelet";
        assert_eq!(old.kubelet.url, url);
        assert_eq!(old.kubelet.checksum, Checksum::File { url: format!("{url}.sha256") });
        let url = "https://github.com/containerd/containerd/releases/download/v1.7.34/containerd-static-1.7.34-linux-amd64.tar.gz";
        assert_eq!(old.containerd.url, url);
        assert_eq!(old.containerd.checksum, Checksum::File { url: format!("{url}.sha256sum") });
    }
}
