//! The releases of a node's programs: which are known here, and which one a minor release's name or nothing stands for.
//!
//! Sources: the projects' tags and release lists, read in November 2026. A patch that is not known here may be had all the
//! same; a minor release that is not known is refused, as nobody here knows what it goes with. Kubernetes' own are in
//! `version.rs`.

use super::error::SpecError;
use super::version::{self, FIRST_CRI_V1};
use super::{Choice, Component, Version};
use crate::artifact::Locked;

/// A minor release, and its newest patch known here.
type Known = (u16, u16, u16);

const CONTAINERD: [Known; 7] = [(1, 6, 39), (1, 7, 34), (2, 0, 11), (2, 1, 5), (2, 2, 7), (2, 3, 5), (2, 4, 1)];
const RUNC: [Known; 5] = [(1, 1, 15), (1, 2, 8), (1, 3, 6), (1, 4, 3), (1, 5, 1)];
const CNI_PLUGINS: [Known; 5] = [(1, 5, 1), (1, 6, 2), (1, 7, 1), (1, 8, 0), (1, 9, 1)];
const CRICTL: [Known; 7] = [(1, 30, 1), (1, 31, 1), (1, 32, 0), (1, 33, 0), (1, 34, 0), (1, 35, 0), (1, 36, 0)];

/// What is baked if nothing is asked for. containerd 2.3 is its long-term release, and 1.7 the last one that speaks the
/// CRI of kubelets before 1.23.
const DEFAULT_CONTAINERD: Version = Version { major: 2, minor: 3, patch: 4 };
const CONTAINERD_V1ALPHA2: Version = Version { major: 1, minor: 7, patch: 34 };
const DEFAULT_RUNC: Version = Version { major: 1, minor: 4, patch: 3 };
const DEFAULT_CNI_PLUGINS: Version = Version { major: 1, minor: 9, patch: 1 };
const DEFAULT_CRICTL: Version = Version { major: 1, minor: 36, patch: 0 };

/// How many known releases are named to who asks for an unknown one.
const NEAREST: usize = 3;

/// The releases of one node's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Releases {
    pub(super) kubernetes: Version,
    pub(super) containerd: Version,
    pub(super) runc: Version,
    pub(super) cni_plugins: Version,
    pub(super) crictl: Version,
}

/// What a user asks for, by component; `None` where nothing is said.
pub(super) type Asked<'a> = [(Component, Option<&'a str>); 5];

impl Releases {
    /// What goes with this Kubernetes version if nothing is asked for.
    pub(super) fn defaults(kubernetes: Version) -> Self {
        let is_old = kubernetes.minor < FIRST_CRI_V1;
        Self {
            kubernetes,
            containerd: if is_old { CONTAINERD_V1ALPHA2 } else { DEFAULT_CONTAINERD },
            runc: DEFAULT_RUNC,
            cni_plugins: DEFAULT_CNI_PLUGINS,
            crictl: DEFAULT_CRICTL,
        }
    }

    /// The releases that are `asked` for, as they were `locked` if they were, and every choice that was made.
    pub(super) fn choose(asked: &Asked<'_>, locked: &Locked) -> Result<(Self, Vec<Choice>), SpecError> {
        let mut releases = Self::defaults(version::DEFAULT);
        let mut choices = Vec::new();
        for (component, text) in asked {
            let default = *releases.slot(*component);
            let words = text.map_or_else(|| releases.default_words(*component), |text| plain(text).to_owned());
            let release = match (locked.release(component.name(), &words), text) {
                (Some(release), _) => parse(*component, release)?,
                (None, Some(text)) => parse(*component, text)?,
                (None, None) => default,
            };
            if *component == Component::Kubernetes {
                releases = Self::defaults(release);
            }
            *releases.slot(*component) = release;
            choices.push(Choice { component: *component, asked: words, release });
        }
        Ok((releases, choices))
    }

