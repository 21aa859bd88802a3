//! A guest as a process of this host, and its console.
//!
//! This module holds `unsafe` because a guest must not outlive this process, however it ends, and that is arranged in the child
//! between fork and exec.
#![allow(unsafe_code)]

use crate::Failure;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A guest that runs; dropping it is pulling its plug.
pub(super) struct Guest {
    process: Child,
    lines: Receiver<String>,
    deadline: Instant,
    limit: Duration,
}

impl Guest {
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
        Ok(Self { process, lines, deadline: Instant::now() + limit, limit })
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

    /// How the process ended that has closed its console.
    pub(super) fn wait(mut self) -> Result<ExitStatus, Failure> {
        self.process.wait().map_err(|error| Failure::Failed(format!("cannot wait for the guest: {error}")))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
        assert_eq!(guest.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_guest_that_hangs_is_switched_off() {
        let mut guest = shell("exec sleep 1000", Duration::from_millis(10));
        let id = guest.process.id();
        assert!(matches!(guest.line(), Err(Failure::Failed(why)) if why.contains("switched off")));
        drop(guest);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
