//! The command line as clap sees it.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// The words before the options of `imgbake --help`.
const ABOUT: &str = "\
Bakes bootable Kubernetes node images.

Takes a stock Ubuntu, Debian or Raspberry Pi OS image and writes a disk image that boots straight into a \
cluster made by kubeadm: container runtime, kubelet, kubeadm, network, SSH keys and the join itself are \
inside. The image is edited as bytes: no root, no mount, no container, no virtual machine.";

/// A bake has no command word, which clap cannot tell from two arguments that may be left out.
const USAGE: &str = "imgbake [OPTIONS] <PROFILE> <NODE>\n       imgbake <COMMAND>";

/// The words behind them.
const EXAMPLES: &str = "\
Examples:
  A cluster of Raspberry Pis on one switch; node-1 is control plane, gateway and DHCP server:
    imgbake pi4 node-1 > node-1.img
    imgbake pi4 node-2 > node-2.img
  Flash each image with Raspberry Pi Imager and switch the boards on: node-2 joins node-1 by itself.

  A cheap server joins a cluster that exists (`kubeadm token create --print-join-command` shows the values):
    imgbake vps-amd64 edge-1 --join 203.0.113.7:6443 --token-file token --ca-cert-hash sha256:… -o edge-1.img

  What would be done, with no disk or network needed:
    imgbake plan pi4 node-2

A profile names a board or platform (`imgbake profiles`). Keys and the join token of the built-in cluster \
`home` are made on first use below the configuration folder and reused by later bakes. Whoever holds an \
image that has not joined yet can join in its place: keep images as safe as keys.";

