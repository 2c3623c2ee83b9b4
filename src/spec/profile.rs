//! Profiles: one YAML document per board or platform.

use std::path::Path;

use serde::Deserialize;

use super::error::SpecError;
use super::shelf::{Origin, Shelf};
use super::size::Size;
use super::{Architecture, Firmware};

const PROFILES: Shelf = Shelf {
    kind: "profile",
    folder: "",
    built_in: &[
        ("pi3", include_str!("../../profiles/pi3.yaml")),
        ("pi4", include_str!("../../profiles/pi4.yaml")),
        ("pi5", include_str!("../../profiles/pi5.yaml")),
        ("vps-amd64", include_str!("../../profiles/vps-amd64.yaml")),
        ("vps-arm64", include_str!("../../profiles/vps-arm64.yaml")),
    ],
};

const FIRMWARE: Shelf = Shelf {
    kind: "firmware",
    folder: "firmware",
    built_in: &[
        ("grub", include_str!("../../firmware/grub.yaml")),
        ("raspberry-pi", include_str!("../../firmware/raspberry-pi.yaml")),
    ],
};

/// Words that are commands of imgbake, now or by plan, and so cannot name a profile: `imgbake PROFILE NODE`.
const RESERVED: [&str; 21] = [
    "bake",
    "base",
    "bases",
    "build",
    "cache",
    "cluster",
    "completions",
    "diff",
    "flash",
    "help",
    "init",
    "inspect",
    "lock",
    "node",
    "nodes",
    "plan",
    "profile",
    "profiles",
    "token",
    "verify",
    "version",
];

/// A board or platform.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Profile {
    /// A line for the list of profiles.
    pub(super) description: String,
    /// The processor's architecture.
    pub(super) architecture: Architecture,
    /// Name of a base image in the catalogue, or a path.
    pub(super) base: String,
    /// Name of a firmware document.
    pub(super) firmware: String,
    /// What it is connected by.
    pub(super) network: Link,
    /// Whether it is big enough for a control plane.
    #[serde(default = "yes")]
    pub(super) control_plane: bool,
    /// The whole disk's size; computed if not given.
    #[serde(default)]
    pub(super) size: Option<Size>,
    /// Free space in the root file system.
    #[serde(default = "reserve")]
    pub(super) reserve: Size,
}

/// What a board is connected by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Link {
    /// By what its platform offers.
    Platform,
    /// By a wire on this interface, on which the nodes of a home cluster see each other.
    Wire(String),
}

fn yes() -> bool {
    true
}

fn reserve() -> Size {
    Size(1 << 30)
}

/// A profile as `imgbake profiles` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSummary {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub description: String,
    /// The architecture.
    pub architecture: Architecture,
    /// The base image it uses by default.
    pub base: String,
    /// Where it is defined.
    pub origin: Origin,
}

/// All profiles, sorted by name: those built in and those of the user's folder, which win.
///
/// # Errors
/// A profile of the user's cannot be read, is malformed or has a reserved name.
pub fn profiles(own: Option<&Path>) -> Result<Vec<ProfileSummary>, SpecError> {
    let names = PROFILES.names(own)?;
    names
        .into_iter()
        .map(|(name, origin)| {
            let Profile { description, architecture, base, .. } = find(&name, own)?;
            Ok(ProfileSummary { name, description, architecture, base, origin })
        })
        .collect()
}

/// The profile called `name`.
pub(super) fn find(name: &str, own: Option<&Path>) -> Result<Profile, SpecError> {
    if RESERVED.contains(&name) {
        return Err(SpecError::ReservedProfile(name.to_owned()));
    }
    PROFILES.get(name, own)
}

/// The firmware called `name`.
pub(super) fn firmware(name: &str, own: Option<&Path>) -> Result<Firmware, SpecError> {
    let firmware: Firmware = FIRMWARE.get(name, own)?;
    Ok(Firmware { name: name.to_owned(), ..firmware })
}
