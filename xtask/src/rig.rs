//! `cargo xtask rig kvm -- ARGS`: `vioduct ARGS` on a host that has KVM, wherever this runs.
//!
//! The host is a guest of QEMU, whose TCG emulates AMD's virtualization: Debian's stock kernel, which has a real `/dev/kvm`,
//! `/dev/vhost-net`, `/dev/vhost-vsock`, `/dev/net/tun` and VDUSE there. What the program prints comes out as it is, and its exit
//! status is this task's.

mod command;
mod files;
mod machine;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::Outcome;
use crate::guest::{self, Kit};
pub(crate) use command::{Command, Program, Server, Signal};
use files::Files;
pub(crate) use machine::Clock;
use machine::Ended;

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
    /// Run `vioduct WORDS` beside, such as `serve entropy --vhost-user /run/e`, and wait until it serves
    #[arg(long, value_name = "WORDS")]
    beside: Vec<String>,
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
    let Rig::Kvm(Kvm { icount, timeout, files, beside, arguments }) = &options.rig;
    let server = |line: &String| Server::of(line.split_whitespace().map(String::from).collect());
    let limit = Duration::from_secs(*timeout);
    let command =
        Command { beside: beside.iter().map(server).collect(), limit, ..Command::of(arguments.clone()) };
    let run = Run {
        files: files.clone(),
        counted: Counted::HostsInstructions,
        clock: if *icount { Clock::Instructions } else { Clock::Real },
        ..Run::of(vec![command])
    };
    run.pass_on()
}

/// What runs there, one after the other, and how.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) commands: Vec<Command>,
    /// Files of this machine, and where they are there; those that the commands name are there at the same path.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// How many processors the host has. With several, QEMU (11.1) sometimes runs an old instruction where another processor has patched it, as
    /// Linux does for KVM while guests' processors come and go: then the host's kernel dies, or a guest.
    pub(crate) processors: u8,
    /// What its time follows.
    pub(crate) clock: Clock,
    pub(crate) counted: Counted,
}

/// What the emulation counts, for those there who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Nothing,
    /// What the host executes, its guests' instructions not among them. Everything takes a bit longer.
    HostsInstructions,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit status, as a shell has it.
    pub(crate) status: u8,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// What the host writes between what one command printed and what the next one did.
const SEPARATOR: char = '\x1e';
/// How long the host takes beside its commands, at most.
const HOSTS_OWN: Duration = Duration::from_mins(1);

impl Run {
    /// These commands, with the defaults of the command line.
    pub(crate) fn of(commands: Vec<Command>) -> Self {
        let (clock, counted) = (Clock::Real, Counted::Nothing);
        Self { commands, files: Vec::new(), processors: 1, clock, counted }
    }

    /// Runs its one command with this task's streams.
    pub(crate) fn pass_on(&self) -> Result<Outcome> {
        let ended = self.on_a_new_host(&mut std::io::stdout(), &mut std::io::stderr())?;
        match ended.statuses.first() {
            Some(0) => Ok(Outcome::Done),
            Some(status) => Ok(Outcome::Status(*status)),
            None => bail!("{}", ended.last_words),
        }
    }

    /// What every command came to, or why there is nothing of it.
    pub(crate) fn finish(&self) -> Result<Vec<Result<Finished>>> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let ended = self.on_a_new_host(&mut output, &mut errors)?;
        let (output, errors) = (String::from_utf8_lossy(&output), String::from_utf8_lossy(&errors));
        let (mut outputs, mut errors) = (output.split(SEPARATOR), errors.split(SEPARATOR));
        let mut next = || {
            let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
            (text(outputs.next()), text(errors.next()))
        };
        let mut statuses = ended.statuses.iter();
        let finished = self.commands.iter().map(|_| match (statuses.next(), next()) {
            (Some(status), (output, errors)) => Ok(Finished { status: *status, output, errors }),
            (None, (output, errors)) => bail!("{output}{errors}{}", ended.last_words),
        });
        Ok(finished.collect())
    }

    /// Provides what is needed, starts a host, and waits for its end; what the commands print goes out as it comes.
    fn on_a_new_host(
        &self,
        output: &mut (dyn Write + Send),
        errors: &mut (dyn Write + Send),
    ) -> Result<Ended> {
        let kit = guest::provision()?;
        let mut files = Files::for_commands(&self.commands)?;
        if self.commands.iter().any(Command::needs_vioduct) {
            files.put_kit(&kit)?;
            files.put(&guest::vioduct()?, "/bin/vioduct".as_ref())?;
        }
        for (from, to) in &self.files {
            files.put(from, to)?;
        }
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let initramfs = folder.path().join("initramfs.cpio");
        files.append_to(&kit.host.initramfs, &initramfs)?;
        let counter = match self.counted {
            Counted::Nothing => None,
            Counted::HostsInstructions => counter(&kit.emulator)?,
        };
        let machine = machine::Machine {
            emulator: &kit.emulator,
            counter: counter.as_deref(),
            kernel: &kit.host.kernel,
            initramfs: &initramfs,
            clock: self.clock,
            processors: self.processors,
            timeout: HOSTS_OWN + self.commands.iter().map(|command| command.limit).sum::<Duration>(),
            folder: folder.path(),
        };
        machine.run(output, errors)
    }
}

/// The plugin that counts, if this QEMU takes it.
fn counter(emulator: &Path) -> Result<Option<PathBuf>> {
    let plugin = guest::counter()?;
    let why_not = machine::why_not_loaded(emulator, &plugin)?;
    if let Some(why) = &why_not {
        eprintln!("rig: the host's instructions are not counted: {why}");
    }
    Ok(why_not.is_none().then_some(plugin))
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
            &kit.network.initramfs,
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
