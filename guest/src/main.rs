//! The guest's program: `vioduct-guest pci-demo`, `virtio-demo`, `virtio-test N`, `entropy`, `disk`, `file-system` or `network`;
//! `sockets`, of which the guest's side and the host's talk with each other; and `driver-checks` and `vhost-checks`, which put a driver
//! and a host's back-end through what programs with faults do.
//!
//! It talks to the guest's drivers through their device nodes and says what it wrote and read. Exit status: 0 done,
//! 1 failed, 2 usage. As a guest's first process it makes the file systems, loads the drivers, runs the lab that the
//! kernel's command line names (`vioduct.lab=virtio-test,10`), prints the exit status and powers off; or it runs `vioduct`
//! or itself, where the guest stands for a host (`vioduct.run=/script`).

mod bus;
mod disk;
mod driver_checks;
mod entropy;
mod file_system;
mod first_process;
mod hosted;
mod interrupts;
mod kernel_log;
mod lab;
mod network;
mod sockets;
mod system_calls;
mod verdict;
mod vhost_checks;
mod word_file;

use std::process::ExitCode;

use lab::{End, Lab};

/// Why a lab did not end well, in words for the one who reads the guest's console.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The command line was wrong.
    Usage(String),
    /// The lab failed.
    Lab(String),
}

const USAGE: &str = "\
usage: vioduct-guest pci-demo | virtio-demo | virtio-test N | entropy | disk [restart] | file-system   (N: 0 to 4294967295)
       vioduct-guest network A.B.C PAIRS [restart] | network A.B.C counted|unplugged
       vioduct-guest driver-checks pci-demo | driver-checks virtio-demo | interrupted-wait
       vioduct-guest sockets guest|host-vsock MIB | sockets host-unix MIB [PATH]   (the guest of `vsock,cid=3`, and its host)
       vioduct-guest vhost-checks   (on a host with /dev/vhost-demo)
       vioduct-guest no-vhost-net   (removes a host's /dev/vhost-net)";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        first_process::run();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(status(&words).0)
}

/// Runs the lab that the words name, and says what became of it.
fn status(words: &[String]) -> (u8, End) {
    let status = match Lab::parse(words).and_then(Lab::run) {
        Ok(end) => return (0, end),
        Err(Failure::Lab(why)) => {
            eprintln!("vioduct-guest: {why}");
            1
        }
        Err(Failure::Usage(why)) => {
            eprintln!("vioduct-guest: {why}\n{USAGE}");
            2
        }
    };
    (status, End::PowerOff)
}
