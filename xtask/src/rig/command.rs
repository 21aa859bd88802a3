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
}

impl Program {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vioduct => "vioduct",
            Self::Guest => "vioduct-guest",
        }
    }
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
    /// Arguments of servers beside it: they are ready before it starts, and killed when it has ended.
    pub(crate) beside: Vec<Vec<String>>,
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
        Self { program, arguments, beside: Vec::new(), empty: Vec::new(), signal: None, limit }
    }

    /// Whether `vioduct` must be there.
    pub(super) fn needs_vioduct(&self) -> bool {
        self.program == Program::Vioduct || !self.beside.is_empty()
    }

    /// All that are given, to it and to the servers beside.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.beside.iter().flatten().chain(&self.arguments).map(String::as_str)
    }

    fn lines(&self) -> Vec<String> {
        let words = |words: &[String]| words.iter().map(|word| format!(" {word}")).collect::<Vec<_>>();
        let mut lines: Vec<String> =
            self.empty.iter().map(|(path, len)| format!("empty {len} {}", path.display())).collect();
        for server in &self.beside {
            lines.push(format!("beside {READY}"));
            lines.extend(words(server));
        }
        let signal = self.signal.as_ref().map(|(signal, after)| format!(" {} {after}", signal.name()));
        let kind = match self.program {
            Program::Vioduct => "run",
            Program::Guest => "own",
        };
        lines.push(format!("{kind} {}{}", self.limit.as_secs(), signal.unwrap_or_default()));
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
            beside: vec![words("serve x")],
            empty: vec![("/disk".into(), 512)],
            signal: Some((Signal::Terminate, "at last".to_owned())),
            limit: Duration::from_secs(5),
            ..Command::of(words("run --json"))
        };
        let expected = "empty 512 /disk\nbeside ready \n serve\n x\nrun 5 TERM at last\n run\n --json\nrun 600\n doctor\nown 600\n checks\n";
        let own = Command { program: Program::Guest, ..Command::of(words("checks")) };
        assert_eq!(script(&[first, Command::of(words("doctor")), own]).unwrap(), expected);
    }

    #[test]
    fn an_argument_of_two_lines_is_refused() {
        let error = script(&[Command::of(vec!["a\nb".to_owned()])]).unwrap_err();
        assert!(error.to_string().contains("line break"), "{error}");
    }
}
