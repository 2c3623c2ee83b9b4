//! The node's own network.
//!
//! Where the profile says what the wire is to be, a netplan file says so: netplan is what Ubuntu for Raspberry Pi,
//! Debian's cloud images and our own bases (networkd), and Raspberry Pi OS (NetworkManager) have in common, and no
//! renderer is named, so each uses its own. netplan merges files by interface and the last name wins, so this one
//! also holds against what cloud-init makes of the seed's network-config, which Raspberry Pi Imager may replace; the
//! Wi-Fi that Imager adds there stays untouched.

use serde_json::{Value, json};

use super::{Body, Draft};
use crate::spec::{Network, NodeSpec};

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    match configuration(spec, Renderer::Named) {
        Some(netplan) => {
            // Wi-Fi passwords are usual in such files: netplan wants them all unreadable.
            draft.write("/etc/netplan/90-imgbake.yaml", 0o600, Body::Text(super::yaml::document(&netplan)));
            draft.text(
                "/etc/systemd/system/systemd-networkd-wait-online.service.d/05-imgbake.conf",
                include_str!("guest/wait-online.conf"),
            );
        }
        // The provider's metadata decides. Where there is none, a last file of networkd's asks by DHCP.
        None => {
            draft.text("/etc/systemd/network/99-imgbake-fallback.network", include_str!("guest/fallback.network"));
            // Elsewhere netplan starts it, for what cloud-init wrote; a server without metadata has no such file.
            draft.enable("systemd-networkd.service", "/usr/lib/systemd/system/systemd-networkd.service");
        }
    }
}

/// Whether an interface may name its renderer: netplan takes it, cloud-init's schema does not.
#[derive(PartialEq)]
pub(super) enum Renderer {
    Named,
    Unnamed,
}

/// The interface's configuration as netplan and cloud-init's network-config version 2 write it.
pub(super) fn configuration(spec: &NodeSpec, renderer: Renderer) -> Option<Value> {
    let (interface, ethernet) = match &spec.network {
        Network::Platform => return None,
        Network::Dhcp { interface } => {
            // By hardware address, so that a card baked again gets its old lease; `optional`, so that no cable is no
            // reason to hold the boot.
            (interface, json!({"dhcp4": true, "dhcp-identifier": "mac", "optional": true}))
        }
        Network::Static { interface, address, prefix, gateway } => {
            let mut ethernet = json!({"addresses": [format!("{address}/{prefix}")], "dhcp4": false, "optional": true});
            if gateway.is_some() && renderer == Renderer::Named {
                // The DHCP server is networkd's, whoever manages the other interfaces.
                ethernet["renderer"] = json!("networkd");
            }
            (interface, ethernet)
        }
    };
    Some(json!({"network": {"version": 2, "ethernets": {interface: ethernet}}}))
}
