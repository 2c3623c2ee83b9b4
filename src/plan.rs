//! Every change an image gets, as data.
//!
//! A [`Plan`] is sorted, holds one edit per path and leaves no choice open. An edit that depends on the
//! image's own text is a named pure transform. Planning a [`NodeSpec`](crate::spec::NodeSpec) cannot fail.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::spec::Secret;

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

/// Everything that is done to a base image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Changes on the FAT boot partition; paths from its root.
    pub boot: BTreeMap<GuestPath, BootEdit>,
    /// Changes in the root file system.
    pub root: BTreeMap<GuestPath, RootEdit>,
    /// Modification time of everything written, Unix seconds.
    pub timestamp: i64,
    /// What the user should know about this bake, a line each.
    pub notes: Vec<String>,
}

/// A change on the boot partition. FAT knows neither modes nor links.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootEdit {
    /// Write or replace a file.
    Write(String),
    /// Remove a file if it is there.
    Remove,
    /// Pass each existing text through a transform. The path is the file's usual place.
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
    /// Put an archive's members below this directory.
    Unpack {
        /// A `.tar.gz` or `.tgz`.
        archive: Artifact,
        /// Only members below this directory of the archive, without it; all of them if empty.
        from: String,
        /// Only these members (after `from`), all if empty.
        only: Vec<String>,
    },
    /// Pass the file's text through transforms, in order; a missing file counts as empty only where the transform says so.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Permission bits, as chmod takes them.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A pure change of a text that the image brings along.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// Append kernel arguments to the one line of `cmdline.txt`, those that are not there yet.
    AddKernelArguments(Vec<String>),
}
