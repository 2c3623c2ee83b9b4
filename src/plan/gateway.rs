//! The gateway: addresses for the cluster's other nodes, and a way out for them.
//!
//! systemd-networkd's own DHCP server, since every image has it; netplan cannot express it, so it is a drop-in to the
//! file that netplan generates. Keys are those of systemd 252, valid in 257. The way out is any interface but the
//! cluster's own (Wi-Fi, a modem, or none at all), by a table of our own that leaves kube-proxy's and CNI's alone.

use std::net::Ipv4Addr;

use super::Draft;
use crate::spec::{DhcpPool, Network, NodeSpec};

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    let Network::Static { interface, address, prefix, gateway: Some(pool) } = &spec.network else { return };
    draft.text(&format!("/etc/systemd/network/10-netplan-{interface}.network.d/50-imgbake.conf"), dhcp_server(*pool));
    draft.text(
        "/etc/systemd/resolved.conf.d/50-imgbake.conf",
        format!(
            "# The cluster's nodes ask this one, which asks whatever uplink there is by then.\n\
             [Resolve]\nDNSStubListenerExtra={address}\n"
        ),
    );
    draft.text("/etc/imgbake/nat.nft", nat(spec, interface, network(*address, *prefix), *prefix));
    draft.enabled_unit("imgbake-nat.service", include_str!("guest/imgbake-nat.service"));
}

fn dhcp_server(pool: DhcpPool) -> String {
    let DhcpPool { offset, size } = pool;
    format!(
        "[Network]
DHCPServer=yes
# A cable that is pulled, or not live yet at boot, must not take the API server's address away.
ConfigureWithoutCarrier=yes
IgnoreCarrierLoss=yes

[DHCPServer]
# Router and resolver are this node: networkd reads the uplink's resolvers only once, before there is an uplink.
DNS=_server_address
PoolOffset={offset}
PoolSize={size}
DefaultLeaseTimeSec=12h
MaxLeaseTimeSec=24h
"
    )
}

/// Making the table before deleting it lets the same file be loaded at the first and at every later time.
fn nat(spec: &NodeSpec, interface: &str, network: Ipv4Addr, prefix: u8) -> String {
    let (pods, services) = (&spec.cluster.pod_subnet, &spec.cluster.service_subnet);
    format!(
        "# Lets the cluster's nodes out through whatever uplink this node has. Pods' traffic is the CNI plugin's matter.
table ip imgbake
delete table ip imgbake
table ip imgbake {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network}/{prefix} oifname != \"{interface}\" ip daddr != {{ {pods}, {services} }} masquerade
    }}
}}
"
    )
}

fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_its_address_masked() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        for (prefix, expected) in [(24, [10, 1, 2, 0]), (8, [10, 0, 0, 0]), (32, [10, 1, 2, 3]), (0, [0, 0, 0, 0])] {
            assert_eq!(network(address, prefix), Ipv4Addr::from(expected));
        }
    }
}
