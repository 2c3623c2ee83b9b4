//! What a plan writes, judged by the programs that will read it: shellcheck, systemd, cloud-init, netplan, sudo,
//! nftables, shadow's pwck, and Python's TOML reader.

#[path = "plan/first_boot.rs"]
mod first_boot;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbake::{AccountFile, Body, BootEdit, JoinRequest, NodeRequest, Plan, RootEdit, Runtime, Secret, plan, resolve};

/// 2026-11-30 00:53:20 UTC.
const NOW: i64 = 1_796_000_000;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUbYKqDhvyCEwIcnMHN4rUkZsjUsZDWHAXtmUkuj9yJ ada@example";

/// The plan for a node whose request is a plain one but for a change.
fn planned(profile: &str, node: &str, change: impl FnOnce(&mut NodeRequest)) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let mut request = NodeRequest {
        profile: profile.to_owned(),
        node: node.to_owned(),
        profiles_dir: None,
        clusters_dir: folder.path().to_owned(),
        base: None,
        size: None,
        ssh_keys: vec![KEY.to_owned()],
        user: None,
        join: None,
        endpoint: None,
        kubernetes: None,
        runtime: Runtime::Upstream,
        defer: Vec::new(),
        now: NOW,
        source_date_epoch: None,
    };
    change(&mut request);
    plan(&resolve(&request, &mut |bytes| bytes.fill(0xa5)).expect("the request is in order"))
}

/// The kinds of node that differ in what is written.
fn plans() -> Vec<(&'static str, Plan)> {
    let join = |request: &mut NodeRequest| {
        request.join = Some(JoinRequest {
            endpoint: "k8s.example.org:6443".to_owned(),
            token: Secret::new("abcdef.0123456789abcdef"),
            ca_cert_hash: format!("sha256:{}", "0".repeat(64)),
            token_expires: None,
        });
    };
    vec![
        ("gateway", planned("pi4", "node-1", |_| {})),
        ("worker", planned("pi4", "node-2", |_| {})),
        ("server", planned("vps-amd64", "rack-7", join)),
        (
            "demonstration",
            planned("pi4", "node-2", |request| {
                request.base = Some("debian-13-rpi".to_owned());
                request.runtime = Runtime::Distro;
                request.defer = vec!["kubernetes".to_owned()];
            }),
        ),
    ]
}

/// Runs a tool, whose package is named if it is missing, and answers what it says; it must exit with 0.
fn run(package: &str, tool: &str, arguments: &[&str]) -> String {
    let (good, text) = try_run(package, tool, arguments);
    assert!(good, "{tool} {arguments:?}: {text}");
    text
}

fn try_run(package: &str, tool: &str, arguments: &[&str]) -> (bool, String) {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(tool).args(arguments).env("PATH", path).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("`{tool}` cannot run ({error}): install package `{package}`"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(127), "`{tool}` {arguments:?} lacks a program of package `{package}`: {text}");
    (output.status.success(), text)
}

/// What the plan writes at a path of the root file system.
fn body<'a>(plan: &'a Plan, path: &str) -> &'a str {
    match plan.root.get(&path.into()) {
        Some(RootEdit::Write { body: Body::Text(text), .. }) => text,
        Some(RootEdit::Write { body: Body::Secret(secret), .. }) => secret.reveal(),
        edit => panic!("{path}: {edit:?}"),
    }
}

/// What the plan writes on the boot partition.
fn boot_text<'a>(plan: &'a Plan, path: &str) -> &'a str {
    match plan.boot.get(&path.into()) {
        Some(BootEdit::Write(text)) => text,
        edit => panic!("{path}: {edit:?}"),
    }
}

fn put(path: &Path, text: &str, mode: u16) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode.into())).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// The plan's texts, links and stand-ins for its programs, as files below a folder.
fn laid_out(plan: &Plan) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, edit) in &plan.root {
        let place = folder.path().join(path.as_str().trim_start_matches('/'));
        match edit {
            RootEdit::Write { body: Body::Text(text), attributes } => put(&place, text, attributes.mode),
            RootEdit::Write { body: Body::Secret(secret), attributes } => put(&place, secret.reveal(), attributes.mode),
            RootEdit::Write { body: Body::Artifact(_), .. } => put(&place, "#!/bin/sh\n", 0o755),
            RootEdit::Symlink(target) => {
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                symlink(target, place).unwrap();
            }
            RootEdit::Directory(_) => fs::create_dir_all(place).unwrap(),
            _ => {}
        }
    }
    folder
}

