//! [`Check`]: a command on that host, and what it must come to.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::guest;
use crate::rig::{Run, Streams};

/// Words of a command line. `{kit}` in them is the kit's folder, `{disk}` an empty disk of 16 MiB.
type Words = &'static [&'static str];

/// One command there, and what tells whether it did what it should.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) name: &'static str,
    command: Command,
    /// The exit status that it must end with.
    status: u8,
    /// What lines of its output must hold, in this order.
    output: Words,
    /// The same of its errors.
    errors: Words,
    /// Looks at both.
    judge: fn(&Said) -> Result<()>,
}

/// What `vioduct` is told there.
#[derive(Debug, Clone, Copy)]
enum Command {
    /// These words.
    Plain(Words),
    /// To run a guest of the kit, whose program does a lab: `entropy`, or `virtio-test,10`.
    Guest { lab: &'static str, more: Words },
}

/// What a command printed.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) output: String,
    pub(super) errors: String,
}

/// What the guest's program says in the end.
const DONE: &str = "vioduct-guest: exit status 0";

impl Check {
    /// `vioduct` with these words: it must end with status 0.
    pub(super) const fn command(name: &'static str, words: Words) -> Self {
        Self { name, command: Command::Plain(words), status: 0, output: &[], errors: &[], judge: |_| Ok(()) }
    }

    /// `vioduct run` with a guest of the kit in which a lab is done.
    pub(super) const fn guest(name: &'static str, lab: &'static str) -> Self {
        Self { command: Command::Guest { lab, more: &[] }, ..Self::command(name, &[]) }
    }

    /// `vioduct` with these words: it must say why not in one line, with words of which these are a part, and end with status 1.
    pub(super) const fn refusal(name: &'static str, words: Words, why: Words) -> Self {
        Self::command(name, words).ending(1).complaining(why).judged(Said::is_a_refusal)
    }

    /// With more words for `vioduct`.
    pub(super) const fn with(self, words: Words) -> Self {
        let command = match self.command {
            Command::Plain(_) => Command::Plain(words),
            Command::Guest { lab, more: _ } => Command::Guest { lab, more: words },
        };
        Self { command, ..self }
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
    pub(super) const fn judged(self, judge: fn(&Said) -> Result<()>) -> Self {
        Self { judge, ..self }
    }

    /// Runs it on a host of its own.
    pub(super) fn run(&self) -> Result<()> {
        let disk = Disk::make()?;
        let arguments =
            self.arguments(&guest::current()?.display().to_string(), &disk.0.display().to_string());
        eprintln!("+ vioduct {}", arguments.join(" "));
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let ended = Run::of(&arguments).on_a_new_host(Streams { output: &mut output, errors: &mut errors });
        let said = Said { output: text(&output), errors: text(&errors) };
        let ended = ended.with_context(|| said.to_string())?;
        self.verdict(ended.status, &said)
    }

    fn arguments(&self, kit: &str, disk: &str) -> Vec<String> {
        let words = match self.command {
            Command::Plain(words) => words.iter().map(|word| String::from(*word)).collect(),
            Command::Guest { lab, more } => guest_arguments(lab, more),
        };
        words.into_iter().map(|word| word.replace("{kit}", kit).replace("{disk}", disk)).collect()
    }

    /// Whether it came to what it must.
    pub(super) fn verdict(&self, status: u8, said: &Said) -> Result<()> {
        if status != self.status {
            bail!("the exit status is {status} instead of {}; {said}", self.status);
        }
        let in_the_end: Words = match self.command {
            Command::Guest { .. } if self.status == 0 => &[DONE],
            _ => &[],
        };
        has_lines(&said.output, &[self.output, in_the_end].concat()).with_context(|| said.to_string())?;
        has_lines(&said.errors, self.errors).with_context(|| said.to_string())?;
        (self.judge)(said).with_context(|| said.to_string())
    }

    /// What of it a table must have right.
    #[cfg(test)]
    pub(super) fn judges_its_end(&self) -> bool {
        self.status == 0 || !self.errors.is_empty()
    }
}

fn guest_arguments(lab: &str, more: Words) -> Vec<String> {
    let line = format!("console=ttyS0 loglevel=5 panic=-1 vioduct.lab={lab}");
    let words =
        ["run", "--kernel", "{kit}/vmlinuz", "--initrd", "{kit}/initramfs-qemu.cpio", "--cmdline", &line];
    words.iter().chain(more).map(|word| String::from(*word)).collect()
}

impl Said {
    /// One line, and nothing else.
    fn is_a_refusal(&self) -> Result<()> {
        match (self.errors.lines().count(), self.output.as_str()) {
            (1, "") => Ok(()),
            _ => bail!("this is not one line of errors alone"),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "output:\n{}errors:\n{}", self.output, self.errors)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

/// An empty disk of a guest's, until this is dropped.
struct Disk(PathBuf);

impl Disk {
    const LEN: u64 = 16 << 20;

    fn make() -> Result<Self> {
        let disk = Self(std::env::temp_dir().join(format!("vioduct-disk-{}.img", std::process::id())));
        File::create(&disk.0)
            .and_then(|file| file.set_len(Self::LEN))
            .with_context(|| format!("cannot make {}", disk.0.display()))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}
