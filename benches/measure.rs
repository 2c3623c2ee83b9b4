//! What the benchmarks share: the base, a place for files, bytes to fill these with, time and memory, rows.

use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What a shell line cost.
pub struct Cost {
    /// Wall time.
    pub seconds: f64,
    /// Peak memory of its largest process in MiB.
    pub peak: u64,
}

impl Cost {
    /// Runs a shell line, with nothing left to write back from the run before; answers also what it printed.
    pub fn of(line: &str) -> Outcome<(Self, String)> {
        run(&mut Command::new("sync"))?;
        let report = tempfile::NamedTempFile::new()?;
        let line = format!("set -eo pipefail; {line}");
        let mut time = Command::new("/usr/bin/time");
        time.args(["-f", "%e %M", "-o"]).arg(report.path()).args(["bash", "-c", &line]);
        let output = run(&mut time)?;
        let text = fs::read_to_string(report.path())?;
        let (seconds, kibibytes) = text.trim().split_once(' ').ok_or("GNU time reported something else")?;
        Ok((Self { seconds: seconds.parse()?, peak: kibibytes.parse::<u64>()? / 1024 }, output))
    }
}

/// Runs a program; answers what it printed.
pub fn run(command: &mut Command) -> Outcome<String> {
    let ran = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        format!("cannot run {:?}: {error} (GNU time is in Debian's package `time`)", command.get_program())
    })?;
    if !ran.status.success() {
        return Err(format!("{command:?}: {}", ran.status).into());
    }
    Ok(String::from_utf8(ran.stdout)?)
}

pub fn imgbake() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_imgbake"))
}

/// The base image `name` in imgbake's cache; made now if it is not there.
pub fn base(name: &str) -> Outcome<PathBuf> {
    Ok(run(Command::new(imgbake()).args(["base", "build", name]))?.trim_end().into())
}

/// Where outputs go: a real disk, not a memory file system.
pub fn scratch() -> PathBuf {
    std::env::var_os("IMGBAKE_BENCH_DIR").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// Incompressible bytes that are the same at every run (xorshift64).
pub fn noise_to(out: &mut dyn Write, mut bytes: u64, seed: u64) -> Outcome<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let take = bytes.min(8);
        out.write_all(&word[..usize::try_from(take)?])?;
        bytes -= take;
    }
    Ok(())
}

pub fn noise(path: &Path, bytes: u64, seed: u64) -> Outcome<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    noise_to(&mut out, bytes, seed)?;
    Ok(out.flush()?)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a row: a benchmark's rows are its data.
pub fn row(row: &str) {
    let _ = writeln!(std::io::stdout(), "{row}");
}
