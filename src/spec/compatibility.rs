//! What works with what: kubelet, containerd, kubeadm's configuration and control groups. A combination that does not boot a
//! cluster is refused, one that its makers do not recommend is warned of.
//!
//! Written from containerd's RELEASES.md (table of Kubernetes support), Kubernetes' release notes of 1.20 to 1.37 with
//! KEP-4033 (`RuntimeConfig`) and KEP-5573 (cgroup v1), kubeadm's preflight checks, the history of its configuration API, and
//! Debian's package lists. The pause image is not here: it is always the one that `version.rs` has for the Kubernetes
//! version, and goes into containerd's configuration from there.

use super::version::FIRST_CRI_V1;
use super::{ConfigApi, Distribution, System, Version};

/// The last minor release whose kubelet speaks CRI v1alpha2, which containerd 2.0 dropped.
const LAST_CRI_V1ALPHA2: u16 = 25;
/// The first minor release whose kubelet does not start with a runtime that has no `RuntimeConfig` call (containerd 1.x), and
/// the first one whose kubeadm warns of that.
const RUNTIME_CONFIG_NEEDED: u16 = 38;
const RUNTIME_CONFIG_WARNED: u16 = 35;
/// The first minor release whose kubelet does not start on cgroup v1 by default, and the first one that only maintains it.
const CGROUP_V2_NEEDED: u16 = 35;
const CGROUP_V1_MAINTAINED: u16 = 31;

/// A containerd release: major, minor, patch.
type Containerd = (u16, u16, u16);

/// From this Kubernetes minor release on, the oldest patch of each containerd line that containerd's project recommends.
/// Lines newer than the newest one listed are taken for good.
const RECOMMENDED: [(u16, &[Containerd]); 6] = [
    (26, &[(1, 6, 15), (1, 7, 0)]),
    (32, &[(1, 6, 36), (1, 7, 24), (2, 0, 1), (2, 1, 0)]),
    (33, &[(1, 6, 36), (1, 7, 24), (2, 0, 4), (2, 1, 0)]),
    (34, &[(1, 6, 39), (1, 7, 28), (2, 0, 6), (2, 1, 3)]),
    (35, &[(1, 7, 28), (2, 1, 5), (2, 2, 0)]),
    (36, &[(2, 2, 0), (2, 3, 0)]),
];

/// A configuration API, the minor release whose kubeadm read it first, and the one that does not any more.
const CONFIG_APIS: [(ConfigApi, u16, u16); 3] =
    [(ConfigApi::V1beta2, 15, 27), (ConfigApi::V1beta3, 22, 37), (ConfigApi::V1beta4, 31, u16::MAX)];

/// The containerd that a distribution's release packages.
const PACKAGED: [(Distribution, &str, Containerd); 2] =
    [(Distribution::Debian, "12", (1, 6, 20)), (Distribution::Debian, "13", (1, 7, 24))];

/// The last release, year and month or number, whose systemd mounts cgroup v1 by default.
const LAST_CGROUP_V1: [(Distribution, u16, u16); 3] =
    [(Distribution::Debian, 10, 0), (Distribution::Ubuntu, 21, 4), (Distribution::RaspberryPiOs, 10, 0)];

/// Kernel arguments that make systemd mount cgroup v1.
const CGROUP_V1_ARGUMENTS: [&str; 3] = [
    "systemd.unified_cgroup_hierarchy=0",
    "systemd.unified_cgroup_hierarchy=no",
    "systemd.unified_cgroup_hierarchy=false",
];

/// Programs that do not make a node together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// kubelet and containerd have no CRI version in common.
    #[error("the kubelet of Kubernetes {kubernetes} and containerd {containerd} have no version of the CRI in common")]
    Cri {
        /// Kubernetes' version.
        kubernetes: Version,
        /// containerd's version.
        containerd: Version,
    },
    /// containerd does not have the call by which the kubelet asks for the cgroup driver.
    #[error(
        "the kubelet of Kubernetes {kubernetes} does not start with containerd {containerd}: it needs the CRI's `RuntimeConfig`"
    )]
    RuntimeConfig {
        /// Kubernetes' version.
        kubernetes: Version,
        /// containerd's version.
        containerd: Version,
    },
    /// The base image's system mounts cgroup v1.
    #[error("the kubelet of Kubernetes {kubernetes} does not start on cgroup v1, which {because}")]
    CgroupV1 {
        /// Kubernetes' version.
        kubernetes: Version,
        /// Who wants cgroup v1.
        because: String,
    },
    /// No configuration that imgbake writes is read by this kubeadm.
    #[error("the kubeadm of Kubernetes {kubernetes} reads no configuration that imgbake writes")]
    ConfigApi {
        /// Kubernetes' version.
        kubernetes: Version,
    },
}

