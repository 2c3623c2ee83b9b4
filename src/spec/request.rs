//! From what a user asks for to a node with every choice made.

use std::path::PathBuf;

use super::access::{Endpoint, JoinRequest, access, is_label};
use super::catalogue::{self, Wanted};
use super::cluster::{ClusterError, ClusterSecrets, Kind};
use super::error::SpecError;
use super::profile::{self, Link, Profile};
use super::{Cluster, DhcpPool, Network, NodeSpec, Role, Runtime, component, size, user, version};

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
    let secrets = ClusterSecrets::keep(&folder, kind, request.now, random).map_err(|error| place.error(error))?;
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
    let secrets = ClusterSecrets::peek(&folder, kind, request.now).map_err(|error| place.error(error))?;
    with_secrets(request, &place, &secrets)
}

/// The cluster that a request is about.
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
            Some(join) => Ok((Self::Existing(Endpoint::parse(&join.endpoint)?), Kind::Foreign)),
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
    let kubernetes = request.kubernetes.as_deref().map_or(Ok(version::DEFAULT), version::parse)?;
    let firmware = profile::firmware(&profile.firmware, own)?;
    let wanted = Wanted {
        profile: &request.profile,
        architecture: profile.architecture,
        firmware: &firmware,
        runtime: request.runtime,
    };
    let base = catalogue::find(request.base.as_deref().unwrap_or(&profile.base), &wanted, own)?;
    let given_size = request.size.as_deref().map(size::parse).transpose()?;
    Ok(NodeSpec {
        hostname: request.node.clone(),
        role,
        profile: request.profile.clone(),
        architecture: profile.architecture,
        base,
        size: given_size.or(profile.size.map(|size| size.0)),
        reserve: profile.reserve.0,
        cluster: cluster(request, place, &profile, role, kubernetes, secrets)?,
        user: user::user(request.user.as_deref(), &request.ssh_keys)?,
        network: network(&profile.network, role, place),
        runtime: request.runtime,
        defer_kubernetes: defers_kubernetes(&request.defer)?,
        components: component::components(kubernetes, profile.architecture),
        config_api: version::config_api(kubernetes),
        pause_image: version::pause_image(kubernetes),
        containerd_config: version::containerd_config(kubernetes, request.runtime),
        timestamp: request.source_date_epoch.unwrap_or(secrets.created),
        seed: secrets.node_seed(&request.node),
        firmware,
    })
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
    role: Role,
    kubernetes: super::Version,
    secrets: &ClusterSecrets,
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
    let access = match &request.join {
        Some(join) => access(join, request.now)?,
        // A folder of cluster `home` always holds its own secrets; without them the token would be malformed.
        None => secrets.access(role).ok_or(SpecError::Token)?,
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
