//! What mmdebstrap, apt and dpkg say while they work: turned into progress as they go, and into an error's words when they fail.
//!
//! The steps come in this order: lists, essential packages, download, packages, then the phases that `customize.sh`
//! names (`imgbake: PHASE`). Each package counts twice, unpacked and set up.

use crate::progress::Progress;

/// Follows the lines of a build.
pub(super) struct Transcript<'p> {
    progress: &'p dyn Progress,
    step: Option<Step>,
    packages: u64,
    /// The last lines, for the case that it fails.
    recent: std::collections::VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Lists,
    Essential,
    Download,
    Packages,
    Phase,
}

/// Lines that are remembered.
const RECENT: usize = 400;

impl<'p> Transcript<'p> {
    pub(super) fn new(progress: &'p dyn Progress) -> Self {
        Self { progress, step: None, packages: 0, recent: std::collections::VecDeque::new() }
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, line: &str) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
        if let Some(what) = line.strip_prefix("I: ") {
            self.stage(what);
        } else if let Some(phase) = line.strip_prefix("imgbake: ") {
            self.enter(Step::Phase, phase_in_words(phase), None);
        } else if let Some(count) = newly_installed(line) {
            self.packages = count;
            if self.step == Some(Step::Download) {
                self.enter(Step::Download, &format!("downloading {count} packages"), Some(count));
            }
        } else {
            self.package(line);
        }
    }

    fn stage(&mut self, what: &str) {
        if what.starts_with("running apt-get update") {
            self.enter(Step::Lists, "reading the mirror's package lists", None);
        } else if what.starts_with("downloading packages with apt") {
            self.enter(Step::Essential, "downloading the essential packages", None);
        } else if what.starts_with("installing essential packages") {
            let total = (self.packages > 0).then_some(self.packages * 2);
            self.enter(Step::Essential, "installing the essential packages", total);
        } else if what.starts_with("installing remaining packages") {
            self.enter(Step::Download, "downloading packages", None);
        } else if what.starts_with("creating tarball") {
            self.enter(Step::Phase, "archiving the root tree", None);
        }
    }

    fn package(&mut self, line: &str) {
        let unpacks = line.starts_with("Unpacking ");
        match self.step {
            Some(Step::Download) if line.starts_with("Get:") => self.progress.advance(1),
            Some(Step::Download) if unpacks => {
                let count = self.packages;
                self.enter(Step::Packages, &format!("installing {count} packages"), Some(count * 2));
                self.progress.advance(1);
            }
            Some(Step::Essential | Step::Packages) if unpacks || line.starts_with("Setting up ") => {
                self.progress.advance(1);
            }
            _ => {}
        }
    }

    fn enter(&mut self, step: Step, words: &str, total: Option<u64>) {
        if self.step.is_some() {
            self.progress.end();
        }
        self.progress.begin(words, total);
        self.step = Some(step);
    }

    /// Ends the step under way and answers the last lines that say something: what names an error, and what came just before.
    pub(super) fn finish(self) -> Vec<String> {
        if self.step.is_some() {
            self.progress.end();
        }
        let lines: Vec<String> = self.recent.into_iter().collect();
        // mmdebstrap repeats the failed hook's whole text and then says that it goes away.
        let told = lines.iter().position(|line| line.starts_with("E: setup failed") || line.starts_with("E: run_"));
        let said = lines.get(..told.unwrap_or(lines.len())).unwrap_or_default();
        let is_noise = |line: &&String| line.trim().is_empty() || line.starts_with("I: ") || line.starts_with("Get:");
        let mut last: Vec<String> = said.iter().rev().filter(|line| !is_noise(line)).take(8).cloned().collect();
        last.reverse();
        last.extend(told.and_then(|at| lines.get(at)).map(|line| line.chars().take(160).collect()));
        last
    }
}

/// The number in apt's summary `0 upgraded, 212 newly installed, 0 to remove and 0 not upgraded.`
fn newly_installed(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(" newly installed")?;
    before.rsplit(' ').next()?.parse().ok()
}

fn phase_in_words(phase: &str) -> &str {
    match phase {
        "certificates" => "listing the certificates",
        "depmod" => "listing the kernel's modules",
        "initramfs" => "making the initramfs",
        "firmware" => "filling the boot partition",
        "grub" => "placing grub",
        "archiving" => "cleaning up",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Progress for Notes {
        fn begin(&self, step: &str, total: Option<u64>) {
            self.0.lock().unwrap().push(format!("{step} {total:?}"));
        }
        fn advance(&self, amount: u64) {
            self.0.lock().unwrap().push(format!("+{amount}"));
        }
        fn end(&self) {
            self.0.lock().unwrap().push("end".to_owned());
        }
        fn note(&self, _line: &str) {}
    }

    #[test]
    fn the_lines_of_a_build_become_steps_that_move() {
        let notes = Notes::default();
        let mut transcript = Transcript::new(&notes);
        for line in [
            "I: running apt-get update...",
            "Get:1 x trixie InRelease [140 kB]",
            "I: installing remaining packages inside the chroot...",
            "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
            "Get:1 x trixie/main arm64 less",
            "Unpacking less (668-1) ...",
            "Setting up less (668-1) ...",
            "imgbake: initramfs",
        ] {
            transcript.line(line);
        }
        transcript.finish();
        assert_eq!(
            *notes.0.lock().unwrap(),
            [
                "reading the mirror's package lists None",
                "end",
                "downloading packages None",
                "end",
                "downloading 2 packages Some(2)",
                "+1",
                "end",
                "installing 2 packages Some(4)",
                "+1",
                "+1",
                "end",
                "making the initramfs None",
                "end",
            ]
        );
    }

    #[test]
    fn a_failure_is_told_in_the_words_before_mmdebstraps_own() {
        let mut transcript = Transcript::new(&crate::progress::Silent);
        for line in [
            "Setting up x",
            "usermod: the -L, -p, and -U flags are exclusive",
            "E: setup failed: E: command failed: # customize",
            "set -eu",
            "I: main() received signal PIPE: waiting for setup...",
            "E: mmdebstrap failed to run",
        ] {
            transcript.line(line);
        }
        assert_eq!(
            transcript.finish(),
            [
                "Setting up x",
                "usermod: the -L, -p, and -U flags are exclusive",
                "E: setup failed: E: command failed: # customize"
            ]
        );
    }
}