#[derive(Debug, Parser)]
#[command(version, about = ABOUT, after_help = EXAMPLES, override_usage = USAGE, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Board or platform: pi3, pi4, pi5, vps-amd64, vps-arm64 or a profile of your own
    pub profile: Option<String>,
    /// The node's name; in the built-in cluster `home`: node-1 (control plane and gateway), node-2, node-3 …
    pub node: Option<String>,
    #[command(flatten)]
    pub options: NodeOptions,
    #[command(flatten)]
    pub output: OutputArguments,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what a bake would do; needs no disk, network or root
    Plan {
        /// Board or platform, as in a bake
        profile: String,
        /// The node's name, as in a bake
        node: String,
        #[command(flatten)]
        options: Box<NodeOptions>,
        /// What a bake would take beside; of it only the lock file changes the plan
        #[command(flatten)]
        output: Box<OutputArguments>,
        /// Print the plan as JSON
        #[arg(long)]
        json: bool,
    },
    /// Get all that a bake needs from the network, into the cache or a folder for a site without network
    ///
    /// Prints the files as `sha256sum -c` reads them.
    Fetch {
        /// Board or platform, as in a bake
        profile: String,
        /// The node's name, as in a bake
        node: String,
        #[command(flatten)]
        options: Box<NodeOptions>,
        #[command(flatten)]
        sources: Box<SourceArguments>,
        #[command(flatten)]
        archive: ArchiveArguments,
        /// Collect the files here, for `--offline --mirror DIR --lock DIR/imgbake.lock`; may hold others already
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Say nothing but notes, warnings and errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// Resolve what a node is made of and write it down in imgbake.lock; several nodes add to one file
    Lock {
        /// Board or platform, as in a bake
        profile: String,
        /// The node's name, as in a bake
        node: Option<String>,
        /// Resolve anew what is locked: all that this node needs, or one component or base image by name
        #[arg(long, value_name = "NAME", num_args = 0..=1)]
        update: Option<Option<String>>,
        #[command(flatten)]
        options: Box<NodeOptions>,
        #[command(flatten)]
        sources: Box<SourceArguments>,
        /// Say nothing but notes, warnings and errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the built-in profiles and your own
    Profiles {
        #[command(flatten)]
        places: ConfigArgument,
    },
    /// Check an image and say what is wrong with it; changes nothing
    Verify {
        /// The image: a disk with partitions or a bare file system, raw or .xz
        image: PathBuf,
        /// Check the ext2, ext3 and ext4 file systems: every structure, as `e2fsck -fn` does
        #[arg(long, required = true)]
        fs: bool,
        #[command(flatten)]
        cache: CacheArgument,
        /// Say nothing but what is wrong
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the keys that publishers' signatures are checked by, with their fingerprints
    Keys {
        #[command(flatten)]
        places: ConfigArgument,
    },
    /// Base images: list them all, or make one from the Debian archive
    #[command(subcommand)]
    Base(BaseCommand),
    /// The cache: list it, make room in it, verify it
    #[command(subcommand)]
    Cache(CacheCommand),
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List what is kept, the least recently used first: kind, size on the disk, own size, last use, where it is from
    Ls {
        #[command(flatten)]
        cache: CacheArgument,
    },
    /// Remove what was not used for long; never what another imgbake is using
    #[command(group(ArgGroup::new("what").required(true).multiple(true).args(["older_than", "max_size"])))]
    Prune {
        /// Remove what was not used for this long, e.g. 30d
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
        /// Remove the least recently used until no more than this is taken on the disk, e.g. 5GiB
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Only list what would be removed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        cache: CacheArgument,
    },
    /// Read every file again and compare it with its digest; exit code 1 if something is wrong
    Verify {
        /// Remove what is wrong, so that it is fetched or made anew
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        cache: CacheArgument,
        /// Say nothing but what is wrong
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print where the cache is
    Path {
        #[command(flatten)]
        cache: CacheArgument,
    },
}

#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Make a base image from the Debian archive and keep it in the cache
    Build {
        /// The image's name, e.g. `debian-13-rpi`, or `debian-13-rpi-containerd` for `--runtime distro`
        name: String,
        #[command(flatten)]
        archive: ArchiveArguments,
        #[command(flatten)]
        cache: CacheArgument,
        /// Build it anew even if the cache holds it
        #[arg(long)]
        again: bool,
        /// Say nothing but errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// List the base images imgbake knows, vendors' and home-made
    List {
        #[command(flatten)]
        places: ConfigArgument,
    },
}

/// What a node is to be.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// The image to start from: a name from `imgbake base list` or a file (raw or .xz) [default: the profile's]
    #[arg(long, value_name = "NAME|FILE")]
    pub base: Option<String>,
    /// Size of the disk image, e.g. 8GiB [default: what goes in plus a reserve]
    #[arg(long)]
    pub size: Option<String>,
    /// Login name of the account that your SSH keys open [default: imgbake]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// SSH public key, or a file that holds some; repeatable [default: ~/.ssh/*.pub]
    #[arg(long = "ssh-key", value_name = "KEY|FILE")]
    pub ssh_keys: Vec<String>,
    /// Kubernetes version, e.g. 1.36 or 1.36.4 [default: 1.36.4]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes: Option<String>,
    /// containerd version, e.g. 2.3 or 2.3.4 [default: 2.3.4, or 1.7.34 for Kubernetes before 1.23]
    #[arg(long, value_name = "VERSION")]
    pub containerd: Option<String>,
    /// runc version [default: 1.4.3]
    #[arg(long, value_name = "VERSION")]
    pub runc: Option<String>,
    /// CNI plugins version [default: 1.9.1]
    #[arg(long, value_name = "VERSION")]
    pub cni_plugins: Option<String>,
    /// crictl version [default: 1.36.0]
    #[arg(long, value_name = "VERSION")]
    pub crictl: Option<String>,
    /// Where containerd, runc and the CNI plugins come from: their projects' releases or the base image's packages
    #[arg(long, value_enum, default_value_t = RuntimeArgument::Upstream)]
    pub runtime: RuntimeArgument,
    /// Let the node's first boot download this instead of baking it in; `kubernetes`: kubeadm, kubelet, kubectl, crictl
    #[arg(long, value_name = "WHAT")]
    pub defer: Vec<String>,
    /// Where all nodes reach node-1 of cluster `home`, if not at 10.0.0.1 on the wire: address or DNS name, :PORT
    #[arg(long, value_name = "HOST[:PORT]")]
    pub endpoint: Option<String>,
    #[command(flatten)]
    pub join: JoinArguments,
    #[command(flatten)]
    pub places: ConfigArgument,
}

/// A cluster that exists.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Joining a cluster that exists")]
pub struct JoinArguments {
    /// Its API server
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Option<String>,
    /// Its bootstrap token (seen by other users of this machine: prefer --token-file)
    #[arg(long, requires = "join", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the bootstrap token
    #[arg(long, value_name = "FILE", requires = "join")]
    pub token_file: Option<PathBuf>,
    /// When the token ends, as `kubeadm token list` shows it, e.g. 2026-12-01T12:00:00Z
    #[arg(long, value_name = "TIME", requires = "join")]
    pub token_expires: Option<String>,
    /// Hash of its CA's public key, `sha256:…`
    #[arg(long, value_name = "HASH", requires = "join")]
    pub ca_cert_hash: Option<String>,
}

/// Where the image goes and what it is made from.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// Write the image to a file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub sources: SourceArguments,
    #[command(flatten)]
    pub archive: ArchiveArguments,
    /// Say nothing but notes, warnings and errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Where upstream's files come from.
#[derive(Debug, Args)]
pub struct SourceArguments {
    /// A folder or URL that serves upstream files under HOST/PATH; tried in order, never trusted; repeatable
    #[arg(long, value_name = "DIR|URL")]
    pub mirror: Vec<String>,
    /// Open no connection: everything must be in the cache or in a mirror folder
    #[arg(long)]
    pub offline: bool,
    /// What `imgbake lock` wrote, or digests by URL [default: imgbake.lock in this folder]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Take no more than this from the network in a second, e.g. 2MiB, all downloads together
    #[arg(long, value_name = "SIZE", value_parser = imgbake::parse_size)]
    pub limit_rate: Option<u64>,
    /// Downloads at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub connections: u8,
    #[command(flatten)]
    pub cache: CacheArgument,
}

/// The Debian archive that home-made base images are made from.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArguments {
    /// Debian mirror for base images made here [default: this machine's own]
    #[arg(long, value_name = "URL")]
    pub debian_mirror: Option<String>,
    /// Another suite of the archive than the base image's own, e.g. forky
    #[arg(long, value_name = "SUITE")]
    pub debian_suite: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct CacheArgument {
    /// Where downloads and base images are kept [default: $XDG_CACHE_HOME/imgbake or ~/.cache/imgbake]
    #[arg(long, value_name = "DIR", env = "IMGBAKE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ConfigArgument {
    /// Your profiles, publishers' and clusters' keys [default: $XDG_CONFIG_HOME/imgbake or ~/.config/imgbake]
    #[arg(long, value_name = "DIR", env = "IMGBAKE_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RuntimeArgument {
    /// The projects' own releases, pinned
    Upstream,
    /// The Debian or Ubuntu packages that the base image holds
    Distro,
}
