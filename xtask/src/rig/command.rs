//! [`Command`]: what runs on the host, and the script that says so there (`guest/src/hosted/script.rs` reads it).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

/// What runs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Vioduct,
    /// The guests' program, which every host has as its first process.
    Guest,
    /// One of the host's: `ip`, or another that its initramfs has (`xtask/src/guest/host.rs`).
    Host,
}

impl Program {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vioduct => "vioduct",
            Self::Guest => "vioduct-guest",
            Self::Host => "",
        }
    }

    /// Its name in the script.
    fn word(self) -> &'static str {
        match self {
            Self::Vioduct => "vioduct",
            Self::Guest => "own",
            Self::Host => "host",
        }
    }
}

/// What runs beside a command: it is ready before that starts, and is killed when that has ended.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) words: Vec<String>,
    /// What it prints when clients may come.
    pub(crate) ready: String,
}

impl Server {
    /// `vioduct` with these arguments, such as `serve entropy --vhost-user /run/e`.
    pub(crate) fn of(words: Vec<String>) -> Self {
        Self { program: Program::Vioduct, words, ready: READY.to_owned() }
    }
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
    /// Programs of the host's that run before, with their arguments.
    pub(crate) first: Vec<Vec<String>>,
    pub(crate) beside: Vec<Server>,
    /// The same once it has printed some words; one after the other.
    pub(crate) when: Vec<(String, Vec<String>)>,
    /// Files of zeros, with their lengths in bytes, that are made before.
    pub(crate) empty: Vec<(PathBuf, u64)>,
    /// The signal that it gets once it has printed some words.
    pub(crate) signal: Option<(Signal, String)>,
    /// How long it may take before it is killed.
    pub(crate) limit: Duration,
}

/// What stops a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// What a server of ours prints when clients may come.
const READY: &str = "ready ";

impl Command {
    /// `vioduct` with these arguments, and ten minutes.
    pub(crate) fn of(arguments: Vec<String>) -> Self {
        let limit = Duration::from_mins(10);
        let program = Program::Vioduct;
        let (first, beside, when, empty) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { program, arguments, first, beside, when, empty, signal: None, limit }
    }

    /// Whether `vioduct` must be there.
    pub(super) fn needs_vioduct(&self) -> bool {
        let mut programs = self.beside.iter().map(|server| server.program).chain([self.program]);
        programs.any(|program| program == Program::Vioduct)
    }

    /// All that are given, to it and to the servers beside.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.beside.iter().flat_map(|server| &server.words).chain(&self.arguments).map(String::as_str)
    }

    fn lines(&self) -> Vec<String> {
        let words = |words: &[String]| words.iter().map(|word| format!(" {word}")).collect::<Vec<_>>();
        let mut lines: Vec<String> =
            self.empty.iter().map(|(path, len)| format!("empty {len} {}", path.display())).collect();
        for program in &self.first {
            lines.push("first".to_owned());
            lines.extend(words(program));
        }
        for server in &self.beside {
            lines.push(format!("beside {} {}", server.program.word(), server.ready));
            lines.extend(words(&server.words));
        }
        for (after, program) in &self.when {
            lines.push(format!("when {after}"));
            lines.extend(words(program));
        }
        let signal = self.signal.as_ref().map(|(signal, after)| format!(" {} {after}", signal.name()));
        let (program, seconds) = (self.program.word(), self.limit.as_secs());
        lines.push(format!("run {program} {seconds}{}", signal.unwrap_or_default()));
        lines.extend(words(&self.arguments));
        lines
    }
}

/// One command after the other.
pub(super) fn script(commands: &[Command]) -> Result<String> {
    let lines: Vec<String> = commands.iter().flat_map(Command::lines).collect();
    match lines.iter().find(|line| line.contains('\n')) {
        Some(line) => bail!("{line:?}: an argument for the rig has no line break"),
        None => Ok(lines.join("\n") + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn a_command_is_its_steps_in_order() {
        let first = Command {
            first: vec![words("ip x")],
            beside: vec![Server::of(words("serve x"))],
            when: vec![("on load".to_owned(), words("ip y"))],
            empty: vec![("/disk".into(), 512)],
            signal: Some((Signal::Terminate, "at last".to_owned())),
            limit: Duration::from_secs(5),
            ..Command::of(words("run --json"))
        };
        let expected = "empty 512 /disk\nfirst\n ip\n x\nbeside vioduct ready \n serve\n x\nwhen on load\n ip\n y\n\
                        run vioduct 5 TERM at last\n run\n --json\nrun vioduct 600\n doctor\nrun own 600\n checks\n";
        let own = Command { program: Program::Guest, ..Command::of(words("checks")) };
        assert_eq!(script(&[first, Command::of(words("doctor")), own]).unwrap(), expected);
    }

    #[test]
    fn an_argument_of_two_lines_is_refused() {
        let error = script(&[Command::of(vec!["a\nb".to_owned()])]).unwrap_err();
        assert!(error.to_string().contains("line break"), "{error}");
    }
}
