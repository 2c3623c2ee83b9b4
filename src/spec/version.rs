//! Kubernetes versions: which ones imgbake can configure, and what goes with each.
//!
//! Sources: the project's schedule and end-of-life lists (patches), kubeadm's constants (pause images). What goes with
//! what is in `compatibility.rs`.

use super::error::SpecError;
use super::{ContainerdConfig, Runtime, Version};

/// The version that is baked if none is asked for: the newest minor release but one, which the network add-ons support.
pub(super) const DEFAULT: Version = Version { major: 1, minor: 36, patch: 4 };

/// A minor release of Kubernetes.
struct Minor {
    minor: u16,
    /// The newest patch release known here; what `1.36` stands for.
    patch: u16,
    /// Tag of the pause image that its kubeadm expects.
    pause: &'static str,
}

const fn minor(minor: u16, patch: u16, pause: &'static str) -> Minor {
    Minor { minor, patch, pause }
}

const MINORS: [Minor; 18] = [
    minor(20, 15, "3.2"),
    minor(21, 14, "3.4.1"),
    minor(22, 17, "3.5"),
    minor(23, 17, "3.6"),
    minor(24, 17, "3.7"),
    minor(25, 16, "3.8"),
    minor(26, 15, "3.9"),
    minor(27, 16, "3.9"),
    minor(28, 15, "3.9"),
    minor(29, 14, "3.9"),
    minor(30, 14, "3.9"),
    minor(31, 14, "3.10"),
    minor(32, 13, "3.10"),
    minor(33, 13, "3.10"),
    minor(34, 11, "3.10.1"),
    minor(35, 9, "3.10.1"),
    minor(36, 4, "3.10.2"),
    minor(37, 1, "3.10.2"),
];

/// The first minor release whose kubelet speaks CRI v1, the only one containerd 2.x answers to.
pub(super) const FIRST_CRI_V1: u16 = 23;

/// Major, minor and patch of `1.36`, `1.36.4` or `v1.36.4`.
pub(super) fn numbers(text: &str) -> Option<(u16, u16, Option<u16>)> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse::<u16>().ok() } else { None }
    };
    let parts = text.strip_prefix('v').unwrap_or(text).split('.').map(number).collect::<Option<Vec<u16>>>()?;
    match parts.as_slice() {
        [major, minor] => Some((*major, *minor, None)),
        [major, minor, patch] => Some((*major, *minor, Some(*patch))),
        _ => None,
    }
}

/// `1.36`, `1.36.4` or `v1.36.4`.
pub(super) fn parse(text: &str) -> Result<Version, SpecError> {
    let (major, minor, patch) = numbers(text).ok_or_else(|| SpecError::Version(text.to_owned()))?;
    let known = MINORS.iter().find(|known| major == 1 && known.minor == minor);
    let known = known.ok_or_else(|| SpecError::UnsupportedVersion {
        version: text.to_owned(),
        oldest: MINORS.first().map_or(0, |minor| minor.minor),
        newest: MINORS.last().map_or(0, |minor| minor.minor),
    })?;
    Ok(Version { major, minor, patch: patch.unwrap_or(known.patch) })
}

/// The sandbox image that a version's kubeadm expects. `registry.k8s.io` serves the old ones too.
pub(super) fn pause_image(version: Version) -> String {
    let known = MINORS.iter().find(|known| known.minor == version.minor);
    let tag = known.map_or("3.10.2", |known| known.pause);
    format!("registry.k8s.io/pause:{tag}")
}

/// The configuration version that is right for the containerd in use, `containerd` if it is upstream's. Distributions have
/// everything from 1.6 to 2.x, and all of these read version 2.
pub(super) fn containerd_config(containerd: Version, runtime: Runtime) -> ContainerdConfig {
    match runtime {
        Runtime::Upstream if containerd.major >= 2 => ContainerdConfig::V3,
        Runtime::Upstream | Runtime::Distro => ContainerdConfig::V2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u16, patch: u16) -> Version {
        Version { major: 1, minor, patch }
    }

    #[test]
    fn a_version_may_leave_out_its_patch_and_have_a_v() {
        for (text, expected) in [
            ("1.36", version(36, 4)),
            ("v1.36", version(36, 4)),
            ("1.36.2", version(36, 2)),
            ("v1.20.2", version(20, 2)),
            ("1.37", version(37, 1)),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse(&DEFAULT.to_string()).unwrap(), DEFAULT);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "1", "1.", "latest", "1.36.4-rc.1", "1.36.4.1", "1.+36", "1.99999"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not a Kubernetes version"));
            assert_eq!(error.hint().unwrap(), "give a release, such as `1.36.4`, or a minor release, such as `1.36`");
        }
    }

    #[test]
    fn versions_that_nobody_here_can_configure_are_refused() {
        for text in ["1.19.16", "1.38", "2.36.4", "0.36"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("imgbake does not know how to configure Kubernetes `{text}`"));
            assert_eq!(error.hint().unwrap(), "it knows the releases from 1.20 to 1.37");
        }
    }

    #[test]
    fn the_pause_image_follows_the_version() {
        assert_eq!(pause_image(version(20, 2)), "registry.k8s.io/pause:3.2");
        assert_eq!(pause_image(DEFAULT), "registry.k8s.io/pause:3.10.2");
    }

    #[test]
    fn containerd_reads_the_configuration_it_gets() {
        let (old, new) = (Version { major: 1, minor: 7, patch: 34 }, Version { major: 2, minor: 3, patch: 4 });
        assert_eq!(containerd_config(new, Runtime::Upstream), ContainerdConfig::V3);
        assert_eq!(containerd_config(new, Runtime::Distro), ContainerdConfig::V2);
        assert_eq!(containerd_config(old, Runtime::Upstream), ContainerdConfig::V2);
    }
}
