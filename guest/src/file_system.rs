//! A disk with a file system, as its users have it: ext4 under fio with verification, and the data is there after a restart.

use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Failure;
use crate::lab::End;

const DISK: &str = "/dev/vda";
const MOUNTED: &str = "/mnt";
/// The file that fio writes and verifies.
const FILE: &str = "/mnt/data";
const MAKE: [&str; 4] = ["/usr/sbin/mkfs.ext4", "-q", "-F", DISK];
/// Random writes with a checksum in each block, past the guest's cache, in flight side by side; every block is written once.
const FIO: [&str; 12] = [
    "/usr/bin/fio",
    "--name=data",
    "--filename=/mnt/data",
    "--size=16M",
    "--rw=randwrite",
    "--bs=4k",
    "--ioengine=io_uring",
    "--iodepth=16",
    "--direct=1",
    "--verify=crc32c",
    "--randseed=1",
    "--output-format=terse",
];
/// To do no more than read and verify what the same options have written.
const VERIFY_ONLY: &str = "--verify_only";

/// Makes a file system and has fio write to it, and wants the guest to start again; or verifies what is there.
pub(crate) fn run() -> Result<End, Failure> {
    if mounted().is_ok() {
        println!("the disk has a file system");
        if !Path::new(FILE).exists() {
            return Err(Failure::Lab(format!("there is no {FILE} on it")));
        }
        command(&[&FIO[..], &[VERIFY_ONLY]].concat())?;
        println!("fio has verified what was written before");
        leave()?;
        return Ok(End::PowerOff);
    }
    command(&MAKE)?;
    mounted()?;
    command(&FIO)?;
    println!("fio has written and verified");
    leave()?;
    Ok(End::Restart)
}

fn mounted() -> Result<(), Failure> {
    mount(DISK, MOUNTED, "ext4", MountFlags::empty(), None).map_err(failed("mount"))
}

fn leave() -> Result<(), Failure> {
    unmount(MOUNTED, UnmountFlags::empty()).map_err(failed("unmount"))
}

fn failed(action: &str) -> impl FnOnce(rustix::io::Errno) -> Failure + '_ {
    move |error| Failure::Lab(format!("cannot {action} {DISK}: {error}"))
}

fn command(words: &[&str]) -> Result<(), Failure> {
    let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Lab(format!("{program}: {status}"))),
        Err(error) => Err(Failure::Lab(format!("cannot start {program}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_fails_the_lab() {
        command(&["true"]).unwrap();
        assert_eq!(command(&["false"]), Err(Failure::Lab("false: exit status: 1".into())));
        let error = command(&["/nonexistent/fio"]).unwrap_err();
        assert!(matches!(&error, Failure::Lab(why) if why.starts_with("cannot start /nonexistent/fio")));
    }
}
