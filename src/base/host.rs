//! What the build needs of this machine, looked at before anything is started.
//!
//! Programs in `PATH`, root or else a user namespace, and for a foreign architecture qemu-user registered with the
//! kernel (binfmt_misc). As root the registration is switched on where it is merely off, which is noted.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{BaseError, ProgramError};
use crate::progress::Progress;

/// How mmdebstrap gets the rights that a root tree needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// We are root.
    Root,
    /// A user namespace makes us root of its own kind.
    Unshare,
}

impl Mode {
    /// The value of mmdebstrap's `--mode`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
        }
    }
}

/// What [`check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) mode: Mode,
    /// Whether the image's programs run under emulation.
    pub(super) emulated: bool,
}

const PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("apt-get", "apt"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];
const FOREIGN_PROGRAMS: &[(&str, &str)] = &[("arch-test", "arch-test")];
const NAMESPACE_PROGRAMS: &[(&str, &str)] = &[("newuidmap", "uidmap"), ("newgidmap", "uidmap")];

/// The folders that are searched: root's too, where a user's own `PATH` lacks them (`mke2fs` is in one).
pub(super) fn path() -> std::ffi::OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let mut folders: Vec<PathBuf> = system.to_vec();
    folders.extend(std::env::split_paths(&own).filter(|folder| folder.is_absolute() && !system.contains(folder)));
    // Only a folder with a colon in its name cannot be joined, and none came out of a split.
    std::env::join_paths(folders).unwrap_or(own)
}

/// A program with the searched folders as its `PATH` and messages in English.
pub(super) fn command(program: &str) -> Command {
    let path = path();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| program.into()));
    command.env("PATH", path).env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    command
}

/// Runs `command` to its end and answers what it wrote to standard output.
pub(super) fn output_of(mut command: Command) -> Result<String, ProgramError> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |status: String, stderr: String| ProgramError { program: program.clone(), status, stderr };
    let output = command.output().map_err(|error| failed("not started".to_owned(), error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = if words.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { words };
    Err(failed(output.status.to_string(), gist(&words)))
}

/// The last lines of what a program said; if it marks its errors as apt does, those.
fn gist(words: &str) -> String {
    let lines = || words.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors: Vec<&str> = lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    let told = if errors.is_empty() { lines().collect() } else { errors };
    told.get(told.len().saturating_sub(3)..).unwrap_or_default().join("; ")
}

/// Looks at all that a base for `architecture` needs.
pub(super) fn check(architecture: &'static str, progress: &dyn Progress) -> Result<Host, BaseError> {
    let mode = if is_root() { Mode::Root } else { Mode::Unshare };
    let emulated = architecture != host_architecture();
    let mut needed = PROGRAMS.to_vec();
    if emulated {
        needed.extend(FOREIGN_PROGRAMS);
    }
    if mode == Mode::Unshare {
        needed.extend(NAMESPACE_PROGRAMS);
    }
    check_programs(&needed, emulated)?;
    if mode == Mode::Unshare {
        check_namespace()?;
    }
    if emulated && !runs(architecture) {
        enable_emulation(architecture, mode, progress)?;
    }
    Ok(Host { mode, emulated })
}

/// A process's own folder in /proc belongs to its effective user.
#[cfg(target_os = "linux")]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(not(target_os = "linux"))]
fn is_root() -> bool {
    false
}

/// Debian's name of this machine's architecture.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn check_programs(needed: &[(&'static str, &'static str)], emulated: bool) -> Result<(), BaseError> {
    let path = path();
    let is_there = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = needed.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&'static str> = missing.iter().map(|(_, package)| *package).collect();
    if emulated {
        packages.extend(["qemu-user-static", "binfmt-support"]);
    }
    packages.dedup();
    Err(BaseError::MissingPrograms { programs: missing.iter().map(|(program, _)| *program).collect(), packages })
}

