//! Long commands: their output goes to a log, a line now and then to stderr, and the log's end to the error.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::display;

/// Where the output of one step's commands goes.
#[derive(Debug)]
pub(super) struct Log {
    step: &'static str,
    path: PathBuf,
    file: File,
}

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How often it is said that a command still runs.
const PROGRESS: Duration = Duration::from_secs(10);
/// How much of a failed command's log is shown.
const TAIL_LINES: usize = 25;
/// A progress line shows no more than this of the log's last line.
const LAST_LINE_CHARS: usize = 90;

impl Log {
    pub(super) fn create(step: &'static str, path: PathBuf) -> Result<Self> {
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { step, path, file })
    }

    /// Runs a command to its end; the error of a failed one holds the end of its log.
    pub(super) fn run(&self, command: &mut Command) -> Result<()> {
        let status = self.wait(command)?;
        if !status.success() {
            let tail = self.tail(TAIL_LINES);
            bail!("`{}`: {status}; {} ends:\n{tail}", display(command), self.path.display());
        }
        Ok(())
    }

    fn wait(&self, command: &mut Command) -> Result<ExitStatus> {
        let (out, err) = (self.file.try_clone()?, self.file.try_clone()?);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {}", display(command)))?;
        let start = Instant::now();
        let mut said = start;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                let last: String = self.tail(1).chars().take(LAST_LINE_CHARS).collect();
                eprintln!("guest: {}: {} s: {}", self.step, start.elapsed().as_secs(), last.trim());
            }
            sleep(POLL);
        }
    }

    /// Says on stderr how many warnings the log holds.
    pub(super) fn report_warnings(&self) {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let count = String::from_utf8_lossy(&text).matches("warning:").count();
        if count > 0 {
            eprintln!("guest: {}: {count} warnings, see {}", self.step, self.path.display());
        }
    }

    fn tail(&self, lines: usize) -> String {
        last_lines(&std::fs::read(&self.path).unwrap_or_default(), lines)
    }
}

fn last_lines(output: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failed_command_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create("step", folder.path().join("log")).unwrap();
        log.run(Command::new("sh").args(["-c", "echo first"])).unwrap();
        let error = log.run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with("first\nwhy"), "{text}");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines(b"a\n", 2), "a");
        assert_eq!(last_lines(b"", 2), "");
    }
}
