//! `imgbake lock`, and versions that do or do not go together.

use std::fs;

use crate::run::{Kitchen, SSH_KEY, words};

/// The default programs of a Raspberry Pi, below a mirror's folder.
const FILES: [&str; 7] = [
    "dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm",
    "dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubectl",
    "dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubelet",
    "github.com/containerd/containerd/releases/download/v2.3.4/containerd-static-2.3.4-linux-arm64.tar.gz",
    "github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz",
    "github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-arm64.tar.gz",
    "github.com/opencontainers/runc/releases/download/v1.4.3/runc.arm64",
];

/// A node whose base image is a file; nothing of it comes from the network.
const LOCK: [&str; 8] = ["lock", "pi4", "node-2", "--base", "disk.img", "--offline", "--mirror", "mirror"];
const PLAN: [&str; 7] = ["plan", "pi4", "node-2", "--base", "disk.img", "--ssh-key", SSH_KEY];

fn kitchen() -> Kitchen {
    let kitchen = Kitchen::new();
    for name in FILES {
        let path = kitchen.path("mirror").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "program").expect("a file");
    }
    kitchen
}

/// Runs and expects success; answers what was said.
fn said(kitchen: &Kitchen, arguments: &[&str]) -> String {
    let output = kitchen.run(arguments);
    assert!(output.status.success(), "imgbake {arguments:?}: {}", words(&output));
    assert!(output.stdout.is_empty(), "nothing is written to standard output");
    words(&output)
}

#[test]
fn a_node_is_locked_once_and_renewed_on_demand() {
    let kitchen = kitchen();
    assert_eq!(said(&kitchen, &LOCK), "imgbake.lock: 7 files resolved, 0 as they were\n");
    let text = fs::read_to_string(kitchen.path("imgbake.lock")).expect("a lock file");
    for name in FILES {
        assert!(text.contains(&format!("  - url: \"https://{name}\"\n")), "{text}");
    }
    assert_eq!(said(&kitchen, &LOCK), "imgbake.lock: 0 files resolved, 7 as they were\n");
    for (update, resolved) in [(&["--update"][..], 7), (&["--update", "kubernetes"], 3), (&["--update", "runc"], 1)] {
        let expected = format!("imgbake.lock: {resolved} files resolved, {} as they were\n", 7 - resolved);
        assert_eq!(said(&kitchen, &[&LOCK[..], update].concat()), expected);
        // The words may stand before the node's as well.
        assert_eq!(said(&kitchen, &[&LOCK[..1], update, &LOCK[1..]].concat()), expected);
    }
    assert_eq!(fs::read_to_string(kitchen.path("imgbake.lock")).expect("a lock file"), text);
    assert_eq!(said(&kitchen, &[&LOCK[..], &["--quiet", "--lock", "other.lock"]].concat()), "");
    assert_eq!(fs::read_to_string(kitchen.path("other.lock")).expect("a lock file"), text);
}

#[test]
fn a_plan_keeps_to_the_lock_file() {
    let kitchen = kitchen();
    said(&kitchen, &[&LOCK[..], &["--kubernetes", "1.36"]].concat());
    let asked = [&PLAN[..], &["--kubernetes", "1.36"]].concat();
    assert!(kitchen.ok(&asked).contains("v1.36.4/bin/linux/arm64/kubelet"));
    let text = fs::read_to_string(kitchen.path("imgbake.lock")).expect("a lock file");
    fs::write(kitchen.path("imgbake.lock"), text.replace("1.36.4", "1.36.2")).expect("a lock file");
    assert!(kitchen.ok(&asked).contains("v1.36.2/bin/linux/arm64/kubelet"));
    // What the first boot fetches is recognised by what is locked, not by what it finds then.
    let deferred = kitchen.ok(&[&asked[..], &["--defer", "kubernetes", "--json"]].concat());
    assert!(deferred.contains(
        "fd53ea3fcbd077844f50a3c67e9b52f62972a563674956bab0c0f4fb7ea37d50 https://dl.k8s.io/release/v1.36.2/"
    ));
}

#[test]
fn a_bake_takes_nothing_that_is_not_locked() {
    let kitchen = kitchen();
    fs::write(kitchen.path("disk.img"), "no disk").expect("a file");
    said(&kitchen, &LOCK);
    let bake = ["pi4", "node-2", "--base", "disk.img", "--ssh-key", SSH_KEY, "-o", "node.img"];
    let refusal = "
error: `imgbake.lock` does not hold `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubeadm`

hint: `imgbake lock PROFILE NODE` with this node's options adds what is missing
";
    let deferring = ["--kubernetes", "1.35", "--runtime", "distro", "--defer", "kubernetes"];
    kitchen.refused(&[&bake[..], &deferring].concat(), 1, refusal);
}

