//! The first boot's script, run by sh in a root directory of its own with stand-ins for kubeadm and systemd.
//!
//! Every command that it runs is a stand-in which counts, so it can be killed before or after each of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbake::{GuestPath, Plan, Role};

use super::{body, planned};

/// Counts this call, and kills the script if its turn has come.
const TICK: &str = r#"#!/bin/sh
calls=$(cat "$STUB/calls" 2>/dev/null || echo 0)
calls=$((calls + 1))
echo "$calls" >"$STUB/calls"
echo "${0##*/}" >>"$STUB/trace"
strike() {
    if [ "$calls" = "${KILL_AT:-}" ] && [ "$1" = "$KILL_WHEN" ]; then kill -9 "$(cat "$STUB/pid")"; exit 137; fi
}
strike before
"#;

/// Behaves like kubeadm towards the files that matter, refuses what its preflight refuses, fails as often as told.
const KUBEADM: &str = r#"
PATH=/usr/bin:/bin
echo "kubeadm $*" >>"$STUB/log"
k=$IMGBAKE_ROOT/etc/kubernetes l=$IMGBAKE_ROOT/var/lib/kubelet
mkdir -p "$k/manifests" "$l/pki"
case "$*" in
reset*)
    rm -rf "$k"/*.conf "$k/pki" "$k"/manifests/* "$l"/* "$IMGBAKE_ROOT/var/lib/etcd"
    exit 0 ;;
"init phase"*) grep -q "kind: InitConfiguration" "$IMGBAKE_ROOT/etc/imgbake/kubeadm.yaml" || exit 1 ;;
*)
    for file in "$k/kubelet.conf" "$k/bootstrap-kubelet.conf" "$k/manifests/etcd.yaml"; do
        if [ -e "$file" ]; then echo "preflight: $file" >>"$STUB/log"; exit 1; fi
    done ;;
esac
case "$*" in
join*) [ ! -e "$k/pki/ca.crt" ] || exit 1; echo token >"$k/bootstrap-kubelet.conf"; mkdir -p "$k/pki"; echo ca >"$k/pki/ca.crt" ;;
"init --config"*) [ -s "$k/pki/ca.key" ] || exit 1; echo etcd >"$k/manifests/etcd.yaml" ;;
esac
echo config >"$l/config.yaml"
strike amid
left=$(cat "$STUB/failures" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$STUB/failures"; exit 1; fi
case "$*" in
join*) echo conf >"$k/kubelet.conf"; echo pem >"$l/pki/kubelet-client-current.pem"; rm -f "$k/bootstrap-kubelet.conf" ;;
"init --config"*) echo admin >"$k/admin.conf"; echo conf >"$k/kubelet.conf" ;;
esac
echo done >>"$STUB/log"
"#;

const CURL: &str = r#"
PATH=/usr/bin:/bin
for last; do :; done
while [ "$1" != -o ]; do shift; done
echo "curl $last" >>"$STUB/log"
left=$(cat "$STUB/broken" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$STUB/broken"; head -c 3 "$STUB/web/${last##*/}" >"$2"; exit 18; fi
cp "$STUB/web/${last##*/}" "$2"
"#;

