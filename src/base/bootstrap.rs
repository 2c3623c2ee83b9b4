//! Runs mmdebstrap: packages in, one tar of the root tree out.
//!
//! The scripts of `bases/mmdebstrap` go in as hooks, whole, since a hook that runs in a user namespace cannot read a
//! user's files. Packages are kept in a folder and used again. What the programs say goes to the log.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use super::error::BaseError;
use super::host::{Host, Mode, command};
use super::mirror::Mirror;
use super::recipe::{CUSTOMIZE, ESSENTIAL, NATIVE, Recipe, id};
use super::transcript::Transcript;
use crate::progress::Progress;

/// dpkg's options while the packages are unpacked: what a node never reads stays out, copyrights stay in.
const DPKG_OPTIONS: &[&str] = &[
    "force-confold",
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

const APT_OPTIONS: &[&str] = &[
    "Acquire::Languages \"none\"",
    "Acquire::Retries \"3\"",
    // Snapshots, mirrors of closed networks and machines with a wrong clock are past the date as a rule; signatures count.
    "Acquire::Check-Valid-Until \"false\"",
    // The stand-ins of essential.sh lie in the first folder.
    "DPkg::Path \"/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\"",
];

/// What mmdebstrap is told, apart from the recipe.
pub(super) struct Bootstrap<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) host: Host,
    pub(super) mirror: &'a Mirror,
    pub(super) suite: &'a str,
    /// Seconds since 1970 that no file's time exceeds.
    pub(super) epoch: u64,
    pub(super) keyring: &'a Path,
    /// A folder that the root tree is unpacked in; other users can pass through it.
    pub(super) scratch: &'a Path,
    /// Where packages are kept.
    pub(super) packages: &'a Path,
    pub(super) tar: &'a Path,
    pub(super) log: &'a Path,
}

impl Bootstrap<'_> {
    /// Runs it to the end; the tar is complete afterwards.
    pub(super) fn run(&self, progress: &dyn Progress) -> Result<(), BaseError> {
        let mut log = File::create(self.log).map_err(BaseError::io("create", self.log))?;
        let (reader, writer) = std::io::pipe().map_err(BaseError::io("open a pipe for", self.log))?;
        let twin = writer.try_clone().map_err(BaseError::io("open a pipe for", self.log))?;
        let mut mmdebstrap = enclosed(self.host.mode);
        mmdebstrap.args(self.arguments()).envs(self.environment()).stdout(writer).stderr(twin);
        let mut child = Running(mmdebstrap.spawn().map_err(BaseError::io("start", Path::new("mmdebstrap")))?);
        // Our copies of the pipe's end: open, they would keep it from ever ending.
        drop(mmdebstrap);
        let mut transcript = Transcript::new(progress);
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.map_err(BaseError::io("read the output of", Path::new("mmdebstrap")))?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}").map_err(BaseError::io("write", self.log))?;
            transcript.line(line.trim_end());
        }
        let status = child.wait().map_err(BaseError::io("wait for", Path::new("mmdebstrap")))?;
        let lines = transcript.finish();
        if status.success() {
            return Ok(());
        }
        Err(BaseError::Bootstrap { status: status.to_string(), lines, log: self.log.to_owned() })
    }

    fn arguments(&self) -> Vec<String> {
        let packages = self.packages.display();
        let mut arguments = vec![
            format!("--mode={}", self.host.mode.name()),
            format!("--architectures={}", self.recipe.architecture()),
            "--variant=minbase".to_owned(),
            "--format=tar".to_owned(),
            "--verbose".to_owned(),
            format!("--keyring={}", self.keyring.display()),
            format!("--include={}", self.recipe.packages().join(",")),
            // Kept packages: the first makes mmdebstrap accept them, the others leave them where they are.
            "--skip=download/empty,essential/unlink,cleanup/apt/cache".to_owned(),
            "--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives".to_owned(),
            format!("--setup-hook=sync-in {packages} /var/cache/apt/archives"),
            format!("--essential-hook={}", self.script(ESSENTIAL)),
            format!("--customize-hook=sync-out /var/cache/apt/archives {packages}"),
            format!("--customize-hook={}", self.script(CUSTOMIZE)),
        ];
        arguments.extend(APT_OPTIONS.iter().map(|option| format!("--aptopt={option}")));
        arguments.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
        arguments.extend([self.suite.to_owned(), self.tar.display().to_string()]);
        arguments.extend(self.sources().map(|(uri, suite)| format!("deb {uri} {suite} {COMPONENTS}")));
        arguments
    }

    fn script(&self, script: &str) -> String {
        if self.host.emulated { format!("{NATIVE}\n{script}") } else { script.to_owned() }
    }

    /// Archive address and suite of everything that packages come from.
    fn sources(&self) -> impl Iterator<Item = (&str, String)> {
        let archive = self.mirror.archive.as_str();
        let rolling = matches!(self.suite, "sid" | "unstable");
        let updates = (!rolling).then(|| (archive, format!("{}-updates", self.suite)));
        let security = self.mirror.security.as_deref().filter(|_| !rolling);
        [(archive, self.suite.to_owned())]
            .into_iter()
            .chain(updates)
            .chain(security.map(|security| (security, format!("{}-security", self.suite))))
    }

    /// apt's sources for the node, in deb822.
    fn node_sources(&self) -> String {
        let enabled = if self.mirror.is_reachable_elsewhere() { "yes" } else { "no" };
        let stanza = |(uri, suite): (&str, String)| {
            format!(
                "Enabled: {enabled}\nTypes: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {COMPONENTS}\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            )
        };
        self.sources().map(stanza).collect::<Vec<_>>().join("\n")
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &PathBuf| path.display().to_string();
        let mut environment = vec![
            ("TMPDIR", text(&self.scratch.to_owned())),
            ("SOURCE_DATE_EPOCH", self.epoch.to_string()),
            ("KIND", self.recipe.platform().kind().to_owned()),
            ("ARCH", self.recipe.architecture().to_owned()),
            ("EMULATED", if self.host.emulated { "yes" } else { "no" }.to_owned()),
            ("ROOT_LABEL", id::ROOT_LABEL.to_owned()),
            ("BOOT_LABEL", id::BOOT_LABEL.to_owned()),
            ("ROOT_UUID", id::ROOT_UUID.to_owned()),
            ("ROOT_PARTUUID", id::ROOT_PARTITION.to_owned()),
            ("ESP_PARTUUID", id::ESP_PARTITION.to_owned()),
            ("SOURCES", self.node_sources()),
        ];
        if self.host.emulated && self.recipe.architecture() == "arm64" {
            // Four times faster than qemu-user's default processor, whose pointer authentication is emulated.
            environment.push(("QEMU_CPU", "cortex-a72".to_owned()));
        }
        environment
    }
}

/// From bookworm on, firmware has a component of its own.
const COMPONENTS: &str = "main non-free-firmware";

/// mmdebstrap, so that it ends when we do, even by kill -9. As root it mounts `/proc` and more inside the root tree: in
/// a mount and process namespace that go with the last of its programs, none of that can stay behind.
fn enclosed(mode: Mode) -> Command {
    let mut enclosed = command("setpriv");
    match mode {
        Mode::Root => {
            enclosed.args(["--pdeathsig", "KILL"]);
            enclosed.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        }
        Mode::Unshare => {
            enclosed.args(["--pdeathsig", "TERM"]);
        }
    }
    enclosed.arg("mmdebstrap");
    enclosed
}

/// A program that is stopped if we give up on it.
struct Running(Child);

impl Running {
    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Nothing can be done about a failure here; mmdebstrap also ends when nobody reads what it says.
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}