#[test]
fn shellcheck_finds_nothing_in_the_first_boot() {
    let folder = laid_out(&planned("pi4", "node-2", |_| {}));
    run("shellcheck", "shellcheck", &["-s", "sh", text(&folder.path().join("usr/local/lib/imgbake/first-boot"))]);
    run("dash", "dash", &["-n", text(&folder.path().join("etc/imgbake/node.conf"))]);
}

/// A root with the host's units and stand-ins for what ours start, below the plan's files.
fn with_systemd(plan: &Plan) -> tempfile::TempDir {
    let folder = laid_out(plan);
    let root = folder.path();
    fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
    run("coreutils", "cp", &["-a", "/lib/systemd/system", text(&root.join("usr/lib/systemd"))]);
    if !root.join("lib").exists() {
        symlink("usr/lib", root.join("lib")).unwrap();
    }
    let programs = [
        "usr/local/bin/containerd",
        "usr/bin/kubelet",
        "usr/bin/ssh-keygen",
        "usr/sbin/nft",
        "bin/sh",
        "sbin/modprobe",
        "usr/bin/containerd",
        "usr/bin/cloud-init",
        "usr/sbin/sshd",
    ];
    for program in programs.iter().filter(|program| !root.join(program).exists()) {
        put(&root.join(program), "#!/bin/sh\n", 0o755);
    }
    let units = root.join("usr/lib/systemd/system");
    put(&units.join("containerd.service"), "[Service]\nExecStart=/usr/bin/containerd\n", 0o644);
    put(
        &units.join("ssh.service"),
        "[Unit]\nAfter=network.target\n[Service]\nExecStart=/usr/sbin/sshd -D\n[Install]\nAlias=sshd.service\n",
        0o644,
    );
    folder
}

#[test]
fn systemd_takes_every_unit() {
    for (name, plan) in plans() {
        let folder = with_systemd(&plan);
        let root = format!("--root={}", folder.path().display());
        for path in plan.root.keys().map(|path| path.as_str()) {
            let Some(unit) = path.strip_prefix("/etc/systemd/system/") else { continue };
            if unit.contains('/') || matches!(plan.root[&path.into()], RootEdit::Symlink(_)) {
                continue;
            }
            let (good, said) =
                try_run("systemd", "systemd-analyze", &[&root, "--man=no", "--recursive-errors=no", "verify", unit]);
            assert!(good && !said.contains("imgbake") && !said.contains("kubelet"), "{name}, {unit}: {said}");
        }
    }
}

/// cloud-init's units as they order themselves since 24.3 on Debian: early ones before sysinit.target, the last one
/// after multi-user.target.
const CLOUD_INIT: [(&str, &str); 4] = [
    (
        "cloud-init-local.service",
        "DefaultDependencies=no\nBefore=network-pre.target sysinit.target\nWants=network-pre.target",
    ),
    (
        "cloud-init-network.service",
        "DefaultDependencies=no\nAfter=cloud-init-local.service systemd-networkd-wait-online.service\nBefore=network-online.target sshd.service sysinit.target systemd-user-sessions.service",
    ),
    ("cloud-config.service", "After=network-online.target cloud-init-network.service\nWants=network-online.target"),
    (
        "cloud-final.service",
        "After=network-online.target time-sync.target cloud-config.service multi-user.target\nBefore=apt-daily.service",
    ),
];

