//! A limit on how many bytes come from the network in a second, for all connections together.
//!
//! Every piece that was read takes its time on one common time line; who read it sleeps until that time has passed. A
//! server that is read more slowly sends more slowly: that is TCP's part.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Largest piece to read at once without a limit.
const PIECE: usize = 256 << 10;

/// Bytes for a second, shared by all who hold it.
#[derive(Debug)]
pub(super) struct Rate {
    /// None: as fast as it goes.
    per_second: Option<u64>,
    /// Until when the line is taken.
    taken: Mutex<Option<Instant>>,
}

impl Rate {
    /// A limit of zero is none.
    pub(super) fn new(per_second: Option<u64>) -> Self {
        Self { per_second: per_second.filter(|limit| *limit > 0), taken: Mutex::default() }
    }

    /// How much to read at once, so that a piece does not stand for seconds.
    pub(super) fn piece(&self) -> usize {
        self.per_second.map_or(PIECE, |limit| usize::try_from(limit / 8).unwrap_or(PIECE).clamp(1 << 10, PIECE))
    }

    /// Waits for as long as `bytes` take.
    pub(super) fn pass(&self, bytes: usize) {
        let Some(limit) = self.per_second else { return };
        let nanoseconds = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(limit);
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = Instant::now();
        let end = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let start = taken.map_or(now, |taken| taken.max(now));
            let end = start.checked_add(time).unwrap_or(start);
            *taken = Some(end);
            end
        };
        thread::sleep(end.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_read_share_one_limit() {
        let rate = Rate::new(Some(1 << 20));
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|_| rate.pass(16 << 10)));
            }
        });
        // 256 KiB at 1 MiB/s; a crowded machine only makes it longer.
        assert!(begin.elapsed() >= Duration::from_millis(249), "{:?}", begin.elapsed());
    }

    #[test]
    fn no_limit_and_a_slow_one_read_in_fitting_pieces() {
        assert_eq!(Rate::new(None).piece(), PIECE);
        assert_eq!(Rate::new(Some(0)).piece(), PIECE);
        assert_eq!(Rate::new(Some(64 << 10)).piece(), 8 << 10);
        assert_eq!(Rate::new(Some(1)).piece(), 1 << 10);
        assert_eq!(Rate::new(Some(u64::MAX)).piece(), PIECE);
    }
}
