//! What a bake costs, measured beside what copying the same bytes costs.
//!
//! Prints the ratio of `imgbake vps-amd64 node -o FILE` to `cp --sparse=always` of the same base plus `cp` of the same
//! components, in turn, everything cached; and the bake's peak memory. Nothing is asserted on seconds.
//! Needs GNU time (Debian package `time`) and a base image: `imgbake base build` makes it when missing.

use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::Digest as _;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The base that is baked; home-made, so that the benchmark runs wherever a Debian archive can be reached.
const BASE: &str = "debian-13-cloud-amd64";
/// The image's size: at least 2.5 GB.
const SIZE: &str = "4GiB";
/// Rounds measured after one that warms up.
const ROUNDS: usize = 5;
/// Components by upstream URL, with sizes in MiB as upstream's are or larger: 430 MiB together.
const COMPONENTS: [(&str, u64, Kind); 7] = [
    ("https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubeadm", 72, Kind::Plain),
    ("https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet", 60, Kind::Plain),
    ("https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubectl", 58, Kind::Plain),
    (
        "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz",
        40,
        Kind::Archive(&["crictl"]),
    ),
    (
        "https://github.com/containerd/containerd/releases/download/v2.3.4/containerd-static-2.3.4-linux-amd64.tar.gz",
        110,
        Kind::Archive(&["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"]),
    ),
    ("https://github.com/opencontainers/runc/releases/download/v1.4.3/runc.amd64", 12, Kind::Plain),
    (
        "https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
        78,
        Kind::Archive(&["bridge", "host-local", "loopback", "portmap"]),
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Archive(&'static [&'static str]),
}

fn main() -> Outcome<()> {
    let work = tempfile::Builder::new().prefix("imgbake-bench-").tempdir_in(scratch())?;
    let bench = Bench::prepare(work.path())?;
    let (mut bakes, mut copies, mut memory) = (Vec::new(), Vec::new(), 0);
    for round in 0..=ROUNDS {
        let (bake, peak) = bench.timed(&bench.bake(&bench.work.join("out.img")))?;
        let (copy, _) = bench.timed(&bench.copies())?;
        memory = memory.max(peak);
        if round > 0 {
            println_row(&format!("round {round}: bake {bake:.2} s, copy {copy:.2} s, ratio {:.2}", bake / copy));
            bakes.push(bake);
            copies.push(copy);
        }
    }
    let ratios: Vec<f64> = bakes.iter().zip(&copies).map(|(bake, copy)| bake / copy).collect();
    println_row(&format!(
        "bake to a file ÷ copy of the same bytes: median {:.2} (target 1.5); bake {:.2} s, copy {:.2} s",
        median(ratios),
        median(bakes),
        median(copies)
    ));
    println_row(&format!("peak memory of the bake: {} MiB (target 100)", memory / 1024));
    let (piped, peak) = bench.timed(&format!("{} | cat > /dev/null", bench.bake(Path::new("-"))))?;
    println_row(&format!("bake through a pipe: {piped:.2} s, peak {} MiB", peak / 1024));
    Ok(())
}

struct Bench {
    work: PathBuf,
    base: PathBuf,
    mirror: PathBuf,
}

impl Bench {
    fn prepare(work: &Path) -> Outcome<Self> {
        let bench = Self { work: work.to_owned(), base: base()?, mirror: work.join("mirror") };
        let mut lock = String::from("artifacts:\n");
        for (seed, (url, mebibytes, kind)) in (1u64..).zip(COMPONENTS) {
            let path = bench.mirror.join(url.trim_start_matches("https://"));
            fs::create_dir_all(path.parent().ok_or("a URL without a path")?)?;
            match kind {
                Kind::Plain => noise(&path, mebibytes << 20, seed)?,
                Kind::Archive(members) => archive(&path, members, mebibytes << 20, seed)?,
            }
            lock += &format!("  - url: {url}\n    sha256: {}\n", sha256(&path)?);
        }
        fs::write(work.join("imgbake.lock"), lock)?;
        Ok(bench)
    }

    fn bake(&self, output: &Path) -> String {
        format!(
            "{} vps-amd64 node --join 203.0.113.7:6443 --token abcdef.0123456789abcdef --ca-cert-hash sha256:{} --base {BASE} --size {SIZE} --ssh-key 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBakeBakeBakeBakeBakeBakeBakeBakeBakeBakeBak bench' \
             --mirror {} --lock {} --config-dir {} --offline --quiet -o {}",
            imgbake().display(),
            "0".repeat(64),
            self.mirror.display(),
            self.work.join("imgbake.lock").display(),
            self.work.join("config").display(),
            output.display()
        )
    }

    fn copies(&self) -> String {
        let out = self.work.display();
        format!(
            "cp --sparse=always {} {out}/copy.img && cp -r {} {out}/copy && rm -r {out}/copy",
            self.base.display(),
            self.mirror.display()
        )
    }

    /// Runs a shell line; answers wall seconds and the largest process's peak memory in KiB.
    fn timed(&self, line: &str) -> Outcome<(f64, u64)> {
        let report = self.work.join("time");
        // Both begin with nothing to replace and nothing left to write back from the run before.
        for old in ["out.img", "copy.img"] {
            drop(fs::remove_file(self.work.join(old)));
        }
        run(&mut Command::new("sync"))?;
        run(Command::new("/usr/bin/time").args(["-f", "%e %M", "-o"]).arg(&report).args([
            "bash",
            "-c",
            &format!("set -eo pipefail; {line}"),
        ]))?;
        let text = fs::read_to_string(&report)?;
        let (seconds, kibibytes) = text.trim().split_once(' ').ok_or("GNU time reported something else")?;
        Ok((seconds.parse()?, kibibytes.parse()?))
    }
}

fn run(command: &mut Command) -> Outcome<()> {
    let status = command.stdin(Stdio::null()).status().map_err(|error| {
        format!("cannot run {:?}: {error} (GNU time is in Debian's package `time`)", command.get_program())
    })?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn imgbake() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_imgbake"))
}

/// The base image in imgbake's cache; made now if it is not there.
fn base() -> Outcome<PathBuf> {
    let output = Command::new(imgbake()).args(["base", "build", BASE]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("imgbake base build {BASE}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().into())
}

/// Where outputs go: a real disk, not a memory file system.
fn scratch() -> PathBuf {
    std::env::var_os("IMGBAKE_BENCH_DIR").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// Incompressible bytes that are the same at every run (xorshift64).
fn noise_to(out: &mut dyn Write, mut bytes: u64, seed: u64) -> Outcome<()> {
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

fn noise(path: &Path, bytes: u64, seed: u64) -> Outcome<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    noise_to(&mut out, bytes, seed)?;
    Ok(out.flush()?)
}

fn archive(path: &Path, members: &[&str], bytes: u64, seed: u64) -> Outcome<()> {
    let gzip = flate2::write::GzEncoder::new(BufWriter::new(fs::File::create(path)?), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (seed, member) in (seed * 100..).zip(members) {
        let mut body = Vec::new();
        noise_to(&mut body, bytes / members.len() as u64, seed)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, member, body.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(())
}

fn sha256(path: &Path) -> Outcome<String> {
    Ok(sha2::Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn println_row(row: &str) {
    // A benchmark's rows are its data.
    let _ = writeln!(std::io::stdout(), "{row}");
}
