//! `imgbake plan` and `imgbake profiles`: words only.

use std::fs;

use crate::run::{Kitchen, SSH_KEY};

#[test]
fn planning_leaves_no_trace_and_shows_no_secret() {
    let kitchen = Kitchen::new();
    let plan = kitchen.ok(&["plan", "pi4", "node-1", "--ssh-key", SSH_KEY]);
    assert!(plan.contains("/etc/hostname"), "{plan}");
    assert!(plan.contains("secret"), "{plan}");
    assert_eq!(fs::read_dir(kitchen.path("")).expect("the kitchen").count(), 0, "planning wrote something");
}

#[test]
fn the_same_request_is_planned_the_same() {
    let kitchen = Kitchen::new();
    let arguments = ["plan", "vps-amd64", "edge-1", "--join", "203.0.113.7:6443", "--token", "abcdef.0123456789abcdef"];
    let hash = format!("sha256:{}", "0".repeat(64));
    let arguments = [&arguments[..], &["--ca-cert-hash", &hash, "--ssh-key", SSH_KEY]].concat();
    let plan = kitchen.ok(&arguments);
    assert_eq!(without_times(&plan), without_times(&kitchen.ok(&arguments)));
    assert!(!plan.contains("0123456789abcdef"), "the token shows");
}

/// A cluster that does not exist yet would be made now, so its time stamp differs from run to run.
fn without_times(plan: &str) -> Vec<&str> {
    plan.lines().filter(|line| !line.contains("time")).collect()
}

#[test]
fn built_in_profiles_are_listed_and_own_ones_override_them() {
    let kitchen = Kitchen::new();
    let listing = kitchen.ok(&["profiles"]);
    for name in ["pi3", "pi4", "pi5", "vps-amd64", "vps-arm64"] {
        assert!(listing.lines().any(|line| line.starts_with(name)), "{listing}");
    }
    fs::create_dir_all(kitchen.path("config/profiles")).expect("a folder");
    let profile = "description: my own board\narchitecture: arm64\nbase: debian-13-rpi\nfirmware: raspberry-pi\nnetwork:\n  wire: end0\n";
    fs::write(kitchen.path("config/profiles/pi4.yaml"), profile).expect("a profile");
    let listing = kitchen.ok(&["profiles"]);
    assert!(listing.lines().any(|line| line.starts_with("pi4") && line.contains("my own board")), "{listing}");
    let plan = kitchen.ok(&["plan", "pi4", "node-1", "--ssh-key", SSH_KEY]);
    assert!(plan.contains("end0") || kitchen.ok(&["plan", "pi4", "node-1", "--json"]).contains("end0"), "{plan}");
}

#[test]
fn every_option_of_the_help_is_explained_and_the_readme_names_no_other() {
    let kitchen = Kitchen::new();
    let help = kitchen.ok(&["--help"]);
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let everything = [
        help.clone(),
        kitchen.ok(&["plan", "--help"]),
        kitchen.ok(&["fetch", "--help"]),
        kitchen.ok(&["profiles", "--help"]),
        kitchen.ok(&["verify", "--help"]),
        kitchen.ok(&["lock", "--help"]),
        kitchen.ok(&["base", "build", "--help"]),
        kitchen.ok(&["base", "list", "--help"]),
        kitchen.ok(&["cache", "prune", "--help"]),
        kitchen.ok(&["cache", "verify", "--help"]),
    ]
    .concat();
    for line in readme.lines().filter(|line| line.contains("imgbake ")) {
        for option in line.split([' ', '`', '|', '[', ']', '(', ')', ',']).filter(|word| word.starts_with("--")) {
            let name = option.split('=').next().expect("a name");
            // `--locked` and the like belong to cargo.
            assert!(everything.contains(name) || line.contains("cargo"), "README names {name}, the help does not");
        }
    }
    assert!(help.contains("Examples:"), "{help}");
}
