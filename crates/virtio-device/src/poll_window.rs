//! [`PollWindow`]: how long a thread looks for work by itself before it sleeps, by what its sleeps were like.

use crate::workers::BusyPoll;
use std::time::Duration;

/// How long to look for work before the next sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollWindow {
    window: Duration,
    policy: BusyPoll,
}

impl PollWindow {
    /// The shortest window that an adaptive policy tries.
    const SHORTEST: Duration = Duration::from_micros(4);

    /// The first window of a policy.
    #[must_use]
    pub fn new(policy: BusyPoll) -> Self {
        let window = match policy {
            BusyPoll::Off | BusyPoll::Adaptive(_) => Duration::ZERO,
            BusyPoll::Fixed(window) => window,
        };
        Self { window, policy }
    }

    /// How long to look for work now.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// A sleep lasted `slept`: if polling would have bridged it, poll longer; if not, polling was wasted.
    pub fn learn(&mut self, slept: Duration) {
        let BusyPoll::Adaptive(longest) = self.policy else { return };
        self.window = if slept <= longest {
            (self.window * 2).max(Self::SHORTEST).min(longest)
        } else if self.window > Self::SHORTEST {
            self.window / 2
        } else {
            Duration::ZERO
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_polling_grows_on_short_sleeps_and_ends_on_long_ones() {
        let micros = Duration::from_micros;
        let mut poll = PollWindow::new(BusyPoll::Adaptive(micros(10)));
        let mut windows = Vec::new();
        for slept in [3, 3, 3, 3, 500, 500, 500] {
            poll.learn(micros(slept));
            windows.push(poll.window());
        }
        assert_eq!(windows, [4000, 8000, 10000, 10000, 5000, 2500, 0].map(Duration::from_nanos));
    }
}
