//! Package upgrades wait until the node has joined: they would fight the first boot for locks, bandwidth and restarts.

use super::Draft;

pub(super) fn plan(draft: &mut Draft) {
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"] {
        // A drop-in for a unit that the image does not have changes nothing.
        draft.text(&format!("/etc/systemd/system/{unit}.d/imgbake.conf"), include_str!("guest/hold.conf"));
    }
}
