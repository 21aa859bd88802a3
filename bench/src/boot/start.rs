//! One start of a guest, watched to its sign on the serial line.

use super::exits::Exits;
use super::monitor::RAM_MIB;
use super::standstill::Watch;
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
        let maps = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
        Ok(Some(Self { time, exits, resident_kib: resident_kib(&maps) }))
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

/// Adds up `/proc/PID/smaps`, without the mapping of the guest's RAM: no other is nearly as large and has pages.
fn resident_kib(maps: &str) -> u64 {
    const GUEST_KIB: u64 = RAM_MIB << 10;
    let (mut sum, mut size) = (0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
            (Some("Size:"), Some(kib)) => size = kib,
            (Some("Rss:"), Some(kib)) if size < GUEST_KIB => sum += kib,
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_ram_is_not_the_monitors() {
        let maps = "\
55d0c0000000-55d0c0010000 r-xp 00000000 fe:01 1234   /usr/bin/vioduct
Size:                 64 kB
Rss:                  60 kB
Pss:                  30 kB
7f0000000000-7f0020000000 rw-s 00000000 00:01 7      /memfd:guest (deleted)
Size:             524288 kB
Rss:               65536 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0      [stack]
Size:                132 kB
Rss:                  12 kB
";
        assert_eq!(resident_kib(maps), 72);
    }

    #[test]
    fn a_guest_that_ends_without_its_sign_is_quoted() {
        let mut command = Command::new("echo");
        let error = Start::to(b"init", command.arg("panic")).unwrap_err();
        assert!(format!("{error:#}").contains("it has said:\npanic"), "{error:#}");
    }
}