    fn slot(&mut self, component: Component) -> &mut Version {
        match component {
            Component::Kubernetes => &mut self.kubernetes,
            Component::Containerd => &mut self.containerd,
            Component::Runc => &mut self.runc,
            Component::CniPlugins => &mut self.cni_plugins,
            Component::Crictl => &mut self.crictl,
        }
    }

    /// What a lock file calls asking for nothing. The answer may depend on Kubernetes' version.
    fn default_words(&self, component: Component) -> String {
        match component {
            Component::Containerd if self.kubernetes.minor < FIRST_CRI_V1 => {
                format!("default before Kubernetes 1.{FIRST_CRI_V1}")
            }
            _ => "default".to_owned(),
        }
    }
}

impl Choice {
    /// Where upstream says which patch is the newest, if that is left open and upstream says so.
    #[must_use]
    pub fn marker(&self) -> Option<String> {
        match (self.component, version::numbers(&self.asked)) {
            (Component::Kubernetes, Some((major, minor, None))) => {
                Some(format!("https://dl.k8s.io/release/stable-{major}.{minor}.txt"))
            }
            _ => None,
        }
    }

    /// The release that upstream's marker names. It has no say beyond the minor release that was asked for, and cannot
    /// lead back behind what is known here.
    #[must_use]
    pub fn newest(&self, marker: &str) -> Option<Version> {
        let (major, minor, patch) = version::numbers(marker.trim())?;
        let release = Version { major, minor, patch: patch? };
        let is_asked_for = (major, minor) == (self.release.major, self.release.minor);
        is_asked_for.then_some(release.max(self.release))
    }
}

/// `1.36` of `v1.36`.
fn plain(text: &str) -> &str {
    text.strip_prefix('v').unwrap_or(text)
}

/// `2.3`, `2.3.4` or `v2.3.4`.
fn parse(component: Component, text: &str) -> Result<Version, SpecError> {
    let known: &[Known] = match component {
        Component::Kubernetes => return version::parse(text),
        Component::Containerd => &CONTAINERD,
        Component::Runc => &RUNC,
        Component::CniPlugins => &CNI_PLUGINS,
        Component::Crictl => &CRICTL,
    };
    let malformed = || SpecError::Release { component, text: text.to_owned() };
    let (major, minor, patch) = version::numbers(text).ok_or_else(malformed)?;
    match known.iter().find(|known| (known.0, known.1) == (major, minor)) {
        Some((_, _, newest)) => Ok(Version { major, minor, patch: patch.unwrap_or(*newest) }),
        None => {
            let (version, nearest) = (plain(text).to_owned(), nearest(known, major, minor));
            Err(SpecError::UnknownRelease { component, version, nearest })
        }
    }
}

