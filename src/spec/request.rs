//! From what a user asks for to a node with every choice made.

use std::path::PathBuf;

use super::access::{Endpoint, JoinRequest, access, is_label};
use super::catalogue::{self, Wanted};
use super::cluster::{ClusterError, ClusterSecrets, Kind};
use super::error::SpecError;
use super::profile::{self, Link, Profile};
use super::release::Releases;
use super::{
    Access, Base, Cluster, Component, DhcpPool, Firmware, Network, NodeSpec, Role, Runtime, Version, compatibility,
    component, size, user, version,
};
use crate::artifact::Locked;

/// The built-in cluster: its name, and its control plane's address on the wire that it serves.
const HOME: &str = "home";
const GATEWAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);
const PREFIX: u8 = 24;
/// 10.0.0.100 to 10.0.0.199.
const POOL: DhcpPool = DhcpPool { offset: 100, size: 100 };
/// flannel's default and kubeadm's default; neither overlaps with the wire.
const POD_SUBNET: &str = "10.244.0.0/16";
const SERVICE_SUBNET: &str = "10.96.0.0/12";

/// What a user asks for. Texts are as the user gave them; files are read and the clock is asked by the caller.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the profile.
    pub profile: String,
    /// Name of the node.
    pub node: String,
    /// The user's own profiles; own firmware and base images are in `firmware/` and `bases/` below it.
    pub profiles_dir: Option<PathBuf>,
    /// Where clusters' secrets are kept, a folder each.
    pub clusters_dir: PathBuf,
    /// Base image instead of the profile's: a name of the catalogue or a path.
    pub base: Option<String>,
    /// The whole disk's size: `8G`, `8GiB` (binary), `8GB` (decimal) or bytes.
    pub size: Option<String>,
    /// Public keys, or texts of files that hold them.
    pub ssh_keys: Vec<String>,
    /// Name of the account that the keys open; `imgbake` if not given.
    pub user: Option<String>,
    /// Become a worker of this cluster instead of a node of cluster `home`.
    pub join: Option<JoinRequest>,
    /// `HOST` or `HOST:PORT` under which cluster `home`'s nodes reach its control plane; 10.0.0.1 if not given.
    pub endpoint: Option<String>,
    /// Kubernetes' version: `1.36`, `1.36.4` or `v1.36.4`; 1.36.4 if not given.
    pub kubernetes: Option<String>,
    /// containerd's version, in the same forms; that which goes with Kubernetes if not given.
    pub containerd: Option<String>,
    /// runc's version.
    pub runc: Option<String>,
    /// The CNI plugins' version.
    pub cni_plugins: Option<String>,
    /// crictl's version.
    pub crictl: Option<String>,
    /// What the user's lock file says.
    pub locked: Locked,
    /// Where the container runtime comes from.
    pub runtime: Runtime,
    /// What the first boot fetches itself: `kubernetes` or nothing.
    pub defer: Vec<String>,
    /// The present, Unix seconds.
    pub now: i64,
    /// Time stamp of what is written instead of the cluster's creation (`SOURCE_DATE_EPOCH`), Unix seconds.
    pub source_date_epoch: Option<i64>,
}

/// Makes every choice for baking. The cluster's secrets are made and stored if this is its first node; nothing is stored
/// if the request is faulty.
///
/// # Errors
/// The request is faulty, or the cluster's secrets can be neither read nor made.
pub fn resolve(request: &Request, random: &mut dyn FnMut(&mut [u8])) -> Result<NodeSpec, SpecError> {
    preview(request)?;
    let (place, kind) = Place::of(request)?;
    let folder = request.clusters_dir.join(place.folder());
    let secrets = ClusterSecrets::keep(&folder, &kind, request.now, random).map_err(|error| place.error(error))?;
    with_secrets(request, &place, &secrets)
}

/// Makes every choice for showing a plan: writes nothing, and where the cluster's secrets are not made yet, stand-ins are
/// used. An image must not be baked from the result.
///
/// # Errors
/// The request is faulty, or the cluster's secrets are there and cannot be read.
pub fn preview(request: &Request) -> Result<NodeSpec, SpecError> {
    let (place, kind) = Place::of(request)?;
    let folder = request.clusters_dir.join(place.folder());
    let secrets = ClusterSecrets::peek(&folder, &kind, request.now).map_err(|error| place.error(error))?;
    with_secrets(request, &place, &secrets)
}

/// The cluster that a request is about, in its name and place.
enum Place {
    /// The built-in one.
    Home,
    /// The one at this endpoint.
    Existing(Endpoint),
}

