//! Processes that serve a disk.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium<'p> {
    /// Zeroes.
    Null,
    /// A file, by io_uring.
    File(&'p Path),
}

/// Length of the disk.
pub const DISK_BYTES: u64 = 256 << 20;

/// A process that serves a disk at a socket; it ends with this.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Server {
    /// `vioduct serve block`.
    ///
    /// # Errors
    /// If it does not come to listen.
    pub fn ours(program: &Path, medium: Medium<'_>, socket: PathBuf) -> Result<Self> {
        let device = match medium {
            Medium::Null => format!("block,null={DISK_BYTES}"),
            Medium::File(path) => format!("block,path={},io=uring", path.display()),
        };
        let mut command = Command::new(program);
        // The client's crate does not seal its memory.
        command.args(["serve", &device, "--memory-files", "any", "--vhost-user"]).arg(&socket);
        Self::start(command, socket)
    }

    /// `qemu-storage-daemon`, its export in a thread of its own that polls as it does by default, and reads zeroes where ours does.
    ///
    /// # Errors
    /// If it is not installed, or does not come to listen.
    pub fn theirs(medium: Medium<'_>, socket: PathBuf) -> Result<Self> {
        let node = match medium {
            Medium::Null => format!("driver=null-co,node-name=disk,size={DISK_BYTES},read-zeroes=on"),
            Medium::File(path) => {
                format!("driver=file,node-name=disk,filename={},aio=io_uring", path.display())
            }
        };
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,iothread=io,addr.type=unix,addr.path={}",
            socket.display()
        );
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--object", "iothread,id=io", "--blockdev", &node, "--export", &export]);
        Self::start(command, socket)
    }

    fn start(mut command: Command, socket: PathBuf) -> Result<Self> {
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let server = Self { child, socket };
        while !listens(&server.socket)? {
            if began.elapsed() > Duration::from_secs(10) {
                bail!("{:?} does not listen", command.get_program());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// Keeps its threads on these processors.
    pub fn bind_to(&self, processors: &CpuSet) {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let number = task.file_name().to_string_lossy().parse().ok();
            // Unbound, it makes a benchmark worse, not wrong.
            let _ = sched_setaffinity(number.and_then(rustix::process::Pid::from_raw), processors);
        }
    }
}

/// The socket's file is there before anybody listens, and a connection would be taken for the client's: the kernel is asked.
pub(crate) fn listens(path: &Path) -> Result<bool> {
    const ACCEPTS: &str = "00010000";
    let name = path.display().to_string();
    let table = std::fs::read_to_string("/proc/net/unix").context("cannot read /proc/net/unix")?;
    Ok(table.lines().any(|line| line.ends_with(&name) && line.contains(ACCEPTS)))
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for a server: {error}");
        }
    }
}
