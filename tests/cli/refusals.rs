//! Bad input: each a test of the whole message.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::guest::{self, AARCH64, NODE, ROOT_SECTOR, X86_64};
use crate::run::{Kitchen, SSH_KEY, tool, words};

/// A quiet bake of `guest.img` into `out.img` that needs no network.
fn bake() -> Vec<&'static str> {
    [&NODE[..], &["--quiet", "-o", "out.img"]].concat()
}

/// The same with one word of it replaced.
fn bake_with<'a>(old: &str, new: &'a str) -> Vec<&'a str> {
    bake().into_iter().map(|word| if word == old { new } else { word }).collect()
}

#[test]
fn unknown_profile() {
    Kitchen::new().refused(
        &["plan", "pi44", "node-2"],
        1,
        "
error: there is no profile `pi44`

hint: did you mean `pi4`?
",
    );
}

#[test]
fn unknown_node() {
    Kitchen::new().refused(
        &["plan", "pi4", "nod-2"],
        1,
        "
error: cluster `home` has no node `nod-2`

hint: did you mean `node-2`? its nodes are `node-1` (control plane and gateway) and `node-2`, `node-3`, … (workers); a worker of another cluster may have any name, see `--join`
",
    );
}

#[test]
fn malformed_profile() {
    let kitchen = Kitchen::new();
    fs::create_dir_all(kitchen.path("config/profiles")).expect("a folder");
    fs::write(kitchen.path("config/profiles/mine.yaml"), "architecture: arm64\nbase: [debian-13-rpi\nfirmware: x\n")
        .expect("a profile");
    kitchen.refused(
        &["plan", "mine", "node-2"],
        1,
        "
error: profile `KITCHEN/config/profiles/mine.yaml` is malformed at line 2, column 7
  caused by: expected string scalar
",
    );
}

#[test]
fn not_a_disk_image() {
    let kitchen = Kitchen::new();
    fs::write(kitchen.path("guest.img"), vec![b'x'; 1 << 20]).expect("a file");
    kitchen.refused(
        &bake(),
        1,
        "
error: cannot use `guest.img` as a base image
  caused by: the disk has no partition table

hint: give the image of a whole disk, not of a single file system
",
    );
    assert!(!kitchen.path("out.img").exists());
}

#[test]
fn truncated_image() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    fs::File::options().write(true).open(image).and_then(|file| file.set_len(100 << 20)).expect("a cut");
    kitchen.refused(
        &bake(),
        1,
        "
error: cannot use `guest.img` as a base image
  caused by: partition 2 ends at byte 168820736, but the disk has only 104857600 bytes

hint: the image is damaged or was not downloaded completely: get it again and compare its checksum
",
    );
}

#[test]
fn truncated_xz() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    tool("xz-utils", Command::new("xz").args(["-0", "-k"]).arg(kitchen.path("guest.img")));
    let packed = kitchen.path("guest.img.xz");
    let len = fs::metadata(&packed).expect("metadata").len();
    fs::File::options().write(true).open(&packed).and_then(|file| file.set_len(len - 100)).expect("a cut");
    let bake = bake_with("guest.img", "guest.img.xz");
    kitchen.refused(
        &bake,
        1,
        "
error: cannot unpack `guest.img.xz`
  caused by: `guest.img.xz` is damaged: it is truncated

hint: get the image again and compare its checksum
",
    );
}

#[test]
fn no_root_file_system() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    // The superblock's magic goes.
    overwrite(&image, ROOT_SECTOR * 512 + 1024 + 0x38, &[0, 0]);
    kitchen.refused(&bake(), 1,
        "
error: the base image has no ext4 root file system on any of its 2 partitions

hint: imgbake edits images whose root file system is ext4 on a partition of its own, as Ubuntu's, Debian's and Raspberry Pi OS's are
",
    );
}

#[test]
fn a_feature_that_is_not_understood() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    let root = format!("{}?offset={}", image.display(), ROOT_SECTOR * 512);
    tool("e2fsprogs", Command::new("debugfs").args(["-w", "-R", "feature quota"]).arg(root));
    kitchen.refused(
        &bake(),
        1,
        "
error: cannot edit the root file system
  caused by: an ext4 file system with the feature `quota` is not supported

hint: take quotas off a copy of the image: `tune2fs -Q ^usrquota,^grpquota,^prjquota`
",
    );
}

fn overwrite(path: &std::path::Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("the image");
    file.write_all_at(bytes, offset).expect("a write");
}

#[test]
fn base_for_another_architecture() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, X86_64);
    kitchen.refused(
        &bake(),
        1,
        "
error: base image `guest.img` is for amd64, profile `pi4` is for arm64

hint: choose a base image or a profile that go together; without `--base` the profile's own is used
",
    );
}

