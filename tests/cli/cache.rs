//! `imgbake cache`: what is kept, making room, and whether it is still right.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::run::{Kitchen, tool, words};

/// SHA-256 of `abc`, from FIPS 180-2.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A cache with a download of three bytes, last used three days ago, and half of another one.
fn cache(kitchen: &Kitchen) -> PathBuf {
    for folder in ["blobs", "temp", "index"] {
        fs::create_dir_all(kitchen.path("cache").join(folder)).expect("a folder");
    }
    let blob = kitchen.path(format!("cache/blobs/{ABC}-3"));
    fs::write(&blob, "abc").expect("a file");
    File::open(&blob).and_then(|file| file.set_modified(SystemTime::now() - 3 * DAY)).expect("its time");
    let other = ABC.replace('b', "c");
    fs::write(kitchen.path(format!("cache/temp/get-{other}")), vec![1; 10_000]).expect("a file");
    for (digest, url) in [(ABC, "https://h/abc"), (other.as_str(), "https://h/other")] {
        fs::write(kitchen.path(format!("cache/index/from-{digest}-0")), url).expect("a note");
    }
    blob
}

/// Columns as words, so that a file system's block size does not matter.
fn columns(listing: &str) -> Vec<Vec<&str>> {
    listing.lines().map(|line| line.split("  ").filter(|word| !word.is_empty()).map(str::trim).collect()).collect()
}

#[test]
fn the_listing_says_what_how_large_how_old_and_where_from() {
    let kitchen = Kitchen::new();
    cache(&kitchen);
    let listing = kitchen.ok(&["cache", "ls"]);
    let lines = columns(&listing);
    assert_eq!(lines.len(), 2, "{listing}");
    let (blob, part) = (&lines[0], &lines[1]);
    assert_eq!([blob[0], blob[2], blob[3], blob[4]], ["download", "3 B", "3 days", "https://h/abc"], "{listing}");
    assert_eq!([part[0], part[2], part[3], part[4]], ["part", "9.7 KiB", "now", "https://h/other"], "{listing}");
}

#[test]
fn a_cache_that_is_not_there_is_empty_and_not_made() {
    let kitchen = Kitchen::new();
    assert_eq!(kitchen.ok(&["cache", "ls"]), "");
    kitchen.ok(&["cache", "verify"]);
    kitchen.ok(&["cache", "prune", "--max-size", "0"]);
    assert!(!kitchen.path("cache").exists());
    assert_eq!(kitchen.anonymous(&kitchen.ok(&["cache", "path"])), "KITCHEN/cache\n");
    assert_eq!(kitchen.ok(&["cache", "path", "--cache-dir", "/elsewhere"]), "/elsewhere\n");
}

#[test]
fn pruning_by_age_takes_what_was_not_used_for_long_and_a_dry_run_takes_nothing() {
    let kitchen = Kitchen::new();
    let blob = cache(&kitchen);
    assert_eq!(kitchen.ok(&["cache", "prune", "--older-than", "4d"]), "");
    let told = kitchen.ok(&["cache", "prune", "--older-than", "2d", "--dry-run"]);
    assert!(told.starts_with("download ") && told.ends_with("  https://h/abc\n"), "{told}");
    assert!(blob.exists());
    let output = kitchen.run(&["cache", "prune", "--older-than", "2d"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), told);
    let said = kitchen.anonymous(&words(&output));
    assert!(said.starts_with("1 file removed, ") && said.ends_with(" left in `KITCHEN/cache`\n"), "{said}");
    assert!(!blob.exists());
}

#[test]
fn pruning_by_size_spares_what_another_process_has_open() {
    let kitchen = Kitchen::new();
    let blob = cache(&kitchen);
    // As a bake holds it.
    let held = File::open(&blob).expect("the file");
    held.lock_shared().expect("a lock");
    let output = kitchen.run(&["cache", "prune", "--max-size", "0"]);
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("1 file kept: another imgbake uses it\n1 file removed, "), "{said}");
    assert!(blob.exists());
    drop(held);
    kitchen.ok(&["cache", "prune", "--max-size", "0"]);
    assert!(!blob.exists());
}

#[test]
fn damage_is_named_and_repaired() {
    let kitchen = Kitchen::new();
    let blob = cache(&kitchen);
    let output = kitchen.run(&["cache", "verify", "-q"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", words(&output));
    fs::write(&blob, "abd").expect("damage");
    let actual = tool("coreutils", Command::new("sha256sum").arg(&blob));
    let actual = actual.split(' ').next().expect("a digest");
    let output = kitchen.run(&["cache", "verify", "-q"]);
    assert_eq!(output.status.code(), Some(1));
    let found = kitchen.anonymous(&String::from_utf8_lossy(&output.stdout));
    let line = format!("KITCHEN/cache/blobs/{ABC}-3: its digest is `{actual}`, it was `{ABC}`");
    assert_eq!(found, format!("{line}\n"));
    assert_eq!(
        words(&output),
        "error: 1 of the cache's files is not as it should be\n\n\
         hint: `imgbake cache verify --repair` removes it; what is needed again is fetched or made anew\n"
    );
    let repaired = kitchen.anonymous(&kitchen.ok(&["cache", "verify", "--repair"]));
    assert_eq!(repaired, format!("{line} (removed)\n"));
    assert!(!blob.exists());
    kitchen.ok(&["cache", "verify"]);
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let kitchen = Kitchen::new();
    kitchen.refused(
        &["cache", "prune", "--older-than", "a month"],
        2,
        "error: `a month` is not an age\n\nhint: write a number and a unit: `30d`; units are s, m, h, d and w\n",
    );
    let output = kitchen.run(&["cache", "prune"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("<--older-than <AGE>|--max-size <SIZE>>"), "{}", words(&output));
}