/// A machine that the script can run on.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(plan: &Plan) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for path in plan.root.keys().filter(|path| path.as_str().starts_with("/etc/imgbake/")) {
            machine.put(path.as_str(), body(plan, path.as_str()));
        }
        fs::write(machine.script(), body(plan, "/usr/local/lib/imgbake/first-boot")).unwrap();
        machine.replace("/etc/imgbake/node.conf", "ADMIN='imgbake'", "ADMIN='root'");
        machine.stand_in("kubeadm", KUBEADM);
        machine.stand_in("curl", CURL);
        machine.stand_in("systemctl", "echo \"systemctl $*\" >>\"$STUB/log\"; [ ! -e \"$STUB/inactive\" ]");
        // The host's own clock is nothing for a test to set.
        machine.stand_in("date", "case $1 in -s) echo \"date $*\" >>\"$STUB/log\" ;; *) exec /bin/date \"$@\" ;; esac");
        machine.stand_in("timedatectl", "cat \"$STUB/clock\" 2>/dev/null || echo yes");
        machine.stand_in("bash", "[ ! -e \"$STUB/closed\" ]");
        machine.stand_in("ip", "echo '2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0'");
        machine.stand_in("getent", "echo root:x:0:0:root:/root:/bin/sh");
        machine.stand_in("agetty", "cat \"$IMGBAKE_ROOT/run/imgbake/status\" >>\"$STUB/statuses\"");
        // What is waited for happens at the fourth pause.
        machine.stand_in(
            "sleep",
            "echo \"sleep $*\" >>\"$STUB/log\"; [ \"$(grep -c ^sleep \"$STUB/log\")\" -lt 4 ] || rm -f \"$STUB/closed\" \"$STUB/inactive\"",
        );
        for real in ["sync", "mv", "rm", "cp", "mkdir", "chmod", "dd", "install", "timeout", "tar", "sha256sum"] {
            let path = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(real));
            let path =
                path.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no `{real}`: install coreutils, tar"));
            // No owners to give away in a test.
            let drop_owner = if real == "install" { "set -- $(echo \"$*\" | sed 's/-o [^ ]* -g [^ ]*//')" } else { "" };
            machine.stand_in(real, &format!("{drop_owner}\n{} \"$@\"", path.display()));
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path.trim_start_matches('/'))
    }

    fn stub(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("first-boot")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn replace(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(old), "{path}: {text}");
        fs::write(self.path(path), text.replace(old, new)).unwrap();
    }

    fn stand_in(&self, name: &str, body: &str) {
        let path = self.stub("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{TICK}{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.stub(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.stub(name)).unwrap_or_default()
    }

    /// Runs the script, killed around the given call if there is one; answers whether it ended well.
    fn run(&self, kill: Option<(usize, &str)>) -> bool {
        let _ = fs::remove_file(self.stub("calls"));
        let mut command = Command::new("timeout");
        command
            .args(["60", "sh", "-c", r#"echo $$ >"$STUB/pid"; exec sh "$0""#])
            .arg(self.script())
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.stub("bin").display()))
            .env("STUB", self.folder.path())
            .env("IMGBAKE_ROOT", self.folder.path().join("root"));
        if let Some((call, when)) = kill {
            command.env("KILL_AT", call.to_string()).env("KILL_WHEN", when);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        fs::write(self.stub("output"), text).unwrap();
        assert_ne!(output.status.code(), Some(124), "it hangs: {}\n{}", self.read("output"), self.read("log"));
        output.status.success()
    }

    fn status(&self) -> String {
        fs::read_to_string(self.path("/run/imgbake/status")).unwrap_or_default()
    }

    fn kubeadm_calls(&self) -> Vec<String> {
        let keep = |line: &&str| line.starts_with("kubeadm") || line.starts_with("done");
        self.read("log")
            .lines()
            .filter(keep)
            .map(|line| line.replace(self.folder.path().to_str().unwrap(), ""))
            .collect()
    }

    /// What must be true once the node is in its cluster.
    fn assert_joined(&self, role: Role) {
        let context = format!("{}\n{}", self.read("log"), self.read("output"));
        assert!(self.path("/var/lib/imgbake/joined").exists(), "not joined: {context}");
        for secret in ["/etc/imgbake/kubeadm.yaml", "/etc/imgbake/pki/ca.key", "/etc/kubernetes/bootstrap-kubelet.conf"]
        {
            assert!(!self.path(secret).exists(), "{secret} is left: {context}");
        }
        let end = match role {
            Role::ControlPlane => "imgbake: control plane of 10.0.0.1:6443\n",
            Role::Worker => "imgbake: joined 10.0.0.1:6443\n",
        };
        assert_eq!(self.status(), end, "{context}");
        assert_eq!(fs::read_to_string(self.path("/var/lib/imgbake/status")).unwrap(), end);
        if role == Role::ControlPlane {
            let config = self.path("/root/.kube/config");
            assert_eq!(fs::read_to_string(&config).unwrap(), "admin\n");
            assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(self.path("/etc/kubernetes/pki/ca.key").exists(), "the control plane keeps its authority");
        }
        self.assert_never_reset_too_late(&context);
    }

    /// A worker's first success and a control plane's opening are final.
    fn assert_never_reset_too_late(&self, context: &str) {
        let calls = self.kubeadm_calls();
        let finished = |call: &String, next: Option<&String>| {
            call.contains("init phase") || (call.contains("join") && next.is_some_and(|next| next == "done"))
        };
        let end = (0..calls.len()).find(|&at| finished(&calls[at], calls.get(at + 1))).expect("there is an end");
        for late in &calls[end + 1..] {
            assert!(!late.contains("reset") && !late.contains("kubeadm join"), "{late} came too late: {context}");
        }
    }
}

fn plan_of(node: &str, deferred: bool) -> Plan {
    planned("pi4", node, |request| request.defer = deferred.then(|| "kubernetes".to_owned()).into_iter().collect())
}

#[test]
fn a_worker_joins_at_once() {
    let machine = Machine::new(&plan_of("node-2", false));
    assert!(machine.run(None), "{}", machine.read("output"));
    machine.assert_joined(Role::Worker);
    assert_eq!(machine.kubeadm_calls(), ["kubeadm join --config /root/etc/imgbake/kubeadm.yaml", "done"]);
    assert!(machine.read("log").contains("systemctl start --no-block apt-daily.timer"));
    let before = machine.read("log");
    assert!(machine.run(None));
    assert_eq!(machine.read("log"), before, "a node that has joined does nothing");
}

#[test]
fn a_control_plane_opens_its_cluster_after_it_stands() {
    let machine = Machine::new(&plan_of("node-1", false));
    assert!(machine.run(None), "{}", machine.read("output"));
    machine.assert_joined(Role::ControlPlane);
    let config = "--config /root/etc/imgbake/kubeadm.yaml";
    assert_eq!(
        machine.kubeadm_calls(),
        [
            &format!("kubeadm init {config} --skip-phases=bootstrap-token,addon --skip-token-print"),
            "done",
            &format!("kubeadm init phase bootstrap-token {config} --skip-token-print"),
            "done",
            &format!("kubeadm init phase addon all {config}"),
            "done",
        ]
    );
}

#[test]
fn failures_are_cleaned_up_and_repeated_with_growing_pauses() {
    for (node, role) in [("node-1", Role::ControlPlane), ("node-2", Role::Worker)] {
        let machine = Machine::new(&plan_of(node, false));
        machine.set("failures", "3");
        assert!(machine.run(None), "{}", machine.read("output"));
        machine.assert_joined(role);
        assert!(!machine.read("log").contains("preflight"), "kubeadm found traces: {}", machine.read("log"));
        let resets = machine.kubeadm_calls().iter().filter(|call| *call == "kubeadm reset --force").count();
        assert_eq!(resets, 3);
        let pauses: Vec<String> =
            machine.read("log").lines().filter(|l| l.starts_with("sleep")).map(str::to_owned).collect();
        assert_eq!(pauses, ["sleep 10", "sleep 20", "sleep 40"]);
        let told = "imgbake: attempt 2 failed, again in 20 s (journalctl -u imgbake-first-boot)\n";
        assert!(machine.read("statuses").contains(told), "{}", machine.read("statuses"));
    }
}

#[test]
fn it_says_what_it_waits_for() {
    let machine = Machine::new(&plan_of("node-2", false));
    machine.set("closed", "");
    assert!(machine.run(None), "{}", machine.read("output"));
    machine.assert_joined(Role::Worker);
    let told =
        "imgbake: waiting for endpoint 10.0.0.1:6443\nimgbake: joining 10.0.0.1:6443\nimgbake: joined 10.0.0.1:6443\n";
    assert_eq!(machine.read("statuses"), told);
    assert!(!machine.read("output").contains("abcdef"), "the token shows");

    let machine = Machine::new(&plan_of("node-2", false));
    machine.set("inactive", "");
    assert!(machine.run(None), "{}", machine.read("output"));
    assert!(machine.read("statuses").starts_with("imgbake: waiting for containerd\n"));
}

#[test]
fn a_network_without_a_time_server_is_no_dead_end() {
    let machine = Machine::new(&plan_of("node-2", false));
    machine.set("clock", "no\n");
    machine.replace("/etc/imgbake/node.conf", "CLOCK_FLOOR='1796000000'", "CLOCK_FLOOR='99999999999'");
    assert!(machine.run(None), "{}", machine.read("output"));
    machine.assert_joined(Role::Worker);
    assert!(machine.read("log").starts_with("date -s @99999999999\n"));
    let told = machine.read("statuses");
    assert!(
        told.starts_with("imgbake: waiting for a time server\nimgbake: no time server answers; going on at "),
        "{told}"
    );
    assert_eq!(machine.read("log").matches("sleep 5").count(), 24);
}

#[test]
fn a_token_that_has_ended_is_said() {
    let machine = Machine::new(&plan_of("node-2", false));
    machine.replace("/etc/imgbake/node.conf", "TOKEN_END=''", "TOKEN_END='1'");
    machine.set("failures", "1");
    assert!(machine.run(None));
    assert!(
        machine.read("statuses").contains("; the join token has ended: put a new one"),
        "{}",
        machine.read("statuses")
    );
}

/// A machine that fetches, and the web it fetches from; `sum` says how a program's checksum is given.
fn fetching(sum: impl Fn(&Machine, &str, &str) -> String) -> Machine {
    let machine = Machine::new(&plan_of("node-2", true));
    fs::create_dir(machine.stub("web")).unwrap();
    let mut list = String::new();
    for line in fs::read_to_string(machine.path("/etc/imgbake/fetch")).unwrap().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (target, url) = (fields[0], fields[2]);
        let file = machine.stub("web").join(url.rsplit('/').next().unwrap());
        match fields.get(3) {
            None => fs::write(&file, format!("the program {target}")).unwrap(),
            Some(member) => {
                fs::write(machine.stub(member), format!("the program {target}")).unwrap();
                let tar = Command::new("tar")
                    .arg("-czf")
                    .arg(&file)
                    .arg("-C")
                    .arg(machine.folder.path())
                    .arg(member)
                    .status();
                assert!(tar.expect("package tar").success());
            }
        }
        let output = Command::new("sha256sum").arg(&file).output().expect("package coreutils");
        let digest = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
        list += &format!("{target} {} {}\n", sum(&machine, &digest, url), fields[2..].join(" "));
    }
    // The kubeadm that runs is the stand-in's.
    machine.put("/etc/imgbake/fetch", &list);
    machine
}

