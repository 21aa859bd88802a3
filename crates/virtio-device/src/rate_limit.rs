//! [`RateLimit`]: keeps a peer from filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a burst of events through per interval and counts the others. Shared by everything that logs what a peer caused.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    interval: Duration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    admitted: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Admits `burst` events per `interval`.
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> Self {
        let window = Window { began: None, admitted: 0, suppressed: 0 };
        Self { burst, interval, window: Mutex::new(window) }
    }

    /// Whether to log now: the number of events suppressed since the last one admitted, or `None` to stay silent.
    #[must_use]
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    /// [`admit`](Self::admit) with the time given.
    #[must_use]
    pub fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window.began.is_none_or(|began| now.saturating_duration_since(began) >= self.interval);
        if over {
            window.began = Some(now);
            window.admitted = 0;
        }
        if window.admitted == self.burst {
            window.suppressed += 1;
            return None;
        }
        window.admitted += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

impl Default for RateLimit {
    /// Ten lines in five seconds.
    fn default() -> Self {
        Self::new(10, Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_silence_then_a_count() {
        let limit = RateLimit::new(2, Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.admit_at(at(0)), Some(0));
        assert_eq!(limit.admit_at(at(1)), Some(0));
        assert_eq!([limit.admit_at(at(1)), limit.admit_at(at(4))], [None, None]);
        assert_eq!(limit.admit_at(at(5)), Some(2), "a new interval tells how many were lost");
        assert_eq!(limit.admit_at(at(6)), Some(0));
    }
}
