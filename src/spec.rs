//! What a node is to be: profile, cluster and the user's flags resolved into one [`NodeSpec`].
//!
//! All of a user's mistakes die here, so that planning cannot fail.

mod access;
mod authority;
mod catalogue;
mod cluster;
mod component;
mod error;
mod profile;
mod request;
mod secret;
mod shelf;
mod size;
mod suggestion;
mod user;
mod version;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;

pub use access::JoinRequest;
pub use catalogue::{BaseSummary, bases};
pub use cluster::ClusterError;
pub use error::{KeyProblem, SpecError, YamlProblem};
pub use profile::{ProfileSummary, profiles};
pub use request::{Request, preview, resolve};
pub use secret::Secret;
pub use shelf::Origin;
pub use size::parse as parse_size;

/// A node with every choice made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeSpec {
    /// The node's name: host name, cloud-init's local-hostname and the Kubernetes node name (RFC 1123 label).
    pub hostname: String,
    /// What the node does in the cluster.
    pub role: Role,
    /// The profile's name, as the user typed it.
    pub profile: String,
    /// The machine's processor architecture.
    pub architecture: Architecture,
    /// How the machine boots.
    pub firmware: Firmware,
    /// The image that is edited.
    pub base: Base,
    /// The whole disk's size in bytes, if the user or the profile fixed one.
    pub size: Option<u64>,
    /// Free space in bytes that the root file system has at least when baked.
    pub reserve: u64,
    /// The cluster it belongs to.
    pub cluster: Cluster,
    /// The account that the caller's SSH keys open.
    pub user: User,
    /// The node's own network configuration.
    pub network: Network,
    /// Where containerd, runc and the CNI plugins come from.
    pub runtime: Runtime,
    /// Kubernetes' programs (kubeadm, kubelet, kubectl and crictl) are fetched by the node's first boot instead of being
    /// baked in.
    pub defer_kubernetes: bool,
    /// The programs that make it a Kubernetes node, for its architecture. Which of them are baked in follows from `runtime`
    /// (`distro` uses none of containerd, runc and the CNI plugins named here) and `defer_kubernetes`.
    pub components: Components,
    /// The API that kubeadm's configuration is written in.
    pub config_api: ConfigApi,
    /// The sandbox image that this Kubernetes version expects, `registry/name:tag`.
    pub pause_image: String,
    /// The version of containerd's configuration file.
    pub containerd_config: ContainerdConfig,
    /// Unix time in seconds that files written by the bake carry and that the node's clock never goes below.
    pub timestamp: i64,
    /// What the node's random seed and ids are derived from: the cluster's secret and the node's name. 32 bytes, hexadecimal.
    pub seed: Secret,
}

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs `kubeadm init`.
    ControlPlane,
    /// Runs `kubeadm join`.
    Worker,
}

/// Processor architectures by Debian's and Kubernetes' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// How a board or platform boots; one YAML file in `firmware/` each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Firmware {
    /// `raspberry-pi`, `grub`, …: the file's name.
    #[serde(default)]
    pub name: String,
    /// Where the kernel's arguments live.
    pub kernel_arguments: KernelArguments,
    /// Arguments Kubernetes needs on this firmware's kernels.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// Where a machine's kernel arguments live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelArguments {
    /// `cmdline.txt` on the FAT partition, below `os_prefix` of `config.txt` where that is set.
    RaspberryPiCmdline,
    /// In the boot loader's own configuration; nothing needs adding.
    BootLoader,
}

/// The image a node is made from, and what imgbake has to know about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Base {
    /// Its name in the catalogue, or the file's path.
    pub name: String,
    /// Where its bytes come from.
    pub source: BaseSource,
    /// Where cloud-init of this image looks for its seed.
    pub seed: SeedLocation,
    /// Its architecture, where that is known without opening it.
    pub architecture: Option<Architecture>,
    /// Its operating system, where that is known without opening it.
    pub system: Option<System>,
    /// How it is packed, where that is known without opening it.
    pub format: Option<BaseFormat>,
}

/// An operating system and its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// Who makes it.
    pub distribution: Distribution,
    /// Its release: `24.04`, `13`, …
    pub release: String,
}

/// The distributions that imgbake knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
    /// Raspberry Pi OS.
    RaspberryPiOs,
}

