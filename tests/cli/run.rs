//! Runs imgbake in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A public key as users have them; whose private half nobody has.
pub const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBakeBakeBakeBakeBakeBakeBakeBakeBakeBakeBak test";

/// A folder with configuration, cache and outputs of one test.
pub struct Kitchen {
    folder: tempfile::TempDir,
}

impl Kitchen {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with this kitchen's folders, a home without keys and no proxies.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbake"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            .env("IMGBAKE_CONFIG_DIR", self.path("config"))
            .env("IMGBAKE_CACHE_DIR", self.path("cache"))
            .env_remove("SOURCE_DATE_EPOCH");
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("imgbake starts")
    }

    /// Runs and expects success; answers standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "imgbake {arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs and expects a refusal with exactly this exit code and message; `KITCHEN` stands for this folder.
    pub fn refused(&self, arguments: &[&str], code: i32, message: &str) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "imgbake {arguments:?}: {}", words(&output));
        assert_eq!(self.anonymous(&words(&output)), message.trim_start_matches('\n'), "imgbake {arguments:?}");
        assert!(output.stdout.is_empty(), "a refusal writes nothing to standard output");
    }

    /// The text with this folder's path replaced.
    pub fn anonymous(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "KITCHEN")
    }
}

/// What was said on standard error.
pub fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs an outside tool that must succeed; a missing one fails with its Debian package's name.
pub fn tool(package: &str, command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {:?} ({error}): install the Debian package `{package}`", command.get_program())
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}
