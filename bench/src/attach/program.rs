//! `vioduct serve` as a process.

use crate::resident::Resident;
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
        // The client shares the guest's memory as files in memory.
        Resident::of(self.child.id(), |mapping| mapping.line.contains("/memfd:"))
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
