//! Contenders taking turns in short windows.

use std::time::{Duration, Instant};

/// How long, and how often, each contender runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Windows per contender.
    pub windows: u32,
    /// Length of a window.
    pub window: Duration,
}

/// The same on a command line.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Windows {
    /// Windows per contender
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// Length of a window in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    window_ms: u64,
}

impl From<Windows> for Plan {
    fn from(Windows { windows, window_ms }: Windows) -> Self {
        Self { windows, window: Duration::from_millis(window_ms) }
    }
}

impl Plan {
    /// What the published figures are taken with. The windows are shorter than a time slice, so that on a busy machine some of them
    /// are undisturbed.
    pub const FULL: Self = Self { windows: 400, window: Duration::from_millis(2) };
}

/// Work that can be repeated: a round of so many operations.
pub struct Contender<'a> {
    operations: u32,
    round: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender whose `round` does `operations` operations.
    pub fn new(operations: u32, round: impl FnMut() + 'a) -> Self {
        Self { operations, round: Box::new(round) }
    }

    /// Runs for about `length`; nanoseconds per operation.
    pub fn window(&mut self, length: Duration) -> f64 {
        let start = Instant::now();
        let mut rounds = 0u64;
        loop {
            for _ in 0..64 {
                (self.round)();
            }
            rounds += 64;
            let elapsed = start.elapsed();
            if elapsed >= length {
                return elapsed.as_nanos() as f64 / (rounds * u64::from(self.operations)) as f64;
            }
        }
    }
}

/// Nanoseconds per operation, of all windows of a contender.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The best window: what the code costs when nothing else disturbs the machine.
    pub best: f64,
    /// The median window.
    pub median: f64,
}

impl Figures {
    /// Figures of some windows, of which there is at least one.
    #[must_use]
    pub fn of(mut windows: Vec<f64>) -> Self {
        windows.sort_by(f64::total_cmp);
        let at = |index: usize| windows.get(index).copied().unwrap_or(f64::NAN);
        Self { best: at(0), median: at(windows.len() / 2) }
    }
}

impl Figures {
    /// Figures of several rounds: the best of the best, and the median of the medians.
    #[must_use]
    pub fn of_rounds(rounds: &[Self]) -> Self {
        let best = Self::of(rounds.iter().map(|round| round.best).collect()).best;
        let median = Self::of(rounds.iter().map(|round| round.median).collect()).median;
        Self { best, median }
    }
}

/// Lets two contenders take turns, after a window each to warm up. A window is whatever measures nanoseconds per operation.
///
/// # Errors
/// What a window fails with.
pub fn duel<E>(
    plan: Plan,
    mut ours: impl FnMut(Duration) -> Result<f64, E>,
    mut theirs: impl FnMut(Duration) -> Result<f64, E>,
) -> Result<(Figures, Figures), E> {
    let (mut our_windows, mut their_windows) = (Vec::new(), Vec::new());
    ours(plan.window)?;
    theirs(plan.window)?;
    for _ in 0..plan.windows {
        our_windows.push(ours(plan.window)?);
        their_windows.push(theirs(plan.window)?);
    }
    Ok((Figures::of(our_windows), Figures::of(their_windows)))
}
