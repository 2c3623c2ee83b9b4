//! The catalogue of base images: vendors' images by URL and checksum, and those made from the Debian archive.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::SpecError;
use super::shelf::Shelf;
use super::{
    Architecture, Base, BaseFormat, BaseSource, Distribution, Firmware, KernelArguments, Runtime, SeedLocation, System,
};
use crate::artifact::{Artifact, Checksum, Digest};

macro_rules! bases {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../bases/", $name, ".yaml")))),*]
    };
}

const BASES: Shelf = Shelf {
    kind: "base image",
    folder: "bases",
    built_in: bases! {
        "debian-12-cloud-amd64"
        "debian-12-cloud-arm64"
        "debian-12-genericcloud-amd64"
        "debian-12-genericcloud-arm64"
        "debian-12-rpi"
        "debian-13-cloud-amd64"
        "debian-13-cloud-arm64"
        "debian-13-genericcloud-amd64"
        "debian-13-genericcloud-arm64"
        "debian-13-rpi"
        "raspios-lite-arm64"
        "ubuntu-24.04-cloud-amd64"
        "ubuntu-24.04-cloud-arm64"
        "ubuntu-24.04-rpi"
        "ubuntu-26.04-cloud-amd64"
        "ubuntu-26.04-cloud-arm64"
        "ubuntu-26.04-rpi"
    },
};

/// Endings that make a name a file's.
const IMAGE_ENDINGS: [&str; 8] = [".img", ".raw", ".xz", ".gz", ".zst", ".bz2", ".qcow2", ".iso"];

/// A base image's document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    description: String,
    architecture: Architecture,
    /// Name of the firmware it boots by.
    firmware: String,
    distribution: Distribution,
    release: String,
    seed: SeedLocation,
    /// Exactly one of `vendor` and `archive`.
    vendor: Option<Vendor>,
    /// Name of a recipe.
    archive: Option<String>,
}

/// An image that its vendor serves.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vendor {
    url: String,
    format: BaseFormat,
    /// Exactly one of `digest` and `checksums`.
    digest: Option<Digest>,
    checksums: Option<String>,
}

/// A base image as `imgbake base` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseSummary {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub description: String,
    /// Its architecture.
    pub architecture: Architecture,
    /// It is made by `imgbake base build`, not downloaded.
    pub made_here: bool,
}

/// The catalogue, sorted by name; own documents are those in `bases/` of the user's folder of profiles.
///
/// # Errors
/// A document of the user's cannot be read or is malformed.
pub fn bases(own: Option<&Path>) -> Result<Vec<BaseSummary>, SpecError> {
    let names = BASES.names(own)?;
    names
        .into_keys()
        .map(|name| {
            let Entry { description, architecture, archive, .. } = BASES.get(&name, own)?;
            Ok(BaseSummary { name, description, architecture, made_here: archive.is_some() })
        })
        .collect()
}

/// What a base image is wanted for.
pub(super) struct Wanted<'a> {
    /// The profile's name.
    pub(super) profile: &'a str,
    /// The profile's architecture.
    pub(super) architecture: Architecture,
    /// The profile's firmware.
    pub(super) firmware: &'a Firmware,
    /// Where the container runtime comes from.
    pub(super) runtime: Runtime,
}

/// The base image called `name`, or in the file `name`.
pub(super) fn find(name: &str, wanted: &Wanted, own: Option<&Path>) -> Result<Base, SpecError> {
    let file = Path::new(name);
    let looks_like_file = name.contains(['/', '\\']) || IMAGE_ENDINGS.iter().any(|ending| name.ends_with(ending));
    let known = BASES.names(own)?.contains_key(name);
    if looks_like_file || (!known && file.is_file()) {
        return Ok(of_file(file.to_owned(), wanted.firmware));
    }
    let entry: Entry = BASES.get(name, own)?;
    if entry.architecture != wanted.architecture {
        return Err(SpecError::Architecture {
            base: name.to_owned(),
            base_architecture: entry.architecture,
            profile: wanted.profile.to_owned(),
            profile_architecture: wanted.architecture,
        });
    }
    if entry.firmware != wanted.firmware.name {
        return Err(SpecError::Firmware {
            base: name.to_owned(),
            base_firmware: entry.firmware,
            profile: wanted.profile.to_owned(),
            profile_firmware: wanted.firmware.name.clone(),
        });
    }
    let (source, format) = source(name, &entry, wanted.runtime)?;
    Ok(Base {
        name: name.to_owned(),
        source,
        seed: entry.seed,
        architecture: Some(entry.architecture),
        system: Some(System { distribution: entry.distribution, release: entry.release }),
        format,
    })
}

/// A file of the user's. What is in it shows when it is opened; images for a board have their seed where the board's
/// firmware reads from, all others are taken for cloud images.
fn of_file(path: PathBuf, firmware: &Firmware) -> Base {
    let seed = match firmware.kernel_arguments {
        KernelArguments::RaspberryPiCmdline => SeedLocation::BootPartition,
        KernelArguments::BootLoader => SeedLocation::Provider,
    };
    let name = path.display().to_string();
    Base { name, source: BaseSource::File(path), seed, architecture: None, system: None, format: None }
}

/// Where a catalogue image's bytes come from.
fn source(name: &str, entry: &Entry, runtime: Runtime) -> Result<(BaseSource, Option<BaseFormat>), SpecError> {
    match (&entry.archive, &entry.vendor) {
        (Some(recipe), None) => {
            let recipe = match runtime {
                Runtime::Upstream => recipe.clone(),
                // The variant of the recipe that holds containerd, runc and containernetworking-plugins.
                Runtime::Distro => format!("{recipe}-containerd"),
            };
            Ok((BaseSource::Archive(recipe), Some(BaseFormat::Raw)))
        }
        (None, Some(_)) if runtime == Runtime::Distro => Err(SpecError::NoRuntime { base: name.to_owned() }),
        (None, Some(vendor)) => {
            let checksum = match (&vendor.digest, &vendor.checksums) {
                (Some(digest), None) => Checksum::Pinned(digest.clone()),
                (None, Some(url)) => Checksum::File { url: url.clone() },
                _ => return Err(SpecError::BaseEntry { name: name.to_owned(), keys: "digest` and `checksums" }),
            };
            Ok((BaseSource::Vendor(Artifact { url: vendor.url.clone(), checksum }), Some(vendor.format)))
        }
        _ => Err(SpecError::BaseEntry { name: name.to_owned(), keys: "vendor` and `archive" }),
    }
}
