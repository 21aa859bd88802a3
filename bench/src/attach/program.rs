//! `vioduct serve` as a process.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The wire that a device is served over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// vhost-user.
    VhostUser,
    /// vfio-user.
    VfioUser,
}

impl Wire {
    /// Both.
    pub const ALL: [Self; 2] = [Self::VhostUser, Self::VfioUser];

    /// As rows and the command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::VfioUser => "vfio-user",
        }
    }
}

/// Builds the program; returns where it is.
///
/// # Errors
/// If it cannot be built.
pub fn build() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the bench crate is in the workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "vioduct"])
        .stdout(std::io::stderr())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cannot build the program: {status}");
    }
    Ok(root.join(target).join("release/vioduct"))
}

/// A process that serves virtio-demo.
pub struct Program {
    child: Child,
    path: PathBuf,
}

impl Program {
    /// Starts it; returns it when it says that it is ready, and how long it took until a client was connected.
    ///
    /// # Errors
    /// If it cannot be started, or does not say so.
    pub fn start(program: &Path, wire: Wire, path: PathBuf) -> Result<(Self, Duration)> {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["serve", "virtio-demo", &format!("--{}", wire.name())])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut ready = String::new();
        let stdout = child.stdout.take().context("the program has no stdout pipe")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(ready.starts_with("ready "), "the program says {ready:?}");
        UnixStream::connect(&path).context("the program is not ready as it says")?;
        Ok((Self { child, path }, began.elapsed()))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it on these processors, with all threads that it starts from now on.
    pub fn bind_to(&self, processors: &CpuSet) {
        // Unbound, it makes a benchmark worse, not wrong.
        let _ = sched_setaffinity(self.pid(), processors);
    }

    /// Its memory now.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn resident(&self) -> Result<Resident> {
        let maps = std::fs::read_to_string(format!("/proc/{}/smaps", self.child.id()))?;
        Ok(Resident::of(&maps))
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            // It removes its socket when it is asked to end.
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the program: {error}");
        }
    }
}

/// Resident memory in KiB, beyond what the client shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// All, the pages of programs and libraries that other processes use too among them.
    pub all: u64,
    /// What only this process has.
    pub private: u64,
}

impl Resident {
    /// Adds up `/proc/PID/smaps`, without the mappings of memory files: those are the guest's memory.
    #[must_use]
    pub fn of(maps: &str) -> Self {
        let mut sum = Self::default();
        let mut guest = false;
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            match (first, words.next().and_then(|word| word.parse::<u64>().ok())) {
                _ if !first.ends_with(':') => guest = line.contains("/memfd:"),
                ("Rss:", Some(size)) if !guest => sum.all += size,
                ("Private_Clean:" | "Private_Dirty:", Some(size)) if !guest => sum.private += size,
                _ => {}
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_shares_is_not_counted() {
        let maps = "\
55d0c0000000-55d0c0010000 r-xp 00000000 fe:01 1234   /usr/bin/vioduct
Size:                 64 kB
Rss:                  60 kB
Pss:                  30 kB
Private_Clean:         8 kB
Private_Dirty:         0 kB
7f0000000000-7f0004000000 rw-s 00000000 00:01 7      /memfd:guest (deleted)
Rss:               65536 kB
Private_Dirty:       100 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0      [stack]
Rss:                  12 kB
Private_Dirty:        12 kB
";
        assert_eq!(Resident::of(maps), Resident { all: 72, private: 20 });
    }
}
