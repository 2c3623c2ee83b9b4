//! `imgbake fetch`, and bakes from what it got: without any network, and without any work done twice.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::guest::{self, AARCH64};
use crate::run::{Kitchen, SSH_KEY, tool, words};

const NODE: [&str; 6] = ["pi4", "node-2", "--base", "guest", "--ssh-key", SSH_KEY];

/// Serves the files below a folder until the test process ends; answers its address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            thread::spawn(move || answer(&stream, &folder));
        }
    });
    address
}

fn answer(mut stream: &TcpStream, folder: &Path) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    lines.find(String::is_empty);
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let answer = match fs::read(folder.join(path)) {
        Ok(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
            [head.into_bytes(), bytes].concat()
        }
        Err(_) => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
    };
    // A client that went away has its reasons.
    drop(stream.write_all(&answer));
}

/// A kitchen with a network: upstream's files on a server, which the list of mirrors leads to, and `imgbake.lock` with
/// their digests; the base image `guest` there, with a checksum file that nobody signed. Answers the server's address.
fn network(kitchen: &Kitchen) -> String {
    guest::raspberry_pi(kitchen, AARCH64);
    let site = kitchen.path("site");
    let address = serve(site.clone());
    fs::create_dir_all(site.join("images")).expect("a folder");
    fs::create_dir_all(kitchen.path("config/profiles/bases")).expect("a folder");
    let images = "xz -0 -c ../../guest.img > guest.img.xz && sha256sum guest.img.xz > SHA256SUMS";
    tool("xz-utils", Command::new("sh").args(["-ec", images]).current_dir(site.join("images")));
    let base = format!(
        "description: a guest\narchitecture: arm64\nfirmware: raspberry-pi\ndistribution: debian\nrelease: \"13\"\n\
         seed: boot-partition\nvendor:\n  url: http://{address}/images/guest.img.xz\n  \
         checksums: http://{address}/images/SHA256SUMS\n  format: xz\n"
    );
    fs::write(kitchen.path("config/profiles/bases/guest.yaml"), base).expect("a base image");
    let mirrors = format!(
        "mirrors:\n  - {{prefix: https://dl.k8s.io/, to: http://{address}/kubernetes/}}\n  \
         - {{prefix: https://github.com, to: http://{address}/proxy/github.com}}\n"
    );
    fs::write(kitchen.path("config/mirrors.yaml"), mirrors).expect("a list of mirrors");
    let plan: Value = serde_json::from_str(&kitchen.ok(&[&["plan"], &NODE[..], &["--json"]].concat())).expect("JSON");
    let mut lock = "artifacts:\n".to_owned();
    for edit in plan["root"].as_object().expect("edits").values() {
        let program = edit["write"]["body"]["artifact"]["url"].as_str();
        let archive = edit["unpack"]["archive"]["url"].as_str();
        let Some(url) = program.or(archive) else { continue };
        let path = url.replace("https://dl.k8s.io", "kubernetes").replace("https://github.com", "proxy/github.com");
        let path = site.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut bytes = [&b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"[..], &[AARCH64, 0]].concat();
        bytes.extend(url.bytes().cycle().take(300_000));
        if archive.is_some() {
            fs::create_dir_all(kitchen.path("members")).expect("a folder");
            fs::write(kitchen.path("members/crictl"), bytes).expect("a member");
            tool(
                "tar",
                Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(kitchen.path("members")).arg("crictl"),
            );
        } else {
            fs::write(&path, bytes).expect("a program");
        }
        let sum = tool("coreutils", Command::new("sha256sum").arg(&path));
        lock += &format!("  - url: {url}\n    sha256: {}\n", &sum[..64]);
    }
    fs::write(kitchen.path("imgbake.lock"), lock).expect("a lock file");
    address
}

/// `inner`, run by the command `outer`.
fn within(outer: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(outer[0]);
    command.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(inner.get_current_dir().expect("a kitchen"));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn same(kitchen: &Kitchen, one: &str, other: &str) {
    tool("diffutils", Command::new("cmp").arg(kitchen.path(one)).arg(kitchen.path(other)));
}

#[test]
fn what_is_fetched_into_a_folder_is_enough_for_a_machine_without_network() {
    let kitchen = Kitchen::new();
    let address = network(&kitchen);
    kitchen.ok(&[&NODE[..], &["-o", "online.img"]].concat());
    let fetch = [&["fetch"], &NODE[..], &["--to", "usb", "--cache-dir", "empty"]].concat();
    let listing = kitchen.ok(&fetch);
    fs::write(kitchen.path("listing"), &listing).expect("a file");
    tool("coreutils", Command::new("sha256sum").args(["--strict", "-c", "listing"]).current_dir(kitchen.path("")));
    let paths: Vec<&str> = listing.lines().map(|line| &line[66..]).collect();
    for path in [
        format!("usb/{address}/images/guest.img.xz"),
        "usb/dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm".to_owned(),
        "usb/imgbake.lock".to_owned(),
    ] {
        assert!(paths.contains(&path.as_str()), "{path} is not in {listing}");
    }
    assert_eq!(paths.len(), 9, "{listing}");
    let lock = fs::read_to_string(kitchen.path("usb/imgbake.lock")).expect("a lock file");
    for part in [
        "\nversion: 1\n",
        "\n  - name: \"kubernetes\"\n    asked: \"default\"\n    release: \"1.36.4\"\n",
        &format!("  - url: \"http://{address}/images/guest.img.xz\"\n    name: \"guest\"\n"),
    ] {
        assert!(lock.contains(part), "{part} is not in {lock}");
    }
    // Again it is all there.
    assert_eq!(kitchen.ok(&[&fetch[..], &["--offline"]].concat()), listing);

    // A network namespace has no interface but a loopback that is down.
    fs::remove_file(kitchen.path("config/mirrors.yaml")).expect("the list of mirrors");
    let mut bake = kitchen.command(&NODE);
    bake.args([
        "--offline",
        "--mirror",
        "usb",
        "--lock",
        "usb/imgbake.lock",
        "--cache-dir",
        "other",
        "-o",
        "there.img",
    ]);
    tool("util-linux", &mut within(&["unshare", "--map-root-user", "--net", "--"], &bake));
    same(&kitchen, "online.img", "there.img");
}

#[test]
fn a_bake_with_everything_cached_opens_no_socket_and_no_file_of_the_cache_twice() {
    let kitchen = Kitchen::new();
    network(&kitchen);
    // The cache is warm after this; standard output names what is in it.
    let listing = kitchen.ok(&[&["fetch"], &NODE[..]].concat());
    assert!(listing.lines().count() == 8 && listing.contains("/cache/blobs/"), "{listing}");
    kitchen.ok(&[&NODE[..], &["-o", "first.img"]].concat());
    let bake = kitchen.command(&[&NODE[..], &["-o", "second.img"]].concat());
    let strace = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%network,open,openat,openat2", "-o", "trace"];
    tool("strace", &mut within(&strace, &bake));
    same(&kitchen, "first.img", "second.img");
    let trace = fs::read_to_string(kitchen.path("trace")).expect("a trace");
    let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
    for line in trace.lines() {
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        assert!(
            call.starts_with("open") || call.starts_with('<') || call.starts_with('+'),
            "the network is asked: {line}"
        );
        let path = call.split('"').nth(1).unwrap_or_default();
        let is_cached = path.starts_with(kitchen.path("cache").to_str().expect("text"));
        if is_cached && !call.contains("O_DIRECTORY") && !call.contains("ENOENT") && !call.contains("O_TMPFILE") {
            *opened.entry(path).or_default() += 1;
        }
    }
    let of = |folder: &str| opened.keys().filter(|path| path.contains(&format!("/cache/{folder}/"))).count();
    assert_eq!((of("blobs"), of("unpacked")), (8, 4), "{opened:#?}");
    let twice: Vec<_> = opened.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn without_network_all_that_is_missing_is_named_at_once_the_base_image_too() {
    let kitchen = Kitchen::new();
    let address = network(&kitchen);
    fs::remove_file(kitchen.path("imgbake.lock")).expect("the lock file");
    fs::remove_file(kitchen.path("config/mirrors.yaml")).expect("the list of mirrors");
    for command in [&["--offline", "-o", "node.img"][..], &["--offline"]] {
        let first: &[&str] = if command.len() == 1 { &["fetch"] } else { &[] };
        let output = kitchen.run(&[first, &NODE[..], command].concat());
        assert_eq!(output.status.code(), Some(1));
        let said = words(&output);
        assert!(
            said.starts_with("error: offline, and 8 files are neither in the cache nor in a mirror folder:\n"),
            "{said}"
        );
        assert!(said.contains(&format!("`http://{address}/images/guest.img.xz` (checksum unknown")), "{said}");
        assert!(said.contains("imgbake fetch --to DIR"), "{said}");
    }
    assert!(!kitchen.path("node.img").exists());
}

#[test]
fn limits_and_lists_that_make_no_sense_are_refused() {
    let kitchen = Kitchen::new();
    for (option, value) in
        [("--limit-rate", "fast"), ("--limit-rate", "0"), ("--connections", "0"), ("--connections", "65")]
    {
        let output = kitchen.run(&[&["fetch"], &NODE[..], &[option, value]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(
            words(&output).starts_with(&format!("error: invalid value '{value}' for '{option}")),
            "{}",
            words(&output)
        );
    }
    fs::create_dir_all(kitchen.path("config")).expect("a folder");
    fs::write(kitchen.path("config/mirrors.yaml"), "mirrors:\n  - {prefix: dl.k8s.io, to: /a}\n").expect("a list");
    kitchen.refused(
        &["fetch", "pi4", "node-2", "--ssh-key", SSH_KEY],
        1,
        "
error: cannot parse `KITCHEN/config/mirrors.yaml`: line 2, column 14: `dl.k8s.io` is not how an http or https URL begins

hint: `mirrors:` is a list of `- {prefix: https://dl.k8s.io/, to: https://mirror.example/k8s/}`; without `prefix` an entry is like `--mirror`
",
    );
}

#[test]
fn a_limit_on_the_rate_and_one_connection_do_not_change_what_is_fetched() {
    let kitchen = Kitchen::new();
    network(&kitchen);
    let listing = kitchen.ok(&[&["fetch"], &NODE[..]].concat());
    let slow = ["--limit-rate", "2MiB", "--connections", "1", "--cache-dir", "slow"];
    let slowly = kitchen.ok(&[&["fetch"], &NODE[..], &slow].concat());
    let digests = |listing: &str| listing.lines().map(|line| line[..64].to_owned()).collect::<Vec<_>>();
    assert_eq!(digests(&slowly), digests(&listing));
}
