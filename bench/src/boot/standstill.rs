//! Whether the emulated host stands still.
//!
//! There, time follows the instructions. When QEMU (11.1) has delivered an interrupt that KVM injects with `VMRUN`, and its count of
//! instructions runs out before the guest's next exit, it delivers that interrupt once more, whether or not the guest has
//! interrupts off. A guest's kernel that holds the lock of its timers then waits for that lock for ever: in a loop of `pause`, each
//! of which takes QEMU as long as hundreds of other instructions, so that the host's time all but stops. The host's real-time
//! clock goes on, for it has the time of the machine around.

use std::time::{Duration, Instant};

/// In whole seconds.
const REAL_TIME_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";
/// The real-time clock goes on by this before the two are compared, in seconds.
const WINDOW_S: u64 = 15;
/// What passes of the host's time in a second of the real-time clock where it goes on: emulation makes some 100 ms of it alone on a
/// processor, and between 4 and 10 ms where a guest waits in such a loop, as busy as the machine is.
const LEAST_IN_A_SECOND: Duration = Duration::from_millis(15);
/// A start that takes longer than this by the real-time clock has come to nothing, however fast the host's time goes; in seconds. Most take
/// half a minute.
const LONGEST_S: u64 = 200;

/// Watches the host's time by its real-time clock.
#[derive(Debug)]
pub struct Watch {
    /// By the real-time clock.
    began_s: u64,
    last: Option<(u64, Instant)>,
}

impl Watch {
    /// From now on; a host without a real-time clock never stands still.
    #[must_use]
    pub fn start() -> Self {
        let now = real_seconds();
        Self { began_s: now.unwrap_or_default(), last: now.map(|seconds| (seconds, Instant::now())) }
    }

    /// Whether the host has stood still lately.
    pub fn stands(&mut self) -> bool {
        self.stands_at(real_seconds())
    }

    fn stands_at(&mut self, now: Option<u64>) -> bool {
        let Some(((begin, start), now)) = self.last.zip(now) else { return false };
        if now.saturating_sub(self.began_s) > LONGEST_S {
            return true;
        }
        let (real_s, passed) = (now.saturating_sub(begin), start.elapsed());
        if real_s < WINDOW_S {
            return false;
        }
        self.last = Some((now, Instant::now()));
        is_standstill(real_s, passed)
    }
}

fn real_seconds() -> Option<u64> {
    std::fs::read_to_string(REAL_TIME_CLOCK).ok()?.trim().parse().ok()
}

/// Whether so little has passed in `real_s` seconds of the real-time clock.
fn is_standstill(real_s: u64, passed: Duration) -> bool {
    passed.as_micros() < u128::from(real_s) * LEAST_IN_A_SECOND.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_host_on_a_busy_machine_does_not_stand_still() {
        assert!(!is_standstill(15, Duration::from_millis(400)));
        assert!(!is_standstill(15, Duration::from_secs(15)));
        assert!(is_standstill(15, Duration::from_millis(50)));
        assert!(is_standstill(15, Duration::from_millis(150)));
    }

    #[test]
    fn nothing_is_said_before_the_window_is_over() {
        let mut watch = Watch { began_s: 100, last: Some((100, Instant::now())) };
        assert!(!watch.stands_at(Some(100)) && !watch.stands_at(Some(100 + WINDOW_S - 1)));
        assert!(watch.stands_at(Some(100 + WINDOW_S)), "no time has passed of the host's");
        assert!(!Watch { began_s: 0, last: None }.stands_at(Some(100)));
    }

    #[test]
    fn a_start_without_end_is_given_up() {
        let mut watch = Watch { began_s: 100, last: Some((100 + LONGEST_S, Instant::now())) };
        assert!(!watch.stands_at(Some(100 + LONGEST_S)));
        assert!(watch.stands_at(Some(100 + LONGEST_S + 1)));
    }
}
