//! Who the node is: what a copied image must not share with its siblings is taken out, its own name put in.

use sha2::{Digest, Sha256};

use super::{Attributes, Body, Draft, Owner, RootEdit, Transform};
use crate::spec::{Distribution, NodeSpec};

/// What grows in a running system and would make two nodes twins, or tells of the machine that made the image.
const FOREIGN: [&str; 11] = [
    // Preferred over a random id when /etc/machine-id is empty.
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/credential.secret",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/tailscale",
    "/var/log/cloud-init.log",
    "/var/log/cloud-init-output.log",
    // Left by installers; they would switch cloud-init or its networking off.
    "/etc/cloud/cloud-init.disabled",
    "/etc/cloud/cloud.cfg.d/99-installer.cfg",
    "/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
    "/root/.bash_history",
];

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    draft.text("/etc/hostname", format!("{}\n", spec.hostname));
    draft.transform("/etc/hosts", Transform::SetOwnHost(spec.hostname.clone()));
    draft.write("/etc/machine-id", 0o444, Body::Text(machine_id(spec).to_owned()));
    // Would ask at the console whatever the image leaves unset.
    draft.mask("systemd-firstboot.service");
    FOREIGN.iter().for_each(|path| draft.remove(path));
    for directory in ["/var/lib/cloud", "/var/log/journal", "/var/lib/systemd/network", "/var/lib/dhcp"] {
        draft.edit(directory, RootEdit::Empty);
    }
    for kind in ["rsa", "dsa", "ecdsa", "ed25519"] {
        draft.remove(&format!("/etc/ssh/ssh_host_{kind}_key"));
        draft.remove(&format!("/etc/ssh/ssh_host_{kind}_key.pub"));
    }
    // Not every image makes the missing keys itself; where one does, this finds nothing to do.
    draft.enabled_unit("imgbake-ssh-keys.service", include_str!("guest/imgbake-ssh-keys.service"));
    // Text, but 256 bits of it are the seed's; systemd only stirs it in and replaces it at once.
    draft.secret("/var/lib/systemd/random-seed", derived(spec, "random-seed"));
    clock(draft);
}

/// An empty file gets an id of its own at the first boot. The word `uninitialized` would also make systemd enable units
/// by preset, on Debian all of them, nftables.service's flush of all rules included. Raspberry Pi OS ships that word
/// and is made for it.
fn machine_id(spec: &NodeSpec) -> &'static str {
    match &spec.base.system {
        Some(system) if system.distribution == Distribution::RaspberryPiOs => "uninitialized\n",
        _ => "",
    }
}

/// Boards without a clock of their own start at these files' modification time, that is the plan's timestamp, so that
/// the cluster's certificate authority is never of the future. systemd reads the first from its version 250 on,
/// timesyncd the second, which it must be able to write.
fn clock(draft: &mut Draft) {
    let timesync = || Owner::User("systemd-timesync".to_owned());
    draft.text("/usr/lib/clock-epoch", "");
    draft.directory("/var/lib/systemd/timesync", 0o755, timesync());
    draft.edit(
        "/var/lib/systemd/timesync/clock",
        RootEdit::Write { body: Body::Text(String::new()), attributes: Attributes { mode: 0o644, owner: timesync() } },
    );
}

/// 64 hexadecimal digits that only this node's seed gives, different for each purpose.
pub(super) fn derived(spec: &NodeSpec, purpose: &str) -> String {
    let hash = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(spec.seed.reveal()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
