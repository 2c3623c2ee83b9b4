//! Whole plans: what they list, and what must hold for every profile and role.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::spec::{ConfigApi, JoinRequest, Request, Runtime, Version, resolve};

fn request(folder: &Path, profile: &str, node: &str) -> Request {
    Request {
        profile: profile.to_owned(),
        node: node.to_owned(),
        profiles_dir: None,
        clusters_dir: folder.to_owned(),
        base: None,
        size: None,
        ssh_keys: vec![
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUbYKqDhvyCEwIcnMHN4rUkZsjUsZDWHAXtmUkuj9yJ ada@example".to_owned(),
        ],
        user: None,
        join: None,
        endpoint: None,
        kubernetes: None,
        containerd: None,
        runc: None,
        cni_plugins: None,
        crictl: None,
        locked: crate::artifact::Locked::default(),
        runtime: Runtime::Upstream,
        defer: Vec::new(),
        now: 1_796_000_000,
        source_date_epoch: None,
    }
}

fn joining(mut request: Request) -> Request {
    request.join = Some(JoinRequest {
        endpoint: "k8s.example.org:6443".to_owned(),
        token: Secret::new("abcdef.0123456789abcdef"),
        ca_cert_hash: format!("sha256:{}", "0".repeat(64)),
        token_expires: None,
    });
    request
}

fn spec(change: impl FnOnce(&Path) -> Request) -> NodeSpec {
    let folder = tempfile::tempdir().unwrap();
    let mut byte = 0u8;
    let mut random = |bytes: &mut [u8]| {
        for slot in bytes {
            *slot = byte;
            byte = byte.wrapping_add(11);
        }
    };
    resolve(&change(folder.path()), &mut random).unwrap()
}

/// Every profile and role, and the variants that change what is planned.
fn specs() -> Vec<NodeSpec> {
    let mut specs: Vec<NodeSpec> = ["pi4", "pi5"].map(|profile| spec(|dir| request(dir, profile, "node-1"))).to_vec();
    specs.extend(["pi3", "pi4", "pi5"].map(|profile| spec(|dir| request(dir, profile, "node-2"))));
    specs.extend(["pi4", "vps-amd64", "vps-arm64"].map(|profile| spec(|dir| joining(request(dir, profile, "rack-7")))));
    specs.push(spec(|dir| Request {
        runtime: Runtime::Distro,
        defer: vec!["kubernetes".to_owned()],
        base: Some("debian-13-rpi".to_owned()),
        kubernetes: Some("1.30".to_owned()),
        ..request(dir, "pi4", "node-1")
    }));
    specs.push(spec(|dir| Request {
        endpoint: Some("k8s.example.org".to_owned()),
        ..request(dir, "vps-amd64", "node-1")
    }));
    for api in [ConfigApi::V1beta2, ConfigApi::V1beta3] {
        let old = specs.iter().filter(|spec| spec.config_api == ConfigApi::V1beta4).cloned();
        let changed: Vec<_> = old.take(3).map(|spec| NodeSpec { config_api: api, ..spec }).collect();
        specs.extend(changed);
    }
    specs
}

fn texts(plan: &Plan) -> impl Iterator<Item = (&str, &str)> {
    let root = plan.root.iter().filter_map(|(path, edit)| match edit {
        RootEdit::Write { body: Body::Text(text), .. } => Some((path.as_str(), text.as_str())),
        _ => None,
    });
    let boot = plan.boot.iter().filter_map(|(path, edit)| match edit {
        BootEdit::Write(text) => Some((path.as_str(), text.as_str())),
        _ => None,
    });
    root.chain(boot)
}

fn text<'a>(plan: &'a Plan, path: &str) -> &'a str {
    match &plan.root[&path.into()] {
        RootEdit::Write { body: Body::Text(text), .. } => text,
        RootEdit::Write { body: Body::Secret(secret), .. } => secret.reveal(),
        edit => panic!("{path}: {edit}"),
    }
}

/// Compares a plan's listing with the one kept; `UPDATE_GOLDEN=1` keeps the new one.
fn golden(name: &str, spec: &NodeSpec) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/plan-{name}.txt"));
    let listing = plan(spec).to_string();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &listing).unwrap();
    }
    let kept = std::fs::read_to_string(&path).expect("run with UPDATE_GOLDEN=1 to make it");
    assert_eq!(listing, kept, "{name}: UPDATE_GOLDEN=1 keeps the new listing");
}

#[test]
fn the_control_plane_and_gateway_at_home() {
    golden("pi4-node-1", &spec(|dir| request(dir, "pi4", "node-1")));
}

#[test]
fn a_worker_at_home() {
    golden("pi4-node-2", &spec(|dir| request(dir, "pi4", "node-2")));
}