impl Incompatible {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Cri { containerd, .. } if containerd.major >= 2 => {
                format!("bake containerd 1.7 (`--containerd 1.7`), or Kubernetes 1.{FIRST_CRI_V1} or newer")
            }
            Self::Cri { .. } | Self::RuntimeConfig { .. } => {
                "bake containerd 2.3 (`--containerd 2.3`, and no `--runtime distro`), or an older \
                 Kubernetes"
                    .to_owned()
            }
            Self::CgroupV1 { .. } => format!(
                "choose a newer base image (`imgbake base list`) and no kernel argument against cgroup v2, or Kubernetes 1.{} \
                 or older",
                CGROUP_V2_NEEDED - 1
            ),
            Self::ConfigApi { .. } => "choose a Kubernetes version from the table in the README".to_owned(),
        }
    }
}

/// The API that a version's kubeadm reads; of several the newest.
pub(super) fn config_api(kubernetes: Version) -> Result<ConfigApi, Incompatible> {
    let reads = |first: u16, end: u16| (first..end).contains(&kubernetes.minor);
    let found = CONFIG_APIS.iter().rev().find(|(_, first, end)| reads(*first, *end));
    found.map(|(api, ..)| *api).ok_or(Incompatible::ConfigApi { kubernetes })
}

/// The containerd that is in a base image with its distribution's runtime, where that is known.
pub(super) fn packaged(system: &System) -> Option<Version> {
    let known = PACKAGED
        .iter()
        .find(|(distribution, release, _)| *distribution == system.distribution && *release == system.release);
    known.map(|(_, _, (major, minor, patch))| Version { major: *major, minor: *minor, patch: *patch })
}

/// Whether Kubernetes runs on this containerd. Answers warnings.
pub(super) fn with_containerd(kubernetes: Version, containerd: Version) -> Result<Vec<String>, Incompatible> {
    let Version { major, minor, .. } = containerd;
    let has_v1 = kubernetes.minor >= FIRST_CRI_V1 && (major, minor) >= (1, 6);
    let has_v1alpha2 = kubernetes.minor <= LAST_CRI_V1ALPHA2 && major == 1;
    if !has_v1 && !has_v1alpha2 {
        return Err(Incompatible::Cri { kubernetes, containerd });
    }
    let has_runtime_config = major >= 2;
    if !has_runtime_config && kubernetes.minor >= RUNTIME_CONFIG_NEEDED {
        return Err(Incompatible::RuntimeConfig { kubernetes, containerd });
    }
    if !has_runtime_config && kubernetes.minor >= RUNTIME_CONFIG_WARNED {
        return Ok(vec![format!(
            "containerd {containerd} works with Kubernetes {kubernetes}, but kubeadm warns of it (ContainerRuntimeVersion): \
             from 1.{RUNTIME_CONFIG_NEEDED} on kubelets need containerd 2.x"
        )]);
    }
    Ok(not_recommended(kubernetes, containerd).into_iter().collect())
}

/// A warning if containerd's project does not recommend it for this Kubernetes.
fn not_recommended(kubernetes: Version, containerd: Version) -> Option<String> {
    let Version { major, minor, patch } = containerd;
    let (_, lines) = RECOMMENDED.iter().rev().find(|(from, _)| *from <= kubernetes.minor)?;
    let is_newer = lines.last().is_some_and(|newest| (major, minor) > (newest.0, newest.1));
    let is_listed = lines.iter().any(|line| (line.0, line.1) == (major, minor) && line.2 <= patch);
    if is_newer || is_listed {
        return None;
    }
    let lines: Vec<String> = lines.iter().map(|(major, minor, patch)| format!("{major}.{minor}.{patch}")).collect();
    Some(format!(
        "containerd {containerd} is not among those that its project recommends for Kubernetes 1.{}: {} and later patches of \
         these, or newer",
        kubernetes.minor,
        lines.join(", ")
    ))
}

