//! `cargo xtask rig kvm -- ARGS`: `vioduct ARGS` on a host that has KVM, wherever this runs.
//!
//! The host is a guest of QEMU, whose TCG emulates AMD's virtualization: Debian's stock kernel, which has a real `/dev/kvm`,
//! `/dev/vhost-net`, `/dev/vhost-vsock`, `/dev/net/tun` and VDUSE there. What the program prints comes out as it is, and its exit
//! status is this task's.

mod files;
mod machine;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::Outcome;
use crate::guest::{self, Kit};
use files::Files;
use machine::Clock;
pub(crate) use machine::Ended;

/// The command line of `rig`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    rig: Rig,
}

#[derive(Debug, Subcommand)]
enum Rig {
    /// Run `vioduct` on an emulated host with a real /dev/kvm
    Kvm(Kvm),
}

#[derive(Debug, Args)]
struct Kvm {
    /// Have time follow the instructions: what this machine does besides is without effect, and runs differ by a percent or so
    #[arg(long)]
    icount: bool,
    /// How long the program may take, with the host's start, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Have a file of this machine on the host; those that ARGS name are there at the same path
    #[arg(long = "file", value_name = "HOST=GUEST", value_parser = placed)]
    files: Vec<(PathBuf, PathBuf)>,
    /// What `vioduct` is told
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Reads `HOST=GUEST`.
fn placed(text: &str) -> Result<(PathBuf, PathBuf)> {
    let (from, to) = text.split_once('=').context("expected HOST=GUEST")?;
    if !to.starts_with('/') {
        bail!("`{to}` is not a path from the root, which GUEST must be");
    }
    Ok((from.into(), to.into()))
}

/// Runs the program there, with its streams as this task's.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let Rig::Kvm(Kvm { icount, timeout, files, arguments }) = &options.rig;
    let run = Run {
        arguments: arguments.clone(),
        files: files.clone(),
        clock: if *icount { Clock::Instructions } else { Clock::Real },
        timeout: Duration::from_secs(*timeout),
    };
    let streams = Streams { output: &mut std::io::stdout(), errors: &mut std::io::stderr() };
    let status = run.on_a_new_host(streams)?.status;
    Ok(if status == 0 { Outcome::Done } else { Outcome::Status(status) })
}

/// What runs there, and how.
#[derive(Debug)]
pub(crate) struct Run {
    arguments: Vec<String>,
    files: Vec<(PathBuf, PathBuf)>,
    clock: Clock,
    timeout: Duration,
}

/// Where what the program prints goes as it comes.
pub(crate) struct Streams<'a> {
    pub(crate) output: &'a mut (dyn Write + Send),
    pub(crate) errors: &'a mut (dyn Write + Send),
}

impl Run {
    /// `vioduct` with these arguments and the defaults of the command line.
    pub(crate) fn of(arguments: &[impl AsRef<str>]) -> Self {
        Self {
            arguments: arguments.iter().map(|argument| argument.as_ref().to_owned()).collect(),
            files: Vec::new(),
            clock: Clock::Real,
            timeout: Duration::from_mins(10),
        }
    }

    /// Provides what is needed, starts a host, and waits for the program's end.
    pub(crate) fn on_a_new_host(&self, streams: Streams<'_>) -> Result<Ended> {
        let kit = guest::provision()?;
        let program = guest::vioduct()?;
        let mut files = Files::for_arguments(&self.arguments)?;
        files.put_kit(&kit)?;
        for (from, to) in &self.files {
            files.put(from, to)?;
        }
        files.put(&program, "/bin/vioduct".as_ref())?;
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let initramfs = folder.path().join("initramfs.cpio");
        files.append_to(&kit.host.initramfs, &initramfs)?;
        let machine = machine::Machine {
            emulator: &kit.emulator,
            kernel: &kit.host.kernel,
            initramfs: &initramfs,
            clock: self.clock,
            timeout: self.timeout,
            folder: folder.path(),
        };
        machine.run(streams)
    }
}

/// Where the kit's manifest is on that host: where it is here.
fn manifest() -> Result<PathBuf> {
    Ok(crate::tools::cache()?.join("guest/kit.json"))
}

impl Files {
    /// The kit, at the paths that it has here.
    fn put_kit(&mut self, kit: &Kit) -> Result<()> {
        for file in [
            &kit.uml.kernel,
            &kit.uml.initramfs,
            &kit.qemu.kernel,
            &kit.qemu.initramfs,
            &kit.emulator,
            &manifest()?,
        ] {
            self.put(file, file)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Task};

    fn parse(line: &[&str]) -> Result<Kvm, clap::Error> {
        let words = [&["xtask", "rig", "kvm"], line].concat();
        match Cli::try_parse_from(words)?.task {
            Task::Rig(Options { rig: Rig::Kvm(options) }) => Ok(options),
            _ => panic!("not a rig"),
        }
    }

    #[test]
    fn what_follows_the_dashes_is_the_programs() {
        let options = parse(&["--timeout", "9", "--", "lab", "run", "--json", "--", "x"]).unwrap();
        assert_eq!(options.arguments, ["lab", "run", "--json", "--", "x"]);
        assert_eq!((options.timeout, options.icount), (9, false));
        assert_eq!(parse(&["doctor"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn files_are_placed_by_whole_paths() {
        let options = parse(&["--file", "x=/y", "--file", "/a=/b=c"]).unwrap();
        assert_eq!(options.files, [("x".into(), "/y".into()), ("/a".into(), "/b=c".into())]);
        for wrong in ["x", "x=y", "x="] {
            assert_eq!(parse(&["--file", wrong]).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