#[test]
fn a_base_without_the_programs_that_it_should_bring_is_warned_about() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    let root = format!("{}?offset={}", image.display(), ROOT_SECTOR * 512);
    for program in ["runc", "iptables"] {
        let request = format!("rm /usr/sbin/{program}");
        tool("e2fsprogs", Command::new("debugfs").args(["-w", "-R", &request]).arg(&root));
    }
    let output = kitchen.run(&bake());
    assert!(output.status.success());
    let said = words(&output);
    assert!(
        said.contains(
            "warning: base image `guest.img` has no `runc`: `--runtime distro` takes it from the base image\n"
        ),
        "{said}"
    );
    assert!(
        said.contains("warning: base image `guest.img` has no `iptables`: kubeadm refuses to start without it\n"),
        "{said}"
    );
    assert_eq!(said.matches("warning").count(), 2, "{said}");
}

#[test]
fn a_base_that_would_have_to_be_made_offline() {
    Kitchen::new().refused(
        &bake_with("guest.img", "debian-13-rpi"),
        1,
        "
error: offline, and the cache does not hold the base image `debian-13-rpi-containerd`

hint: make it once with the network on, `imgbake base build debian-13-rpi-containerd`, or leave out `--offline`
",
    );
}

#[test]
fn a_vendor_image_in_a_format_that_is_not_read() {
    let hash = format!("sha256:{}", "0".repeat(64));
    let join =
        ["vps-amd64", "edge-1", "--join", "203.0.113.7", "--token", "abcdef.0123456789abcdef", "--ssh-key", SSH_KEY];
    Kitchen::new().refused(
        &[&join[..], &["--ca-cert-hash", &hash, "--base", "ubuntu-24.04-cloud-amd64", "-o", "out.img"]].concat(),
        1,
        "
error: base image `ubuntu-24.04-cloud-amd64` is published as qcow2, which imgbake does not read yet

hint: download it, convert it with `qemu-img convert -O raw`, and give the result as `--base FILE`
",
    );
}

#[test]
fn a_mirror_that_is_not_there() {
    Kitchen::new().refused(
        &[&bake()[..], &["--mirror", "htp://mirror"]].concat(),
        2,
        "
error: the mirror `htp://mirror` is neither a folder nor an http or https URL

hint: check `--mirror`: it holds upstream's files under HOST/PATH, such as `DIR/dl.k8s.io/release/…`
",
    );
}

#[test]
fn size_too_small() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    let output = kitchen.run(&[&bake()[..], &["--size", "200MiB"]].concat());
    let message = words(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let needed = message.split("--size ").nth(1).and_then(|rest| rest.split('`').next()).expect("the needed size");
    assert!(
        message.starts_with(&format!("error: an image of 209715200 bytes is too small: {needed} bytes are needed\n")),
        "{message}"
    );
    let enough = needed.to_owned();
    kitchen.ok(&[&bake()[..], &["--size", &enough]].concat());
    assert_eq!(fs::metadata(kitchen.path("out.img")).expect("an image").len().to_string(), enough);
}

/// Bakes into a file system of the test's own, mounted with `options` at `target`; says what is left there, too.
fn bake_into_mount(kitchen: &Kitchen, options: &str) -> (Option<i32>, String) {
    guest::raspberry_pi(kitchen, AARCH64);
    fs::create_dir(kitchen.path("target")).expect("a folder");
    let words_of_bake =
        bake_with("out.img", "target/out.img").iter().map(|word| format!("'{word}' ")).collect::<String>();
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs target && {} {words_of_bake}; code=$?; ls -A target >&2; exit $code",
        env!("CARGO_BIN_EXE_imgbake")
    );
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .current_dir(kitchen.path(""))
        .env("HOME", kitchen.path("home"))
        .env("IMGBAKE_CONFIG_DIR", kitchen.path("config"))
        .env("IMGBAKE_CACHE_DIR", kitchen.path("cache"))
        .output()
        .expect("unshare starts: install the Debian package `util-linux`");
    (output.status.code(), words(&output))
}

