//! What cloud-init is told: in the image's own configuration, which holds wherever the image boots, and in the seed
//! where the image takes one.
//!
//! The seed lies on a FAT file system: nothing in it is secret, and nothing the node needs for joining depends on
//! it, because Raspberry Pi Imager replaces these files.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::network::{self, Renderer};
use super::users::{GROUPS, SUDO};
use super::{Draft, yaml};
use crate::spec::{NodeSpec, SeedLocation};

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    if spec.base.seed == SeedLocation::None {
        return;
    }
    let system = yaml::document(&system(spec));
    draft.text("/etc/cloud/cloud.cfg.d/99-imgbake.cfg", system);
    if spec.base.seed == SeedLocation::BootPartition {
        seed(spec, draft);
    }
}

/// Keys from a provider's metadata open the same account, the image's default account is never made, and metadata
/// does not rename a node of a cluster. No `datasource_list`: the image knows its platforms.
fn system(spec: &NodeSpec) -> Value {
    json!({
        "preserve_hostname": true,
        // Debian's images let cloud-init write /etc/hosts anew, with the name of the provider's metadata.
        "manage_etc_hosts": false,
        "ssh_pwauth": false,
        // The image brings none; those that imgbake-ssh-keys.service made are this node's.
        "ssh_deletekeys": false,
        "system_info": { "default_user": person(spec) },
    })
}

fn person(spec: &NodeSpec) -> Value {
    json!({
        "name": spec.user.name,
        "gecos": spec.user.name,
        "groups": GROUPS,
        "lock_passwd": true,
        "shell": "/bin/bash",
        "sudo": SUDO,
    })
}

fn seed(spec: &NodeSpec, draft: &mut Draft) {
    let mut user = person(spec);
    user["ssh_authorized_keys"] = json!(spec.user.ssh_keys);
    let user_data = yaml::document(&json!({
        "hostname": spec.hostname,
        "preserve_hostname": true,
        "ssh_pwauth": false,
        "users": [user],
    }));
    let network_config = network::configuration(spec, Renderer::Unnamed).map(|value| yaml::document(&value));
    let meta_data = yaml::document(&json!({
        // Another instance, for which cloud-init does its work again, only when there is something new to do.
        "instance-id": instance(spec, &[&user_data, network_config.as_deref().unwrap_or_default()]),
        "local-hostname": spec.hostname,
        // A seed in a file is read before the network, and only then.
        "dsmode": "local",
    }));
    draft.boot_text("/user-data", format!("#cloud-config\n{user_data}"));
    draft.boot_text("/meta-data", meta_data);
    if let Some(network_config) = network_config {
        draft.boot_text("/network-config", network_config);
    }
}

fn instance(spec: &NodeSpec, texts: &[&str]) -> String {
    let own = super::identity::derived(spec, "instance-id");
    let hash =
        texts.iter().fold(Sha256::new().chain_update(own), |hash, text| hash.chain_update(text).chain_update([0]));
    let digits: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("imgbake-{digits}")
}