#[test]
fn systemd_finds_no_ordering_cycle() {
    for (name, plan) in plans() {
        let folder = with_systemd(&plan);
        let units = folder.path().join("usr/lib/systemd/system");
        for (unit, ordering) in CLOUD_INIT {
            let text = format!("[Unit]\n{ordering}\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n");
            put(&units.join(unit), &text, 0o644);
        }
        put(
            &units.join("cloud-init.target"),
            &format!("[Unit]\nAfter=multi-user.target\nWants={}\n", CLOUD_INIT.map(|(unit, _)| unit).join(" ")),
            0o644,
        );
        let wants = folder.path().join("etc/systemd/system/multi-user.target.wants");
        for unit in ["cloud-init.target", "ssh.service", "systemd-networkd.service"] {
            // A server's plan starts networkd itself.
            if !wants.join(unit).is_symlink() {
                symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit)).unwrap();
            }
        }
        let network = folder.path().join("etc/systemd/system/network-online.target.wants");
        fs::create_dir_all(&network).unwrap();
        symlink(
            "/usr/lib/systemd/system/systemd-networkd-wait-online.service",
            network.join("systemd-networkd-wait-online.service"),
        )
        .unwrap();
        let root = format!("--root={}", folder.path().display());
        let verify = || {
            try_run(
                "systemd",
                "systemd-analyze",
                &[&root, "--man=no", "--recursive-errors=yes", "verify", "multi-user.target"],
            )
            .1
        };
        let said = verify();
        assert!(!said.contains("cycle"), "{name}: {said}");

        // The judge can tell: this is how it would have been wrong.
        let dropin = folder.path().join("etc/systemd/system/imgbake-first-boot.service.d/wrong.conf");
        put(&dropin, "[Unit]\nAfter=cloud-final.service\n", 0o644);
        let said = verify();
        assert!(said.contains("ordering cycle"), "{name}: {said}");
    }
}

#[test]
fn systemd_tmpfiles_brings_the_last_status_back() {
    let folder = laid_out(&planned("pi4", "node-2", |_| {}));
    let root = format!("--root={}", folder.path().display());
    let create = || {
        run(
            "systemd",
            "systemd-tmpfiles",
            &[&root, "--create", text(&folder.path().join("etc/tmpfiles.d/imgbake.conf"))],
        )
    };
    for file in ["passwd", "group"] {
        put(&folder.path().join("etc").join(file), "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    }
    create();
    assert!(!folder.path().join("run/imgbake/status").exists());
    put(&folder.path().join("var/lib/imgbake/status"), "imgbake: joined\n", 0o644);
    create();
    assert_eq!(fs::read_to_string(folder.path().join("run/imgbake/status")).unwrap(), "imgbake: joined\n");
}

/// networkd reads its configuration as soon as it starts, and says what it does not know.
#[test]
fn networkd_knows_every_key() {
    for (name, plan) in [plans().remove(0), plans().remove(2)] {
        let folder = laid_out(&plan);
        let script = format!(
            "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/network; mount --bind '{0}/etc/systemd/network' /etc/systemd/network
             printf '[Match]\\nName=eth0\\n' >/run/systemd/network/10-netplan-eth0.network
             if [ -n '{1}' ]; then echo BogusKey=1 >>'{0}/{1}'; fi
             SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console timeout 2 unshare -U --map-user=65534 /lib/systemd/systemd-networkd; true",
            folder.path().display(),
            if name == "gateway" { "etc/systemd/network/10-netplan-eth0.network.d/50-imgbake.conf" } else { "etc/systemd/network/99-imgbake-fallback.network" },
        );
        let said = run("systemd", "unshare", &["-rmn", "sh", "-c", &script]);
        let complaints: Vec<&str> = said.lines().filter(|line| line.contains("/etc/systemd/network")).collect();
        assert!(matches!(complaints[..], [one] if one.contains("'BogusKey'")), "{name}: {said}");
    }
}

fn cloud_init_python(script: &str, arguments: &[&str]) -> String {
    run("cloud-init", "/usr/bin/python3", &[&["-c", script], arguments].concat())
}

#[test]
fn cloud_init_takes_its_seed() {
    for (name, plan) in plans().into_iter().filter(|(_, plan)| !plan.boot.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let user_data = folder.path().join("user-data");
        put(&user_data, boot_text(&plan, "/user-data"), 0o644);
        let said = run("cloud-init", "cloud-init", &["schema", "--config-file", text(&user_data)]);
        assert!(said.contains("Valid cloud-config"), "{name}: {said}");
        let script = "import sys, json, cloudinit.util as u; print(json.dumps(u.load_yaml(open(sys.argv[1]).read())))";
        let meta_data = folder.path().join("meta-data");
        put(&meta_data, boot_text(&plan, "/meta-data"), 0o644);
        let read: serde_json::Value = serde_json::from_str(&cloud_init_python(script, &[text(&meta_data)])).unwrap();
        assert_eq!(read["dsmode"], "local");
        assert!(read["instance-id"].as_str().unwrap().starts_with("imgbake-"));
        assert!(read["local-hostname"].as_str().unwrap().starts_with("node-"));
    }
}

/// Debian's and Ubuntu's default user differs; ours replaces its name and keeps nothing that lets anybody in.
#[test]
fn cloud_init_makes_no_default_user() {
    let folder =
        laid_out(&planned("vps-amd64", "node-1", |request| request.endpoint = Some("k8s.example.org".to_owned())));
    let base = "users: [default]\ndisable_root: true\npreserve_hostname: false\nsystem_info:\n  distro: debian\n  default_user:\n    name: debian\n    lock_passwd: false\n    plain_text_passwd: x\n    groups: [cdrom]\n";
    put(&folder.path().join("etc/cloud/cloud.cfg"), base, 0o644);
    let script = "
import sys, json
from cloudinit import util
print(json.dumps(util.read_conf_with_confd(sys.argv[1])))";
    let said = cloud_init_python(script, &[text(&folder.path().join("etc/cloud/cloud.cfg"))]);
    let config: serde_json::Value = serde_json::from_str(&said).unwrap();
    let user = &config["system_info"]["default_user"];
    assert_eq!((&user["name"], &user["lock_passwd"]), (&"imgbake".into(), &true.into()));
    assert_eq!(config["system_info"]["distro"], "debian");
    assert_eq!(config["preserve_hostname"], true);
    assert_eq!(config["ssh_pwauth"], false);
}

/// What netplan makes of files in `/etc/netplan`, by name.
fn netplan(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        put(&folder.path().join(name), text, 0o600);
    }
    run("netplan.io", "netplan", &["generate", "--root-dir", text(folder.path())]);
    let mut made = BTreeMap::new();
    for place in ["run/systemd/network", "run/NetworkManager/system-connections"] {
        let Ok(entries) = fs::read_dir(folder.path().join(place)) else { continue };
        let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        made.extend(
            paths.iter().map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
            }),
        );
    }
    made
}