#[test]
fn a_server_that_joins_an_existing_cluster() {
    golden("vps-amd64-joined", &spec(|dir| joining(request(dir, "vps-amd64", "rack-7"))));
}

#[test]
fn the_demonstration_with_the_archives_packages() {
    golden(
        "pi4-distro-deferred",
        &spec(|dir| Request {
            runtime: Runtime::Distro,
            defer: vec!["kubernetes".to_owned()],
            base: Some("debian-13-rpi".to_owned()),
            ..request(dir, "pi4", "node-2")
        }),
    );
}

#[test]
fn the_same_node_gives_the_same_plan() {
    for spec in specs() {
        assert_eq!(plan(&spec), plan(&spec.clone()));
    }
}

#[test]
fn a_secret_is_roots_alone_and_nowhere_else() {
    for spec in specs() {
        let plan = plan(&spec);
        let mut found = 0;
        for (path, edit) in &plan.root {
            let RootEdit::Write { body: Body::Secret(_), attributes } = edit else { continue };
            found += 1;
            assert_eq!(*attributes, Attributes { mode: 0o600, owner: Owner::Root }, "{}", path.as_str());
            let folders = ["/etc/imgbake/", "/etc/kubernetes/", "/var/lib/systemd/"];
            assert!(folders.iter().any(|folder| path.as_str().starts_with(folder)), "{}", path.as_str());
        }
        assert!(found >= 2, "a kubeadm configuration and a random seed at least");

        let access = &spec.cluster.access;
        let (_, token_secret) = access.token.reveal().split_once('.').unwrap();
        let mut secrets = vec![token_secret.to_owned(), spec.seed.reveal().to_owned()];
        secrets.push(super::identity::derived(&spec, "random-seed"));
        if let Some(authority) = &access.authority {
            secrets.push(authority.key.reveal().lines().nth(1).unwrap().to_owned());
        }
        let shown = format!("{plan}{plan:#}{plan:?}{}", serde_json::to_string(&plan).unwrap());
        for secret in &secrets {
            assert!(!shown.contains(secret.as_str()), "{}: a secret shows", spec.profile);
            for (path, text) in texts(&plan) {
                assert!(!text.contains(secret.as_str()), "{path}");
            }
        }
    }
}

#[test]
fn nobody_gets_a_password() {
    for spec in specs() {
        let plan = plan(&spec);
        for (path, text) in texts(&plan) {
            assert!(!text.contains("chpasswd") && !text.contains("plain_text_passwd"), "{path}");
        }
        assert!(text(&plan, "/etc/ssh/sshd_config.d/10-imgbake.conf").contains("PasswordAuthentication no"));
    }
}

#[test]
fn a_worker_never_brings_the_authority() {
    for spec in specs() {
        let has = plan(&spec).root.keys().any(|path| path.as_str().contains("/pki/"));
        assert_eq!(has, spec.role == crate::spec::Role::ControlPlane, "{}", spec.profile);
    }
}

#[test]
fn every_unit_that_is_enabled_is_there() {
    for spec in specs() {
        let plan = plan(&spec);
        for (path, edit) in &plan.root {
            let RootEdit::Symlink(target) = edit else { continue };
            if target.starts_with("/etc/systemd/system/") {
                assert!(plan.root.contains_key(&target.as_str().into()), "{} -> {target}", path.as_str());
            }
        }
    }
}

#[test]
fn no_edit_lies_below_something_that_is_no_directory() {
    for spec in specs() {
        let plan = plan(&spec);
        let blocked: BTreeSet<&str> = plan
            .root
            .iter()
            .filter(|(_, edit)| !matches!(edit, RootEdit::Directory(_) | RootEdit::Empty | RootEdit::Unpack { .. }))
            .map(|(path, _)| path.as_str())
            .collect();
        for path in plan.root.keys() {
            let mut parent = path.as_str();
            while let Some((above, _)) = parent.rsplit_once('/') {
                assert!(!blocked.contains(above), "{} below {above}", path.as_str());
                parent = above;
            }
        }
    }
}

