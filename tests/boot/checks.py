"""What a freshly booted node has to show, one function a check.

A check gets what witness.sh printed and what is expected, and returns a few words that back its verdict; it fails by
raising [`Failed`]. The names of the functions are the lines of the final table.
"""

import re


class Failed(Exception):
    """The node is not as it should be; the text says how it is."""


class Evidence:
    """What the node said, by witness.sh's section names."""

    def __init__(self, text):
        self._sections = {}
        for section in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]:
            name, _, body = section.partition("\n")
            self._sections[name.strip()] = body.strip()

    def __getitem__(self, name):
        if name not in self._sections:
            raise Failed(f"the node did not say anything about {name}")
        return self._sections[name]


def expect(condition, words):
    if not condition:
        raise Failed(words)
    return words


def hostname(node, wanted):
    return expect(node["hostname"] == wanted.hostname, node["hostname"])


def firmware_is_the_one_asked_for(node, wanted):
    return expect((node["firmware"] == "UEFI") == wanted.machine.endswith("-uefi"), node["firmware"])


def user_and_key(node, wanted):
    expect("uid=" in node["user"], node["user"])
    with open(wanted.key + ".pub", encoding="utf-8") as file:
        key = file.read().split()[1]
    return expect(key in node["authorized-keys"], f"{wanted.user}, {len(node['authorized-keys'].splitlines())} key(s)")


def no_password_opens_an_account(node, wanted):
    expect(not node["passwords"], f"without a locked password: {node['passwords'].split()}")
    asked = [line for line in node["sshd"].splitlines() if line.startswith("passwordauthentication")]
    return expect(asked == ["passwordauthentication no"], f"sshd: {', '.join(asked) or node['sshd']}")


def containerd_is_active(node, wanted):
    return expect(node["containerd"] == "active", node["containerd"])


def memory_cgroup_is_there(node, wanted):
    return expect("memory" in node["cgroup-controllers"].split(), node["cgroup-controllers"])


def kernel_is_ready_for_pods(node, wanted):
    loaded = {line.split()[0] for line in node["modules"].splitlines()[1:]}
    missing = {"overlay", "br_netfilter"} - loaded
    expect(not missing, f"modules not loaded: {sorted(missing)}")
    expect(node["forwarding"] == "1", f"ip_forward={node['forwarding']}")
    swaps = node["swaps"].splitlines()[1:]
    return expect(not swaps, f"swap: {swaps or 'none'}")


def first_boot_waits_for_its_endpoint(node, wanted):
    state = dict(line.split("=", 1) for line in node["first-boot"].splitlines())
    words = f"{state.get('ActiveState')}/{state.get('SubState')}, status `{node['status']}`"
    expect(state.get("ActiveState") in ("active", "activating"), words)
    return expect(f"waiting for endpoint {wanted.waiting_for}" in node["status"], words)


def no_unit_failed(node, wanted):
    return expect(not node["failed-units"], node["failed-units"] or "none")


def no_ordering_cycle(node, wanted):
    return expect(not node["cycles"], node["cycles"] or "none")


def no_disk_error(node, wanted):
    return expect(not node["disk-errors"], node["disk-errors"] or "none")


def root_fills_the_disk(node, wanted):
    disk, root = int(node["disk-size"]), int(node["root-size"])
    # Boot partitions take up to 1 GiB, the file system's own tables up to a tenth.
    return expect(root > (disk - (1 << 30)) * 0.9, f"{root / 1e9:.2f} of {disk / 1e9:.2f} GB")


def cloud_init_is_content(node, wanted):
    # Newer releases tell a second, stricter status: `degraded done` is `done` in the first.
    states = re.findall(r"^(?:extended_)?status: (.*)$", node["cloud-init"], re.MULTILINE)
    expect(states and states[-1].split(" ")[0] in ("done", "disabled"), node["cloud-init"])
    return states[-1]


def machine_has_its_own_id(node, wanted):
    return expect(re.fullmatch(r"[0-9a-f]{32}", node["machine-id"]), node["machine-id"])


ALWAYS = [
    hostname,
    firmware_is_the_one_asked_for,
    user_and_key,
    no_password_opens_an_account,
    memory_cgroup_is_there,
    no_unit_failed,
    no_ordering_cycle,
    no_disk_error,
    root_fills_the_disk,
    cloud_init_is_content,
    machine_has_its_own_id,
]
BAKED = [containerd_is_active, kernel_is_ready_for_pods, first_boot_waits_for_its_endpoint]