const OURS: &str = "etc/netplan/90-imgbake.yaml";
/// What Raspberry Pi OS ships.
const NETWORK_MANAGER: (&str, &str) =
    ("lib/netplan/00-network-manager-all.yaml", "network: {version: 2, renderer: NetworkManager}\n");

#[test]
fn netplan_gives_the_gateway_its_address_on_every_system() {
    let plan = planned("pi4", "node-1", |_| {});
    let ours = (OURS, body(&plan, "/etc/netplan/90-imgbake.yaml"));
    // Imager's or the vendor's network-config, which cloud-init writes beside ours.
    let seed =
        ("etc/netplan/50-cloud-init.yaml", "network: {version: 2, ethernets: {eth0: {dhcp4: true, optional: true}}}\n");
    for files in [vec![ours], vec![ours, seed], vec![ours, NETWORK_MANAGER], vec![ours, seed, NETWORK_MANAGER]] {
        let made = netplan(&files);
        let network = &made["10-netplan-eth0.network"];
        assert!(network.contains("Address=10.0.0.1/24\n") && !network.contains("DHCP="), "{network}");
        assert!(network.contains("RequiredForOnline=no\n"), "{network}");
    }
    let dropin = "/etc/systemd/network/10-netplan-eth0.network.d/50-imgbake.conf";
    assert!(plan.root.contains_key(&dropin.into()), "the drop-in is named after netplan's file");
}

#[test]
fn netplan_gives_a_worker_dhcp_on_every_system() {
    let plan = planned("pi4", "node-2", |_| {});
    let ours = (OURS, body(&plan, "/etc/netplan/90-imgbake.yaml"));
    let network = &netplan(&[ours])["10-netplan-eth0.network"];
    assert!(network.contains("DHCP=ipv4\n") && network.contains("ClientIdentifier=mac\n"), "{network}");
    let connection = &netplan(&[ours, NETWORK_MANAGER])["netplan-eth0.nmconnection"];
    assert!(connection.contains("interface-name=eth0\n") && connection.contains("method=auto\n"), "{connection}");
}

