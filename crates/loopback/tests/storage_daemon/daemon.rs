//! A `qemu-storage-daemon` with one disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vioduct_spec::blk;

const PROGRAM: &str = "qemu-storage-daemon";

/// Whether there is such a program. Without it nothing is tested: a machine that counts must have it, and others are told.
pub(crate) fn is_there() -> bool {
    let found =
        Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().is_ok_and(|end| end.success());
    let counts = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(found || !counts, "{PROGRAM} is missing: apt-get install qemu-utils qemu-system-common");
    if !found {
        // Past the test's captured output, which nobody sees of a test that passes.
        let _ = writeln!(
            io::stderr(),
            "NOT TESTED: {PROGRAM} is missing: apt-get install qemu-utils qemu-system-common"
        );
    }
    found
}

pub(crate) struct Daemon {
    process: Option<Child>,
    pub(crate) socket: PathBuf,
    pub(crate) image: PathBuf,
    _folder: TempDir,
}

impl Daemon {
    pub(crate) fn start(sectors: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (socket, image) = (folder.path().join("socket"), folder.path().join("image"));
        File::create(&image).unwrap().set_len(sectors * blk::SECTOR_LEN as u64).unwrap();
        let mut daemon = Self { process: None, socket, image, _folder: folder };
        daemon.start_again();
        daemon
    }

    /// Returns when it listens, which is not when it can be connected to by the test: it takes one client.
    pub(crate) fn start_again(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={}",
            self.socket.display()
        );
        let blockdev = format!("driver=file,node-name=disk,filename={}", self.image.display());
        let mut command = Command::new(PROGRAM);
        command.args(["--blockdev", &blockdev, "--export", &export]).stdin(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !listens(&self.socket) {
            assert!(began.elapsed() < Duration::from_secs(10), "{PROGRAM} does not listen");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

/// The socket's file is there before anybody listens, so the kernel is asked, without connecting.
fn listens(path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let name = path.display().to_string();
    std::fs::read_to_string("/proc/net/unix").map_or_else(
        |_| UnixStream::connect(path).is_ok(),
        |table| table.lines().any(|line| line.ends_with(&name) && line.contains(ACCEPTS)),
    )
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
