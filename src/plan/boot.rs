//! The kernel's arguments, in the file that the firmware really reads.
//!
//! Raspberry Pi's config.txt: <https://www.raspberrypi.com/documentation/computers/config_txt.html>. Its `include` is
//! not followed.

use std::collections::BTreeSet;

use super::{BootEdit, Draft, GuestPath, Transform};
use crate::spec::{Distribution, KernelArguments, NodeSpec};

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    let arguments = &spec.firmware.arguments;
    if arguments.is_empty() || spec.firmware.kernel_arguments != KernelArguments::RaspberryPiCmdline {
        return;
    }
    let add = Transform::AddKernelArguments(arguments.clone());
    draft.boot.insert("/cmdline.txt".into(), BootEdit::Transform(add.clone()));
    let debian = spec.base.system.as_ref().is_none_or(|system| system.distribution == Distribution::Debian);
    if debian {
        // Debian's raspi-firmware writes cmdline.txt anew with every kernel and appends this file; nobody else reads it.
        draft.transform("/etc/default/raspi-extra-cmdline", add);
    }
}

/// Where a Raspberry Pi's firmware may read the kernel's arguments, given the text of `config.txt`: `cmdline.txt`
/// or what `cmdline=` names, after `os_prefix`, for every section that sets them (`[tryboot]` and the boards' own
/// included). Some of these files may be missing; all that exist are meant.
#[must_use]
pub fn cmdline_paths(config_txt: &str) -> Vec<GuestPath> {
    let prefixes = values(config_txt, "os_prefix", "");
    let names = values(config_txt, "cmdline", "cmdline.txt");
    let paths: BTreeSet<GuestPath> = prefixes
        .iter()
        .flat_map(|prefix| names.iter().map(move |name| format!("{prefix}{name}").as_str().into()))
        .collect();
    paths.into_iter().collect()
}

/// All values that a setting can have: the last one outside conditional sections, else the default, and each one inside.
fn values(config_txt: &str, key: &str, default: &str) -> BTreeSet<String> {
    let mut always = default.to_owned();
    let mut sometimes = BTreeSet::new();
    let mut section = "all";
    for line in config_txt.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        match section {
            _ if name.trim() != key => {}
            "all" => value.trim().clone_into(&mut always),
            "none" => {}
            _ => {
                sometimes.insert(value.trim().to_owned());
            }
        }
    }
    sometimes.insert(always);
    sometimes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(config_txt: &str) -> Vec<String> {
        cmdline_paths(config_txt).iter().map(|path| path.as_str().to_owned()).collect()
    }

    #[test]
    fn without_a_prefix_it_is_the_one_in_the_root() {
        assert_eq!(paths(""), ["/cmdline.txt"]);
        assert_eq!(paths("arm_64bit=1\n#os_prefix=old/\n[pi4]\narm_boost=1\n"), ["/cmdline.txt"]);
    }

    #[test]
    fn ubuntus_two_systems_each_have_one_and_the_roots_is_ignored() {
        let config =
            "[all]\narm_64bit=1\nos_prefix=current/\n\n[tryboot]\nos_prefix=new/\n\n[all]\ncmdline=cmdline.txt\n";
        assert_eq!(paths(config), ["/current/cmdline.txt", "/new/cmdline.txt"]);
    }

    #[test]
    fn a_boards_own_setting_comes_beside_the_general_one() {
        assert_eq!(paths("[pi5]\r\nos_prefix = pi5- \r\n"), ["/cmdline.txt", "/pi5-cmdline.txt"]);
        assert_eq!(paths("[none]\nos_prefix=x/\n[all]\ncmdline=a\ncmdline=b"), ["/b"]);
    }
}