#[test]
fn the_seeds_network_config_says_the_same() {
    for (name, plan) in plans().into_iter().filter(|(_, plan)| !plan.boot.is_empty()) {
        let ours = netplan(&[(OURS, body(&plan, "/etc/netplan/90-imgbake.yaml"))]);
        let seeds = netplan(&[(OURS, boot_text(&plan, "/network-config"))]);
        assert_eq!(ours, seeds, "{name}");
    }
}

#[test]
fn sudo_takes_the_accounts_rights() {
    let folder = laid_out(&planned("pi4", "node-2", |_| {}));
    let said = run("sudo", "visudo", &["-c", "-f", text(&folder.path().join("etc/sudoers.d/90-imgbake"))]);
    assert!(said.contains("parsed OK"), "{said}");
}

#[test]
fn nft_takes_the_gateways_table_twice() {
    let folder = laid_out(&planned("pi4", "node-1", |_| {}));
    let rules = folder.path().join("etc/imgbake/nat.nft").display().to_string();
    let script =
        format!("PATH=$PATH:/usr/sbin; nft add table ip other; nft -f {rules}; nft -f {rules}; nft list ruleset");
    let said = run("nftables", "unshare", &["-rn", "sh", "-ec", &script]);
    assert_eq!(said.matches("masquerade").count(), 1, "{said}");
    assert!(said.contains("table ip other"), "other tables stay: {said}");
    assert!(said.contains("ip saddr 10.0.0.0/24 oifname != \"eth0\""), "{said}");
}

#[test]
fn shadows_own_checks_pass_with_the_account() {
    let plan = planned("pi4", "node-2", |_| {});
    let folder = tempfile::tempdir().unwrap();
    let of_host = |file: AccountFile| fs::read_to_string(file.path().as_str()).ok().map(|text| (file, text));
    let before: BTreeMap<_, _> = AccountFile::ALL.into_iter().filter_map(of_host).collect();
    let after = plan.account.add_to(before.clone());
    assert!(after.len() >= 3 && after != before, "the host has user databases");
    let place =
        |file: AccountFile| folder.path().join(file.path().as_str().trim_start_matches("/etc/")).display().to_string();
    for (file, text) in &after {
        fs::write(place(*file), text).unwrap();
    }
    // Home directories are not there to be checked.
    let (_, said) = try_run("passwd", "pwck", &["-r", "-q", &place(AccountFile::Passwd), &place(AccountFile::Shadow)]);
    assert!(!said.contains("imgbake") || said.contains("directory"), "{said}");
    let (_, said) = try_run("passwd", "grpck", &["-r", &place(AccountFile::Group), &place(AccountFile::Gshadow)]);
    // It looks its members up on this host.
    let complaint =
        said.lines().find(|line| line.contains("imgbake") && !line.contains("no user") && !line.contains("delete"));
    assert_eq!(complaint, None, "{said}");
}

#[test]
fn containerds_configuration_says_it_in_the_tables_of_its_version() {
    for (name, plan) in plans() {
        let folder = laid_out(&plan);
        let script = "import sys, json, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))";
        let said = run(
            "python3",
            "/usr/bin/python3",
            &["-c", script, text(&folder.path().join("etc/containerd/config.toml"))],
        );
        let config: serde_json::Value = serde_json::from_str(&said).unwrap();
        let plugins = &config["plugins"];
        let (runtime, pause, registry) = if name == "demonstration" {
            assert_eq!(config["version"], 2);
            let cri = &plugins["io.containerd.grpc.v1.cri"];
            (cri, &cri["sandbox_image"], &cri["registry"])
        } else {
            assert_eq!(config["version"], 3);
            let images = &plugins["io.containerd.cri.v1.images"];
            (&plugins["io.containerd.cri.v1.runtime"], &images["pinned_images"]["sandbox"], &images["registry"])
        };
        assert_eq!(runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"], true);
        assert!(pause.as_str().unwrap().starts_with("registry.k8s.io/pause:3."), "{pause}");
        assert_eq!(registry["config_path"], "/etc/containerd/certs.d");
    }
}