fn assert_fetched(machine: &Machine) {
    for target in ["/usr/bin/kubeadm", "/usr/bin/kubelet", "/usr/bin/kubectl", "/usr/local/bin/crictl"] {
        let path = machine.path(target);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("the program {target}"), "{}", machine.read("output"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!machine.path(&format!("{target}.part")).exists() && !machine.path(&format!("{target}.new")).exists());
    }
    machine.assert_joined(Role::Worker);
}

#[test]
fn deferred_programs_are_fetched_and_verified() {
    let pinned = |_: &Machine, digest: &str, _: &str| digest.to_owned();
    let machine = fetching(pinned);
    machine.set("broken", "2");
    assert!(machine.run(None), "{}", machine.read("output"));
    assert_fetched(&machine);
    assert_eq!(machine.read("log").matches("curl").count(), 6);

    let from_file = |machine: &Machine, digest: &str, url: &str| {
        let name = url.rsplit('/').next().unwrap();
        let text = if name == "kubelet" {
            digest.to_owned()
        } else {
            format!("{}  other\n{digest} *{name}\n", "0".repeat(64))
        };
        fs::write(machine.stub("web").join(format!("{name}.sha256")), text).unwrap();
        format!("{url}.sha256")
    };
    let machine = fetching(from_file);
    assert!(machine.run(None), "{}", machine.read("output"));
    assert_fetched(&machine);
}

