//! Where this machine keeps imgbake's configuration and cache.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Failure;

/// The folders of one command.
pub struct Places {
    /// Profiles, publishers' keys and clusters' keys.
    pub config: PathBuf,
    /// Downloads and base images.
    pub cache: PathBuf,
}

impl Places {
    /// The given folders, or the user's own.
    pub fn find(config: Option<PathBuf>, cache: Option<PathBuf>) -> Result<Self, Failure> {
        Ok(Self {
            config: config.map_or_else(|| default("XDG_CONFIG_HOME", "APPDATA", ".config", "--config-dir"), Ok)?,
            cache: cache.map_or_else(|| default("XDG_CACHE_HOME", "LOCALAPPDATA", ".cache", "--cache-dir"), Ok)?,
        })
    }

    /// The user's own profiles.
    pub fn profiles(&self) -> PathBuf {
        self.config.join("profiles")
    }

    /// The user's own publishers' keys.
    pub fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }

    /// The user's list of mirrors.
    pub fn mirrors(&self) -> PathBuf {
        self.config.join("mirrors.yaml")
    }

    /// The digests that unsigned files had on first use.
    pub fn first_use(&self) -> PathBuf {
        self.config.join("first-use.yaml")
    }

    /// The clusters' keys and tokens.
    pub fn clusters(&self) -> PathBuf {
        self.config.join("clusters")
    }
}

/// `$xdg/imgbake`, on Windows `%windows%\imgbake`, else `~/home/imgbake`.
fn default(xdg: &str, windows: &str, home: &str, option: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg)
        .or_else(|| if cfg!(windows) { absolute(windows) } else { None })
        .or_else(|| env::home_dir().map(|folder| folder.join(home)))
        .map(|folder| folder.join("imgbake"))
        .ok_or_else(|| Failure::usage("this account has no home folder", format!("say where with {option} DIR")))
}

/// What the first word of a public key can be.
const KEY_TYPES: [&str; 3] = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-"];
/// The same for keys that a token holds.
const TOKEN_KEY_TYPES: [&str; 2] = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];
/// Keys and tokens are short; a longer file is something else.
const TEXT_LIMIT: u64 = 1 << 20;

/// Whether a text is a key rather than the path of one.
pub fn is_ssh_key(text: &str) -> bool {
    let kind = text.split_whitespace().next().unwrap_or_default();
    let plain = KEY_TYPES.iter().any(|known| kind.starts_with(known)) && !kind.contains("-cert-");
    plain || TOKEN_KEY_TYPES.contains(&kind)
}

/// The public keys in `~/.ssh`, sorted by file name. Certificates and keys of other kinds there are passed over.
pub fn own_ssh_keys() -> Vec<String> {
    let Some(folder) = env::home_dir().map(|home| home.join(".ssh")) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
    files.sort();
    files.iter().filter_map(|path| short_text(path).ok()).filter(|text| is_ssh_key(text)).collect()
}

/// The text of a file that the user named.
pub fn read_text(path: &Path, what: &str) -> Result<String, Failure> {
    short_text(path).map_err(|error| {
        Failure::usage(
            format!("cannot read the {what} `{}`: {error}", path.display()),
            "check the path and its permissions",
        )
    })
}

fn short_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if File::open(path)?.take(TEXT_LIMIT).read_to_string(&mut text)? as u64 == TEXT_LIMIT {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}
