//! The first boot: one unit, one script, what they need to know, and the secrets they destroy when they are done.

use super::{Body, Draft, kubeadm};
use crate::spec::{NodeSpec, Role, TokenEnd};

pub(super) fn plan(spec: &NodeSpec, draft: &mut Draft) {
    draft.write("/usr/local/lib/imgbake/first-boot", 0o755, Body::Text(include_str!("guest/first-boot.sh").into()));
    draft.enabled_unit("imgbake-first-boot.service", include_str!("guest/imgbake-first-boot.service"));
    draft.text("/etc/imgbake/node.conf", settings(spec));
    draft.secret("/etc/imgbake/kubeadm.yaml", kubeadm::configuration(spec));
    if let Some(authority) = &spec.cluster.access.authority {
        draft.text("/etc/imgbake/pki/ca.crt", authority.certificate.as_str());
        draft.write("/etc/imgbake/pki/ca.key", 0o600, Body::Secret(authority.key.clone()));
    }
    draft.text("/etc/tmpfiles.d/imgbake.conf", include_str!("guest/tmpfiles.conf"));
    // Read by agetty above the login prompt and by pam_motd after it; in /run there is none before the first boot says something.
    draft.link("/etc/issue.d/imgbake.issue", "/run/imgbake/status");
    draft.link("/etc/motd.d/imgbake", "/run/imgbake/status");
    draft.notes.extend(token_note(spec));
}

/// Variables for the script.
fn settings(spec: &NodeSpec) -> String {
    let role = match spec.role {
        Role::ControlPlane => "control-plane",
        Role::Worker => "worker",
    };
    let token_end = match spec.cluster.access.token_end {
        TokenEnd::At(time) => time.to_string(),
        TokenEnd::AfterFirstStart(_) | TokenEnd::Unknown => String::new(),
    };
    let variables = [
        ("ROLE", role.to_owned()),
        ("ENDPOINT", kubeadm::endpoint(spec)),
        ("ENDPOINT_HOST", spec.cluster.endpoint_host.clone()),
        ("ENDPOINT_PORT", spec.cluster.endpoint_port.to_string()),
        ("ADDRESS", kubeadm::address(spec).unwrap_or_default()),
        ("ADMIN", spec.user.name.clone()),
        ("CLOCK_FLOOR", spec.timestamp.to_string()),
        ("TOKEN_END", token_end),
    ];
    variables.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect()
}

/// For sh, whatever the value holds.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn token_note(spec: &NodeSpec) -> Option<String> {
    match spec.cluster.access.token_end {
        TokenEnd::AfterFirstStart(seconds) => {
            Some(format!("the join token ends {} hours after the control plane's first start", seconds / 3600))
        }
        TokenEnd::At(time) => Some(format!("the join token ends at {}", kubeadm::rfc3339(time))),
        TokenEnd::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_setting_stays_a_quote() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
