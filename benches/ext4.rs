//! What the ext4 editor costs beside other ways to put the same files into the same file system, and how that grows.
//!
//! 20,000 small files and 1.2 GB in large ones go into the root file system of a real base, grown to 6 GiB once. Each
//! contender ends with an image file of its own that is on the disk (`sync`, which debugfs and umount do anyway): the
//! editor reads the base and writes one, the others change a copy made by `cp --sparse=always`. That copy is
//! also timed alone, for who need not keep the base. The rounds alternate, everything is cached, the first warms
//! up and has every image judged: `e2fsck -fn`, the number of inodes, the contents compared with what went in.
//! Nothing is asserted on seconds.
//!
//! `scaling` measures the editor alone, at one amount and at ten times as much.
//! Needs GNU time, e2fsprogs and a base (`imgbake base build` makes it when missing); the loop mount also root.

mod contenders;
mod measure;
mod scaling;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use imgbake::ext4::Editor;
use imgbake::{FileDisk, HostFile, Overlay, Silent, Sink, Table, Window, write_image};

use contenders::Contender;
use measure::{Cost, Outcome, median, noise, row, run};

const BASE: &str = "debian-13-cloud-amd64";
/// The file system's size, before and after.
const SIZE: u64 = 6 << 30;
/// Rounds measured after one that warms up.
const ROUNDS: usize = 5;
/// Small files, with half of this many bytes on average.
const SMALL: u64 = 20_000;
const SMALL_BYTES: u64 = 16 << 10;
const FOLDERS: u64 = 1_000;
/// Large files.
const LARGE: u64 = 12;
const LARGE_BYTES: u64 = 100_000_000;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // The benchmark runs itself, so that each measurement has a process of its own.
        ["edit", base, tree, out] => contenders::edit(base.as_ref(), tree.as_ref(), out.as_ref()),
        ["crate", image, tree] => contenders::crate_edit(image.as_ref(), tree.as_ref()),
        ["scale", case, amount, image] => scaling::measure(case, amount.parse()?, image.as_ref()),
        _ => {
            let work = tempfile::Builder::new().prefix("imgbake-bench-").tempdir_in(measure::scratch())?;
            // `-- compare` or `-- scaling` does only the one.
            if !arguments.contains(&"scaling") {
                compare(work.path())?;
            }
            if !arguments.contains(&"compare") {
                scaling::table(work.path())?;
            }
            Ok(())
        }
    }
}

/// Where what is compared lies.
struct Bench {
    /// The base's root file system.
    base: PathBuf,
    /// The files that go in.
    tree: PathBuf,
    out: PathBuf,
    work: PathBuf,
}

/// What a contender took, round by round.
#[derive(Default)]
struct Times {
    /// Seconds of the copy.
    copy: Vec<f64>,
    /// Seconds of all, the copy included.
    whole: Vec<f64>,
    peak: u64,
}

impl Times {
    fn add(&mut self, cost: &Cost, output: &str) -> Outcome<()> {
        let marks: Vec<f64> = output.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [start, copied] = marks[..] else { return Err("a contender printed something".into()) };
        self.copy.push(copied - start);
        self.whole.push(cost.seconds);
        self.peak = self.peak.max(cost.peak);
        Ok(())
    }

    /// Seconds without those of the copy.
    fn edit(&self) -> Vec<f64> {
        self.whole.iter().zip(&self.copy).map(|(whole, copy)| whole - copy).collect()
    }
}

