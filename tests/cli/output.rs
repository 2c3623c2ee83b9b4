//! What a bake writes: the same bytes every way, accepted by the outside tools, and equal to the plan.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::guest::{self, AARCH64, BOOT_SECTOR, NODE, ROOT_SECTOR};
use crate::run::{Kitchen, SSH_KEY, tool, words};

fn sha256(path: &Path) -> String {
    tool("coreutils", Command::new("sha256sum").arg(path)).split_whitespace().next().expect("a digest").to_owned()
}

#[test]
fn file_standard_output_and_pipe_get_the_same_bytes_and_so_does_the_next_bake() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    kitchen.ok(&[&NODE[..], &["-o", "a.img"]].concat());
    let to_file = kitchen
        .command(&NODE)
        .stdout(fs::File::create(kitchen.path("b.img")).expect("a file"))
        .output()
        .expect("imgbake starts");
    assert!(to_file.status.success(), "{}", words(&to_file));
    let mut bake = kitchen.command(&NODE).stdout(Stdio::piped()).spawn().expect("imgbake starts");
    let mut cat = Command::new("cat")
        .stdin(bake.stdout.take().expect("a pipe"))
        .stdout(fs::File::create(kitchen.path("c.img")).expect("a file"))
        .spawn()
        .expect("cat starts");
    assert!(bake.wait().expect("imgbake ends").success() && cat.wait().expect("cat ends").success());
    kitchen.ok(&[&NODE[..], &["-o", "d.img"]].concat());
    let digests: BTreeSet<String> =
        ["a.img", "b.img", "c.img", "d.img"].iter().map(|name| sha256(&kitchen.path(name))).collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[test]
fn the_outside_tools_accept_the_image() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    kitchen.ok(&[&NODE[..], &["-o", "node.img", "--size", "3GiB"]].concat());
    judge(&kitchen, "node.img");
    let table = tool("fdisk", Command::new("sfdisk").arg("--dump").arg(kitchen.path("node.img")));
    assert!(table.contains("label-id: 0x1badcafe"), "{table}");
    assert!(
        table.contains(&format!("start=      {ROOT_SECTOR}, size=     {}", 3 * 2_097_152 - ROOT_SECTOR)),
        "{table}"
    );
}

/// Cuts the partitions out and has each judged by its own checker.
pub fn judge(kitchen: &Kitchen, image: &str) {
    tool("fdisk", Command::new("sfdisk").arg("--verify").arg(kitchen.path(image)));
    cut(kitchen, image, "boot.part", BOOT_SECTOR, Some(ROOT_SECTOR - BOOT_SECTOR));
    cut(kitchen, image, "root.part", ROOT_SECTOR, None);
    tool("dosfstools", Command::new("fsck.fat").arg("-n").arg(kitchen.path("boot.part")));
    tool("e2fsprogs", Command::new("e2fsck").arg("-fn").arg(kitchen.path("root.part")));
}

fn cut(kitchen: &Kitchen, image: &str, part: &str, start: u64, sectors: Option<u64>) {
    let mut command = Command::new("dd");
    command.arg(format!("if={}", kitchen.path(image).display())).arg(format!("of={}", kitchen.path(part).display()));
    command.args(["bs=512", "conv=sparse", "status=none", &format!("skip={start}")]);
    command.args(sectors.map(|sectors| format!("count={sectors}")));
    tool("coreutils", &mut command);
}

fn debugfs(kitchen: &Kitchen, request: &str) -> String {
    let output = Command::new("debugfs")
        .args(["-R", request])
        .arg(kitchen.path("root.part"))
        .output()
        .expect("debugfs starts: install the Debian package `e2fsprogs`");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_image_holds_what_the_plan_says() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    for node in ["node-1", "node-2"] {
        let arguments: Vec<&str> = NODE.iter().map(|word| if *word == "node-2" { node } else { word }).collect();
        kitchen.ok(&[&arguments[..], &["-o", "node.img"]].concat());
        judge(&kitchen, "node.img");
        let words: Vec<&str> = arguments.iter().copied().filter(|word| *word != "--offline").collect();
        let plan: Value =
            serde_json::from_str(&kitchen.ok(&[&["plan"], &words[..], &["--json"]].concat())).expect("JSON");
        let mut compared = 0;
        for (path, edit) in plan["root"].as_object().expect("edits") {
            compared += usize::from(root_edit_is_there(&kitchen, path, edit));
        }
        assert!(compared > 30, "only {compared} edits of the root file system were compared");
        for (path, edit) in plan["boot"].as_object().expect("edits") {
            boot_edit_is_there(&kitchen, path, edit);
        }
    }
}