#[test]
fn a_program_that_is_not_what_was_promised_is_never_used() {
    let machine = fetching(|_, digest, url| if url.ends_with("kubelet") { "0".repeat(64) } else { digest.to_owned() });
    machine.stand_in("sleep", r#"kill -9 "$(cat "$STUB/pid")""#);
    assert!(!machine.run(None));
    assert!(machine.path("/usr/bin/kubeadm").exists());
    assert!(!machine.path("/usr/bin/kubelet").exists() && !machine.path("/usr/bin/kubelet.part").exists());
    assert!(machine.status().starts_with("imgbake: fetching https://dl.k8s.io/release/"), "{}", machine.status());
    assert!(machine.kubeadm_calls().is_empty());
}

/// Kills the script before each of its commands and in the middle of each of kubeadm's runs, and lets it run again.
fn survives_a_power_cut_anywhere(make: impl Fn() -> Machine, role: Role) {
    let machine = make();
    assert!(machine.run(None));
    let commands: Vec<String> = machine.read("trace").lines().map(str::to_owned).collect();
    assert!(commands.len() > 25 && commands.contains(&"kubeadm".to_owned()), "{commands:?}");
    let before = commands.iter().enumerate().map(|(at, _)| (at + 1, "before"));
    let kubeadm = commands.iter().enumerate().filter(|(_, command)| *command == "kubeadm");
    for point in before.chain(kubeadm.map(|(at, _)| (at + 1, "amid"))) {
        let machine = make();
        assert!(!machine.run(Some(point)), "{point:?} of {commands:?} did not kill");
        assert!(machine.run(None), "killed {point:?}: {}", machine.read("output"));
        machine.assert_joined(role);
    }
}

#[test]
fn a_worker_survives_a_power_cut_anywhere() {
    survives_a_power_cut_anywhere(|| fetching(|_, digest, _| digest.to_owned()), Role::Worker);
}

#[test]
fn a_control_plane_survives_a_power_cut_anywhere() {
    let plan = plan_of("node-1", false);
    survives_a_power_cut_anywhere(|| Machine::new(&plan), Role::ControlPlane);
}

#[test]
fn the_endpoint_is_found_with_the_shell_that_images_have() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let machine = Machine::new(&plan_of("node-2", false));
    fs::remove_file(machine.stub("bin/bash")).unwrap();
    machine.replace("/etc/imgbake/node.conf", "ENDPOINT_HOST='10.0.0.1'", "ENDPOINT_HOST='127.0.0.1'");
    machine.replace("/etc/imgbake/node.conf", "ENDPOINT_PORT='6443'", &format!("ENDPOINT_PORT='{port}'"));
    assert!(machine.run(None), "{}", machine.read("output"));
    machine.assert_joined(Role::Worker);
    assert!(!machine.read("statuses").contains("waiting"));
    assert!(listener.accept().is_ok());

    drop(listener);
    let machine = Machine::new(&plan_of("node-2", false));
    fs::remove_file(machine.stub("bin/bash")).unwrap();
    machine.replace("/etc/imgbake/node.conf", "ENDPOINT_HOST='10.0.0.1'", "ENDPOINT_HOST='127.0.0.1'");
    machine.replace("/etc/imgbake/node.conf", "ENDPOINT_PORT='6443'", &format!("ENDPOINT_PORT='{port}'"));
    machine.stand_in("sleep", r#"kill -9 "$(cat "$STUB/pid")""#);
    assert!(!machine.run(None));
    assert_eq!(machine.status(), "imgbake: waiting for endpoint 10.0.0.1:6443\n");
}

#[test]
fn paths_in_the_plan_and_in_the_script_agree() {
    let plan = plan_of("node-1", true);
    let script = body(&plan, "/usr/local/lib/imgbake/first-boot");
    for name in ["node.conf", "kubeadm.yaml", "fetch", "pki/ca.crt", "pki/ca.key"] {
        assert!(plan.root.contains_key(&GuestPath::from(format!("/etc/imgbake/{name}").as_str())), "{name}");
        assert!(script.contains(&format!("$ETC/{name}\"")), "{name}");
    }
    assert!(
        body(&plan, "/etc/systemd/system/imgbake-first-boot.service")
            .contains("/bin/sh /usr/local/lib/imgbake/first-boot\n")
    );
}
