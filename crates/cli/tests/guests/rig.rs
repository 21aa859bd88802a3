//! Servers and guests as a user starts them: by the shell, in a folder of their own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// More than any guest takes on a host that is busy.
const LIMIT: Duration = Duration::from_secs(300);
const PAGE: &str = include_str!("../../../../docs/attach.md");

/// The page's fenced blocks, in order: language and text.
pub(crate) fn blocks() -> Vec<(&'static str, &'static str)> {
    // What lies between fences alternates: prose, block, prose, …
    let pieces = PAGE.split("```").skip(1).step_by(2);
    pieces.map(|piece| piece.split_once('\n').unwrap()).collect()
}

/// The functions that the page has its readers set up.
fn set_up() -> &'static str {
    let (language, text) = blocks()[0];
    assert!(language == "sh" && text.contains("qemu()") && text.contains("uml()"), "the page has changed");
    text
}

/// A shell command that runs, in a process group of its own that ends with it.
pub(crate) struct Running {
    shell: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    deadline: Instant,
}

impl Running {
    /// Starts `script` in `folder`, after the page's set-up.
    pub(crate) fn start(folder: &Path, script: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_vioduct")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let (output, write_end) = std::io::pipe().unwrap();
        let shell = Command::new("bash")
            .args(["-e", "-c", &format!("{}\n{script}", set_up())])
            .current_dir(folder)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(write_end.try_clone().unwrap())
            .stderr(write_end)
            .process_group(0)
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                let _ = sender.send(line);
            }
        });
        Self { shell, lines, said: Vec::new(), deadline: Instant::now() + LIMIT }
    }

    /// Starts `vioduct serve …` and waits until clients may come.
    pub(crate) fn serve(folder: &Path, script: &str) -> Self {
        let mut server = Self::start(folder, script);
        server.wait_for("ready ");
        server
    }

    fn next(&mut self) -> Option<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let line = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end in time:\n{}", self.transcript()),
        };
        assert!(!is_breakage(&line), "the kernel complains:\n{}\n{line}", self.transcript());
        self.said.push(line.clone());
        Some(line)
    }

    /// Waits for a line that begins so.
    pub(crate) fn wait_for(&mut self, beginning: &str) {
        while let Some(line) = self.next() {
            if line.starts_with(beginning) {
                return;
            }
        }
        panic!("it has not said `{beginning}`:\n{}", self.transcript());
    }

    /// Follows it to its end; all that it said.
    pub(crate) fn finish(mut self) -> String {
        while self.next().is_some() {}
        self.transcript()
    }

    fn transcript(&self) -> String {
        self.said.join("\n")
    }

    /// Stops and continues it: `Signal::STOP`, `Signal::CONT`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process_group(self.group(), signal).unwrap();
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.shell)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill_process_group(self.group(), Signal::KILL);
        let _ = self.shell.wait();
    }
}

/// A kernel's own words for a fault in it.
fn is_breakage(line: &str) -> bool {
    ["BUG:", "WARNING:", "Oops", "Kernel panic", "general protection fault"]
        .iter()
        .any(|words| line.starts_with('[') && line.contains(words))
}

/// All of it must be there, in this order.
pub(crate) fn assert_says(transcript: &str, expected: &str) {
    let mut lines = transcript.lines();
    for line in expected.lines() {
        assert!(lines.any(|said| said == line), "`{line}` is not in, or not in this order:\n{transcript}");
    }
}
