//! One bar for several files that come at once, above those of each.
//!
//! How long a file is shows when it begins, so the total grows; a file that begins again after a broken try counts once.

use indicatif::{MultiProgress, ProgressBar};

use super::terminal::visible;

/// How far several files are together.
pub struct Total {
    files: usize,
    length: u64,
    position: u64,
    /// Made when the first file begins: mostly all are in the cache.
    bar: Option<ProgressBar>,
}

impl Total {
    pub fn new(files: usize) -> Self {
        Self { files, length: 0, position: 0, bar: None }
    }

    /// A file begins; its length, if that is known.
    pub fn begin(&mut self, bars: Option<&MultiProgress>, length: Option<u64>) {
        self.length += length.unwrap_or(0);
        if self.files > 1 && self.bar.is_none() {
            let name = format!("all {} files", self.files);
            self.bar = bars.map(|bars| bars.insert(0, visible(&name, Some(u64::MAX))));
        }
        self.draw();
    }

    /// A file came `amount` bytes further.
    pub fn advance(&mut self, amount: u64) {
        self.position += amount;
        self.draw();
    }

    /// A file ended: for good, or to begin again if it is shorter than it should be.
    pub fn end(&mut self, length: Option<u64>, position: u64) {
        match length {
            Some(length) if position < length => {
                self.length = self.length.saturating_sub(length);
                self.position = self.position.saturating_sub(position);
            }
            Some(_) => {}
            None => self.length += position,
        }
        self.draw();
    }

    /// All files are done.
    pub fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(self.length.max(self.position));
            bar.set_position(self.position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Total;

    #[test]
    fn a_file_that_begins_again_counts_once() {
        let mut total = Total::new(2);
        total.begin(None, Some(100));
        total.begin(None, None);
        total.advance(40);
        total.advance(7);
        total.end(Some(100), 40);
        assert_eq!((total.length, total.position), (0, 7));
        total.end(None, 7);
        total.begin(None, Some(100));
        total.advance(40);
        total.advance(60);
        total.end(Some(100), 100);
        assert_eq!((total.length, total.position), (107, 107));
    }
}
