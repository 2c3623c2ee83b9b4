//! The catalogue of base images: vendors' images by URL and checksum, and those made from the Debian archive.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::SpecError;
use super::shelf::Shelf;
use super::{
    Architecture, Base, BaseFormat, BaseSource, Distribution, Firmware, KernelArguments, Runtime, SeedLocation, System,
};
use crate::artifact::{self, Artifact, Checksum, Digest, Signed};

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
    /// With `checksums` only: a digest that is known needs no signature.
    signature: Option<Signature>,
}

/// Who signs an image, and where the signature is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Signature {
    /// Whose keys: a name of `imgbake keys`.
    by: String,
    /// Exactly one of `checksums` and `image`: the URL of the signature over the checksum file, or over the image itself.
    checksums: Option<String>,
    image: Option<String>,
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
            let signature = vendor.signature.as_ref().map(|signature| signed(name, signature)).transpose()?;
            let artifact = Artifact { url: vendor.url.clone(), checksum, signature };
            Ok((BaseSource::Vendor(artifact), Some(vendor.format)))
        }
        _ => Err(SpecError::BaseEntry { name: name.to_owned(), keys: "vendor` and `archive" }),
    }
}

/// What `signature` says of the base image `name`.
fn signed(name: &str, signature: &Signature) -> Result<artifact::Signature, SpecError> {
    let over = match (&signature.checksums, &signature.image) {
        (Some(url), None) => Signed::Checksums(url.clone()),
        (None, Some(url)) => Signed::File(url.clone()),
        _ => {
            let keys = "signature.checksums` and `signature.image";
            return Err(SpecError::BaseEntry { name: name.to_owned(), keys });
        }
    };
    Ok(artifact::Signature { by: signature.by.clone(), over })
}

#[cfg(test)]
mod tests {
    use super::super::profile::firmware;
    use super::*;

    fn wanted(name: &str, architecture: Architecture, board: &str, runtime: Runtime) -> Result<Base, SpecError> {
        let firmware = firmware(board, None).unwrap();
        find(name, &Wanted { profile: "box", architecture, firmware: &firmware, runtime }, None)
    }

    #[test]
    fn every_entry_of_the_catalogue_resolves() {
        for summary in bases(None).unwrap() {
            let board =
                if summary.name.contains("rpi") || summary.name.contains("raspios") { "raspberry-pi" } else { "grub" };
            let base = wanted(&summary.name, summary.architecture, board, Runtime::Upstream).unwrap();
            assert_eq!(base.architecture, Some(summary.architecture));
            assert_eq!(matches!(base.source, BaseSource::Archive(_)), summary.made_here);
            let seed = if board == "grub" { SeedLocation::Provider } else { SeedLocation::BootPartition };
            assert_eq!(base.seed, seed, "{}", summary.name);
            if let BaseSource::Vendor(Artifact { url, checksum: Checksum::File { url: sums }, .. }) = base.source {
                assert!(url.starts_with("https://") && sums.starts_with("https://"), "{}", summary.name);
                assert!(url.contains(&summary.architecture.to_string()), "{}", summary.name);
            }
        }
        assert_eq!(bases(None).unwrap().len(), 17);
    }

    #[test]
    fn a_vendors_image() {
        let base = wanted("ubuntu-24.04-rpi", Architecture::Arm64, "raspberry-pi", Runtime::Upstream).unwrap();
        let folder = "https://cdimage.ubuntu.com/releases/24.04/release";
        let expected = Base {
            name: "ubuntu-24.04-rpi".to_owned(),
            source: BaseSource::Vendor(Artifact {
                url: format!("{folder}/ubuntu-24.04.4-preinstalled-server-arm64+raspi.img.xz"),
                checksum: Checksum::File { url: format!("{folder}/SHA256SUMS") },
                signature: Some(artifact::Signature {
                    by: "ubuntu-cdimage".to_owned(),
                    over: Signed::Checksums(format!("{folder}/SHA256SUMS.gpg")),
                }),
            }),
            seed: SeedLocation::BootPartition,
            architecture: Some(Architecture::Arm64),
            system: Some(System { distribution: Distribution::Ubuntu, release: "24.04".to_owned() }),
            format: Some(BaseFormat::Xz),
        };
        assert_eq!(base, expected);
    }

