//! `vioduct`, or this program, run to its end, stopped, or left to serve.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command as Process, ExitStatus, Stdio};
use std::thread::{self, JoinHandle, sleep};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::script::{Command, Program};
use super::{NOT_STARTED, POLL};

/// Where the host has its programs.
const PATH: &str = "/usr/sbin:/usr/bin";

fn process(program: Program, words: &[String]) -> Process {
    let (path, words) = match (program, words) {
        (Program::Vioduct, words) => ("/bin/vioduct", words),
        (Program::Own, words) => ("/proc/self/exe", words),
        (Program::Host, [path, words @ ..]) => (path.as_str(), words),
        (Program::Host, []) => ("", words),
    };
    let mut process = Process::new(path);
    process.args(words).env("PATH", PATH).stdin(Stdio::null());
    process
}

/// Runs a program of the host's to its end; what it prints goes to `errors`.
pub(super) fn run_first(words: &[String], errors: &File) -> io::Result<()> {
    let mut process = process(Program::Host, words);
    let line = words.join(" ");
    match process.stdout(errors.try_clone()?).stderr(errors.try_clone()?).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(format!("{line}: {status}"))),
        Err(error) => Err(io::Error::other(format!("{line}: {error}"))),
    }
}

/// What is done once a command has printed some words.
#[derive(Debug)]
pub(super) struct Reaction {
    pub(super) after: String,
    pub(super) deed: Deed,
}

#[derive(Debug)]
pub(super) enum Deed {
    /// The command gets a signal.
    Signal(Signal),
    /// A program of the host's runs.
    Run(Vec<String>),
}

impl Deed {
    fn be_done(&self, command: Pid, errors: &mut File) {
        let done = match self {
            // The process is not waited for while there is its output: the number is its own.
            Self::Signal(signal) => kill_process(command, *signal).map_err(io::Error::from),
            Self::Run(words) => run_first(words, errors),
        };
        if let Err(error) = done {
            let _ = writeln!(errors, "{error}");
        }
    }
}

/// A server beside a command; it is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    rest: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it, and waits until it prints these words; all that it prints goes to `errors`.
    pub(super) fn start(program: Program, words: &[String], ready: &str, errors: &File) -> io::Result<Self> {
        let mut process = process(program, words);
        let mut child = process.stdout(Stdio::piped()).stderr(errors.try_clone()?).spawn()?;
        let stdout = child.stdout.take();
        let mut server = Self { child, rest: None };
        let mut output = Output { from: stdout, to: errors.try_clone()?, seen: Vec::new() };
        if !output.copy_until(ready.as_bytes())? {
            return Err(io::Error::other(format!("a server has ended before it printed `{ready}`")));
        }
        server.rest = Some(thread::spawn(move || output.copy_the_rest()));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its pipe is closed: there is an end.
        self.rest.take().map(JoinHandle::join);
    }
}

impl Command {
    /// Runs it to its end; its exit status as a shell has it. One that takes too long is killed. The reactions come one after the
    /// other, its own signal last.
    pub(super) fn run(&self, mut reactions: Vec<Reaction>, output: &File, errors: &File) -> io::Result<u8> {
        let mut process = process(self.program, &self.words);
        process.stderr(errors.try_clone()?);
        if let Some((signal, after)) = &self.signal {
            reactions.push(Reaction { after: after.clone(), deed: Deed::Signal(*signal) });
        }
        if reactions.is_empty() {
            return self.wait(&mut process.stdout(output.try_clone()?).spawn()?, errors);
        }
        let mut child = process.stdout(Stdio::piped()).spawn()?;
        let mut output = Output { from: child.stdout.take(), to: output.try_clone()?, seen: Vec::new() };
        let (pid, mut its_errors) = (Pid::from_child(&child), errors.try_clone()?);
        let copying = thread::spawn(move || {
            for Reaction { after, deed } in &reactions {
                let Ok(true) = output.copy_until(after.as_bytes()) else { return };
                deed.be_done(pid, &mut its_errors);
            }
            output.copy_the_rest();
        });
        let status = self.wait(&mut child, errors);
        // The pipe's other end is closed.
        let _ = copying.join();
        status
    }

    fn wait(&self, child: &mut Child, mut errors: &File) -> io::Result<u8> {
        let start = Instant::now();
        while start.elapsed() < self.limit {
            if let Some(status) = child.try_wait()? {
                return Ok(number(status));
            }
            sleep(POLL);
        }
        child.kill()?;
        let status = child.wait()?;
        writeln!(errors, "vioduct-guest: no end after {} s: it was killed", self.limit.as_secs())?;
        Ok(number(status))
    }
}

/// Copies what a program prints.
#[derive(Debug)]
struct Output {
    from: Option<ChildStdout>,
    to: File,
    /// What follows the words that were waited for.
    seen: Vec<u8>,
}

impl Output {
    /// Copies until these words were printed; false when there was an end before.
    fn copy_until(&mut self, words: &[u8]) -> io::Result<bool> {
        loop {
            if let Some(at) = self.seen.windows(words.len()).position(|window| window == words) {
                self.seen.drain(..at + words.len());
                return Ok(true);
            }
            if !self.copy()? {
                return Ok(false);
            }
        }
    }

    fn copy_the_rest(&mut self) {
        while let Ok(true) = self.copy() {
            self.seen.clear();
        }
    }

    /// Copies what there is next; false when there is no more.
    fn copy(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4 << 10];
        let Some(from) = &mut self.from else { return Ok(false) };
        let len = from.read(&mut buffer)?;
        let read = buffer.get(..len).unwrap_or_default();
        self.seen.extend(read);
        self.to.write_all(read)?;
        Ok(len > 0)
    }
}

/// An exit status as a shell has it: 128 and the signal where one ended the program.
fn number(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| Some(128 + status.signal()?));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_exit_status_is_a_shells() {
        assert_eq!(number(ExitStatus::from_raw(2 << 8)), 2);
        assert_eq!(number(ExitStatus::from_raw(0)), 0);
        assert_eq!(number(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn what_takes_too_long_is_killed_and_that_is_said() {
        let path = std::env::temp_dir().join(format!("vioduct-guest-limit-{}", std::process::id()));
        let errors = File::create(&path).unwrap();
        let words = vec!["/bin/sleep".to_owned(), "1000".to_owned()];
        let limit = Duration::from_millis(10);
        let command = Command { program: Program::Host, words, limit, signal: None };
        assert_eq!(command.run(Vec::new(), &errors, &errors).unwrap(), 137);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "vioduct-guest: no end after 0 s: it was killed\n");
    }

    #[test]
    fn output_is_copied_to_the_words_and_then_to_its_end() {
        let mut child =
            Process::new("sh").args(["-c", "echo one; echo two"]).stdout(Stdio::piped()).spawn().unwrap();
        let path = std::env::temp_dir().join(format!("vioduct-guest-output-{}", std::process::id()));
        let to = File::create(&path).unwrap();
        let mut output = Output { from: child.stdout.take(), to, seen: Vec::new() };
        assert!(output.copy_until(b"one").unwrap());
        assert!(!output.copy_until(b"one").unwrap(), "it is there once");
        output.copy_the_rest();
        assert!(!output.copy_until(b"three").unwrap());
        child.wait().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}
