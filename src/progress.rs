//! How a long step tells that it moves. The library calls, the binary draws.

/// Receives the progress of long steps. Steps may nest; calls may come from several threads.
pub trait Progress: Send + Sync {
    /// A step begins; `total` is its size in bytes (or items) where that is known.
    fn begin(&self, step: &str, total: Option<u64>);
    /// The innermost step came `amount` bytes (or items) further.
    fn advance(&self, amount: u64);
    /// The innermost step is done.
    fn end(&self);
    /// One line of words for the user that belongs to no step.
    fn note(&self, line: &str);
    /// Up to `files` steps follow, some at a time and in several threads, that are one to the user.
    /// Who draws no total has nothing to do.
    fn begin_all(&self, _files: usize) {}
    /// All of them are done.
    fn end_all(&self) {}
}

/// Progress nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str, _total: Option<u64>) {}
    fn advance(&self, _amount: u64) {}
    fn end(&self) {}
    fn note(&self, _line: &str) {}
}