impl Place {
    fn of(request: &Request) -> Result<(Self, Kind), SpecError> {
        match &request.join {
            None => Ok((Self::Home, Kind::Own)),
            Some(_) if request.endpoint.is_some() => Err(SpecError::TwoEndpoints),
            Some(join) => {
                let endpoint = Endpoint::parse(&join.endpoint)?;
                Ok((Self::Existing(endpoint), Kind::Foreign(access(join, request.now)?)))
            }
        }
    }

    /// The cluster's name.
    fn name(&self) -> String {
        match self {
            Self::Home => HOME.to_owned(),
            Self::Existing(Endpoint { host, port }) => format!("{host}:{port}"),
        }
    }

    /// The name of its folder, which every file system takes.
    fn folder(&self) -> String {
        match self {
            Self::Home => HOME.to_owned(),
            Self::Existing(Endpoint { host, port }) => format!("join-{}-{port}", host.replace(':', "_")).to_lowercase(),
        }
    }

    fn error(&self, source: ClusterError) -> SpecError {
        SpecError::Cluster { cluster: self.name(), source }
    }
}

fn with_secrets(request: &Request, place: &Place, secrets: &ClusterSecrets) -> Result<NodeSpec, SpecError> {
    let own = request.profiles_dir.as_deref();
    let profile = profile::find(&request.profile, own)?;
    let role = role(&request.node, place)?;
    if role == Role::ControlPlane && !profile.control_plane {
        return Err(SpecError::TooSmall { profile: request.profile.clone(), node: request.node.clone() });
    }
    let (releases, choices) = Releases::choose(&asked(request)?, &request.locked)?;
    let kubernetes = releases.kubernetes;
    let firmware = profile::firmware(&profile.firmware, own)?;
    let wanted = Wanted {
        profile: &request.profile,
        architecture: profile.architecture,
        firmware: &firmware,
        runtime: request.runtime,
    };
    let base = catalogue::find(request.base.as_deref().unwrap_or(&profile.base), &wanted, own)?;
    let warnings = warnings(request, releases, &base, &firmware)?;
    let given_size = request.size.as_deref().map(size::parse).transpose()?;
    Ok(NodeSpec {
        hostname: request.node.clone(),
        role,
        profile: request.profile.clone(),
        architecture: profile.architecture,
        base,
        size: given_size.or(profile.size.map(|size| size.0)),
        reserve: profile.reserve.0,
        cluster: cluster(request, place, &profile, kubernetes, secrets.access(role))?,
        user: user::user(request.user.as_deref(), &request.ssh_keys)?,
        network: network(&profile.network, role, place),
        runtime: request.runtime,
        defer_kubernetes: defers_kubernetes(&request.defer)?,
        components: component::components(releases, profile.architecture, &request.locked),
        choices,
        warnings,
        config_api: compatibility::config_api(kubernetes)?,
        pause_image: version::pause_image(kubernetes),
        containerd_config: version::containerd_config(releases.containerd, request.runtime),
        timestamp: request.source_date_epoch.unwrap_or(secrets.created),
        seed: secrets.node_seed(&request.node),
        firmware,
    })
}

/// The versions that are asked for. Those of what comes with the base image cannot be.
fn asked(request: &Request) -> Result<[(Component, Option<&str>); 5], SpecError> {
    let asked = [
        (Component::Kubernetes, request.kubernetes.as_deref()),
        (Component::Containerd, request.containerd.as_deref()),
        (Component::Runc, request.runc.as_deref()),
        (Component::CniPlugins, request.cni_plugins.as_deref()),
        (Component::Crictl, request.crictl.as_deref()),
    ];
    let is_packaged = |component| {
        request.runtime == Runtime::Distro && !matches!(component, Component::Kubernetes | Component::Crictl)
    };
    match asked.iter().find(|(component, text)| text.is_some() && is_packaged(*component)) {
        Some((component, _)) => Err(SpecError::PackagedRelease(*component)),
        None => Ok(asked),
    }
}

/// Refuses what does not boot a cluster together; answers what its makers do not recommend.
fn warnings(request: &Request, releases: Releases, base: &Base, firmware: &Firmware) -> Result<Vec<String>, SpecError> {
    let containerd: Option<Version> = match request.runtime {
        Runtime::Upstream => Some(releases.containerd),
        Runtime::Distro => base.system.as_ref().and_then(compatibility::packaged),
    };
    let mut warnings = compatibility::with_cgroups(releases.kubernetes, base.system.as_ref(), &firmware.arguments)?;
    if let Some(containerd) = containerd {
        warnings.extend(compatibility::with_containerd(releases.kubernetes, containerd)?);
    }
    Ok(warnings)
}

