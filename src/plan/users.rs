//! The account that the caller's SSH keys open, and nobody else's password.
//!
//! It is made here and not by cloud-init, so that it works where cloud-init finds no source of data (a cloud
//! without metadata, a bare virtual machine) and survives Raspberry Pi Imager's replacing the seed.

use super::{Account, Attributes, Body, Draft, Owner, RootEdit};
use crate::spec::{Distribution, NodeSpec};

/// Groups that let the account administer the node.
pub(super) const GROUPS: [&str; 2] = ["adm", "sudo"];
/// What sudo lets it do.
pub(super) const SUDO: &str = "ALL=(ALL) NOPASSWD:ALL";

pub(super) fn account(spec: &NodeSpec) -> Account {
    let name = spec.user.name.clone();
    let home = if name == "root" { "/root".to_owned() } else { format!("/home/{name}") };
    Account { name, home, groups: GROUPS.map(str::to_owned).to_vec() }
}

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    let Account { name, home, .. } = account(spec);
    let owner = || Owner::User(name.clone());
    draft.directory(&home, 0o750, owner());
    draft.directory(&format!("{home}/.ssh"), 0o700, owner());
    let keys: String = spec.user.ssh_keys.iter().map(|key| format!("{key}\n")).collect();
    draft.edit(
        &format!("{home}/.ssh/authorized_keys"),
        RootEdit::Write { body: Body::Text(keys), attributes: Attributes { mode: 0o600, owner: owner() } },
    );
    if spec.user.ssh_keys.is_empty() {
        draft.notes.push(format!("no SSH key was given: nobody can log in as `{name}` unless a provider adds one"));
    }
    draft.write("/etc/sudoers.d/90-imgbake", 0o440, Body::Text(format!("{name} {SUDO}\n")));
    draft.text("/etc/ssh/sshd_config.d/10-imgbake.conf", include_str!("guest/sshd.conf"));
    if spec.base.system.as_ref().is_some_and(|system| system.distribution == Distribution::RaspberryPiOs) {
        // It comes without an account, asks for one at the console, and leaves SSH off until then.
        draft.mask("userconfig.service");
        draft.enable("ssh.service", "/usr/lib/systemd/system/ssh.service");
    }
}