/// Whether the kernel starts programs of `architecture`.
fn runs(architecture: &str) -> bool {
    let mut test = command("arch-test");
    test.arg(architecture);
    output_of(test).is_ok()
}

fn enable_emulation(architecture: &'static str, mode: Mode, progress: &dyn Progress) -> Result<(), BaseError> {
    let interpreter = match architecture {
        "amd64" => "qemu-x86_64",
        _ => "qemu-aarch64",
    };
    if mode == Mode::Root {
        if !Path::new("/proc/sys/fs/binfmt_misc/register").exists() {
            let mut mount = command("mount");
            mount.args(["-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"]);
            // What counts is whether programs run afterwards.
            drop(output_of(mount));
        }
        let mut enable = command("update-binfmts");
        enable.args(["--enable", interpreter]);
        drop(output_of(enable));
        if runs(architecture) {
            progress.note(&format!("switched on the kernel's handler for {architecture} programs ({interpreter})"));
            return Ok(());
        }
    }
    Err(BaseError::NoEmulation { architecture })
}

/// Whether a user namespace with a range of ids can be had, and if not, exactly what is missing.
fn check_namespace() -> Result<(), BaseError> {
    let lacks = |reason: String, help: &str| Err(BaseError::NoUserNamespace { reason, help: help.to_owned() });
    let setting = |name: &str| std::fs::read_to_string(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return lacks(
            "the kernel forbids them (`kernel.unprivileged_userns_clone` is 0)".to_owned(),
            "as root: sysctl kernel.unprivileged_userns_clone=1; or run the build as root",
        );
    }
    if setting("/proc/sys/user/max_user_namespaces") == "0" {
        return lacks(
            "the kernel allows none (`user.max_user_namespaces` is 0)".to_owned(),
            "as root: sysctl user.max_user_namespaces=10000; or run the build as root",
        );
    }
    let user = output_of({
        let mut id = command("id");
        id.arg("-un");
        id
    })
    .map(|name| name.trim().to_owned())
    .unwrap_or_default();
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_range(&setting(file), &user) {
            return lacks(
                format!("`{file}` gives user `{user}` no range of 65536 ids"),
                &format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"),
            );
        }
    }
    let mut trial = command("unshare");
    trial.args(["--user", "--map-root-user", "--mount", "true"]);
    match output_of(trial) {
        Ok(_) => Ok(()),
        Err(error) if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" => lacks(
            format!("AppArmor forbids them ({error})"),
            "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0; or run the build as root",
        ),
        Err(error) => lacks(format!("the kernel refused one ({error})"), "run the build as root"),
    }
}

/// Whether subuid(5) or subgid(5) lines give `user` at least 65536 ids.
fn has_range(text: &str, user: &str) -> bool {
    text.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(user)
            && fields.nth(1).and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count >= 65536)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ids_counts_if_it_is_the_users_and_large_enough() {
        let text = "alice:100000:65536\nbob:165536:1000\n";
        assert!(has_range(text, "alice"));
        assert!(!has_range(text, "bob"));
        assert!(!has_range(text, "carol"));
    }

    #[test]
    fn a_missing_program_is_named_with_its_package_once() {
        let needed = [("no-such-newuidmap", "uidmap"), ("no-such-newgidmap", "uidmap"), ("sh", "dash")];
        let error = check_programs(&needed, false).unwrap_err();
        assert_eq!(error.to_string(), "building a base needs `no-such-newuidmap`, `no-such-newgidmap`");
        assert_eq!(error.hint().as_deref(), Some("apt-get install uidmap"));
    }

    #[test]
    fn a_program_that_fails_says_what_it_said() {
        let mut shell = command("sh");
        shell.args(["-c", "echo one >&2; echo two >&2; exit 3"]);
        assert_eq!(output_of(shell).unwrap_err().to_string(), "`sh` failed (exit status: 3): one; two");
        assert_eq!(gist("W: unsandboxed\nE: 404 not found\nE: Download Failed\n"), "404 not found; Download Failed");
    }
}