/// How a base image's file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseFormat {
    /// The disk's bytes as they are.
    Raw,
    /// The disk's bytes in an `.xz`.
    Xz,
    /// QEMU's qcow2.
    Qcow2,
}

/// Where a base image's bytes come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// A vendor's image.
    Vendor(Artifact),
    /// Made from the Debian archive by `imgbake base build NAME`; the name of the recipe.
    Archive(String),
    /// A file of the user's.
    File(std::path::PathBuf),
}

/// Where an image's cloud-init looks for its NoCloud seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedLocation {
    /// In the root of the FAT boot partition.
    BootPartition,
    /// Nowhere: the cloud provider's metadata is to be used, a seed would shadow it.
    Provider,
    /// The image has no cloud-init.
    None,
}

/// The cluster a node belongs to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Kubernetes' version.
    pub kubernetes: Version,
    /// Host of the API server: address or DNS name.
    pub endpoint_host: String,
    /// Port of the API server.
    pub endpoint_port: u16,
    /// Pods' network, CIDR.
    pub pod_subnet: String,
    /// Services' network, CIDR.
    pub service_subnet: String,
    /// How nodes are let in.
    pub access: Access,
}

/// What lets a node into its cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    /// Bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`.
    pub token: Secret,
    /// `sha256:` and the hexadecimal SHA-256 of the CA certificate's SubjectPublicKeyInfo.
    pub ca_cert_hash: String,
    /// When the token ends.
    pub token_end: TokenEnd,
    /// The cluster's certificate authority, where this node brings it along (the control plane that runs `kubeadm init`).
    pub authority: Option<Authority>,
}

/// When a bootstrap token ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenEnd {
    /// That many seconds after the control plane's first start.
    AfterFirstStart(u64),
    /// At that Unix time in seconds.
    At(i64),
    /// Not known here.
    Unknown,
}

/// A certificate authority, PEM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Authority {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS#8.
    pub key: Secret,
}

/// An account with SSH keys and no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Lines for authorized_keys.
    pub ssh_keys: Vec<String>,
}

/// A node's own network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Whatever the platform does (cloud metadata, DHCP fallback).
    Platform,
    /// DHCP on the wire.
    Dhcp {
        /// Interface name.
        interface: String,
    },
    /// A fixed address on the wire; with DHCP and routing for the others if it is the gateway.
    Static {
        /// Interface name.
        interface: String,
        /// The node's address.
        address: Ipv4Addr,
        /// Length of the network prefix.
        prefix: u8,
        /// Other nodes' addresses, given out by DHCP, if this node is the gateway.
        gateway: Option<DhcpPool>,
    },
}

/// Addresses given out by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DhcpPool {
    /// First address, counted from the network's own (RFC-free; systemd.network's PoolOffset).
    pub offset: u32,
    /// How many.
    pub size: u32,
}

/// Where the container runtime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// The projects' own releases, pinned.
    Upstream,
    /// The packages that the base image holds.
    Distro,
}

/// The programs of a Kubernetes node, for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Components {
    /// The program.
    pub kubeadm: Artifact,
    /// The program.
    pub kubelet: Artifact,
    /// The program.
    pub kubectl: Artifact,
    /// A `.tar.gz` that holds just `crictl`.
    pub crictl: Artifact,
    /// A `.tar.gz` that holds `bin/containerd`, `bin/containerd-shim-runc-v2`, `bin/ctr`, … (statically linked).
    pub containerd: Artifact,
    /// The program.
    pub runc: Artifact,
    /// A `.tgz` that holds the plugins without a directory.
    pub cni_plugins: Artifact,
}

/// The API version of kubeadm's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigApi {
    /// Kubernetes up to 1.21.
    V1beta2,
    /// Kubernetes 1.22 to 1.30.
    V1beta3,
    /// Kubernetes from 1.31: extra arguments are lists of name and value.
    V1beta4,
}

impl ConfigApi {
    /// As it stands in a document's `apiVersion`.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1beta2 => "kubeadm.k8s.io/v1beta2",
            Self::V1beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }
}

/// The version of containerd's configuration file, which decides the plugin tables' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerdConfig {
    /// `version = 2`: containerd 1.6 and 1.7; 2.x converts it when it loads.
    V2,
    /// `version = 3`: containerd from 2.0.
    V3,
}

/// A Kubernetes version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u16,
    /// The minor release.
    pub minor: u16,
    /// The patch release.
    pub patch: u16,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