/// What the node does. In cluster `home` that shows in the name.
fn role(node: &str, place: &Place) -> Result<Role, SpecError> {
    if !is_label(node) {
        return Err(SpecError::NodeName(node.to_owned()));
    }
    let number = node.strip_prefix("node-").filter(|digits| !digits.starts_with('0'));
    match (place, number.and_then(|digits| digits.parse::<u16>().ok())) {
        (Place::Existing(_), _) => Ok(Role::Worker),
        (Place::Home, Some(1)) => Ok(Role::ControlPlane),
        (Place::Home, Some(_)) => Ok(Role::Worker),
        (Place::Home, None) => {
            let digits = node.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u16>().ok();
            // Another name altogether is no slip of the pen.
            let digits = digits.filter(|_| node.starts_with("no"));
            let suggestion = digits.filter(|number| *number > 0).map(|number| format!("node-{number}"));
            Err(SpecError::UnknownNode { name: node.to_owned(), suggestion })
        }
    }
}

/// The cluster as the node knows it.
fn cluster(
    request: &Request,
    place: &Place,
    profile: &Profile,
    kubernetes: super::Version,
    access: Access,
) -> Result<Cluster, SpecError> {
    let endpoint = match (place, &request.endpoint, &profile.network) {
        (Place::Existing(endpoint), _, _) => endpoint.clone(),
        (Place::Home, Some(text), _) => Endpoint::parse(text)?,
        (Place::Home, None, Link::Wire(_)) => Endpoint::parse(&GATEWAY.to_string())?,
        // A machine elsewhere cannot reach the wire at home, and as a control plane it has no address known now.
        (Place::Home, None, Link::Platform) => {
            return Err(SpecError::NoEndpoint { profile: request.profile.clone() });
        }
    };
    Ok(Cluster {
        name: place.name(),
        kubernetes,
        endpoint_host: endpoint.host,
        endpoint_port: endpoint.port,
        pod_subnet: POD_SUBNET.to_owned(),
        service_subnet: SERVICE_SUBNET.to_owned(),
        access,
    })
}

/// The node's own network.
fn network(link: &Link, role: Role, place: &Place) -> Network {
    match (link, role, place) {
        (Link::Platform, _, _) => Network::Platform,
        (Link::Wire(interface), Role::ControlPlane, Place::Home) => {
            Network::Static { interface: interface.clone(), address: GATEWAY, prefix: PREFIX, gateway: Some(POOL) }
        }
        (Link::Wire(interface), _, _) => Network::Dhcp { interface: interface.clone() },
    }
}