#[test]
fn what_cannot_be_locked_is_said_at_once() {
    let kitchen = Kitchen::new();
    let lock = ["lock", "pi4", "node-2", "--base", "disk.img", "--offline", "--kubernetes", "1.35", "--runc", "1.3"];
    kitchen.refused(
        &lock,
        1,
        "
offline: 1.35.9 is the newest release known here of kubernetes 1.35
error: offline, and 7 files are neither in the cache nor in a mirror folder:
  `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubeadm` (checksum unknown: only `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubeadm.sha256` has it)
  `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubelet` (checksum unknown: only `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubelet.sha256` has it)
  `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubectl` (checksum unknown: only `https://dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubectl.sha256` has it)
  `https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-static-2.3.4-linux-arm64.tar.gz`
  `https://github.com/opencontainers/runc/releases/download/v1.3.6/runc.arm64` (checksum unknown: only `https://github.com/opencontainers/runc/releases/download/v1.3.6/runc.sha256sum` has it)
  `https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz`
  `https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-arm64.tar.gz`

hint: run once without `--offline`, or use `--mirror DIR` where the file is `DIR/dl.k8s.io/release/v1.35.9/bin/linux/arm64/kubeadm`, with `--lock FILE` for what nobody signs; `imgbake fetch --to DIR` makes such a folder where there is a network
",
    );
    assert!(!kitchen.path("imgbake.lock").exists());
    kitchen.refused(
        &["lock", "pi4", "node-2", "--base", "disk.img", "--offline", "--update", "kubelet"],
        1,
        "
error: nothing that comes from upstream for this node is called `kubelet`

hint: `--update` takes one of these: kubernetes, containerd, runc, cni-plugins, crictl
",
    );
    kitchen.refused(
        &["lock", "pi4"],
        2,
        "
error: no node given for profile `pi4`

hint: try `imgbake lock pi4 node-2`; `imgbake lock --help` explains
",
    );
}

#[test]
fn versions_that_boot_no_cluster_are_refused_with_what_to_do() {
    let kitchen = Kitchen::new();
    let refused = |options: &[&str], message: &str| kitchen.refused(&[&PLAN[..], options].concat(), 1, message);
    refused(
        &["--kubernetes", "1.22", "--containerd", "2.3"],
        "
error: the kubelet of Kubernetes 1.22.17 and containerd 2.3.5 have no version of the CRI in common

hint: bake containerd 1.7 (`--containerd 1.7`), or Kubernetes 1.23 or newer
",
    );
    refused(
        &["--containerd", "2.9"],
        "
error: imgbake does not know containerd `2.9`

hint: the nearest that it knows are 2.2, 2.3, 2.4
",
    );
    refused(
        &["--crictl", "newest"],
        "
error: `newest` is not a version of crictl

hint: give a release, such as `1.4.3`, or a minor release, such as `1.4`
",
    );
    refused(
        &["--runtime", "distro", "--runc", "1.3"],
        "
error: `--runc` says a version, but `--runtime distro` takes the one that the base image has

hint: leave out `--runc` or `--runtime distro`
",
    );
    fs::create_dir_all(kitchen.path("config/profiles/bases")).expect("a folder");
    let focal = "description: x\narchitecture: arm64\nfirmware: raspberry-pi\ndistribution: ubuntu\nrelease: '20.04'\n\
                 seed: boot-partition\nvendor: {url: 'https://example.org/x', checksums: 'https://example.org/y', format: raw}\n";
    fs::write(kitchen.path("config/profiles/bases/focal.yaml"), focal).expect("a base");
    kitchen.refused(
        &["plan", "pi4", "node-2", "--base", "focal"],
        1,
        "
error: the kubelet of Kubernetes 1.36.4 does not start on cgroup v1, which Ubuntu 20.04 mounts

hint: choose a newer base image (`imgbake base list`) and no kernel argument against cgroup v2, or Kubernetes 1.34 or older
",
    );
}

#[test]
fn versions_that_nobody_recommends_together_are_warned_of() {
    let kitchen = Kitchen::new();
    let plan = kitchen.ok(&[&PLAN[..], &["--kubernetes", "1.35", "--containerd", "1.7"]].concat());
    let (_, warnings) = plan.split_once("warnings:\n").expect("warnings");
    assert_eq!(
        warnings,
        "  containerd 1.7.34 works with Kubernetes 1.35.9, but kubeadm warns of it (ContainerRuntimeVersion): from 1.38 on \
         kubelets need containerd 2.x\n"
    );
    assert!(!kitchen.ok(&PLAN).contains("warnings:"));
}
