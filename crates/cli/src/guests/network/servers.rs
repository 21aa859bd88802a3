//! [`Servers`]: what the threads that serve queues have taken of the processors.

use std::fs;
use std::path::Path;

/// Processes of ours, whose threads serve cards, or the kernel's threads that do so for them.
pub(super) struct Servers {
    processes: Vec<u32>,
}

/// How threads are called that serve a network card: ours after the device, the kernel's after vhost and the process that it works for.
const NAMES: [&str; 2] = ["net-", "vhost-"];

impl Servers {
    pub(super) fn of(processes: &[u32]) -> Self {
        Self { processes: processes.to_vec() }
    }

    /// All that they have run so far, in nanoseconds; `None` where the kernel does not say.
    pub(super) fn time_ns(&self) -> Option<u64> {
        let tasks = self.processes.iter().map(|process| format!("/proc/{process}/task"));
        let threads = tasks.filter_map(|tasks| fs::read_dir(tasks).ok()).flatten().flatten();
        threads.filter(|thread| serves(&thread.path())).map(|thread| run_ns(&thread.path())).sum()
    }
}

fn serves(thread: &Path) -> bool {
    let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
    NAMES.iter().any(|begins| name.starts_with(begins))
}

/// The first number of `/proc/PID/task/TID/schedstat`.
fn run_ns(thread: &Path) -> Option<u64> {
    fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::thread;

    #[test]
    fn threads_that_serve_are_counted_and_others_are_not() {
        let of = |name: &str| {
            let body = || {
                let here = Path::new("/proc/thread-self");
                let before = run_ns(here).unwrap();
                while run_ns(here).unwrap() == before {
                    (0..1_000_000_u64).for_each(|number| _ = black_box(number));
                    thread::yield_now();
                }
                (serves(here), Servers::of(&[std::process::id()]).time_ns())
            };
            thread::Builder::new().name(name.to_owned()).spawn(body).unwrap().join().unwrap()
        };
        let (serves, time_ns) = of("net-1");
        assert!(serves && time_ns.is_some_and(|time_ns| time_ns > 0), "{time_ns:?}");
        assert!(of("vhost-77").0 && !of("console").0);
    }
}
