//! What can be wrong with what a user asked for.

use std::path::PathBuf;

use super::cluster::ClusterError;
use super::compatibility::Incompatible;
use super::{Architecture, Component};

/// A request that cannot be resolved into a node.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No document of that name.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// `profile`, `base image` or `firmware`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
        /// All names there are.
        known: Vec<String>,
    },
    /// A profile is called like a command.
    #[error("`{0}` cannot be a profile's name: it is a command of imgbake")]
    ReservedProfile(String),
    /// A file or folder of the user's cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A document is malformed.
    #[error("{kind} `{file}` is malformed at line {line}, column {column}")]
    Yaml {
        /// `profile`, `base image` or `firmware`.
        kind: &'static str,
        /// The file, or the name of a built-in document.
        file: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What the parser says.
        source: YamlProblem,
    },
    /// A base image's document has not exactly one of two keys.
    #[error("base image `{name}` needs exactly one of `{keys}`")]
    BaseEntry {
        /// The base image.
        name: String,
        /// The keys, with the inner backticks.
        keys: &'static str,
    },
    /// Not a node of the built-in cluster.
    #[error("cluster `home` has no node `{name}`")]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// Not a host name.
    #[error("`{0}` is not a node name")]
    NodeName(String),
    /// The profile is too small for a control plane.
    #[error("profile `{profile}` cannot be a control plane, which `{node}` of cluster `home` is")]
    TooSmall {
        /// The profile.
        profile: String,
        /// The node.
        node: String,
    },
    /// A node outside the home network needs to know where the API server is.
    #[error("profile `{profile}` does not reach cluster `home` at 10.0.0.1: it is on its platform's network")]
    NoEndpoint {
        /// The profile.
        profile: String,
    },
    /// Both ways to name the API server were used.
    #[error("an endpoint was given twice: for cluster `home` and for the cluster to join")]
    TwoEndpoints,
    /// Not an API server's address.
    #[error("`{0}` is not the address of an API server")]
    Endpoint(String),
    /// The join token is malformed. It is not shown.
    #[error("the join token is malformed")]
    Token,
    /// The join token is too old.
    #[error("the join token expired at {end}")]
    TokenExpired {
        /// As given.
        end: String,
    },
    /// The token's end is no time.
    #[error("`{0}` is not a time")]
    TokenEnd(String),
    /// The CA certificate's hash is malformed. It is not shown: it may be a misplaced token.
    #[error("the CA certificate's hash is malformed")]
    CaCertHash,
    /// Not a Kubernetes version.
    #[error("`{0}` is not a Kubernetes version")]
    Version(String),
    /// A version nobody here knows.
    #[error("imgbake does not know how to configure Kubernetes `{version}`")]
    UnsupportedVersion {
        /// As given.
        version: String,
        /// The oldest known minor release.
        oldest: u16,
        /// The newest known minor release.
        newest: u16,
    },
    /// Not a version.
    #[error("`{text}` is not a version of {}", component.name())]
    Release {
        /// Of what.
        component: Component,
        /// As given.
        text: String,
    },
    /// A release nobody here knows.
    #[error("imgbake does not know {} `{version}`", component.name())]
    UnknownRelease {
        /// Of what.
        component: Component,
        /// As given.
        version: String,
        /// The nearest known minor releases.
        nearest: Vec<String>,
    },
    /// A version was asked for of what the base image's packages bring.
    #[error("`--{name}` says a version, but `--runtime distro` takes the one that the base image has", name = .0.name())]
    PackagedRelease(Component),
    /// Versions that do not make a node together.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// Something else than `kubernetes` was to be deferred.
    #[error("`{0}` cannot be deferred to the first boot")]
    Defer(String),
    /// Not a size.
    #[error("`{0}` is not a size")]
    Size(String),
    /// Not an account's name.
    #[error("`{0}` is not a user name")]
    UserName(String),
    /// An account that is there already.
    #[error("`{0}` is a system account")]
    UserTaken(String),
    /// An SSH key that is none. It is not shown.
    #[error("SSH key {number} {problem}")]
    SshKey {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// Base and profile are for different processors.
    #[error("base image `{base}` is for {base_architecture}, profile `{profile}` for {profile_architecture}")]
    Architecture {
        /// The base image.
        base: String,
        /// Its architecture.
        base_architecture: Architecture,
        /// The profile.
        profile: String,
        /// Its architecture.
        profile_architecture: Architecture,
    },
    /// The base does not boot on the profile's boards.
    #[error("base image `{base}` boots by `{base_firmware}`, profile `{profile}` by `{profile_firmware}`")]
    Firmware {
        /// The base image.
        base: String,
        /// Its firmware.
        base_firmware: String,
        /// The profile.
        profile: String,
        /// Its firmware.
        profile_firmware: String,
    },
    /// The base has no container runtime of its own.
    #[error("base image `{base}` holds no container runtime of its distribution")]
    NoRuntime {
        /// The base image.
        base: String,
    },
    /// The cluster's secrets cannot be had.
    #[error("the secrets of cluster `{cluster}` cannot be had")]
    Cluster {
        /// The cluster.
        cluster: String,
        /// Why.
        source: ClusterError,
    },
}

