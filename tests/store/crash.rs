//! Bakes that are killed at any moment, two at a time, and bakes on a disk that is too small: the cache stays right.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use imgbake::{PruneOptions, Silent, prune_cache, verify_cache};

use super::kitchen::Kitchen;

/// How often two bakes are killed.
const ROUNDS: u32 = 200;

/// What is free on the disk that the cache is on, in KiB, from next to nothing to enough for all.
const SIZES: [u64; 16] = [4, 16, 64, 160, 256, 384, 512, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096, 8192];

/// xorshift64*: the same moments in every run, as far as the machine is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }
}

fn spawn(mut bake: Command) -> Child {
    bake.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bakes and verifies, both by the program, and both must succeed.
fn works(kitchen: &Kitchen, cache: &Path, output: &str) {
    for mut command in [
        kitchen.command(cache, &["cache", "verify"]),
        kitchen.bake(cache, output),
        kitchen.command(cache, &["cache", "verify"]),
    ] {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&done.stdout), words(&done));
    }
}

#[test]
fn bakes_that_are_killed_at_any_moment_leave_a_cache_that_is_right() {
    let kitchen = Kitchen::new();
    let cache = kitchen.path("cache");
    let start = Instant::now();
    works(&kitchen, &kitchen.path("undisturbed"), "undisturbed.img");
    let complete = verify_cache(&kitchen.path("undisturbed"), false, &Silent).unwrap().files;
    assert!(complete >= 10, "{complete} files");
    // Moments are chosen before this one; it follows the machine's load.
    let mut last = u64::try_from(start.elapsed().as_micros()).unwrap() / 2;
    let mut random = Random(0x1ba6_ba4e);
    let (mut killed, mut finished) = (0, 0);
    for round in 0..ROUNDS {
        let start = Instant::now();
        let mut moments = [random.below(last), random.below(last)].map(Duration::from_micros);
        moments.sort();
        for (mut bake, moment) in
            ["a.img", "b.img"].map(|name| spawn(kitchen.bake(&cache, name))).into_iter().zip(moments)
        {
            thread::sleep(moment.saturating_sub(start.elapsed()));
            let by_itself = bake.try_wait().unwrap().is_some();
            bake.kill().unwrap();
            let status = bake.wait().unwrap();
            if by_itself {
                assert!(status.success(), "round {round}: {status}");
                finished += 1;
                last -= last / 10;
            } else {
                killed += 1;
                last += last / 100;
            }
        }
        let verified = verify_cache(&cache, false, &Silent).unwrap();
        assert!(verified.problems.is_empty(), "round {round}: {:?}", verified.problems);
        // A cache that is complete leaves nothing to fetch; others are carried on with, mostly.
        if verified.files == complete || random.below(6) == 0 {
            fs::remove_dir_all(&cache).unwrap();
        }
    }
    assert!(killed >= ROUNDS, "only {killed} bakes were killed, {finished} ended before");
    works(&kitchen, &cache, "after.img");
    let mut compare = Command::new("cmp");
    compare.arg(kitchen.path("undisturbed.img")).arg(kitchen.path("after.img"));
    assert!(compare.status().unwrap().success(), "the image is another one than that of an undisturbed bake");
}

#[test]
fn bakes_go_on_while_the_cache_is_pruned_to_nothing() {
    let kitchen = Kitchen::new();
    let cache = kitchen.path("cache");
    let everything = || PruneOptions { now: SystemTime::now(), older_than: None, max_size: Some(0), dry_run: false };
    let (mut removed, mut spared) = (0, 0);
    for round in 0..10 {
        let mut bakes = ["a.img", "b.img"].map(|name| spawn(kitchen.bake(&cache, name)));
        while bakes.iter_mut().any(|bake| bake.try_wait().unwrap().is_none()) {
            let pruned = prune_cache(&cache, &everything()).unwrap();
            removed += pruned.removed.len();
            spared += pruned.in_use.len();
            thread::sleep(Duration::from_millis(1));
        }
        for bake in &mut bakes {
            assert!(bake.wait().unwrap().success(), "round {round}");
        }
        let verified = verify_cache(&cache, false, &Silent).unwrap();
        assert!(verified.problems.is_empty(), "round {round}: {:?}", verified.problems);
    }
    assert!(removed > 0 && spared > 0, "{removed} files were removed, {spared} were in use");
}

/// Two bakes at once on a disk with `$1` KiB free; then there is room, and one bakes again.
const FULL: &str = r#"
mount -t tmpfs -o size=16384k none disk || exit 99
mkdir disk/cache && fallocate -l "$((16384 - $1))KiB" disk/ballast || exit 98
imgbake=$2; shift 2
"$imgbake" "$@" -o first.img 2> first & first=$!
"$imgbake" "$@" -o second.img 2> second; echo $? >> second
wait $first; echo $? >> first
"$imgbake" cache verify > verify 2>&1; echo $? >> verify
rm disk/ballast
set -e
"$imgbake" "$@" -o third.img
"$imgbake" cache verify
"#;

#[test]
fn a_disk_that_fills_up_leaves_a_cache_that_is_right_and_says_so() {
    let kitchen = Kitchen::new();
    fs::create_dir(kitchen.path("disk")).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let (mut full, mut done) = (0, 0);
    for size in SIZES {
        let bake = kitchen.bake(&kitchen.path("disk/cache"), "x.img");
        let mut command = Command::new("unshare");
        command.args(if is_root { &["--mount"][..] } else { &["--map-root-user", "--mount"] });
        command.args(["sh", "-c", FULL, "sh", &size.to_string()]).arg(bake.get_program());
        let arguments: Vec<_> = bake.get_args().collect();
        command.args(&arguments[..arguments.len() - 2]);
        command.current_dir(kitchen.path(""));
        for (name, value) in bake.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("unshare starts: install the Debian package `util-linux`");
        let words = words(&output);
        let rights = "a tmpfs cannot be mounted: this test needs root, or a host that allows user namespaces";
        assert!(output.status.code() != Some(99) && !words.contains("unshare:"), "{rights}: {words}");
        assert!(output.status.success(), "{size} KiB: {}{words}", String::from_utf8_lossy(&output.stdout));
        let verify = fs::read_to_string(kitchen.path("verify")).unwrap();
        assert!(verify.ends_with("\n0\n"), "{size} KiB: {verify}");
        for name in ["first", "second"] {
            let text = fs::read_to_string(kitchen.path(name)).unwrap();
            if text.ends_with("\n0\n") {
                done += 1;
                continue;
            }
            full += 1;
            assert!(text.contains("no space left for `") && text.contains("free"), "{size} KiB: {text}");
            assert!(
                text.contains("hint: free some space, for example with `imgbake cache prune"),
                "{size} KiB: {text}"
            );
            assert!(text.ends_with("\n1\n"), "{size} KiB: {text}");
        }
    }
    assert!(full >= 10 && done >= 2, "{full} bakes found the disk full, {done} did not: choose other sizes");
}