    #[test]
    fn the_distributions_runtime_needs_a_base_from_the_archive() {
        let base = wanted("debian-13-rpi", Architecture::Arm64, "raspberry-pi", Runtime::Distro).unwrap();
        assert_eq!(base.source, BaseSource::Archive("debian-13-rpi-containerd".to_owned()));
        assert_eq!(base.name, "debian-13-rpi");
        let error = wanted("ubuntu-24.04-rpi", Architecture::Arm64, "raspberry-pi", Runtime::Distro).unwrap_err();
        assert_eq!(error.to_string(), "base image `ubuntu-24.04-rpi` holds no container runtime of its distribution");
        let hint = "bake the upstream runtime (leave out `--runtime distro`), or use a base from the Debian archive, such as \
                    `debian-13-rpi` or `debian-13-cloud-amd64`";
        assert_eq!(error.hint().unwrap(), hint);
    }

    #[test]
    fn a_file_is_taken_as_it_is() {
        for (board, seed) in [("raspberry-pi", SeedLocation::BootPartition), ("grub", SeedLocation::Provider)] {
            for name in ["./disk", "disk.img", "disk.img.xz", "C:\\images\\disk"] {
                let base = wanted(name, Architecture::Arm64, board, Runtime::Distro).unwrap();
                let source = BaseSource::File(PathBuf::from(name));
                let expected =
                    Base { name: name.to_owned(), source, seed, architecture: None, system: None, format: None };
                assert_eq!(base, expected);
            }
        }
    }

    #[test]
    fn an_unknown_base() {
        let error = wanted("debian-13-rip", Architecture::Arm64, "raspberry-pi", Runtime::Upstream).unwrap_err();
        assert_eq!(error.to_string(), "there is no base image `debian-13-rip`");
        assert_eq!(error.hint().unwrap(), "did you mean `debian-13-rpi`?");
    }

    #[test]
    fn a_base_for_another_processor_or_board_is_refused() {
        let hint = "choose a base image or a profile that go together; without `--base` the profile's own is used";
        let error = wanted("debian-13-cloud-arm64", Architecture::Amd64, "grub", Runtime::Upstream).unwrap_err();
        assert_eq!(error.to_string(), "base image `debian-13-cloud-arm64` is for arm64, profile `box` for amd64");
        assert_eq!(error.hint().unwrap(), hint);
        let error =
            wanted("debian-13-cloud-arm64", Architecture::Arm64, "raspberry-pi", Runtime::Upstream).unwrap_err();
        assert_eq!(
            error.to_string(),
            "base image `debian-13-cloud-arm64` boots by `grub`, profile `box` by `raspberry-pi`"
        );
        assert_eq!(error.hint().unwrap(), hint);
    }

    #[test]
    fn an_own_entry_needs_one_source_and_one_checksum() {
        let head =
            "description: x\narchitecture: amd64\nfirmware: grub\ndistribution: debian\nrelease: '13'\nseed: none\n";
        let vendor = "vendor: {url: 'https://example.org/x.raw', format: raw";
        for (rest, message) in [
            (String::new(), "base image `own` needs exactly one of `vendor` and `archive`"),
            (
                format!("{vendor}, checksums: 'https://example.org/sums', signature: {{by: me}}}}\n"),
                "base image `own` needs exactly one of `signature.checksums` and `signature.image`",
            ),
            (format!("archive: a\n{vendor}}}\n"), "base image `own` needs exactly one of `vendor` and `archive`"),
            (format!("{vendor}}}\n"), "base image `own` needs exactly one of `digest` and `checksums`"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("bases")).unwrap();
            std::fs::write(folder.path().join("bases/own.yaml"), format!("{head}{rest}")).unwrap();
            let firmware = firmware("grub", None).unwrap();
            let (architecture, runtime) = (Architecture::Amd64, Runtime::Upstream);
            let wanted = Wanted { profile: "box", architecture, firmware: &firmware, runtime };
            let error = find("own", &wanted, Some(folder.path())).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn an_own_entry_says_who_signs_the_image_itself() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bases")).unwrap();
        let text = "description: x\narchitecture: amd64\nfirmware: grub\ndistribution: debian\nrelease: '13'\nseed: none\n\
                    vendor:\n  url: https://example.org/x.raw\n  checksums: https://example.org/x.raw.sha256\n  format: raw\n  \
                    signature: {by: acme, image: https://example.org/x.raw.sig}\n";
        std::fs::write(folder.path().join("bases/own.yaml"), text).unwrap();
        let firmware = firmware("grub", None).unwrap();
        let (architecture, runtime) = (Architecture::Amd64, Runtime::Upstream);
        let wanted = Wanted { profile: "box", architecture, firmware: &firmware, runtime };
        let BaseSource::Vendor(artifact) = find("own", &wanted, Some(folder.path())).unwrap().source else {
            panic!("a vendor's image")
        };
        let over = Signed::File("https://example.org/x.raw.sig".to_owned());
        assert_eq!(artifact.signature, Some(artifact::Signature { by: "acme".to_owned(), over }));
    }
}
