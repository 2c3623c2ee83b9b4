//! Progress drawn on standard error: bars on a terminal, a line per step anywhere else.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use imgbake::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::total::Total;

/// How often a step tells how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Steps of up to this count things, larger ones bytes.
const MOST_THINGS: u64 = 10_000;

/// Draws the steps of one command.
pub struct Terminal {
    /// Where bars are drawn; none if standard error is no terminal.
    bars: Option<MultiProgress>,
    quiet: bool,
    /// Each thread's steps, the innermost last.
    steps: Mutex<HashMap<ThreadId, Vec<Step>>>,
    /// Of the steps that are one to the user, while there are such.
    total: Mutex<Option<Total>>,
}

struct Step {
    name: String,
    bar: ProgressBar,
    last_line: Instant,
}

impl Step {
    /// How far it is, if it is time to say so.
    fn line(&mut self) -> Option<String> {
        if self.last_line.elapsed() < LINE_EVERY {
            return None;
        }
        self.last_line = Instant::now();
        Some(match self.bar.length() {
            Some(length) if length > 0 => format!("{}: {} %", self.name, self.bar.position() * 100 / length),
            _ => format!("{}: {} s", self.name, self.bar.elapsed().as_secs()),
        })
    }
}

impl Terminal {
    /// Progress on standard error; with `quiet` only notes are shown.
    pub fn new(quiet: bool) -> Self {
        let bars = (std::io::stderr().is_terminal() && !quiet).then(MultiProgress::new);
        Self { bars, quiet, steps: Mutex::default(), total: Mutex::default() }
    }

    /// The last line of a command that went well.
    pub fn done(&self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    fn steps(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Step>>> {
        // A panic in another thread does not make the list of steps wrong.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the total, if there is one.
    fn total(&self, tell: impl FnOnce(&mut Total)) {
        if let Some(total) = self.total.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            tell(total);
        }
    }

    fn line(&self, text: &str) {
        // Words that cannot be shown are no reason to stop.
        let say = || drop(writeln!(std::io::stderr(), "{text}"));
        self.bars.as_ref().map_or_else(say, |bars| bars.suspend(say));
    }
}

impl Progress for Terminal {
    fn begin(&self, step: &str, total: Option<u64>) {
        let bar = match &self.bars {
            Some(bars) => bars.add(visible(step, total)),
            None => ProgressBar::hidden(),
        };
        if let Some(total) = total {
            bar.set_length(total);
        }
        if self.bars.is_none() && !self.quiet {
            self.line(step);
        }
        self.total(|all| all.begin(self.bars.as_ref(), total));
        let step = Step { name: step.to_owned(), bar, last_line: Instant::now() };
        self.steps().entry(thread::current().id()).or_default().push(step);
    }

    fn advance(&self, amount: u64) {
        self.total(|all| all.advance(amount));
        let line = self.steps().get_mut(&thread::current().id()).and_then(|steps| {
            let step = steps.last_mut()?;
            step.bar.inc(amount);
            step.line()
        });
        if let Some(line) = line.filter(|_| self.bars.is_none() && !self.quiet) {
            self.line(&line);
        }
    }

    fn end(&self) {
        let ended = self.steps().get_mut(&thread::current().id()).and_then(Vec::pop);
        if let Some(step) = ended {
            self.total(|all| all.end(step.bar.length(), step.bar.position()));
            step.bar.finish_and_clear();
        }
    }

    fn note(&self, line: &str) {
        self.line(line);
    }

    fn begin_all(&self, files: usize) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) = Some(Total::new(files));
    }

    fn end_all(&self) {
        let total = self.total.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(total) = total {
            total.clear();
        }
    }
}

/// A bar for a terminal, in the form that fits its length.
pub fn visible(step: &str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(0..=MOST_THINGS) => "{msg:<40!} [{bar:24}] {pos}/{len}",
        Some(_) => "{msg:<40!} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}",
        None => "{msg:<40!} {spinner} {elapsed}",
    };
    let bar = ProgressBar::no_length().with_message(step.to_owned());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