/// Whether the edit is of a kind that can be compared, after comparing it.
fn root_edit_is_there(kitchen: &Kitchen, path: &str, edit: &Value) -> bool {
    let stat = debugfs(kitchen, &format!("stat {path}"));
    if edit == "remove" {
        assert!(stat.is_empty(), "{path} is still there: {stat}");
        return true;
    }
    if let Some(target) = edit["symlink"].as_str() {
        let found = if target.len() < 60 { stat } else { debugfs(kitchen, &format!("cat {path}")) };
        assert!(found.contains(target), "{path} does not point to {target}: {found}");
        return true;
    }
    let Some(write) = edit.get("write") else { return false };
    let mode = write["attributes"]["mode"].as_u64().expect("a mode");
    assert!(stat.contains(&format!("Mode:  {mode:04o}")), "{path}: mode {mode:04o} expected in {stat}");
    if let Some(text) = write["body"]["text"].as_str() {
        assert_eq!(debugfs(kitchen, &format!("cat {path}")), text, "{path}");
    }
    true
}

fn boot_edit_is_there(kitchen: &Kitchen, path: &str, edit: &Value) {
    if let Some(text) = edit["write"].as_str() {
        let part = kitchen.path("boot.part").display().to_string();
        let found = tool("mtools", Command::new("mtype").args(["-i", &part, &format!("::{path}")]));
        assert_eq!(found.replace("\r\n", "\n"), text, "{path}");
    }
}

#[test]
fn the_kernel_arguments_are_on_the_one_line_that_the_firmware_reads() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    kitchen.ok(&[&NODE[..], &["-o", "node.img"]].concat());
    judge(&kitchen, "node.img");
    let part = kitchen.path("boot.part").display().to_string();
    let line = tool("mtools", Command::new("mtype").args(["-i", &part, "::cmdline.txt"]));
    assert!(line.starts_with("console=tty1 root=PARTUUID=1badcafe-02 rootfstype=ext4 rootwait "), "{line}");
    assert!(line.contains(" cgroup_enable=memory"), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
}

#[test]
fn where_the_firmware_boots_from_a_folder_the_arguments_go_there() {
    let kitchen = Kitchen::new();
    let image = guest::raspberry_pi(&kitchen, AARCH64);
    // As Ubuntu's images for the Pi are since 25.10.
    fs::write(kitchen.path("config.txt"), "[all]\nos_prefix=current/\n[tryboot]\nos_prefix=new/\n").expect("a file");
    let boot = format!("{}@@{}", image.display(), BOOT_SECTOR * 512);
    tool("mtools", Command::new("mmd").args(["-i", &boot, "::current"]));
    for (name, target) in [("config.txt", "::config.txt"), ("cmdline.txt", "::current/cmdline.txt")] {
        tool("mtools", Command::new("mcopy").args(["-o", "-i", &boot]).arg(kitchen.path(name)).arg(target));
    }
    kitchen.ok(&[&NODE[..], &["-o", "node.img"]].concat());
    judge(&kitchen, "node.img");
    let part = kitchen.path("boot.part").display().to_string();
    let read = |path| tool("mtools", Command::new("mtype").args(["-i", &part, path]));
    assert!(read("::current/cmdline.txt").contains(" cgroup_enable=memory"));
    assert!(!read("::cmdline.txt").contains("cgroup_enable"), "the firmware does not read this one");
}

#[test]
fn no_secret_is_readable_by_anybody_but_root() {
    let kitchen = Kitchen::new();
    guest::raspberry_pi(&kitchen, AARCH64);
    let node: Vec<&str> = NODE.iter().map(|word| if *word == "node-2" { "node-1" } else { word }).collect();
    let baked = kitchen.run(&[&node[..], &["-o", "node.img"]].concat());
    assert!(baked.status.success(), "{}", words(&baked));
    judge(&kitchen, "node.img");
    let secrets = secrets(&kitchen.path("config/clusters"));
    assert!(secrets.len() >= 2, "a token and a key at least: {}", secrets.len());
    let plan = kitchen.ok(&["plan", "pi4", "node-1", "--base", "guest.img", "--ssh-key", SSH_KEY, "--json"]);
    let boot = fs::read(kitchen.path("boot.part")).expect("the boot partition");
    let tree = kitchen.path("dump");
    fs::create_dir(&tree).expect("a folder");
    debugfs(&kitchen, &format!("rdump / {}", tree.display()));
    for secret in &secrets {
        let needle = secret.as_bytes();
        assert!(!plan.contains(secret.as_str()) && !words(&baked).contains(secret.as_str()), "a secret in words");
        assert!(!boot.windows(needle.len()).any(|window| window == needle), "a secret on the boot partition");
        let open: Vec<String> = files_holding(&tree, needle);
        assert!(open.is_empty(), "a secret in {open:?}");
    }
}

/// The secret texts of all clusters: tokens, and a line of each private key.
fn secrets(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("clusters").flatten() {
        if entry.path().is_dir() {
            found.extend(secrets(&entry.path()));
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("text");
        let name = entry.file_name().into_string().expect("a name");
        if name.contains("token") {
            found.push(text.trim().to_owned());
        } else if name.ends_with(".key") {
            found.push(text.lines().nth(1).expect("a line of a key").to_owned());
        }
    }
    found
}

/// Files below `folder` that hold `needle` and that others than their owner may read.
fn files_holding(folder: &Path, needle: &[u8]) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(files_holding(&entry.path(), needle));
        } else if kind.is_file() {
            let open = entry.metadata().expect("metadata").permissions().mode() & 0o077 != 0;
            let bytes = fs::read(entry.path()).expect("contents");
            if open && bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}
