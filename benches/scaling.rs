//! How the editor's cost grows: the same edit at one amount and at ten times as much. A step that is quadratic shows
//! as a ratio near 100. Seconds are the processor's, as the kernel counts them: what else runs matters little.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use imgbake::ext4::{Attributes, Editor};
use imgbake::{Content, FileRange, HostFile, Overlay};

use super::measure::{Cost, Outcome, median, row, run};
use super::{disk, save};

const ROUNDS: usize = 3;
/// Files, where files are counted.
const FEW: u64 = 10_000;
const MANY: u64 = 100_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Name, what it edits at each amount, the amounts, their unit.
const CASES: [(&str, [&str; 2], [u64; 2], &str); 9] = [
    ("one new folder", ["empty", "empty"], [FEW, MANY], "files"),
    ("a folder with an index", ["many", "many"], [FEW, MANY], "files"),
    ("a thousand new folders", ["empty", "empty"], [FEW, MANY], "files"),
    ("removal", ["few", "many"], [FEW, MANY], "files"),
    ("attributes", ["few", "many"], [FEW, MANY], "files"),
    ("little room", ["empty", "empty"], [FEW, MANY], "files"),
    ("torn free space", ["torn", "torn"], [100, 1000], "MiB"),
    ("a large file system", ["100", "1000"], [100, 1000], "GiB"),
    ("growth", ["empty", "empty"], [100, 1000], "GiB"),
];

/// Prints a row for each case.
pub fn table(work: &Path) -> Outcome<()> {
    prepare(work)?;
    let this = std::env::current_exe()?;
    for (case, images, amounts, unit) in CASES {
        let (mut seconds, mut peak) = ([Vec::new(), Vec::new()], 0);
        for _ in 0..ROUNDS {
            for ((image, amount), seconds) in images.iter().zip(amounts).zip(&mut seconds) {
                let image = work.join(image);
                let (cost, output) =
                    Cost::of(&format!("{} scale '{case}' {amount} {}", this.display(), image.display()))?;
                seconds.push(output.trim().parse::<f64>()?);
                peak = peak.max(cost.peak);
            }
        }
        let ratios = seconds[0].iter().zip(&seconds[1]).map(|(few, many)| many / few).collect();
        let [few, many] = seconds.map(median);
        row(&format!(
            "{case:<24} {} {unit} {few:.3} s, {} {unit} {many:.3} s, {:.1} times (target 12); peak memory {peak} MiB",
            amounts[0],
            amounts[1],
            median(ratios)
        ));
    }
    Ok(())
}

/// Makes the images that the cases begin with.
fn prepare(work: &Path) -> Outcome<()> {
    format(&work.join("empty"), 8 * GIB, &["-N", "700000", "-m", "0"])?;
    for (name, amount) in [("few", FEW), ("many", MANY)] {
        change(&work.join("empty"), &work.join(name), |editor| fill(editor, "old", amount, 1))?;
    }
    // Every other block of 3 GiB, and nothing else, is free.
    let torn = 3 * GIB / 4096;
    format(&work.join("whole"), 4 * GIB, &["-N", "800000", "-m", "0"])?;
    change(&work.join("whole"), &work.join("filled"), |editor| fill(editor, "old", torn, 2000))?;
    change(&work.join("filled"), &work.join("torn"), |editor| {
        // The folders have their blocks now; the last MiB is for the file's extents.
        let rest = zeros(work, editor.free_bytes() - MIB)?;
        editor.write("/rest", rest, &attributes(0o644))?;
        for number in (0..torn).step_by(2) {
            editor.remove(path("old", number, 2000))?;
        }
        Ok(())
    })?;
    for gibibytes in [100, 1000] {
        format(&work.join(gibibytes.to_string()), gibibytes * GIB, &["-E", "lazy_itable_init=1,lazy_journal_init=1"])?;
    }
    Ok(())
}

fn format(path: &Path, size: u64, options: &[&str]) -> Outcome<()> {
    std::fs::File::create(path)?.set_len(size)?;
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).args(options).arg(path)).map(drop)
}

fn change(from: &Path, to: &Path, edits: impl FnOnce(&mut Editor<'_>) -> Outcome<()>) -> Outcome<()> {
    let from = disk(from)?;
    let size = from.size();
    let mut overlay = Overlay::new(from, size);
    let mut editor = Editor::open(&mut overlay)?;
    edits(&mut editor)?;
    editor.finish()?;
    save(&overlay, to)
}

fn attributes(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

fn path(name: &str, number: u64, folders: u64) -> String {
    format!("/{name}/{}/entry-number-{number}", number % folders)
}

fn fill(editor: &mut Editor<'_>, name: &str, amount: u64, folders: u64) -> Outcome<()> {
    for folder in 0..folders {
        editor.mkdir_all(format!("/{name}/{folder}"), &attributes(0o755))?;
    }
    for number in 0..amount {
        let content = Content::Bytes(number.to_le_bytes().to_vec());
        editor.write(path(name, number, folders), content, &attributes(0o644))?;
    }
    Ok(())
}

/// Contents that take no room on the host.
fn zeros(folder: &Path, size: u64) -> Outcome<Content> {
    let path: PathBuf = folder.join(format!("zeros-{size}"));
    std::fs::File::create(&path)?.set_len(size)?;
    Ok(Content::File(FileRange::whole(Arc::clone(&HostFile::open(&path)?))))
}

/// Runs a case in this process and prints the seconds that it took, an image's writing not among them.
pub fn measure(case: &str, amount: u64, image: &Path) -> Outcome<()> {
    let base = disk(image)?;
    let size = if case == "growth" { amount * GIB } else { base.size() };
    let mut overlay = Overlay::new(base, size);
    let before = processor_seconds()?;
    let mut editor = Editor::open(&mut overlay)?;
    match case {
        "one new folder" => fill(&mut editor, "new", amount, 1)?,
        "a folder with an index" => {
            for number in MANY..MANY + amount {
                let content = Content::Bytes(number.to_le_bytes().to_vec());
                editor.write(path("old", number, 1), content, &attributes(0o644))?;
            }
        }
        "a thousand new folders" => fill(&mut editor, "new", amount, 1000)?,
        "removal" => {
            for number in 0..amount {
                editor.remove(path("old", number, 1))?;
            }
        }
        "attributes" => {
            for number in 0..amount {
                // The first fits into the inode, the second does not.
                editor.set_xattr(path("old", number, 1), b"user.small", &number.to_le_bytes())?;
                editor.set_xattr(path("old", number, 1), b"user.large", &[b'x'; 200])?;
            }
        }
        "little room" => {
            let (folder, folders) = (image.parent().ok_or("an image without a folder")?, amount / 300);
            // For the files, three blocks of names in each folder, and a few more: what is sure to suffice is not there.
            let room = (amount + 3 * folders + 16) * 4096;
            editor.write("/rest", zeros(folder, editor.free_bytes() - room)?, &attributes(0o644))?;
            fill(&mut editor, "new", amount, folders)?;
        }
        "torn free space" => {
            let folder = image.parent().ok_or("an image without a folder")?;
            editor.write("/new", zeros(folder, amount * MIB)?, &attributes(0o644))?;
        }
        "growth" => editor.grow(size)?,
        "a large file system" => editor.write("/new", Content::Bytes(vec![1]), &attributes(0o644))?,
        _ => return Err(format!("no case {case}").into()),
    }
    editor.finish()?;
    row(&format!("{:.6}", processor_seconds()? - before));
    Ok(())
}

/// What this process, which has one thread, has used.
fn processor_seconds() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = text.split(' ').next().ok_or("the kernel counts no processor time")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
