//! What a bake costs, measured beside what copying the same bytes costs.
//!
//! Prints the ratio of `imgbake vps-amd64 node -o FILE` to `cp --sparse=always` of the same base plus `cp` of the same
//! components, in turn, everything cached; and the bake's peak memory. Nothing is asserted on seconds.
//! Needs GNU time (Debian package `time`) and a base image: `imgbake base build` makes it when missing.

mod measure;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use measure::{Cost, Outcome, imgbake, median, noise, noise_to, row};

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
    let work = tempfile::Builder::new().prefix("imgbake-bench-").tempdir_in(measure::scratch())?;
    let bench = Bench::prepare(work.path())?;
    let (mut bakes, mut copies, mut memory) = (Vec::new(), Vec::new(), 0);
    for round in 0..=ROUNDS {
        let bake = bench.timed(&bench.bake(&bench.work.join("out.img")))?;
        let copy = bench.timed(&bench.copies())?;
        memory = memory.max(bake.peak);
        if round > 0 {
            let (bake, copy) = (bake.seconds, copy.seconds);
            row(&format!("round {round}: bake {bake:.2} s, copy {copy:.2} s, ratio {:.2}", bake / copy));
            bakes.push(bake);
            copies.push(copy);
        }
    }
    let ratios: Vec<f64> = bakes.iter().zip(&copies).map(|(bake, copy)| bake / copy).collect();
    row(&format!(
        "bake to a file ÷ copy of the same bytes: median {:.2} (target 1.5); bake {:.2} s, copy {:.2} s",
        median(ratios),
        median(bakes),
        median(copies)
    ));
    row(&format!("peak memory of the bake: {memory} MiB (target 100)"));
    let piped = bench.timed(&format!("{} | cat > /dev/null", bench.bake(Path::new("-"))))?;
    row(&format!("bake through a pipe: {:.2} s, peak {} MiB", piped.seconds, piped.peak));
    Ok(())
}

struct Bench {
    work: PathBuf,
    base: PathBuf,
    mirror: PathBuf,
}

impl Bench {
    fn prepare(work: &Path) -> Outcome<Self> {
        let bench = Self { work: work.to_owned(), base: measure::base(BASE)?, mirror: work.join("mirror") };
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

    /// What a shell line costs that has nothing to replace.
    fn timed(&self, line: &str) -> Outcome<Cost> {
        for old in ["out.img", "copy.img"] {
            drop(fs::remove_file(self.work.join(old)));
        }
        Ok(Cost::of(line)?.0)
    }
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