/// The known minor releases nearest to one that is not, oldest first.
fn nearest(known: &[Known], major: u16, minor: u16) -> Vec<String> {
    let place = |major: u16, minor: u16| u32::from(major) * 100 + u32::from(minor);
    let mut near: Vec<&Known> = known.iter().collect();
    near.sort_by_key(|known| place(known.0, known.1).abs_diff(place(major, minor)));
    near.truncate(NEAREST);
    near.sort();
    near.iter().map(|(major, minor, _)| format!("{major}.{minor}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Component::{CniPlugins, Containerd, Crictl, Kubernetes, Runc};

    fn choose(kubernetes: Option<&str>, containerd: Option<&str>, locked: &Locked) -> (Releases, Vec<Choice>) {
        let asked =
            [(Kubernetes, kubernetes), (Containerd, containerd), (Runc, None), (CniPlugins, None), (Crictl, None)];
        Releases::choose(&asked, locked).unwrap()
    }

    #[test]
    fn a_minor_release_stands_for_its_newest_known_patch() {
        for (component, text, expected) in [
            (Containerd, "2.3", "2.3.5"),
            (Containerd, "v2.3.4", "2.3.4"),
            (Containerd, "1.7.99", "1.7.99"),
            (Runc, "1.3", "1.3.6"),
            (CniPlugins, "1.9", "1.9.1"),
            (Crictl, "1.35", "1.35.0"),
            (Kubernetes, "1.35.1", "1.35.1"),
        ] {
            assert_eq!(parse(component, text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_release_is_refused_with_the_nearest_known_ones() {
        for (component, text, message, hint) in [
            (
                Containerd,
                "2.5",
                "imgbake does not know containerd `2.5`",
                "the nearest that it knows are 2.2, 2.3, 2.4",
            ),
            (
                Containerd,
                "v1.5.2",
                "imgbake does not know containerd `1.5.2`",
                "the nearest that it knows are 1.6, 1.7, 2.0",
            ),
            (
                CniPlugins,
                "0.9",
                "imgbake does not know cni-plugins `0.9`",
                "the nearest that it knows are 1.5, 1.6, 1.7",
            ),
            (
                Runc,
                "latest",
                "`latest` is not a version of runc",
                "give a release, such as `1.4.3`, or a minor release, such as `1.4`",
            ),
        ] {
            let error = parse(component, text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.hint().unwrap().as_str()), (message, hint));
        }
    }

    #[test]
    fn containerds_default_follows_kubernetes() {
        let (releases, choices) = choose(Some("1.22"), None, &Locked::default());
        assert_eq!(releases.containerd, CONTAINERD_V1ALPHA2);
        let words: Vec<String> = choices
            .iter()
            .map(|choice| format!("{} {} {}", choice.component.name(), choice.asked, choice.release))
            .collect();
        assert_eq!(
            words,
            [
                "kubernetes 1.22 1.22.17",
                "containerd default before Kubernetes 1.23 1.7.34",
                "runc default 1.4.3",
                "cni-plugins default 1.9.1",
                "crictl default 1.36.0"
            ]
        );
    }

    #[test]
    fn what_is_locked_comes_first() {
        let mut locked = Locked::default();
        for (name, asked, release) in
            [("kubernetes", "1.36", "1.36.9"), ("containerd", "default", "2.3.7"), ("runc", "1.4", "1.4.9")]
        {
            locked.releases.insert((name.to_owned(), asked.to_owned()), release.to_owned());
        }
        let (releases, _) = choose(Some("v1.36"), None, &locked);
        assert_eq!([releases.kubernetes, releases.containerd].map(|release| release.to_string()), ["1.36.9", "2.3.7"]);
        assert_eq!(releases.runc, DEFAULT_RUNC);
    }

    #[test]
    fn upstreams_marker_leads_to_newer_patches_only() {
        let (_, choices) = choose(Some("1.36"), Some("2.3"), &Locked::default());
        assert_eq!(choices[0].marker().unwrap(), "https://dl.k8s.io/release/stable-1.36.txt");
        assert_eq!(choices[1].marker(), None);
        let newest = |marker| choices[0].newest(marker).map(|release| release.to_string());
        assert_eq!(newest("v1.36.9\n").as_deref(), Some("1.36.9"));
        assert_eq!(newest("v1.36.1").as_deref(), Some("1.36.4"));
        for marker in ["", "v1.37.1", "v1.36", "<html>", "v1.36.9-rc.1"] {
            assert_eq!(newest(marker), None, "{marker}");
        }
        for settled in [None, Some("1.36.2")] {
            assert_eq!(choose(settled, None, &Locked::default()).1[0].marker(), None);
        }
    }

    #[test]
    fn every_default_is_a_known_release() {
        let defaults = Releases::defaults(version::DEFAULT);
        for (component, release) in [
            (Containerd, defaults.containerd),
            (Containerd, CONTAINERD_V1ALPHA2),
            (Runc, defaults.runc),
            (CniPlugins, defaults.cni_plugins),
            (Crictl, defaults.crictl),
        ] {
            assert_eq!(parse(component, &release.to_string()).unwrap(), release);
        }
    }
}
