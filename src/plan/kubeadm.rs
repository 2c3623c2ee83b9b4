//! kubeadm's configuration: `kubeadm.k8s.io/v1beta2` to `v1beta4`, as its types.go define them.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::yaml;
use crate::spec::{ConfigApi, Network, NodeSpec, Role, TokenEnd};

/// The file for `kubeadm init --config` or `kubeadm join --config`.
pub(super) fn configuration(spec: &NodeSpec) -> String {
    let documents = match spec.role {
        Role::ControlPlane => vec![init(spec), cluster(spec), kubelet()],
        Role::Worker => vec![join(spec)],
    };
    documents.iter().map(yaml::document).collect::<Vec<_>>().join("---\n")
}

/// `host:port`, or `[host]:port` where the host is an IPv6 address.
pub(super) fn endpoint(spec: &NodeSpec) -> String {
    let (host, port) = (&spec.cluster.endpoint_host, spec.cluster.endpoint_port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The node's address, where it is known before it boots.
pub(super) fn address(spec: &NodeSpec) -> Option<String> {
    match &spec.network {
        Network::Static { address, .. } => Some(address.to_string()),
        Network::Dhcp { .. } | Network::Platform => None,
    }
}

fn init(spec: &NodeSpec) -> Value {
    let access = &spec.cluster.access;
    let mut token = json!({
        "token": access.token.reveal(),
        "description": "imgbake",
        "usages": ["signing", "authentication"],
        "groups": ["system:bootstrappers:kubeadm:default-node-token"],
    });
    match &access.token_end {
        TokenEnd::AfterFirstStart(seconds) => token["ttl"] = json!(format!("{seconds}s")),
        TokenEnd::At(time) => token["expires"] = json!(rfc3339(*time)),
        // kubeadm's own default, a day.
        TokenEnd::Unknown => {}
    }
    let mut init = json!({
        "apiVersion": spec.config_api.api_version(),
        "kind": "InitConfiguration",
        "bootstrapTokens": [token],
        "nodeRegistration": node(spec),
    });
    let mut local = json!({ "bindPort": spec.cluster.endpoint_port });
    if let Some(address) = address(spec) {
        local["advertiseAddress"] = json!(address);
    }
    init["localAPIEndpoint"] = local;
    if spec.config_api >= ConfigApi::V1beta4 {
        // A small board from an SD card takes longer than kubeadm's four minutes to start etcd and the API server.
        init["timeouts"] = json!({ "controlPlaneComponentHealthCheck": "15m0s", "kubeletHealthCheck": "8m0s" });
    }
    init
}

fn cluster(spec: &NodeSpec) -> Value {
    let mut names =
        vec![spec.cluster.endpoint_host.clone(), spec.hostname.clone(), "localhost".into(), "127.0.0.1".into()];
    names.extend(address(spec).filter(|address| *address != spec.cluster.endpoint_host));
    let mut api_server = json!({ "certSANs": names });
    if spec.config_api < ConfigApi::V1beta4 {
        api_server["timeoutForControlPlane"] = json!("15m0s");
    }
    json!({
        "apiVersion": spec.config_api.api_version(),
        "kind": "ClusterConfiguration",
        "clusterName": spec.cluster.name,
        "kubernetesVersion": format!("v{}", spec.cluster.kubernetes),
        "controlPlaneEndpoint": endpoint(spec),
        "networking": { "podSubnet": spec.cluster.pod_subnet, "serviceSubnet": spec.cluster.service_subnet },
        "apiServer": api_server,
    })
}

/// For the whole cluster: what containerd's SystemdCgroup says must be said here too.
fn kubelet() -> Value {
    json!({ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "systemd" })
}

fn join(spec: &NodeSpec) -> Value {
    let access = &spec.cluster.access;
    let mut join = json!({
        "apiVersion": spec.config_api.api_version(),
        "kind": "JoinConfiguration",
        "discovery": { "bootstrapToken": {
            "apiServerEndpoint": endpoint(spec),
            "token": access.token.reveal(),
            "caCertHashes": [access.ca_cert_hash],
        } },
        "nodeRegistration": node(spec),
    });
    if spec.config_api >= ConfigApi::V1beta4 {
        join["timeouts"] = json!({ "tlsBootstrap": "10m0s", "kubeletHealthCheck": "8m0s" });
    }
    join
}

/// The node's name is said outright: whatever renames the host, Imager or a provider, the cluster knows it by this one.
fn node(spec: &NodeSpec) -> Value {
    // Before it took URLs, kubeadm took paths.
    let scheme = if spec.config_api == ConfigApi::V1beta2 { "" } else { "unix://" };
    let mut node = json!({
        "name": spec.hostname,
        "criSocket": format!("{scheme}/run/containerd/containerd.sock"),
    });
    if let Some(address) = address(spec) {
        // With an uplink besides the cluster's wire, the kubelet would choose the uplink's.
        node["kubeletExtraArgs"] = if spec.config_api >= ConfigApi::V1beta4 {
            json!([{ "name": "node-ip", "value": address }])
        } else {
            json!({ "node-ip": address })
        };
    }
    node
}

pub(super) fn rfc3339(time: i64) -> String {
    // Years 1 to 9999 only; a token that ends later ends never.
    OffsetDateTime::from_unix_timestamp(time)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}
