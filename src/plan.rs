//! Every change an image gets, as data.
//!
//! A [`Plan`] is sorted, holds one edit per path and leaves no choice open. An edit that depends on the
//! image's own text is a named pure transform. Planning a [`NodeSpec`] cannot fail. What is written as a file of
//! its own (units, scripts, configuration that never varies) lies in `plan/guest/`.

mod account;
mod apt;
mod boot;
mod cloud_init;
mod draft;
mod first_boot;
mod gateway;
mod identity;
mod kubeadm;
mod kubernetes;
mod listing;
mod network;
mod runtime;
#[cfg(test)]
mod tests;
mod transform;
mod users;
mod yaml;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::spec::{Base, NodeSpec, Secret};

pub use account::{Account, AccountFile};
pub use boot::cmdline_paths;
pub use transform::Transform;

use draft::Draft;

/// An absolute path inside an image, `/`-separated, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct GuestPath(String);

impl GuestPath {
    /// The path as text, beginning with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for GuestPath {
    /// Normalises: one leading `/`, no empty, `.` or `..` components.
    fn from(text: &str) -> Self {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        Self(format!("/{}", parts.join("/")))
    }
}

/// Everything that is done to a base image. `Display` lists it, a line per edit; `{:#}` adds the texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The image that is changed.
    pub base: Base,
    /// How large the result becomes.
    pub size: Size,
    /// Changes on the FAT boot partition; paths from its root.
    pub boot: BTreeMap<GuestPath, BootEdit>,
    /// The account added to the image's own user databases, before any edit: [`Owner::User`] may name it.
    pub account: Account,
    /// Changes in the root file system.
    pub root: BTreeMap<GuestPath, RootEdit>,
    /// Modification time of everything written, Unix seconds.
    pub timestamp: i64,
    /// What the user should know about this bake, a line each.
    pub notes: Vec<String>,
    /// What does not work together as its makers want it, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How large the disk image becomes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// The whole disk, where the user or the profile fixed it; otherwise what goes in decides.
    pub disk: Option<u64>,
    /// What stays free in the root file system at least.
    pub reserve: u64,
}

/// A change on the boot partition. FAT knows neither modes nor links.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootEdit {
    /// Write or replace a file.
    Write(String),
    /// Remove a file if it is there.
    Remove,
    /// Pass each existing text through a transform. The path is the file's usual place: for `/cmdline.txt` the files
    /// that are really used are those that [`cmdline_paths`] reads off `config.txt`.
    Transform(Transform),
}

/// A change in the root file system. Missing parent directories are made, 0755 root:root.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootEdit {
    /// Write or replace a file.
    Write {
        /// Its contents.
        body: Body,
        /// Its attributes.
        attributes: Attributes,
    },
    /// Make a directory, or give the one that is there these attributes.
    Directory(Attributes),
    /// Make or replace a symbolic link.
    Symlink(String),
    /// Remove a file, link or whole tree, if it is there.
    Remove,
    /// Empty a directory, if it is there.
    Empty,
    /// Put an archive's members below this directory, with their modes and owned by root.
    Unpack {
        /// A `.tar.gz` or `.tgz`.
        archive: Artifact,
        /// Only members below this directory of the archive, without it; all of them if empty.
        from: String,
        /// Only these members (after `from`), all if empty.
        only: Vec<String>,
    },
    /// Pass the file's text through transforms, in order. The file keeps its owner and mode; where it is missing,
    /// [`Transform::makes_file`] tells whether an empty text (then 0644 root:root) or nothing is passed.
    Transform(Vec<Transform>),
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Text that may be shown.
    Text(String),
    /// Text that may not.
    Secret(Secret),
    /// An artifact's own bytes.
    Artifact(Artifact),
}

/// Owner and mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Permission bits, as chmod takes them.
    pub mode: u16,
    /// Who owns it.
    pub owner: Owner,
}

/// Who owns a file: user and group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// root:root.
    Root,
    /// A user of the image and its login group, looked up in the image's own `/etc/passwd` after [`Plan::account`] was
    /// added ([`AccountFile::ids`]); root:root where there is none of that name.
    User(String),
}

/// Decides everything that makes a base image this node's.
#[must_use]
pub fn plan(spec: &NodeSpec) -> Plan {
    let mut draft = Draft::default();
    identity::plan(spec, &mut draft);
    boot::plan(spec, &mut draft);
    users::plan(spec, &mut draft);
    network::plan(spec, &mut draft);
    gateway::plan(spec, &mut draft);
    cloud_init::plan(spec, &mut draft);
    kubernetes::plan(spec, &mut draft);
    runtime::plan(spec, &mut draft);
    apt::plan(&mut draft);
    first_boot::plan(spec, &mut draft);
    Plan {
        base: spec.base.clone(),
        size: Size { disk: spec.size, reserve: spec.reserve },
        boot: draft.boot,
        account: users::account(spec),
        root: draft.root,
        timestamp: spec.timestamp,
        notes: draft.notes,
        warnings: spec.warnings.clone(),
    }
}
