//! Flags become plain requests; clap goes no further than this file.

mod arguments;
mod cache;
mod failure;
mod keys;
mod lock;
mod places;
mod terminal;
mod total;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use imgbake::{
    BakeRequest, BuildOptions, JoinRequest, Keys, Mirror, NodeRequest, Origin, Pins, Progress, Runtime, Secret, Sink,
    Store, StoreOptions, ext4::Finding,
};

use arguments::{
    ArchiveArguments, Arguments, BaseCommand, Command, JoinArguments, NodeOptions, OutputArguments, RuntimeArgument,
    SourceArguments,
};
pub use failure::Failure;
use lock::Order;
use places::{Places, is_ssh_key, own_ssh_keys, read_text};
use terminal::Terminal;

/// Looked for in the working folder where no `--lock` is given.
const LOCK_FILE: &str = "imgbake.lock";

/// Does what the command line says.
pub fn run() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Plan { profile, node, options, output, json }) => {
            plan(Name { profile, node }, &options, &output.sources, json)
        }
        Some(Command::Fetch { profile, node, options, sources, archive, to, quiet }) => {
            fetch(Name { profile, node }, &options, (&sources, &archive), to.as_deref(), quiet)
        }
        Some(Command::Lock { profile, node, update, options, sources, quiet }) => {
            lock::lock(Order { profile, node, update, quiet }, &options, &sources)
        }
        Some(Command::Profiles { places }) => profiles(&Places::find(places.config_dir, None)?),
        Some(Command::Verify { image, fs: _, cache, quiet }) => verify(&image, cache.cache_dir, quiet),
        Some(Command::Keys { places }) => keys::list(&Places::find(places.config_dir, None)?),
        Some(Command::Base(command)) => base(command),
        Some(Command::Cache(command)) => cache::run(command),
        None => match (arguments.profile, arguments.node) {
            (Some(profile), Some(node)) => bake(Name { profile, node }, &arguments.options, &arguments.output),
            (Some(profile), None) => Err(Failure::usage(
                format!("no node given for profile `{profile}`"),
                format!("try `imgbake {profile} node-2 > node-2.img`; `imgbake --help` explains"),
            )),
            (None, _) => Err(Failure::usage(
                "no profile and node given",
                "try `imgbake pi4 node-2 > node-2.img`; `imgbake profiles` lists the profiles, `imgbake --help` explains",
            )),
        },
    }
}

/// Which node.
struct Name {
    profile: String,
    node: String,
}

fn bake(name: Name, options: &NodeOptions, output: &OutputArguments) -> Result<(), Failure> {
    let file = output.output.as_deref().filter(|path| path.as_os_str() != "-");
    if file.is_none() && std::io::stdout().is_terminal() {
        let Name { profile, node } = name;
        return Err(Failure::usage(
            "an image is binary data and standard output is a terminal",
            format!("redirect it, `imgbake {profile} {node} > {node}.img`, or name a file, `-o {node}.img`"),
        ));
    }
    let terminal = Terminal::new(output.quiet);
    let request = bake_request(name, options, &output.sources, &output.archive)?;
    let sink = match file {
        Some(path) => Sink::file(path).map_err(|error| Failure::failed(error.hint(), error))?,
        None => Sink::stdout(),
    };
    if request.node.ssh_keys.is_empty() {
        terminal.note("warning: no SSH key goes in, so nobody can log in; `--ssh-key` names one");
    }
    match imgbake::bake(&request, &mut random, sink, &terminal) {
        Ok(summary) => {
            summary.warnings.iter().for_each(|warning| terminal.note(&format!("warning: {warning}")));
            summary.notes.iter().for_each(|note| terminal.note(&format!("note: {note}")));
            terminal.done(&summary.to_string());
            Ok(())
        }
        // Who reads the image has had enough of it: no failure of ours.
        Err(error) if error.is_broken_pipe() => Ok(()),
        Err(error) => Err(Failure::failed(error.hint(), error)),
    }
}

fn bake_request(
    name: Name,
    options: &NodeOptions,
    sources: &SourceArguments,
    archive: &ArchiveArguments,
) -> Result<BakeRequest, Failure> {
    let places = Places::find(options.places.config_dir.clone(), sources.cache.cache_dir.clone())?;
    let pins = pins(sources)?;
    Ok(BakeRequest {
        node: node_request(name, options, &places, &pins)?,
        store: store_options(sources, &places, pins)?,
        archive: build_options(archive, &places),
    })
}