fn compare(work: &Path) -> Outcome<()> {
    let bench = Bench::prepare(work)?;
    let contenders = Contender::all(&bench)?;
    let mut times: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    let mut inodes = None;
    for round in 0..=ROUNDS {
        for (contender, times) in contenders.iter().zip(&mut times) {
            drop(fs::remove_file(&bench.out));
            let (cost, output) = Cost::of(&contender.line(&bench))?;
            if round == 0 {
                let free = bench.judge(contender.name)?;
                if *inodes.get_or_insert(free) != free {
                    return Err(format!("{}: another number of files", contender.name).into());
                }
            }
            if round > 0 {
                times.add(&cost, &output)?;
            }
        }
    }
    let ours = &times[0];
    for (contender, times) in contenders.iter().zip(&times) {
        let (copy, edit) = (median(times.copy.clone()), median(times.edit()));
        row(&format!("{:<20} copy {copy:5.2} s, edit {edit:5.2} s, peak memory {} MiB", contender.name, times.peak));
    }
    for (contender, theirs) in contenders.iter().zip(&times).skip(1) {
        let ratio =
            |theirs: &[f64]| median(ours.whole.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect());
        let (whole, edit) = (ratio(&theirs.whole), ratio(&theirs.edit()));
        row(&format!("imgbake ÷ {:<20} {whole:.2} (target 1.00); {edit:.2} if the copy were free", contender.name));
    }
    Ok(())
}

impl Bench {
    fn prepare(work: &Path) -> Outcome<Self> {
        let bench =
            Self { base: work.join("root.img"), tree: work.join("tree"), out: work.join("out.img"), work: work.into() };
        let part = work.join("part.img");
        extract_root(&measure::base(BASE)?, &part)?;
        let mut overlay = Overlay::new(disk(&part)?, SIZE);
        let mut editor = Editor::open(&mut overlay)?;
        editor.grow(SIZE)?;
        editor.finish()?;
        save(&overlay, &bench.base)?;
        fs::remove_file(part)?;
        bench.fill_tree()?;
        Ok(bench)
    }

    fn fill_tree(&self) -> Outcome<()> {
        for folder in 0..FOLDERS {
            fs::create_dir_all(self.tree.join(format!("folder-{folder}")))?;
        }
        for file in 0..SMALL {
            // Any length below the limit, the same at every run.
            let length = file.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SMALL_BYTES;
            noise(&self.tree.join(format!("folder-{}/file-{file}", file % FOLDERS)), length, file)?;
        }
        fs::create_dir_all(self.tree.join("large"))?;
        for file in 0..LARGE {
            noise(&self.tree.join(format!("large/file-{file}")), LARGE_BYTES, SMALL + file)?;
        }
        Ok(())
    }

    /// Has e2fsck look at the image and compares the files in it with those that went in; answers its free inodes.
    fn judge(&self, name: &str) -> Outcome<u64> {
        run(Command::new("e2fsck").arg("-fn").arg(&self.out)).map_err(|error| format!("{name}: {error}"))?;
        let back = self.work.join("back");
        fs::create_dir_all(&back)?;
        let dump = format!("rdump {} {}", contenders::TARGET, back.display());
        run(Command::new("debugfs").args(["-R", &dump]).arg(&self.out))?;
        let folder = Path::new(contenders::TARGET).file_name().ok_or("a target without a name")?;
        run(Command::new("diff").arg("-r").arg(&self.tree).arg(back.join(folder)))
            .map_err(|error| format!("{name}: {error}"))?;
        fs::remove_dir_all(back)?;
        let header = run(Command::new("dumpe2fs").arg("-h").arg(&self.out))?;
        let free = header.lines().find_map(|line| line.strip_prefix("Free inodes:"));
        Ok(free.ok_or("dumpe2fs counted no inodes")?.trim().parse()?)
    }
}

/// Writes the root file system of the disk at `from` to `to`: that of the largest partition.
fn extract_root(from: &Path, to: &Path) -> Outcome<()> {
    let disk = disk(from)?;
    let table = Table::read(disk.as_ref())?;
    let largest = table.partitions().iter().max_by_key(|partition| partition.range().end - partition.range().start);
    let range = largest.ok_or("the base has no partitions")?.range();
    let size = disk.size();
    save(&Window::new(&mut Overlay::new(disk, size), range)?, to)
}

fn disk(path: &Path) -> Outcome<Arc<dyn imgbake::Disk>> {
    Ok(Arc::new(FileDisk::new(HostFile::open(path)?)))
}

fn save(disk: &dyn imgbake::Disk, path: &Path) -> Outcome<()> {
    let mut sink = Sink::file(path)?;
    write_image(disk, &mut sink, &Silent)?;
    Ok(sink.commit()?)
}
