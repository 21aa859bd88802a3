//! [`Check`]: a command on that host, and what it must come to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::rig::{self, Finished, Program, Signal};

/// Words of a command line. `{kit}` in them is the kit's folder, and `{files}` that of the files which the topic makes.
type Words = &'static [&'static str];

/// One command there, and what tells whether it did what it should.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) name: &'static str,
    command: Command,
    /// Programs of the host's that run before.
    first: &'static [Words],
    /// Servers beside it: `vioduct` with these words.
    beside: &'static [Words],
    /// The same of the host's programs, with what each prints when it is ready.
    programs: &'static [(&'static str, Words)],
    /// The same of the guests' program.
    own_beside: &'static [Words],
    /// Programs of the host's that run once it has printed some words.
    when: &'static [(&'static str, Words)],
    /// Files of zeros, with their lengths in bytes, that are made before.
    empty: &'static [(&'static str, u64)],
    /// The signal that it gets once it has printed some words.
    signal: Option<(Signal, &'static str)>,
    /// How long it may take.
    limit: Duration,
    /// The exit status that it must end with.
    status: u8,
    /// What lines of its output must hold, in this order.
    output: Words,
    /// The same of its errors.
    errors: Words,
    /// Looks at both.
    judge: fn(&Finished) -> Result<()>,
}

/// What `vioduct` is told there.
#[derive(Debug, Clone, Copy)]
enum Command {
    /// These words.
    Plain(Words),
    /// To run a guest of the kit, whose program does a lab: `entropy`, or `virtio-test,10`.
    Guest { initramfs: &'static str, lab: &'static str, more: Words },
    /// Nothing: the guests' program runs there itself, with these words.
    Own(Words),
    /// Nothing: another program runs there, which the first of these words names.
    Program(Words),
}

/// First file systems of the kit: with our drivers, with fio and others, and with iperf3 and others.
const DRIVERS: &str = "{kit}/initramfs-qemu.cpio";
const TOOLS: &str = "{kit}/initramfs-tools.cpio";
const NETWORK: &str = "{kit}/initramfs-network.cpio";

/// How long a command may take that starts a guest or two, on a machine that has much else to do.
const LIMIT: Duration = Duration::from_mins(8);
/// What the guest's program says in the end.
const DONE: &str = "vioduct-guest: exit status 0";

impl Check {
    /// `vioduct` with these words: it must end with status 0.
    pub(super) const fn command(name: &'static str, words: Words) -> Self {
        Self {
            name,
            command: Command::Plain(words),
            first: &[],
            beside: &[],
            programs: &[],
            own_beside: &[],
            when: &[],
            empty: &[],
            signal: None,
            limit: LIMIT,
            status: 0,
            output: &[],
            errors: &[],
            judge: |_| Ok(()),
        }
    }

    /// The guests' program on the host itself, with these words: it must end with status 0.
    pub(super) const fn own(name: &'static str, words: Words) -> Self {
        Self { command: Command::Own(words), ..Self::command(name, &[]) }
    }

    /// A program of the host's, or of the topic's files, and its words: it must end with status 0.
    pub(super) const fn program(name: &'static str, words: Words) -> Self {
        Self { command: Command::Program(words), ..Self::command(name, &[]) }
    }

    /// `vioduct run` with a guest of the kit in which a lab is done.
    pub(super) const fn guest(name: &'static str, lab: &'static str) -> Self {
        Self { command: Command::Guest { initramfs: DRIVERS, lab, more: &[] }, ..Self::command(name, &[]) }
    }

    /// `vioduct` with these words: it must say why not in one line, with words of which these are a part, and end with status 1.
    pub(super) const fn refusal(name: &'static str, words: Words, why: Words) -> Self {
        Self::command(name, words).ending(1).complaining(why).judged(is_a_refusal)
    }

    /// The same with fio, iperf3, ping and mkfs.ext4 in the guest, and without our drivers.
    pub(super) const fn guest_with_tools(name: &'static str, lab: &'static str) -> Self {
        Self { command: Command::Guest { initramfs: TOOLS, lab, more: &[] }, ..Self::command(name, &[]) }
    }

    /// The same with ip, ethtool, iperf3 and ping.
    pub(super) const fn guest_with_network(name: &'static str, lab: &'static str) -> Self {
        Self { command: Command::Guest { initramfs: NETWORK, lab, more: &[] }, ..Self::command(name, &[]) }
    }

    /// With more words for `vioduct`.
    pub(super) const fn with(self, words: Words) -> Self {
        let command = match self.command {
            Command::Plain(_) => Command::Plain(words),
            Command::Own(_) => Command::Own(words),
            Command::Program(_) => Command::Program(words),
            Command::Guest { initramfs, lab, more: _ } => Command::Guest { initramfs, lab, more: words },
        };
        Self { command, ..self }
    }

    /// With `vioduct` of these words as a server beside, which is ready before and is killed in the end.
    pub(super) const fn beside(self, servers: &'static [Words]) -> Self {
        Self { beside: servers, ..self }
    }

    /// After programs of the host's, such as `ip`, each of which must succeed.
    pub(super) const fn after(self, programs: &'static [Words]) -> Self {
        Self { first: programs, ..self }
    }

