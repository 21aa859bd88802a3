//! Where the guest is the host: `vioduct` runs here, with a `/dev/kvm` of this kernel's.
//!
//! What it prints goes out unchanged by ports of virtio-serial, which unlike terminals leave bytes alone, and so does its
//! exit status; the kernel's log has the console for itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::first_process::complain;

const PROGRAM: &str = "/bin/vioduct";
/// Ports appear as the host's messages about them are handled, beside what the first process does.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);
/// What a shell says of a program that it cannot start.
const NOT_STARTED: u8 = 127;
/// Beside those that every guest has: terminals and shared memory of programs.
const FILE_SYSTEMS: [(&str, &str); 2] = [("devpts", "/dev/pts"), ("tmpfs", "/dev/shm")];

/// The ports by their numbers, which the host gives them.
#[derive(Debug, Clone, Copy)]
enum Port {
    Output = 1,
    Errors = 2,
    Status = 3,
}

impl Port {
    fn open(self) -> io::Result<File> {
        let path = format!("/dev/vport0p{}", self as u32);
        let start = Instant::now();
        loop {
            match OpenOptions::new().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && start.elapsed() < PATIENCE => {
                    sleep(POLL);
                }
                result => return result,
            }
        }
    }
}

/// Runs the program with the arguments that a file holds, one in a line, and tells the host how it ended.
pub(crate) fn run(arguments: &Path) -> u8 {
    for (kind, place) in FILE_SYSTEMS {
        if let Err(error) = std::fs::create_dir_all(place) {
            eprintln!("vioduct-guest: {place}: {error}");
        }
        complain(kind, mount(kind, place, kind, MountFlags::empty(), None));
    }
    let status = start(arguments).unwrap_or_else(|error| {
        eprintln!("vioduct-guest: {PROGRAM}: {error}");
        NOT_STARTED
    });
    if let Err(error) = Port::Status.open().and_then(|mut port| writeln!(port, "{status}")) {
        eprintln!("vioduct-guest: the port of the exit status: {error}");
    }
    status
}

fn start(arguments: &Path) -> io::Result<u8> {
    let arguments = std::fs::read_to_string(arguments)?;
    let mut command = Command::new(PROGRAM);
    command.args(arguments.lines()).stdin(Stdio::null());
    command.stdout(Port::Output.open()?).stderr(Port::Errors.open()?);
    command.status().map(number)
}

/// An exit status as a shell has it: 128 and the signal where one ended the program.
fn number(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| Some(128 + status.signal()?));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_is_a_shells() {
        assert_eq!(number(ExitStatus::from_raw(2 << 8)), 2);
        assert_eq!(number(ExitStatus::from_raw(0)), 0);
        assert_eq!(number(ExitStatus::from_raw(9)), 137);
    }
}
