//! What is to be done, as the host's end of the rig writes it.
//!
//! A step is a line, and a line for each word of its command behind that, each after a blank:
//!
//! | line | step |
//! |---|---|
//! | `empty BYTES PATH` | make a file of zeros |
//! | `first` | run a program of the host's, named by its first word, before the next command: it must succeed |
//! | `beside PROGRAM READY` | start a server that the next command needs, and wait until it prints READY |
//! | `when WORDS` | run a program of the host's, as with `first`, once the next command has printed WORDS |
//! | `run PROGRAM SECONDS` | run a command, for so long at most |
//! | `run PROGRAM SECONDS TERM WORDS` | and send it SIGTERM (or another: INT, KILL) once it has printed WORDS |
//!
//! `PROGRAM` is `vioduct`, `own` for this very program, or `host` for one of the host's.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Empty { path: PathBuf, len: u64 },
    First(Vec<String>),
    Beside { program: Program, words: Vec<String>, ready: String },
    When { words: Vec<String>, after: String },
    Run(Command),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) program: Program,
    pub(super) words: Vec<String>,
    pub(super) limit: Duration,
    pub(super) signal: Option<(Signal, String)>,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Vioduct,
    /// This one.
    Own,
    /// Whatever the first word names.
    Host,
}

pub(super) fn parse(text: &str) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = Vec::new();
        while let Some(word) = lines.peek().and_then(|line| line.strip_prefix(' ')) {
            words.push(word.to_owned());
            lines.next();
        }
        let step = step(line, words);
        steps.push(step.ok_or_else(|| io::Error::other(format!("`{line}` is no step")))?);
    }
    Ok(steps)
}

fn step(line: &str, words: Vec<String>) -> Option<Step> {
    if line == "first" {
        return Some(Step::First(words));
    }
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "empty" => {
            let (len, path) = rest.split_once(' ')?;
            Some(Step::Empty { path: path.into(), len: len.parse().ok()? })
        }
        "beside" => {
            let (program, ready) = rest.split_once(' ')?;
            Some(Step::Beside { program: program_of(program)?, words, ready: some(ready)? })
        }
        "when" => Some(Step::When { words, after: some(rest)? }),
        "run" => {
            let (program, rest) = rest.split_once(' ')?;
            let program = program_of(program)?;
            let (seconds, signal) = match rest.split_once(' ') {
                None => (rest, None),
                Some((seconds, when)) => (seconds, Some(signal(when)?)),
            };
            let limit = Duration::from_secs(seconds.parse().ok()?);
            Some(Step::Run(Command { program, words, limit, signal }))
        }
        _ => None,
    }
}

fn program_of(word: &str) -> Option<Program> {
    match word {
        "vioduct" => Some(Program::Vioduct),
        "own" => Some(Program::Own),
        "host" => Some(Program::Host),
        _ => None,
    }
}

fn some(words: &str) -> Option<String> {
    (!words.is_empty()).then(|| words.to_owned())
}

fn signal(text: &str) -> Option<(Signal, String)> {
    let (name, words) = text.split_once(' ')?;
    let signal = match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        _ => return None,
    };
    (!words.is_empty()).then(|| (signal, words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_with_their_words() {
        let text = "empty 512 /a b\nfirst\n ip\nbeside host ready x\n serve\n  y\nrun vioduct 9\n run\n \n\
                    when on load\n ip\nrun vioduct 8 INT at last\nrun own 7\n checks\n";
        let words = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect::<Vec<_>>();
        let command = |program, words, seconds, signal| {
            Step::Run(Command { program, words, limit: Duration::from_secs(seconds), signal })
        };
        let expected = [
            Step::Empty { path: "/a b".into(), len: 512 },
            Step::First(words(&["ip"])),
            Step::Beside {
                program: Program::Host,
                words: words(&["serve", " y"]),
                ready: "ready x".to_owned(),
            },
            command(Program::Vioduct, words(&["run", ""]), 9, None),
            Step::When { words: words(&["ip"]), after: "on load".to_owned() },
            command(Program::Vioduct, Vec::new(), 8, Some((Signal::INT, "at last".to_owned()))),
            command(Program::Own, words(&["checks"]), 7, None),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_no_step_is_named() {
        for line in [
            "jump 3",
            "run",
            "run 3",
            "run vioduct x",
            "run vioduct 3 STOP x",
            "run vioduct 3 TERM",
            "run nobody 3",
            "empty x /a",
            "empty 3",
            "beside host ",
            "beside ready",
            "when ",
            "first x",
            "run own 3 INT ",
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert_eq!(error, format!("`{line}` is no step"));
        }
    }
}