    /// With programs of the host's beside: what each prints when it is ready, and its words.
    pub(super) const fn beside_programs(self, programs: &'static [(&'static str, Words)]) -> Self {
        Self { programs, ..self }
    }

    /// With the guests' program of these words beside.
    pub(super) const fn own_beside(self, servers: &'static [Words]) -> Self {
        Self { own_beside: servers, ..self }
    }

    /// Each of these programs of the host's runs once it has printed some words, one after the other.
    pub(super) const fn when(self, when: &'static [(&'static str, Words)]) -> Self {
        Self { when, ..self }
    }

    /// With new files of zeros: paths on the host, and lengths in bytes.
    pub(super) const fn on_empty(self, files: &'static [(&'static str, u64)]) -> Self {
        Self { empty: files, ..self }
    }

    /// It gets a signal once it has printed these words.
    pub(super) const fn signalled(self, signal: Signal, after: &'static str) -> Self {
        Self { signal: Some((signal, after)), ..self }
    }

    /// It starts many guests, and may take this long.
    pub(super) const fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// It must end with this status.
    pub(super) const fn ending(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Lines of its output must hold these, in this order; a guest says in the end that all is well, besides.
    pub(super) const fn saying(self, output: Words) -> Self {
        Self { output, ..self }
    }

    /// Lines of its errors must hold these, in this order.
    pub(super) const fn complaining(self, errors: Words) -> Self {
        Self { errors, ..self }
    }

    /// This must find what it printed right.
    pub(super) const fn judged(self, judge: fn(&Finished) -> Result<()>) -> Self {
        Self { judge, ..self }
    }

    /// The command for the rig, where these folders are the kit's and the files'.
    pub(super) fn on_the_rig(&self, kit: &str, files: &str) -> rig::Command {
        let placed = |word: &str| word.replace("{kit}", kit).replace("{files}", files);
        let program = match self.command {
            Command::Plain(_) | Command::Guest { .. } => Program::Vioduct,
            Command::Own(_) => Program::Guest,
            Command::Program(_) => Program::Host,
        };
        let words = match self.command {
            Command::Plain(words) | Command::Own(words) | Command::Program(words) => {
                words.iter().map(|word| placed(word)).collect()
            }
            Command::Guest { initramfs, lab, more } => {
                guest_arguments(initramfs, lab, more).iter().map(|word| placed(word)).collect()
            }
        };
        let all = |words: &Words| words.iter().map(|word| placed(word)).collect();
        let of_the_host = |(ready, words): &(&str, Words)| rig::Server {
            program: Program::Host,
            words: all(words),
            ready: String::from(*ready),
        };
        let servers = self.beside.iter().map(|words| rig::Server::of(all(words)));
        let own = |words| rig::Server { program: Program::Guest, ..rig::Server::of(all(words)) };
        let servers = servers.chain(self.own_beside.iter().map(own));
        rig::Command {
            program,
            first: self.first.iter().map(all).collect(),
            beside: servers.chain(self.programs.iter().map(of_the_host)).collect(),
            when: self.when.iter().map(|(after, words)| (String::from(*after), all(words))).collect(),
            empty: self.empty.iter().map(|(path, len)| (PathBuf::from(path), *len)).collect(),
            signal: self.signal.map(|(signal, after)| (signal, after.to_owned())),
            limit: self.limit,
            ..rig::Command::of(words)
        }
    }

    /// Whether it came to what it must.
    pub(super) fn verdict(&self, said: &Finished) -> Result<()> {
        self.unmet(said).with_context(|| format!("output:\n{}errors:\n{}", said.output, said.errors))
    }

    fn unmet(&self, said: &Finished) -> Result<()> {
        if said.status != self.status {
            bail!("the exit status is {} instead of {}", said.status, self.status);
        }
        let in_the_end: Words = match self.command {
            Command::Guest { .. } if self.status == 0 => &[DONE],
            _ => &[],
        };
        has_lines(&said.output, &[self.output, in_the_end].concat())?;
        has_lines(&said.errors, self.errors)?;
        (self.judge)(said)
    }

    /// What of it a table must have right.
    #[cfg(test)]
    pub(super) fn judges_its_end(&self) -> bool {
        self.status == 0 || !self.errors.is_empty() || !self.output.is_empty()
    }
}

fn guest_arguments(initramfs: &str, lab: &str, more: Words) -> Vec<String> {
    let line = format!("console=ttyS0 loglevel=5 panic=-1 cryptomgr.notests vioduct.lab={lab}");
    let words = ["run", "--kernel", "{kit}/vmlinuz", "--initrd", initramfs, "--cmdline", &line];
    words.iter().chain(more).map(|word| String::from(*word)).collect()
}

/// One line, and nothing else.
fn is_a_refusal(said: &Finished) -> Result<()> {
    match (said.errors.lines().count(), said.output.as_str()) {
        (1, "") => Ok(()),
        _ => bail!("this is not one line of errors alone"),
    }
}

/// Lines must hold these words, in this order.
pub(super) fn has_lines(text: &str, expected: &[&str]) -> Result<()> {
    let mut lines = text.lines();
    for words in expected {
        if !lines.any(|line| line.contains(words)) {
            bail!("there is no `{words}`, or not in this order");
        }
    }
    Ok(())
}