/// Whether Kubernetes' programs are left to the first boot.
fn defers_kubernetes(defer: &[String]) -> Result<bool, SpecError> {
    match defer.iter().find(|name| *name != "kubernetes") {
        Some(name) => Err(SpecError::Defer(name.clone())),
        None => Ok(!defer.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        Architecture, BaseSource, ConfigApi, ContainerdConfig, KernelArguments, Secret, SeedLocation, TokenEnd, User,
    };

    const NOW: i64 = 1_796_000_000;

    /// A request in a folder of its own.
    struct Scene {
        folder: tempfile::TempDir,
        request: Request,
    }

    impl Scene {
        fn new(profile: &str, node: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let request = Request {
                profile: profile.to_owned(),
                node: node.to_owned(),
                profiles_dir: None,
                clusters_dir: folder.path().join("clusters"),
                base: None,
                size: None,
                ssh_keys: Vec::new(),
                user: None,
                join: None,
                endpoint: None,
                kubernetes: None,
                containerd: None,
                runc: None,
                cni_plugins: None,
                crictl: None,
                locked: Locked::default(),
                runtime: Runtime::Upstream,
                defer: Vec::new(),
                now: NOW,
                source_date_epoch: None,
            };
            Self { folder, request }
        }

        fn joining(profile: &str, node: &str) -> Self {
            let mut scene = Self::new(profile, node);
            scene.request.join = Some(JoinRequest {
                endpoint: "k8s.example.org:6443".to_owned(),
                token: Secret::new("abcdef.0123456789abcdef"),
                ca_cert_hash: format!("sha256:{}", "0".repeat(64)),
                token_expires: None,
            });
            scene
        }

        fn resolve(&self) -> NodeSpec {
            let mut byte = 0u8;
            let mut random = |bytes: &mut [u8]| {
                for slot in bytes {
                    *slot = byte;
                    byte = byte.wrapping_add(11);
                }
            };
            resolve(&self.request, &mut random).unwrap()
        }

        fn refused(&self) -> (String, String) {
            let error = resolve(&self.request, &mut |_| panic!("a faulty request makes no secrets")).unwrap_err();
            assert!(!self.folder.path().join("clusters").exists(), "a faulty request stores nothing");
            assert_eq!(preview(&self.request).unwrap_err().to_string(), error.to_string());
            (error.to_string(), error.hint().unwrap())
        }
    }

    #[test]
    fn the_control_plane_of_the_built_in_cluster() {
        let spec = Scene::new("pi4", "node-1").resolve();
        assert_eq!(spec.role, Role::ControlPlane);
        assert_eq!(spec.architecture, Architecture::Arm64);
        assert_eq!(spec.base.name, "ubuntu-24.04-rpi");
        assert_eq!(spec.base.seed, SeedLocation::BootPartition);
        assert_eq!(spec.firmware.kernel_arguments, KernelArguments::RaspberryPiCmdline);
        let network = Network::Static {
            interface: "eth0".to_owned(),
            address: GATEWAY,
            prefix: 24,
            gateway: Some(DhcpPool { offset: 100, size: 100 }),
        };
        assert_eq!(spec.network, network);
        assert_eq!(spec.cluster.name, "home");
        assert_eq!((spec.cluster.endpoint_host.as_str(), spec.cluster.endpoint_port), ("10.0.0.1", 6443));
        assert_eq!(spec.cluster.kubernetes.to_string(), "1.36.4");
        assert_eq!(spec.cluster.access.token_end, TokenEnd::AfterFirstStart(604_800));
        assert!(spec.cluster.access.authority.is_some());
        assert_eq!((spec.config_api, spec.containerd_config), (ConfigApi::V1beta4, ContainerdConfig::V3));
        assert_eq!((spec.size, spec.reserve, spec.timestamp), (None, 1 << 30, NOW));
        assert_eq!(spec.user, User { name: "imgbake".to_owned(), ssh_keys: Vec::new() });
        assert!(!spec.defer_kubernetes);
    }

    #[test]
    fn every_profile_makes_a_worker() {
        for profile in ["pi3", "pi4", "pi5"] {
            let spec = Scene::new(profile, "node-2").resolve();
            assert_eq!(spec.network, Network::Dhcp { interface: "eth0".to_owned() }, "{profile}");
            assert_eq!(spec.role, Role::Worker);
            assert_eq!(spec.cluster.access.authority, None);
        }
        for (profile, architecture) in [("vps-amd64", Architecture::Amd64), ("vps-arm64", Architecture::Arm64)] {
            let spec = Scene::joining(profile, "anything-9").resolve();
            assert_eq!(spec.network, Network::Platform);
            assert_eq!(spec.architecture, architecture);
            assert_eq!(spec.base.name, format!("debian-13-genericcloud-{architecture}"));
            assert_eq!(spec.firmware.kernel_arguments, KernelArguments::BootLoader);
            assert_eq!(spec.components.runc.url.rsplit('.').next().unwrap(), architecture.to_string());
        }
    }

    #[test]
    fn the_nodes_of_a_cluster_share_its_token_and_hash_only() {
        let mut scene = Scene::new("pi4", "node-1");
        let first = scene.resolve();
        scene.request.node = "node-2".to_owned();
        let second = scene.resolve();
        assert_eq!(first.cluster.access.token.reveal(), second.cluster.access.token.reveal());
        assert_eq!(first.cluster.access.ca_cert_hash, second.cluster.access.ca_cert_hash);
        assert_ne!(first.seed.reveal(), second.seed.reveal());
    }

    #[test]
    fn the_same_request_gives_the_same_node_at_any_time() {
        for mut scene in [Scene::new("pi4", "node-3"), Scene::joining("pi4", "node-3")] {
            let spec = scene.resolve();
            scene.request.now += 1_000_000;
            assert_eq!(scene.resolve(), spec);
            assert_eq!(preview(&scene.request).unwrap(), spec);
            scene.request.source_date_epoch = Some(1);
            assert_eq!(scene.resolve(), NodeSpec { timestamp: 1, ..spec });
        }
    }

    #[test]
    fn a_preview_before_the_first_bake_stores_nothing() {
        let scene = Scene::new("pi4", "node-1");
        let spec = preview(&scene.request).unwrap();
        assert_eq!(spec.cluster.access.ca_cert_hash, "(made on first bake)");
        assert_eq!(spec.hostname, "node-1");
        assert!(!scene.folder.path().join("clusters").exists());
    }

    #[test]
    fn a_worker_of_an_existing_cluster() {
        let spec = Scene::joining("pi4", "rack-7").resolve();
        assert_eq!(spec.cluster.name, "k8s.example.org:6443");
        assert_eq!((spec.cluster.endpoint_host.as_str(), spec.cluster.endpoint_port), ("k8s.example.org", 6443));
        assert_eq!(spec.role, Role::Worker);
        assert_eq!(spec.network, Network::Dhcp { interface: "eth0".to_owned() });
        assert_eq!(spec.cluster.access.token.reveal(), "abcdef.0123456789abcdef");
        assert_eq!(spec.cluster.access.token_end, TokenEnd::Unknown);
        let shown = format!("{spec:?}{}", serde_json::to_string(&spec).unwrap());
        assert!(!shown.contains("0123456789abcdef\"") && !shown.contains("abcdef.0123456789abcdef"));
    }

    #[test]
    fn a_worker_called_node_1_of_an_existing_cluster_is_a_worker() {
        assert_eq!(Scene::joining("pi3", "node-1").resolve().role, Role::Worker);
    }

    #[test]
    fn no_secret_shows_in_a_resolved_node() {
        let spec = Scene::new("pi4", "node-1").resolve();
        let shown = format!("{spec:?}{}", serde_json::to_string(&spec).unwrap());
        let access = &spec.cluster.access;
        for secret in [&access.token, &access.authority.as_ref().unwrap().key, &spec.seed] {
            assert!(!shown.contains(secret.reveal().lines().last().unwrap()));
        }
    }

    #[test]
    fn a_server_elsewhere_needs_an_endpoint_that_it_reaches() {
        let mut scene = Scene::new("vps-amd64", "node-1");
        let message = "profile `vps-amd64` does not reach cluster `home` at 10.0.0.1: it is on its platform's network";
        let hint = "`--endpoint HOST`, the same for every node, names the address or DNS name under which all nodes reach \
                    `node-1`; or join an existing cluster with `--join`";
        assert_eq!(scene.refused(), (message.to_owned(), hint.to_owned()));
        scene.request.endpoint = Some("k8s.example.org".to_owned());
        let spec = scene.resolve();
        assert_eq!((spec.role, spec.network), (Role::ControlPlane, Network::Platform));
        assert_eq!((spec.cluster.endpoint_host.as_str(), spec.cluster.endpoint_port), ("k8s.example.org", 6443));
    }

    #[test]
    fn flags_override_the_profile() {
        let mut scene = Scene::new("pi4", "node-2");
        scene.request.base = Some("debian-13-rpi".to_owned());
        scene.request.size = Some("8GB".to_owned());
        scene.request.user = Some("me".to_owned());
        scene.request.kubernetes = Some("v1.30".to_owned());
        scene.request.runtime = Runtime::Distro;
        scene.request.defer = vec!["kubernetes".to_owned()];
        let spec = scene.resolve();
        assert_eq!(spec.base.source, BaseSource::Archive("debian-13-rpi-containerd".to_owned()));
        assert_eq!((spec.size, spec.user.name.as_str()), (Some(8_000_000_000), "me"));
        assert_eq!((spec.cluster.kubernetes.to_string(), spec.config_api), ("1.30.14".to_owned(), ConfigApi::V1beta3));
        assert_eq!((spec.runtime, spec.containerd_config), (Runtime::Distro, ContainerdConfig::V2));
        assert!(spec.defer_kubernetes);
    }

    #[test]
    fn an_unknown_node_of_the_built_in_cluster() {
        let nodes = "its nodes are `node-1` (control plane and gateway) and `node-2`, `node-3`, … (workers); a worker of \
                     another cluster may have any name, see `--join`";
        for (name, meant) in [
            ("nod-2", "did you mean `node-2`? "),
            ("node2", "did you mean `node-2`? "),
            ("node-02", "did you mean `node-2`? "),
            ("node-0", ""),
            ("rack", ""),
        ] {
            let message = format!("cluster `home` has no node `{name}`");
            assert_eq!(Scene::new("pi4", name).refused(), (message, format!("{meant}{nodes}")));
        }
    }

    #[test]
    fn a_node_name_is_a_host_name() {
        for name in ["", "Node-2", "node_2", "-node", "node-", "a.b", &"a".repeat(64)] {
            let message = format!("`{name}` is not a node name");
            let hint = "use up to 63 lower case letters, digits and `-`, neither first nor last a `-`".to_owned();
            assert_eq!(Scene::joining("pi4", name).refused(), (message, hint));
        }
    }

    #[test]
    fn a_small_board_is_no_control_plane() {
        let message = "profile `pi3` cannot be a control plane, which `node-1` of cluster `home` is".to_owned();
        let hint =
            "kubeadm wants 1700 MB of memory for a control plane; bake it for `pi4` or `pi5`, and this board as a \
                    worker, such as `node-2`"
                .to_owned();
        assert_eq!(Scene::new("pi3", "node-1").refused(), (message, hint));
    }

    #[test]
    fn only_kubernetes_can_be_deferred() {
        let mut scene = Scene::new("pi4", "node-2");
        scene.request.defer = vec!["kubernetes".to_owned(), "containerd".to_owned()];
        let message = "`containerd` cannot be deferred to the first boot".to_owned();
        let hint = "only `kubernetes` can: kubeadm, kubelet, kubectl and crictl".to_owned();
        assert_eq!(scene.refused(), (message, hint));
    }

    #[test]
    fn one_endpoint_is_enough() {
        let mut scene = Scene::joining("pi4", "node-2");
        scene.request.endpoint = Some("10.0.0.9".to_owned());
        let message = "an endpoint was given twice: for cluster `home` and for the cluster to join".to_owned();
        assert_eq!(scene.refused(), (message, "give either `--endpoint` or `--join`".to_owned()));
    }

    #[test]
    fn clusters_that_cannot_be_read_are_named() {
        let scene = Scene::new("pi4", "node-2");
        scene.resolve();
        std::fs::write(scene.request.clusters_dir.join("home/token"), "nonsense").unwrap();
        let error = preview(&scene.request).unwrap_err();
        assert_eq!(error.to_string(), "the secrets of cluster `home` cannot be had");
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .ends_with("token` is damaged: it does not hold a bootstrap token")
        );
        assert!(error.hint().unwrap().starts_with("restore `"));
    }

    #[test]
    fn folders_of_existing_clusters() {
        for (endpoint, folder) in
            [("K8s.example.org", "join-k8s.example.org-6443"), ("[fd00::1]:7443", "join-fd00__1-7443")]
        {
            assert_eq!(Place::Existing(Endpoint::parse(endpoint).unwrap()).folder(), folder);
        }
    }

    proptest::proptest! {
        /// Whatever the user types: an answer, twice the same, and the token in none of it.
        #[test]
        fn any_text_gets_an_answer_without_secrets(
            node in "[a-z0-9-]{0,8}|node-[0-9]{1,3}|\\PC{0,8}",
            base in proptest::option::of("debian-1[0-9]-(rpi|cloud-arm64)|\\PC{0,12}"),
            size in proptest::option::of("[0-9]{1,6}(G|GB|MiB)?|\\PC{0,8}"),
            kubernetes in proptest::option::of("v?1\\.[0-9]{1,2}(\\.[0-9]{1,2})?|\\PC{0,8}"),
            key in "ssh-ed25519 [A-Za-z0-9+/=]{0,80}|\\PC{0,40}",
            endpoint in "[a-z0-9.:]{0,20}|\\PC{0,12}",
            hash in "sha256:[0-9a-f]{63,64}",
            expires in proptest::option::of("20[0-9]{2}-0[1-9]-01T00:00:00Z|\\PC{0,12}"),
            token in "[a-z]{6}\\.zzzzzzzzzzzzzzz[a-zA-Z]",
        ) {
            let mut scene = Scene::joining("pi4", &node);
            let request = &mut scene.request;
            (request.base, request.size, request.kubernetes, request.ssh_keys) = (base, size, kubernetes, vec![key]);
            request.join = Some(JoinRequest { endpoint, token: Secret::new(token), ca_cert_hash: hash, token_expires: expires });
            let answer = || match preview(request) {
                Ok(spec) => format!("{spec:?}{}", serde_json::to_string(&spec).unwrap()),
                Err(error) => format!("{error}\n{error:?}\n{:?}", error.hint()),
            };
            proptest::prop_assert_eq!(answer(), answer());
            proptest::prop_assert!(!answer().contains("zzzzzzzzzzzzzzz"));
        }
    }
}