/// A YAML stream's documents, as an independent reader of ours sees them.
fn documents(text: &str) -> Vec<serde_json::Value> {
    text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[test]
fn kubeadm_is_told_to_start_a_control_plane() {
    for api in [ConfigApi::V1beta2, ConfigApi::V1beta3, ConfigApi::V1beta4] {
        let spec = NodeSpec { config_api: api, ..spec(|dir| request(dir, "pi4", "node-1")) };
        let plan = plan(&spec);
        let [init, cluster, kubelet] = documents(text(&plan, "/etc/imgbake/kubeadm.yaml")).try_into().unwrap();
        assert_eq!((&init["kind"], &cluster["kind"]), (&"InitConfiguration".into(), &"ClusterConfiguration".into()));
        assert_eq!(
            (&init["apiVersion"], &cluster["apiVersion"]),
            (&api.api_version().into(), &api.api_version().into())
        );
        assert_eq!(init["bootstrapTokens"][0]["token"], spec.cluster.access.token.reveal());
        assert_eq!(init["bootstrapTokens"][0]["ttl"], "604800s");
        assert_eq!(init["localAPIEndpoint"], serde_json::json!({"advertiseAddress": "10.0.0.1", "bindPort": 6443}));
        assert_eq!(init["nodeRegistration"]["name"], "node-1");
        assert_eq!(cluster["controlPlaneEndpoint"], "10.0.0.1:6443");
        assert_eq!(cluster["kubernetesVersion"], "v1.36.4");
        assert_eq!(cluster["networking"]["podSubnet"], "10.244.0.0/16");
        assert_eq!(
            cluster["apiServer"]["certSANs"],
            serde_json::json!(["10.0.0.1", "node-1", "localhost", "127.0.0.1"])
        );
        assert_eq!(kubelet["cgroupDriver"], "systemd");
        let extra = &init["nodeRegistration"]["kubeletExtraArgs"];
        if api == ConfigApi::V1beta4 {
            assert_eq!(*extra, serde_json::json!([{"name": "node-ip", "value": "10.0.0.1"}]));
            assert_eq!(init["nodeRegistration"]["criSocket"], "unix:///run/containerd/containerd.sock");
        } else {
            assert_eq!(*extra, serde_json::json!({"node-ip": "10.0.0.1"}));
            assert_eq!(init["timeouts"], serde_json::Value::Null);
        }
        if api == ConfigApi::V1beta2 {
            assert_eq!(init["nodeRegistration"]["criSocket"], "/run/containerd/containerd.sock");
        }
    }
}

#[test]
fn kubeadm_is_told_to_join() {
    let spec = spec(|dir| joining(request(dir, "vps-amd64", "rack-7")));
    let plan = plan(&spec);
    let [join] = documents(text(&plan, "/etc/imgbake/kubeadm.yaml")).try_into().unwrap();
    assert_eq!(join["kind"], "JoinConfiguration");
    assert_eq!(
        join["discovery"],
        serde_json::json!({"bootstrapToken": {
            "apiServerEndpoint": "k8s.example.org:6443",
            "token": "abcdef.0123456789abcdef",
            "caCertHashes": [format!("sha256:{}", "0".repeat(64))],
        }})
    );
    assert_eq!(join["nodeRegistration"]["name"], "rack-7");
}

#[test]
fn an_ipv6_endpoint_is_bracketed() {
    let mut spec = spec(|dir| joining(request(dir, "vps-amd64", "rack-7")));
    spec.cluster.endpoint_host = "fd00::1".to_owned();
    let plan = plan(&spec);
    assert!(text(&plan, "/etc/imgbake/node.conf").contains("ENDPOINT='[fd00::1]:6443'\nENDPOINT_HOST='fd00::1'\n"));
    assert!(text(&plan, "/etc/imgbake/kubeadm.yaml").contains("[fd00::1]:6443"));
}

#[test]
fn an_old_kubernetes_gets_the_same_files() {
    let mut old = spec(|dir| joining(request(dir, "vps-amd64", "rack-7")));
    let new = plan(&old);
    old.cluster.kubernetes = Version { major: 1, minor: 20, patch: 2 };
    old.config_api = ConfigApi::V1beta2;
    assert!(plan(&old).root.keys().eq(new.root.keys()));
}

#[test]
fn the_instance_changes_with_what_cloud_init_is_told_and_with_the_node() {
    let first = spec(|dir| request(dir, "pi4", "node-2"));
    let id = |spec: &NodeSpec| match &plan(spec).boot[&"/meta-data".into()] {
        BootEdit::Write(text) => text.clone(),
        edit => panic!("{edit}"),
    };
    assert_eq!(id(&first), id(&NodeSpec { timestamp: 1, ..first.clone() }));
    let mut other = first.clone();
    other.user.ssh_keys.push("ssh-ed25519 AAAA other".to_owned());
    assert_ne!(id(&first), id(&other));
    assert_ne!(id(&first), id(&NodeSpec { seed: Secret::new("00"), ..first.clone() }));
}

#[test]
fn a_server_gets_no_seed_and_a_board_gets_one() {
    let server = plan(&spec(|dir| joining(request(dir, "vps-arm64", "rack-7"))));
    assert!(server.boot.is_empty());
    assert!(!text(&server, "/etc/cloud/cloud.cfg.d/99-imgbake.cfg").contains("datasource"));
    let board = plan(&spec(|dir| request(dir, "pi4", "node-2")));
    let files: Vec<&str> = board.boot.keys().map(GuestPath::as_str).collect();
    assert_eq!(files, ["/cmdline.txt", "/meta-data", "/network-config", "/user-data"]);
}