fn fetch(
    name: Name,
    options: &NodeOptions,
    (sources, archive): (&SourceArguments, &ArchiveArguments),
    to: Option<&Path>,
    quiet: bool,
) -> Result<(), Failure> {
    let request = bake_request(name, options, sources, archive)?;
    let files =
        imgbake::fetch(&request, to, &Terminal::new(quiet)).map_err(|error| Failure::failed(error.hint(), error))?;
    print(&files.iter().map(|file| format!("{}  {}\n", file.sha256, file.path.display())).collect::<String>())
}

fn plan(name: Name, options: &NodeOptions, sources: &SourceArguments, json: bool) -> Result<(), Failure> {
    let places = Places::find(options.places.config_dir.clone(), None)?;
    let request = node_request(name, options, &places, &pins(sources)?)?;
    let plan = imgbake::plan_node(&request).map_err(|error| Failure::failed(error.hint(), error))?;
    if json {
        let text = serde_json::to_string_pretty(&plan).map_err(|error| Failure::failed(None, error))?;
        return print(&format!("{text}\n"));
    }
    print(&plan.to_string())
}

fn profiles(places: &Places) -> Result<(), Failure> {
    let all = imgbake::profiles(Some(&places.profiles())).map_err(|error| Failure::failed(error.hint(), error))?;
    let width = all.iter().map(|profile| profile.name.len()).max().unwrap_or(0);
    let lines = all.iter().map(|profile| {
        let origin = match &profile.origin {
            Origin::BuiltIn => "built in".to_owned(),
            Origin::File(path) => path.display().to_string(),
        };
        format!(
            "{:width$}  {}  {} [{}] ({origin})\n",
            profile.name, profile.architecture, profile.description, profile.base
        )
    });
    print(&lines.collect::<String>())
}

/// Findings go to standard output, a line each, and a line for each file system behind them.
fn verify(image: &Path, cache: Option<PathBuf>, quiet: bool) -> Result<(), Failure> {
    let places = Places::find(None, cache)?;
    let terminal = Terminal::new(quiet);
    let store = Store::open(StoreOptions::new(&places.cache)).map_err(|error| Failure::failed(error.hint(), error))?;
    let mut printed = Ok(());
    let mut report = |partition: u32, finding: &Finding| {
        let place = if partition == 0 { String::new() } else { format!("partition {partition}: ") };
        if printed.is_ok() {
            printed = print(&format!("{place}{finding}\n"));
        }
    };
    let checked = imgbake::verify_image(image, &store, &terminal, &mut report)
        .map_err(|error| Failure::failed(error.hint(), error))?;
    printed?;
    if !quiet {
        print(&checked.iter().map(|one| format!("{one}\n")).collect::<String>())?;
    }
    match checked.iter().map(|one| one.verified.findings).sum() {
        0 => Ok(()),
        findings => Err(Failure::damaged(image, findings)),
    }
}

fn base(command: BaseCommand) -> Result<(), Failure> {
    match command {
        BaseCommand::List { places } => {
            let places = Places::find(places.config_dir, None)?;
            let all = imgbake::bases(Some(&places.profiles())).map_err(|error| Failure::failed(error.hint(), error))?;
            let width = all.iter().map(|base| base.name.len()).max().unwrap_or(0);
            let lines = all.iter().map(|base| {
                let made = if base.made_here { " (made here; NAME-containerd for `--runtime distro`)" } else { "" };
                format!("{:width$}  {}  {}{made}\n", base.name, base.architecture, base.description)
            });
            print(&lines.collect::<String>())
        }
        BaseCommand::Build { name, archive, cache, again, quiet } => {
            let places = Places::find(None, cache.cache_dir)?;
            let terminal = Terminal::new(quiet);
            let store =
                Store::open(StoreOptions::new(&places.cache)).map_err(|error| Failure::failed(error.hint(), error))?;
            let options = build_options(&archive, &places);
            let file = imgbake::prepare_base(&name, &options, again, &store, &terminal)
                .map_err(|error| Failure::failed(error.hint(), error))?;
            print(&format!("{}\n", file.path().display()))
        }
    }
}

