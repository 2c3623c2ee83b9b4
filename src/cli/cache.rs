//! `imgbake cache`: what is kept, making room, and whether it is still right.

use std::time::{Duration, SystemTime};

use imgbake::{CacheEntry, CacheKind, PruneOptions, list_cache, prune_cache, verify_cache};

use super::arguments::CacheCommand;
use super::places::Places;
use super::terminal::Terminal;
use super::{Failure, print};

const DAY: u64 = 24 * 60 * 60;

/// What an age's letter stands for, in seconds.
const AGES: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 60 * 60), ('d', DAY), ('w', 7 * DAY)];

/// Units of sizes, the largest first.
const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// Does what the command says.
pub fn run(command: CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Ls { cache } => list(&Places::find(None, cache.cache_dir)?),
        CacheCommand::Prune { older_than, max_size, dry_run, cache } => {
            let options = PruneOptions {
                now: SystemTime::now(),
                older_than: older_than.as_deref().map(age).transpose()?,
                max_size: max_size.as_deref().map(size).transpose()?,
                dry_run,
            };
            prune(&Places::find(None, cache.cache_dir)?, &options)
        }
        CacheCommand::Verify { repair, cache, quiet } => {
            verify(&Places::find(None, cache.cache_dir)?, repair, &Terminal::new(quiet))
        }
        CacheCommand::Path { cache } => print(&format!("{}\n", Places::find(None, cache.cache_dir)?.cache.display())),
    }
}

fn list(places: &Places) -> Result<(), Failure> {
    let entries = list_cache(&places.cache).map_err(|error| Failure::failed(error.hint(), error))?;
    let (files, on_disk) = (count(entries.len()), shown_size(entries.iter().map(|entry| entry.on_disk).sum()));
    print(&table(&entries))?;
    Terminal::new(false).done(&format!("{files}, {on_disk}, in `{}`", places.cache.display()));
    Ok(())
}

fn prune(places: &Places, options: &PruneOptions) -> Result<(), Failure> {
    let pruned = prune_cache(&places.cache, options).map_err(|error| Failure::failed(error.hint(), error))?;
    let terminal = Terminal::new(false);
    print(&table(&pruned.removed))?;
    let freed = shown_size(pruned.removed.iter().map(|entry| entry.on_disk).sum());
    let (files, left) = (count(pruned.removed.len()), shown_size(pruned.left));
    let verb = if options.dry_run { "would be removed" } else { "removed" };
    if !pruned.in_use.is_empty() {
        let them = if pruned.in_use.len() == 1 { "it" } else { "them" };
        terminal.done(&format!("{} kept: another imgbake uses {them}", count(pruned.in_use.len())));
    }
    terminal.done(&format!("{files} {verb}, {freed}; {left} left in `{}`", places.cache.display()));
    Ok(())
}

fn verify(places: &Places, repair: bool, terminal: &Terminal) -> Result<(), Failure> {
    let verified =
        verify_cache(&places.cache, repair, terminal).map_err(|error| Failure::failed(error.hint(), error))?;
    let lines = verified.problems.iter().map(|problem| {
        let removed = if problem.removed { " (removed)" } else { "" };
        format!("{}: {}{removed}\n", problem.path.display(), problem.damage)
    });
    print(&lines.collect::<String>())?;
    let (files, parts) = (count(verified.files), verified.parts);
    let unfinished = if parts == 0 { String::new() } else { format!(", {parts} unfinished") };
    match verified.problems.len() {
        0 => {
            terminal.done(&format!("{files} as they should be{unfinished}"));
            Ok(())
        }
        wrong if repair => {
            terminal.done(&format!("{} removed of {files}{unfinished}", count(wrong)));
            Ok(())
        }
        wrong => {
            let (are, they, them) = if wrong == 1 { ("is", "it", "it") } else { ("are", "they", "them") };
            let message = format!("{wrong} of the cache's files {are} not as {they} should be");
            let hint =
                format!("`imgbake cache verify --repair` removes {them}; what is needed again is fetched or made anew");
            Err(Failure::failed(Some(hint), std::io::Error::other(message)))
        }
    }
}

/// A line for each file: what it is, its size on the disk and its own, when it was used, where it is from.
fn table(entries: &[CacheEntry]) -> String {
    let now = SystemTime::now();
    let lines = entries.iter().map(|entry| {
        let kind = match entry.kind {
            CacheKind::Download => "download",
            CacheKind::UnpackedBase => "unpacked base",
            CacheKind::UnpackedArchive => "unpacked archive",
            CacheKind::MadeBase => "home-made base",
            CacheKind::Part => "part",
        };
        let name = if entry.names.is_empty() { entry.path.display().to_string() } else { entry.names.join(", ") };
        let (on_disk, size) = (shown_size(entry.on_disk), shown_size(entry.size));
        let used = entry.used.map_or_else(|| "?".to_owned(), |used| shown_age(now, used));
        format!("{kind:<16}  {on_disk:>10}  {size:>10}  {used:>8}  {name}\n")
    });
    lines.collect()
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

/// Three digits or more, rounded down.
fn shown_size(bytes: u64) -> String {
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, (bytes % unit) * 10 / unit),
        None => format!("{bytes} B"),
    }
}

fn shown_age(now: SystemTime, used: SystemTime) -> String {
    let age = now.duration_since(used).unwrap_or_default().as_secs();
    match age {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min", age / 60),
        3600..DAY => format!("{} h", age / 3600),
        DAY.. if age < 2 * DAY => "1 day".to_owned(),
        _ => format!("{} days", age / DAY),
    }
}

/// An age as people write it: `30d`.
fn age(text: &str) -> Result<Duration, Failure> {
    let parse = || {
        let letter = text.chars().last()?;
        let (_, seconds) = AGES.iter().find(|(known, _)| *known == letter)?;
        let number: u64 = text.strip_suffix(letter)?.trim().parse().ok()?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    };
    parse().ok_or_else(|| {
        Failure::usage(
            format!("`{text}` is not an age"),
            "write a number and a unit: `30d`; units are s, m, h, d and w",
        )
    })
}

/// A size as in `--size`, or nothing at all.
fn size(text: &str) -> Result<u64, Failure> {
    if text == "0" {
        return Ok(0);
    }
    imgbake::parse_size(text).map_err(|error| Failure::failed(error.hint(), error))
}
