//! Progress drawn on standard error: bars on a terminal, a line per step anywhere else.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use imgbake::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a step that runs where no terminal is tells how far it is.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Draws the steps of one command.
pub struct Terminal {
    bars: bool,
    quiet: bool,
    steps: Mutex<Vec<Step>>,
}

struct Step {
    name: String,
    bar: ProgressBar,
    last_line: Instant,
}

impl Terminal {
    /// Progress on standard error; with `quiet` only notes are shown.
    pub fn new(quiet: bool) -> Self {
        Self { bars: std::io::stderr().is_terminal() && !quiet, quiet, steps: Mutex::new(Vec::new()) }
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, Vec<Step>> {
        // A panic in another thread does not make the list of steps wrong.
        self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn bar(&self, step: &str, total: Option<u64>) -> ProgressBar {
        if !self.bars {
            let bar = ProgressBar::hidden();
            bar.set_length(total.unwrap_or(0));
            return bar;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            // Steps of up to ten thousand count things, larger ones bytes.
            Some(0..=10_000) => "{msg:<40!} [{bar:24}] {pos}/{len}",
            Some(_) => "{msg:<40!} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}",
            None => "{msg:<40!} {spinner} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(step.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

impl Progress for Terminal {
    fn begin(&self, step: &str, total: Option<u64>) {
        if !self.bars && !self.quiet {
            self.line(step);
        }
        let bar = self.bar(step, total);
        self.steps().push(Step { name: step.to_owned(), bar, last_line: Instant::now() });
    }

    fn advance(&self, amount: u64) {
        let mut steps = self.steps();
        let Some(step) = steps.last_mut() else { return };
        step.bar.inc(amount);
        if !self.bars && !self.quiet && step.last_line.elapsed() > LINE_EVERY {
            step.last_line = Instant::now();
            let text = match step.bar.length() {
                Some(length) if length > 0 => format!("{}: {} %", step.name, step.bar.position() * 100 / length),
                _ => format!("{}: {} s", step.name, step.bar.elapsed().as_secs()),
            };
            drop(steps);
            self.line(&text);
        }
    }

    fn end(&self) {
        if let Some(step) = self.steps().pop() {
            step.bar.finish_and_clear();
        }
    }

    fn note(&self, line: &str) {
        let steps = self.steps();
        match steps.last() {
            Some(step) if self.bars => step.bar.suspend(|| self.line(line)),
            _ => self.line(line),
        }
    }
}