#[test]
fn read_only_target() {
    let (code, message) = bake_into_mount(&Kitchen::new(), "ro");
    assert_eq!(
        message,
        "error: cannot write to `target/out.img`\n  caused by: read-only filesystem or storage medium\n\n\
         hint: choose a folder you may write to\n"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn full_target() {
    let (code, message) = bake_into_mount(&Kitchen::new(), "size=1m");
    let (first, rest) = message.split_once(" of them were reached").expect("how far it came");
    let (before, _) = first.rsplit_once(' ').expect("a number");
    let size: u64 = before
        .split("the image has ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|size| size.parse().ok())
        .expect("a size");
    assert_eq!(before, format!("error: no space left for `target/out.img`: the image has {size} bytes,"));
    assert_eq!(
        rest,
        format!(
            "\n  caused by: No space left on device (os error 28)\n\nhint: choose a place with {} MiB free\n",
            size.div_ceil(1 << 20)
        )
    );
    assert_eq!(code, Some(1));
}

/// Bakes from a base image of the user's own catalogue that is at `url` and pinned to a digest of nothing.
fn bake_vendor_image(kitchen: &Kitchen, url: &str) -> String {
    fs::create_dir_all(kitchen.path("config/profiles/bases")).expect("a folder");
    let base = format!(
        "description: mine\narchitecture: arm64\nfirmware: raspberry-pi\ndistribution: debian\nrelease: \"13\"\nseed: boot-partition\n\
         vendor:\n  url: {url}\n  format: raw\n  digest: {}\n",
        "0".repeat(64)
    );
    fs::write(kitchen.path("config/profiles/bases/mine.yaml"), base).expect("a base");
    let output = kitchen.run(&["pi4", "node-2", "--base", "mine", "--ssh-key", SSH_KEY, "--quiet", "-o", "out.img"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!kitchen.path("out.img").exists());
    kitchen.anonymous(&words(&output))
}

#[test]
fn wrong_checksum() {
    let kitchen = Kitchen::new();
    fs::write(kitchen.path("gone.img"), "something else\n").expect("a file");
    let url = format!("file://{}", kitchen.path("gone.img").display());
    assert_eq!(
        bake_vendor_image(&kitchen, &url),
        "error: `KITCHEN/gone.img` has the wrong checksum: sha256 \
         `a1621be95040239ee14362c16e20510ddc20f527d772d823b2a1679b33f5cd74`, but its pin says \
         `0000000000000000000000000000000000000000000000000000000000000000`\n\n\
         hint: nothing of it was kept; try again, and if it stays like this do not use the file: it is not the one that \
         was published or pinned\n"
    );
}

#[test]
fn unreachable_url() {
    // A port that was free a moment ago: nobody answers there.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let message = bake_vendor_image(&Kitchen::new(), &format!("http://127.0.0.1:{port}/gone.img"));
    let message = message.replace(&port.to_string(), "PORT");
    let message = message.split_once("error: ").expect("an error behind the notes").1;
    assert_eq!(
        message,
        "cannot reach `http://127.0.0.1:PORT/gone.img`\n  caused by: Connection refused (os error 111)\n\n\
         hint: check the network and the proxy (`https_proxy`), or use `--mirror DIR_OR_URL`; `--defer kubernetes` and \
         `--runtime distro` need fewer downloads\n"
    );
}

#[test]
fn terminal_as_output() {
    let kitchen = Kitchen::new();
    let line = format!("{} pi4 node-2", env!("CARGO_BIN_EXE_imgbake"));
    // `script` gives the command a terminal.
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(kitchen.path(""))
        .output()
        .expect("script starts: install the Debian package `bsdutils`");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"),
        "error: an image is binary data and standard output is a terminal\n\n\
         hint: redirect it, `imgbake pi4 node-2 > node-2.img`, or name a file, `-o node-2.img`\n"
    );
}

#[test]
fn malformed_token() {
    let hash = format!("sha256:{}", "0".repeat(64));
    Kitchen::new().refused(
        &["plan", "vps-amd64", "edge-1", "--join", "203.0.113.7:6443", "--token", "secret-token", "--ca-cert-hash", &hash],
        1,
        "
error: the join token is malformed

hint: a token is 6 and 16 lower case letters or digits with a dot between; `kubeadm token create` on the control plane makes one
",
    );
}

#[test]
fn expired_token() {
    let hash = format!("sha256:{}", "0".repeat(64));
    let join = ["plan", "vps-amd64", "edge-1", "--join", "203.0.113.7:6443", "--token", "abcdef.0123456789abcdef"];
    Kitchen::new().refused(
        &[&join[..], &["--ca-cert-hash", &hash, "--token-expires", "2026-01-01T00:00:00Z"]].concat(),
        1,
        "
error: the join token expired at 2026-01-01T00:00:00Z

hint: `kubeadm token create --ttl 72h --print-join-command` on the control plane makes a new one
",
    );
}

#[test]
fn an_existing_image_survives_a_failed_bake() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, X86_64);
    fs::write(kitchen.path("out.img"), "precious\n").expect("a file");
    fs::set_permissions(kitchen.path("out.img"), fs::Permissions::from_mode(0o600)).expect("a mode");
    assert!(!kitchen.run(&bake()).status.success());
    assert_eq!(fs::read_to_string(kitchen.path("out.img")).expect("the old image"), "precious\n");
    let left: Vec<String> = fs::read_dir(kitchen.path(""))
        .expect("the kitchen")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("out"))
        .collect();
    assert_eq!(left, ["out.img"]);
}
