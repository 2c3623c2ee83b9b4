//! A bake that fetches everything and is over in a moment: a base image of a few hundred kilobytes and made-up programs,
//! served on 127.0.0.1 under the names of the real ones and pinned by a lock file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::server::{Act, Server, file, reply};
use super::{noise, sha256};

/// A public key whose private half nobody has.
const SSH_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBakeBakeBakeBakeBakeBakeBakeBakeBakeBakeBak test";
/// Where the base image is said to be.
const BASE_URL: &str = "https://images.invalid/guest.img.xz";
const BASE: &str = "\
description: A guest
architecture: arm64
firmware: raspberry-pi
distribution: debian
release: \"13\"
seed: boot-partition
vendor:
  url: https://images.invalid/guest.img.xz
  checksums: https://images.invalid/SHA256SUMS
  format: xz
";
/// The parts of the guest's disk, in MiB.
const BOOT: u64 = 4;
const ROOT: u64 = 12;

/// Configuration, server and outputs of such bakes.
pub struct Kitchen {
    folder: tempfile::TempDir,
    server: Server,
}

impl Kitchen {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bases = folder.path().join("config/profiles/bases");
        fs::create_dir_all(&bases).unwrap();
        fs::write(bases.join("guest.yaml"), BASE).unwrap();
        let mut files: BTreeMap<String, Vec<u8>> = artifacts(folder.path()).into_iter().map(made_up).collect();
        files.insert(BASE_URL.to_owned(), guest(folder.path()));
        let pins: String =
            files.iter().map(|(url, bytes)| format!("  - url: {url}\n    sha256: {}\n", sha256(bytes))).collect();
        fs::write(folder.path().join("imgbake.lock"), format!("artifacts:\n{pins}")).unwrap();
        let server = Server::start(move |request| {
            let url = format!("https:/{}", request.path);
            let Some(bytes) = files.get(&url) else { return reply("404 Not Found", &[], b"") };
            // Slow enough to be interrupted in the middle.
            let Act::Send(answer) = file(request, bytes).remove(0) else { unreachable!("an answer is bytes") };
            answer.chunks(16 << 10).flat_map(|p| [Act::Send(p.to_vec()), Act::Wait(Duration::from_millis(2))]).collect()
        });
        Self { folder, server }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// imgbake with the cache `cache`.
    pub fn command(&self, cache: &Path, arguments: &[&str]) -> Command {
        let mut command = imgbake(self.folder.path());
        command.args(arguments).env("IMGBAKE_CACHE_DIR", cache);
        command
    }

    /// A bake with everything inside.
    pub fn bake(&self, cache: &Path, output: &str) -> Command {
        let mirror = self.server.url("").trim_end_matches('/').to_owned();
        let mut command = self.command(cache, &["pi4", "node-2", "--base", "guest", "--ssh-key", SSH_KEY, "-q"]);
        command.args(["--mirror", &mirror, "--lock", "imgbake.lock", "-o", output]).stdin(Stdio::null());
        command
    }
}

fn imgbake(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbake"));
    command
        .current_dir(folder)
        .env("HOME", folder.join("home"))
        .env("IMGBAKE_CONFIG_DIR", folder.join("config"))
        .env_remove("SOURCE_DATE_EPOCH");
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// The URLs that the bake's plan names.
fn artifacts(folder: &Path) -> BTreeSet<String> {
    let plan = ["plan", "pi4", "node-2", "--base", "guest", "--ssh-key", SSH_KEY, "--json"];
    let output = imgbake(folder).args(plan).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut urls = BTreeSet::new();
    collect(&serde_json::from_slice(&output.stdout).unwrap(), &mut urls);
    assert!(urls.len() >= 6, "{urls:?}");
    urls
}

fn collect(value: &Value, urls: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(url)), true) = (fields.get("url"), fields.contains_key("checksum")) {
                urls.insert(url.clone());
            }
            fields.values().for_each(|value| collect(value, urls));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, urls)),
        _ => {}
    }
}

/// What is served as the file at `url`: as large as its place in the alphabet says, so that no two are alike.
fn made_up(url: String) -> (String, Vec<u8>) {
    let name = url.rsplit('/').next().unwrap();
    let bytes = noise(150_000 + 1000 * name.bytes().map(usize::from).sum::<usize>() % 100_000);
    if !name.ends_with("gz") {
        return (url, bytes);
    }
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, name.split('-').next().unwrap(), &bytes[..]).unwrap();
    let packed = builder.into_inner().unwrap().finish().unwrap();
    (url, packed)
}

/// A disk image with just enough of Debian in it to be edited, as `.xz`.
fn guest(folder: &Path) -> Vec<u8> {
    let work = folder.join("guest");
    fs::create_dir(&work).unwrap();
    for name in ["etc", "usr/bin", "usr/lib/systemd/system", "root", "home", "var/lib", "boot/firmware"] {
        fs::create_dir_all(work.join("tree").join(name)).unwrap();
    }
    for (name, text) in [
        ("tree/etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n"),
        ("tree/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("tree/etc/group", "root:x:0:\nadm:x:4:\nsudo:x:27:\n"),
        ("tree/etc/shadow", "root:*:20000:0:99999:7:::\n"),
        ("tree/etc/gshadow", "root:*::\nadm:*::\nsudo:*::\n"),
        ("tree/etc/fstab", "PARTUUID=1badcafe-02 / ext4 defaults 0 1\n"),
        ("tree/usr/bin/iptables", ""),
        ("config.txt", "arm_64bit=1\nkernel=vmlinuz\n"),
        ("cmdline.txt", "console=tty1 root=PARTUUID=1badcafe-02 rootfstype=ext4 rootwait\n"),
    ] {
        fs::write(work.join(name), text).unwrap();
    }
    // Something to unpack.
    fs::write(work.join("tree/usr/lib/ballast"), noise(600_000)).unwrap();
    let (boot, root) = (BOOT * 2048, ROOT * 2048);
    let root_start = 2048 + boot;
    let script = format!(
        "set -e
        truncate -s {total}M guest.img
        printf 'label: dos\\nlabel-id: 0x1badcafe\\nstart=2048, size={boot}, type=c\\nstart={root_start}, size={root}, type=83\\n' \
            | sfdisk -q guest.img
        truncate -s {BOOT}M boot && mkfs.vfat -n GUESTBOOT boot
        mcopy -i boot config.txt cmdline.txt ::
        mke2fs -q -t ext4 -L GUESTROOT -E root_owner=0:0 -d tree root {ROOT}M
        dd if=boot of=guest.img bs=1M seek=1 conv=notrunc,sparse
        dd if=root of=guest.img bs=1M seek={root_mebibyte} conv=notrunc,sparse
        xz -1 guest.img",
        total = 1 + BOOT + ROOT,
        root_mebibyte = 1 + BOOT,
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(&work).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let packages = "install the Debian packages `fdisk`, `dosfstools`, `mtools`, `e2fsprogs` and `xz-utils`";
    assert!(output.status.success(), "{packages}: {words}");
    fs::read(work.join("guest.img.xz")).unwrap()
}
