//! One start of a guest, watched to its sign on the serial line.

use super::exits::Exits;
use super::monitor::RAM_MIB;
use super::standstill::Watch;
use crate::resident::Resident;
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a guest may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether the host stands still: a thousandth of a start goes into that.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How often a start is tried on a host that stands still in it.
const ATTEMPTS: u32 = 10;

/// What a start has cost when the sign came.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// From the start of the monitor's process on.
    pub time: Duration,
    /// From the guest.
    pub exits: Exits,
    /// Resident memory of the monitor beyond the guest's RAM, in KiB.
    pub resident_kib: u64,
}

impl Start {
    /// Runs a monitor until its guest's serial line says `sign`, and ends it.
    ///
    /// # Errors
    /// If it cannot be run, or the guest does not give the sign.
    pub fn to(sign: &[u8], command: &mut Command) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            if let Some(start) = Self::attempt(sign, command)? {
                return Ok(start);
            }
            eprintln!("the emulated host stood still; once more ...");
        }
        bail!("the emulated host stood still in {ATTEMPTS} starts, one after the other: {command:?}")
    }

    /// The same; nothing if the host stood still.
    fn attempt(sign: &[u8], command: &mut Command) -> Result<Option<Self>> {
        let mut watch = Watch::start();
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut running = Running(child);
        let mut line = running.0.stdout.take().context("the monitor has no stdout pipe")?;
        if !wait_for(sign, &mut line, &mut watch).with_context(|| format!("{command:?}"))? {
            return Ok(None);
        }
        let time = began.elapsed();
        let process = running.0.id();
        let exits = Exits::of(process)?;
        // No other mapping is nearly as large and has pages.
        let resident = Resident::of(process, |mapping| mapping.size_kib >= RAM_MIB << 10)?;
        Ok(Some(Self { time, exits, resident_kib: resident.all }))
    }
}

/// A monitor, until this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("cannot end the monitor: {error}");
        }
    }
}

/// Reads until there is the sign; false if the host stands still.
fn wait_for(sign: &[u8], line: &mut ChildStdout, watch: &mut Watch) -> Result<bool> {
    let began = Instant::now();
    let mut said = Vec::new();
    let mut bytes = [0; 4096];
    while !said.windows(sign.len()).any(|window| window == sign) {
        if poll(&mut [PollFd::new(line, PollFlags::IN)], Some(&LOOK))? == 0 && began.elapsed() < PATIENCE {
            if watch.stands() {
                return Ok(false);
            }
            continue;
        }
        let len = if began.elapsed() < PATIENCE { line.read(&mut bytes)? } else { 0 };
        if len == 0 {
            bail!("the guest has not given its sign; it has said:\n{}", String::from_utf8_lossy(&said));
        }
        said.extend(bytes.iter().take(len));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_ends_without_its_sign_is_quoted() {
        let mut command = Command::new("echo");
        let error = Start::to(b"init", command.arg("panic")).unwrap_err();
        assert!(format!("{error:#}").contains("it has said:\npanic"), "{error:#}");
    }
}
