//! Where the guest is the host: `vioduct` runs here, with a `/dev/kvm` of this kernel's.
//!
//! What it prints goes out unchanged by ports of virtio-serial, which unlike terminals leave bytes alone, and so does its
//! exit status; the kernel's log has the console for itself. Of several commands, each one's bytes end with a separator.

mod program;
mod script;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::first_process::complain;
use program::{Deed, Reaction, Server, run_first};
use script::Step;

/// Ports appear as the host's messages about them are handled, beside what the first process does.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);
/// What a shell says of a program that it cannot start.
const NOT_STARTED: u8 = 127;
/// Ends what a command printed where another one follows: ASCII's record separator.
const SEPARATOR: &[u8] = b"\x1e";
/// Beside those that every guest has: terminals, shared memory of programs, and what KVM counts.
const FILE_SYSTEMS: [(&str, &str); 3] =
    [("devpts", "/dev/pts"), ("tmpfs", "/dev/shm"), ("debugfs", "/sys/kernel/debug")];

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

/// Where what programs print goes, and how they ended.
struct Streams {
    output: File,
    errors: File,
    status: File,
}

/// Does what a file says, step by step, and tells the host how each command ended; the answer is the last one's exit status.
pub(crate) fn run(script: &Path) -> u8 {
    for (kind, place) in FILE_SYSTEMS {
        if let Err(error) = std::fs::create_dir_all(place) {
            eprintln!("vioduct-guest: {place}: {error}");
        }
        complain(kind, mount(kind, place, kind, MountFlags::empty(), None));
    }
    let steps = std::fs::read_to_string(script).and_then(|text| script::parse(&text));
    let streams = Port::Output.open().and_then(|output| {
        Ok(Streams { output, errors: Port::Errors.open()?, status: Port::Status.open()? })
    });
    steps.and_then(|steps| streams?.follow(&steps)).unwrap_or_else(|error| {
        eprintln!("vioduct-guest: {}: {error}", script.display());
        NOT_STARTED
    })
}

impl Streams {
    fn follow(&mut self, steps: &[Step]) -> io::Result<u8> {
        let mut last = None;
        let (mut servers, mut reactions) = (Vec::new(), Vec::new());
        let mut obstacle = Ok(());
        for step in steps {
            let done = match step {
                Step::Empty { path, len } => File::create(path).and_then(|file| file.set_len(*len)),
                Step::First(words) => run_first(words, &self.errors),
                Step::Beside { program, words, ready } => {
                    Server::start(*program, words, ready, &self.errors).map(|server| servers.push(server))
                }
                Step::When { words, after } => {
                    reactions.push(Reaction { after: after.clone(), deed: Deed::Run(words.clone()) });
                    Ok(())
                }
                Step::Run(command) => {
                    if last.is_some() {
                        self.output.write_all(SEPARATOR)?;
                        self.errors.write_all(SEPARATOR)?;
                    }
                    let ended = std::mem::replace(&mut obstacle, Ok(()));
                    let reactions = std::mem::take(&mut reactions);
                    let ended = ended.and_then(|()| command.run(reactions, &self.output, &self.errors));
                    let status =
                        ended.or_else(|error| writeln!(self.errors, "{error}").map(|()| NOT_STARTED))?;
                    servers.clear();
                    writeln!(self.status, "{status}")?;
                    last = Some(status);
                    continue;
                }
            };
            obstacle = obstacle.and(done);
        }
        last.ok_or_else(|| io::Error::other("it names no command"))
    }
}
