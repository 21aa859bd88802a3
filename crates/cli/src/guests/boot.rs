//! A guest as a process of this host, and its console.
//!
//! This module holds `unsafe` because a guest must not outlive this process, however it ends, and that is arranged in the child
//! between fork and exec.
#![allow(unsafe_code)]

use crate::Failure;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vioduct_machine::{Machine, Outcome, Stopper, Traps};

/// A guest that runs; dropping it is pulling its plug.
pub(super) struct Guest {
    host: Host,
    lines: Receiver<String>,
    deadline: Instant,
    limit: Duration,
}

/// What the guest runs in.
enum Host {
    Process(Child),
    /// A machine of our own.
    Thread {
        stopper: Stopper,
        thread: Option<JoinHandle<Result<Traps, Failure>>>,
    },
}

impl Guest {
    /// Runs the machine that `boot` makes, given where its serial line goes. It may take `limit`.
    pub(super) fn start(
        limit: Duration,
        boot: impl FnOnce(Box<dyn Write + Send>) -> Result<Machine, Failure>,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot start the guest: {error}"));
        let (console, write_end) = std::io::pipe().map_err(failed)?;
        let mut machine = boot(Box::new(write_end))?;
        let stopper = machine.stopper();
        let body = move || match machine.run() {
            Ok(Outcome::Crashed(how)) => Err(Failure::Failed(format!("the guest has crashed: {how}"))),
            Ok(_) => Ok(machine.traps()),
            Err(error) => Err(Failure::Failed(error.to_string())),
        };
        let thread = thread::Builder::new().name("machine".to_owned()).spawn(body).map_err(failed)?;
        Self::watch(Host::Thread { stopper, thread: Some(thread) }, console, limit)
    }

    /// Starts what `command` runs. It may take `limit`.
    pub(super) fn boot(mut command: Command, limit: Duration) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error| Failure::Failed(format!("cannot start {program}: {error}"));
        let (console, write_end) = std::io::pipe().map_err(failed)?;
        let errors = write_end.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(write_end).stderr(errors);
        let die_with_parent = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(die_with_parent) };
        let process = command.spawn().map_err(failed)?;
        // The command has the write ends, too: without them the console ends when the guest does.
        drop(command);
        Self::watch(Host::Process(process), console, limit)
    }

    fn watch(host: Host, console: PipeReader, limit: Duration) -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot start a thread: {error}"));
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                // What a guest writes is bytes.
                for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                    let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                    if sender.send(text).is_err() {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self { host, lines, deadline: Instant::now() + limit, limit })
    }

    /// The console's next line; `None` when the guest has closed it.
    pub(super) fn line(&mut self) -> Result<Option<String>, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Failure::Failed(format!(
                "the guest had not finished after {} s, and was switched off",
                self.limit.as_secs()
            ))),
        }
    }

    /// Waits for the end of a guest that has closed its console; what has trapped, where that is counted.
    pub(super) fn wait(mut self) -> Result<Option<Traps>, Failure> {
        match &mut self.host {
            Host::Process(process) => match process.wait() {
                Ok(_) => Ok(None),
                Err(error) => Err(Failure::Failed(format!("cannot wait for the guest: {error}"))),
            },
            Host::Thread { thread, .. } => match thread.take().map(JoinHandle::join) {
                Some(Ok(outcome)) => outcome.map(Some),
                None | Some(Err(_)) => Err(Failure::Failed("the machine's thread has panicked".to_owned())),
            },
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        match &mut self.host {
            Host::Process(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
            Host::Thread { stopper, thread } => {
                stopper.stop();
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Guest;
    use crate::Failure;
    use std::process::Command;
    use std::time::Duration;

    fn shell(script: &str, limit: Duration) -> Guest {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Guest::boot(command, limit).unwrap()
    }

    #[test]
    fn both_outputs_are_the_console_and_its_end_is_seen() {
        let mut guest = shell("printf 'one\\r\\n'; echo two >&2; exit 3", Duration::from_secs(60));
        assert_eq!(guest.line().unwrap().as_deref(), Some("one"));
        assert_eq!(guest.line().unwrap().as_deref(), Some("two"));
        assert_eq!(guest.line().unwrap(), None);
        assert_eq!(guest.wait().unwrap(), None, "nobody counts its traps");
    }

    #[test]
    fn a_guest_that_hangs_is_switched_off() {
        let mut guest = shell("exec sleep 1000", Duration::from_millis(10));
        let super::Host::Process(process) = &guest.host else { panic!("not a process") };
        let id = process.id();
        assert!(matches!(guest.line(), Err(Failure::Failed(why)) if why.contains("switched off")));
        drop(guest);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