/// Whether Kubernetes runs on the control groups of `system`, as far as that is known, with these kernel arguments.
/// Answers warnings.
pub(super) fn with_cgroups(
    kubernetes: Version,
    system: Option<&System>,
    arguments: &[String],
) -> Result<Vec<String>, Incompatible> {
    let argument = arguments.iter().find(|argument| CGROUP_V1_ARGUMENTS.contains(&argument.as_str()));
    let because = match (argument, system) {
        (Some(argument), _) => format!("the kernel argument `{argument}` asks for"),
        (None, Some(system)) if mounts_cgroup_v1(system) => {
            let name = match system.distribution {
                Distribution::Debian => "Debian",
                Distribution::Ubuntu => "Ubuntu",
                Distribution::RaspberryPiOs => "Raspberry Pi OS",
            };
            format!("{name} {} mounts", system.release)
        }
        _ => return Ok(Vec::new()),
    };
    match kubernetes.minor {
        CGROUP_V2_NEEDED.. => Err(Incompatible::CgroupV1 { kubernetes, because }),
        CGROUP_V1_MAINTAINED.. => Ok(vec![format!(
            "Kubernetes {kubernetes} only maintains cgroup v1, which {because}: from 1.{CGROUP_V2_NEEDED} on kubelets do not \
             start there"
        )]),
        _ => Ok(Vec::new()),
    }
}