fn node_request(name: Name, options: &NodeOptions, places: &Places, pins: &Pins) -> Result<NodeRequest, Failure> {
    Ok(NodeRequest {
        profile: name.profile,
        node: name.node,
        profiles_dir: Some(places.profiles()),
        clusters_dir: places.clusters(),
        base: options.base.clone(),
        size: options.size.clone(),
        ssh_keys: ssh_keys(&options.ssh_keys)?,
        user: options.user.clone(),
        join: join_request(&options.join)?,
        endpoint: options.endpoint.clone(),
        kubernetes: options.kubernetes.clone(),
        containerd: options.containerd.clone(),
        runc: options.runc.clone(),
        cni_plugins: options.cni_plugins.clone(),
        crictl: options.crictl.clone(),
        locked: pins.locked(),
        runtime: match options.runtime {
            RuntimeArgument::Upstream => Runtime::Upstream,
            RuntimeArgument::Distro => Runtime::Distro,
        },
        defer: options.defer.clone(),
        now: now(),
        source_date_epoch: std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()),
    })
}

/// Key texts: given ones as they are, given files read; the caller's own keys if none is given.
fn ssh_keys(given: &[String]) -> Result<Vec<String>, Failure> {
    if given.is_empty() {
        return Ok(own_ssh_keys());
    }
    let is_key = |text: &str| is_ssh_key(text) || text.contains("-----BEGIN");
    let key = |text: &String| if is_key(text) { Ok(text.clone()) } else { read_text(Path::new(text), "SSH key file") };
    given.iter().map(key).collect()
}

fn join_request(join: &JoinArguments) -> Result<Option<JoinRequest>, Failure> {
    let Some(endpoint) = join.join.clone() else { return Ok(None) };
    let token = match (&join.token, &join.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => read_text(path, "token file")?.trim().to_owned(),
        (None, None) => {
            return Err(Failure::usage(
                "`--join` needs a bootstrap token",
                "give `--token-file FILE`; `kubeadm token create` on the control plane makes one",
            ));
        }
    };
    let Some(ca_cert_hash) = join.ca_cert_hash.clone() else {
        return Err(Failure::usage(
            "`--join` needs the hash of the cluster's CA key",
            "give `--ca-cert-hash sha256:…`; `kubeadm token create --print-join-command` on the control plane shows it",
        ));
    };
    Ok(Some(JoinRequest {
        endpoint,
        token: Secret::new(token),
        ca_cert_hash,
        token_expires: join.token_expires.clone(),
    }))
}

/// What the lock file holds, where there is one.
fn pins(sources: &SourceArguments) -> Result<Pins, Failure> {
    let lock = sources.lock.clone().or_else(|| Some(PathBuf::from(LOCK_FILE)).filter(|path| path.exists()));
    let pins = lock.map_or_else(|| Ok(Pins::default()), |path| Pins::read(&path));
    pins.map_err(|error| Failure::failed(error.hint(), error))
}

fn store_options(sources: &SourceArguments, places: &Places, pins: Pins) -> Result<StoreOptions, Failure> {
    let mut mirrors = sources.mirror.iter().map(|text| mirror(text)).collect::<Result<Vec<_>, _>>()?;
    mirrors.extend(Mirror::read_list(&places.mirrors()).map_err(|error| Failure::failed(error.hint(), error))?);
    Ok(StoreOptions {
        mirrors,
        offline: sources.offline,
        pins,
        keys: Keys::new(Some(places.keys())),
        now: now(),
        first_use: places.first_use(),
        proxy: ureq::Proxy::try_from_env(),
        connections: sources.connections.into(),
        limit_rate: sources.limit_rate,
        ..StoreOptions::new(&places.cache)
    })
}

/// A mirror, which must be there if it is a folder.
fn mirror(text: &str) -> Result<Mirror, Failure> {
    let mirror = text.parse::<Mirror>().unwrap_or_else(|never| match never {});
    match &mirror {
        Mirror::Folder(folder) if !folder.is_dir() => Err(Failure::usage(
            format!("the mirror `{text}` is neither a folder nor an http or https URL"),
            "check `--mirror`: it holds upstream's files under HOST/PATH, such as `DIR/dl.k8s.io/release/…`",
        )),
        _ => Ok(mirror),
    }
}

fn build_options(archive: &ArchiveArguments, places: &Places) -> BuildOptions {
    BuildOptions {
        mirror: archive.debian_mirror.clone(),
        suite: archive.debian_suite.clone(),
        ..BuildOptions::new(places.cache.join("work"))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| now.as_secs().try_into().ok()).unwrap_or(0)
}

fn random(bytes: &mut [u8]) {
    // Without random numbers from the system no key may be made at all.
    getrandom::fill(bytes).expect("the operating system gives random numbers");
}

/// Data on standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(None, error)),
        _ => Ok(()),
    }
}
