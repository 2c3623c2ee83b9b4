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
const RESERVED: [&str; 22] = [
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
    "keys",
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

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    /// A folder of profiles with one file.
    fn folder(name: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        folder
    }

    const OWN: &str =
        "description: mine\narchitecture: amd64\nbase: disk.img\nfirmware: grub\nnetwork: {wire: eno1}\nsize: 4GB\n";

    #[test]
    fn the_built_in_profiles() {
        let listed: Vec<(String, String)> =
            profiles(None).unwrap().into_iter().map(|profile| (profile.name, profile.base)).collect();
        let expected = [
            ("pi3", "ubuntu-24.04-rpi"),
            ("pi4", "ubuntu-24.04-rpi"),
            ("pi5", "ubuntu-24.04-rpi"),
            ("vps-amd64", "debian-13-genericcloud-amd64"),
            ("vps-arm64", "debian-13-genericcloud-arm64"),
        ];
        assert_eq!(listed, expected.map(|(name, base)| (name.to_owned(), base.to_owned())));
    }

    #[test]
    fn every_built_in_profile_names_firmware_that_there_is() {
        for summary in profiles(None).unwrap() {
            let profile = find(&summary.name, None).unwrap();
            assert_eq!(firmware(&profile.firmware, None).unwrap().name, profile.firmware);
            assert_eq!(profile.reserve, Size(1 << 30), "{}", summary.name);
        }
    }

    #[test]
    fn the_pi_gets_its_memory_controller() {
        assert_eq!(firmware("raspberry-pi", None).unwrap().arguments, ["cgroup_enable=memory"]);
    }

    #[test]
    fn a_file_of_the_same_name_replaces_the_built_in_profile_as_a_whole() {
        let own = folder("pi4.yaml", OWN);
        let profile = find("pi4", Some(own.path())).unwrap();
        let expected = Profile {
            description: "mine".to_owned(),
            architecture: Architecture::Amd64,
            base: "disk.img".to_owned(),
            firmware: "grub".to_owned(),
            network: Link::Wire("eno1".to_owned()),
            control_plane: true,
            size: Some(Size(4_000_000_000)),
            reserve: Size(1 << 30),
        };
        assert_eq!(profile, expected);
        let listed = profiles(Some(own.path())).unwrap();
        assert_eq!(listed[1].origin, Origin::File(own.path().join("pi4.yaml")));
        assert_eq!(listed[0].origin, Origin::BuiltIn);
    }

    #[test]
    fn a_file_adds_a_profile_and_firmware() {
        let own = folder("firmware/box.yaml", "kernel-arguments: boot-loader\narguments: [quiet]\n");
        fs::write(own.path().join("box.yaml"), OWN.replace("grub", "box")).unwrap();
        fs::write(own.path().join("notes.txt"), "not a profile").unwrap();
        let names: Vec<String> = profiles(Some(own.path())).unwrap().into_iter().map(|profile| profile.name).collect();
        assert_eq!(names, ["box", "pi3", "pi4", "pi5", "vps-amd64", "vps-arm64"]);
        assert_eq!(firmware("box", Some(own.path())).unwrap().arguments, ["quiet"]);
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        assert_eq!(profiles(Some(Path::new("/nonexistent/profiles"))).unwrap().len(), 5);
    }

    #[test]
    fn an_unknown_profile() {
        let error = find("pi6", None).unwrap_err();
        assert_eq!(error.to_string(), "there is no profile `pi6`");
        assert_eq!(error.hint().unwrap(), "did you mean `pi3`?");
        let error = find("toaster", None).unwrap_err();
        assert_eq!(error.to_string(), "there is no profile `toaster`");
        assert_eq!(error.hint().unwrap(), "the profiles there are: pi3, pi4, pi5, vps-amd64, vps-arm64");
    }

    #[test]
    fn an_unknown_firmware() {
        let error = firmware("raspbery-pi", None).unwrap_err();
        assert_eq!(error.to_string(), "there is no firmware `raspbery-pi`");
        assert_eq!(error.hint().unwrap(), "did you mean `raspberry-pi`?");
        assert_eq!(
            firmware("coreboot", None).unwrap_err().hint().unwrap(),
            "the firmware there are: grub, raspberry-pi"
        );
    }

    #[test]
    fn a_profile_cannot_be_called_like_a_command() {
        let own = folder("plan.yaml", OWN);
        for error in [find("plan", Some(own.path())).unwrap_err(), profiles(Some(own.path())).unwrap_err()] {
            assert_eq!(error.to_string(), "`plan` cannot be a profile's name: it is a command of imgbake");
            assert_eq!(error.hint().unwrap(), "give the profile another name");
        }
    }

    #[test]
    fn malformed_yaml_names_file_line_and_column() {
        for (change, place, problem) in [
            (
                ("grub", "grub\ncolour: red"),
                "line 5, column 1",
                "unknown field `colour`, expected one of description, architecture, base, firmware, network, control-plane, \
                 size, reserve",
            ),
            (("amd64", "riscv"), "line 2, column 15", "unknown variant `riscv`, expected one of amd64, arm64"),
            (("size: 4GB", "size: large"), "line 6, column 7", "`large` is not a size"),
            (("size: 4GB", "control-plane: maybe"), "line 6, column 16", "invalid boolean"),
            (
                ("{wire: eno1}", "{wire: eno1"),
                "line 6, column 5",
                "while parsing a flow mapping, did not find expected ',' or '}'",
            ),
            (
                ("description: mine", "description: mine\ndescription: yours"),
                "line 2, column 1",
                "duplicate mapping key: description not allowed here",
            ),
            (("description: mine\n", ""), "line 5, column 1", "missing field `description`"),
        ] {
            let own = folder("box.yaml", &OWN.replace(change.0, change.1));
            let error = find("box", Some(own.path())).unwrap_err();
            let file = own.path().join("box.yaml");
            assert_eq!(error.to_string(), format!("profile `{}` is malformed at {place}", file.display()));
            assert_eq!(error.source().unwrap().to_string(), problem);
            assert_eq!(error.hint(), None);
        }
    }
}