fn mounts_cgroup_v1(system: &System) -> bool {
    let mut parts = system.release.split('.').map(|part| part.parse::<u16>().ok());
    let (number, month) = (parts.next().flatten(), parts.next().flatten().unwrap_or(0));
    let last = LAST_CGROUP_V1.iter().find(|(distribution, ..)| *distribution == system.distribution);
    number.zip(last).is_some_and(|(number, (_, last, last_month))| (number, month) <= (*last, *last_month))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubernetes(minor: u16) -> Version {
        Version { major: 1, minor, patch: 0 }
    }

    fn containerd((major, minor, patch): Containerd) -> Version {
        Version { major, minor, patch }
    }

    fn warnings(minor: u16, with: Containerd) -> Vec<String> {
        with_containerd(kubernetes(minor), containerd(with)).unwrap()
    }

    fn system(distribution: Distribution, release: &str) -> System {
        System { distribution, release: release.to_owned() }
    }

    #[test]
    fn the_configuration_api_is_the_newest_that_kubeadm_reads() {
        use ConfigApi::{V1beta2, V1beta3, V1beta4};
        let apis = [20, 21, 22, 30, 31, 36, 37].map(|minor| config_api(kubernetes(minor)).unwrap());
        assert_eq!(apis, [V1beta2, V1beta2, V1beta3, V1beta3, V1beta4, V1beta4, V1beta4]);
        let error = config_api(kubernetes(14)).unwrap_err();
        assert_eq!(error.to_string(), "the kubeadm of Kubernetes 1.14.0 reads no configuration that imgbake writes");
    }

    #[test]
    fn what_containerds_project_recommends_goes_without_a_word() {
        for (minor, lines) in RECOMMENDED {
            for line in lines.iter().filter(|line| minor < RUNTIME_CONFIG_WARNED || line.0 >= 2) {
                assert_eq!(warnings(minor, *line), [""; 0], "{minor} {line:?}");
            }
        }
        for (minor, with) in [(20, (1, 7, 34)), (25, (2, 3, 4)), (30, (2, 4, 1)), (36, (2, 3, 4)), (37, (2, 4, 1))] {
            assert_eq!(warnings(minor, with), [""; 0], "{minor} {with:?}");
        }
    }

    #[test]
    fn older_containerd_is_warned_of() {
        let not_listed = "containerd 1.6.20 is not among those that its project recommends for Kubernetes 1.34: 1.6.39, \
                          1.7.28, 2.0.6, 2.1.3 and later patches of these, or newer";
        assert_eq!(warnings(34, (1, 6, 20)), [not_listed]);
        let old = "containerd 1.7.34 works with Kubernetes 1.35.0, but kubeadm warns of it (ContainerRuntimeVersion): from \
                   1.38 on kubelets need containerd 2.x";
        assert_eq!(warnings(35, (1, 7, 34)), [old]);
        assert_eq!(warnings(37, (1, 6, 39)).len(), 1);
        assert_eq!(warnings(36, (2, 0, 11)).len(), 1);
    }

    #[test]
    fn containerd_without_what_the_kubelet_needs_is_refused() {
        let refused = |minor, with| {
            let error = with_containerd(kubernetes(minor), containerd(with)).unwrap_err();
            (error.to_string(), error.hint())
        };
        let (message, hint) = refused(38, (1, 7, 34));
        assert_eq!(
            message,
            "the kubelet of Kubernetes 1.38.0 does not start with containerd 1.7.34: it needs the CRI's `RuntimeConfig`"
        );
        assert_eq!(hint, "bake containerd 2.3 (`--containerd 2.3`, and no `--runtime distro`), or an older Kubernetes");
        let (message, hint) = refused(22, (2, 3, 4));
        assert_eq!(
            message,
            "the kubelet of Kubernetes 1.22.0 and containerd 2.3.4 have no version of the CRI in common"
        );
        assert_eq!(hint, "bake containerd 1.7 (`--containerd 1.7`), or Kubernetes 1.23 or newer");
        assert!(refused(26, (1, 5, 18)).0.ends_with("in common"));
    }

    #[test]
    fn cgroup_v1_is_refused_where_the_kubelet_does_not_start_on_it() {
        let focal = system(Distribution::Ubuntu, "20.04");
        let error = with_cgroups(kubernetes(35), Some(&focal), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kubelet of Kubernetes 1.35.0 does not start on cgroup v1, which Ubuntu 20.04 mounts"
        );
        assert_eq!(
            error.hint(),
            "choose a newer base image (`imgbake base list`) and no kernel argument against cgroup v2, or Kubernetes 1.34 or \
             older"
        );
        let warning = "Kubernetes 1.34.0 only maintains cgroup v1, which Ubuntu 20.04 mounts: from 1.35 on kubelets do not \
                       start there";
        assert_eq!(with_cgroups(kubernetes(34), Some(&focal), &[]).unwrap(), [warning]);
        assert_eq!(with_cgroups(kubernetes(30), Some(&focal), &[]).unwrap(), [""; 0]);
        let argument = ["quiet".to_owned(), "systemd.unified_cgroup_hierarchy=0".to_owned()];
        let error = with_cgroups(kubernetes(36), None, &argument).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kubelet of Kubernetes 1.36.0 does not start on cgroup v1, which the kernel argument \
             `systemd.unified_cgroup_hierarchy=0` asks for"
        );
    }

    #[test]
    fn systems_with_cgroup_v2_go_without_a_word() {
        for (distribution, release) in [
            (Distribution::Debian, "11"),
            (Distribution::Debian, "13"),
            (Distribution::Ubuntu, "21.10"),
            (Distribution::Ubuntu, "24.04"),
            (Distribution::RaspberryPiOs, "13"),
            (Distribution::Debian, "sid"),
        ] {
            let system = system(distribution, release);
            assert_eq!(with_cgroups(kubernetes(37), Some(&system), &[]).unwrap(), [""; 0], "{system:?}");
        }
        for (distribution, release) in
            [(Distribution::Debian, "10"), (Distribution::Ubuntu, "21.04"), (Distribution::Ubuntu, "18.04")]
        {
            assert!(mounts_cgroup_v1(&system(distribution, release)));
        }
    }

    #[test]
    fn the_distributions_containerd_is_known() {
        let known = |release| packaged(&system(Distribution::Debian, release)).map(|version| version.to_string());
        assert_eq!([known("12"), known("13"), known("14")], [Some("1.6.20".into()), Some("1.7.24".into()), None]);
    }
}