/// What is wrong with an SSH key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It is a private key.
    #[error("is a private key")]
    Private,
    /// There is none.
    #[error("is empty")]
    Empty,
    /// Unknown type.
    #[error("is not a public key: its type is none that OpenSSH accepts")]
    Type,
    /// The body is not base64.
    #[error("is not a public key: its second word is not base64")]
    Base64,
    /// The body is not of the type it should be.
    #[error("is not a public key: its body is cut short or of another type")]
    Body,
    /// Something that does not belong into a line of text.
    #[error("is not a public key: it holds a control character")]
    ControlCharacter,
}

/// What the YAML parser says, without the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct YamlProblem(String);

impl From<&serde_saphyr::Error> for YamlProblem {
    fn from(error: &serde_saphyr::Error) -> Self {
        let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        // The place is told by whoever holds this.
        Self(text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned())
    }
}

impl SpecError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown { kind, suggestion, known, .. } => unknown(kind, suggestion.as_deref(), known),
            Self::UnknownNode { suggestion, .. } => {
                let meant = suggestion.as_ref().map_or_else(String::new, |name| format!("did you mean `{name}`? "));
                format!(
                    "{meant}its nodes are `node-1` (control plane and gateway) and `node-2`, `node-3`, … (workers); \
                     a worker of another cluster may have any name, see `--join`"
                )
            }
            Self::ReservedProfile(_) => "give the profile another name".to_owned(),
            Self::NodeName(_) => "use up to 63 lower case letters, digits and `-`, neither first nor last a `-`".to_owned(),
            Self::TooSmall { .. } => {
                "kubeadm wants 1700 MB of memory for a control plane; bake it for `pi4` or `pi5`, and this board as a worker, \
                 such as `node-2`"
                    .to_owned()
            }
            Self::NoEndpoint { .. } => "`--endpoint HOST`, the same for every node, names the address or DNS name under \
                 which all nodes reach `node-1`; or join an existing cluster with `--join`"
                .to_owned(),
            Self::TwoEndpoints => "give either `--endpoint` or `--join`".to_owned(),
            Self::Endpoint(_) => {
                "give HOST:PORT, such as `10.0.0.1:6443`, `k8s.example.org:6443` or `[fd00::1]:6443`".to_owned()
            }
            Self::Token => "a token is 6 and 16 lower case letters or digits with a dot between; \
                 `kubeadm token create` on the control plane makes one"
                .to_owned(),
            Self::TokenExpired { .. } => {
                "`kubeadm token create --ttl 72h --print-join-command` on the control plane makes a new one".to_owned()
            }
            Self::TokenEnd(_) => "give the token's end as RFC 3339 says, such as `2026-12-01T00:00:00Z`".to_owned(),
            Self::CaCertHash => "it is `sha256:` and 64 hexadecimal digits; \
                 `kubeadm token create --print-join-command` on the control plane shows it"
                .to_owned(),
            Self::Version(_) => "give a release, such as `1.36.4`, or a minor release, such as `1.36`".to_owned(),
            Self::UnsupportedVersion { oldest, newest, .. } => format!("it knows the releases from 1.{oldest} to 1.{newest}"),
            Self::Release { .. } => "give a release, such as `1.4.3`, or a minor release, such as `1.4`".to_owned(),
            Self::UnknownRelease { nearest, .. } => format!("the nearest that it knows are {}", nearest.join(", ")),
            Self::PackagedRelease(component) => format!("leave out `--{}` or `--runtime distro`", component.name()),
            Self::Incompatible(error) => error.hint(),
            Self::Defer(_) => "only `kubernetes` can: kubeadm, kubelet, kubectl and crictl".to_owned(),
            Self::Size(_) => {
                "give a whole number with a unit: `8G` or `8GiB` (8·2^30 bytes), `8GB` (8·10^9 bytes), or bytes".to_owned()
            }
            Self::UserName(_) => {
                "use up to 32 lower case letters, digits, `-` and `_`, beginning with a letter or `_`".to_owned()
            }
            Self::UserTaken(_) => "choose another user name; the account gets sudo rights".to_owned(),
            Self::SshKey { problem: KeyProblem::Private, .. } => {
                "give the public key: the file that ends in `.pub`".to_owned()
            }
            Self::SshKey { .. } => {
                "a public key is one line: type, base64 text, comment, such as `ssh-ed25519 AAAA… me@laptop`".to_owned()
            }
            Self::Architecture { .. } | Self::Firmware { .. } => {
                "choose a base image or a profile that go together; without `--base` the profile's own is used".to_owned()
            }
            Self::NoRuntime { .. } => {
                "bake the upstream runtime (leave out `--runtime distro`), or use a base from the Debian archive, such as \
                 `debian-13-rpi` or `debian-13-cloud-amd64`"
                    .to_owned()
            }
            Self::Cluster { source, .. } => return source.hint(),
            Self::Read { .. } | Self::Yaml { .. } | Self::BaseEntry { .. } => return None,
        };
        Some(hint)
    }
}

/// The hint for a name that is not there.
fn unknown(kind: &str, suggestion: Option<&str>, known: &[String]) -> String {
    match suggestion {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the {kind}s there are: {}", known.join(", ")).replace("firmwares", "firmware"),
    }
}
