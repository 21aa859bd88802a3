//! The machine that stands for a host.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tools;

/// The file there that says what to run.
pub(super) const SCRIPT: &str = "/script";

/// A machine with AMD's virtualization, which QEMU emulates, and memory for guests in it.
const HARDWARE: &[&str] = &["-M", "q35", "-cpu", PROCESSOR, "-m", "3072"];
/// Without those of its features that QEMU would warn that it does not emulate.
const PROCESSOR: &str = "EPYC-v3,+svm,-fxsr-opt,-misalignsse,-osvw,-topoext,-perfctr-core,\
     -clzero,-ibpb,-nrip-save,-xsavec,-xsaves";
/// Nothing that is not asked for; a panic ends the machine.
const BARE: &[&str] = &["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
/// Huge pages are for guests that ask for them: 128 MiB. The kernel panics if its check of the timer comes late on a busy machine, and would
/// try all of its ciphers for seconds.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests hugepages=64 HOME=/root";
/// The ports of virtio-serial by their numbers, which `guest/src/hosted.rs` knows.
const PORTS: [(u8, &str); 3] = [(1, "output"), (2, "errors"), (3, "status")];

const LOG: &str = "log";
const STATUS: &str = "status";
/// How often the machine is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How much of the kernel's log an error shows.
const TAIL_LINES: usize = 25;

/// What the machine's time follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The clock of this machine.
    Real,
    /// The instructions that it has run, a nanosecond for each, and its waits when it has nothing to do; its processors take turns.
    /// About every other guest of KVM's stands still under it, and time hardly goes on, because QEMU delivers an interrupt twice:
    /// `bench/src/boot/standstill.rs` says why, and notices.
    Instructions,
}

impl Clock {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Real => &["-accel", "tcg,thread=multi"],
            Self::Instructions => &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"],
        }
    }
}

/// What became of what ran there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Of each command that ended its exit status, as a shell has it.
    pub(super) statuses: Vec<u8>,
    /// Why there are no more, should some be missing.
    pub(super) last_words: String,
}

/// What boots, and what it may take.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Path,
    /// A plugin for it.
    pub(super) counter: Option<&'a Path>,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) clock: Clock,
    /// How many processors it has.
    pub(super) processors: u8,
    pub(super) timeout: Duration,
    /// Where what the machine writes is kept while it runs.
    pub(super) folder: &'a Path,
}

impl Machine<'_> {
    /// Boots, shows what the commands print as it comes, and reads what became of them.
    pub(super) fn run(
        &self,
        output: &mut (dyn Write + Send),
        errors: &mut (dyn Write + Send),
    ) -> Result<Ended> {
        let mut command = self.command()?;
        let cannot_start = || format!("cannot start {}", self.emulator.display());
        let mut child = command.spawn().with_context(cannot_start)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let in_time = thread::scope(|scope| {
            scope.spawn(|| copy(stdout, output));
            scope.spawn(|| copy(stderr, errors));
            wait(&mut child, self.timeout)
        })?;
        let statuses = std::fs::read_to_string(self.folder.join(STATUS)).unwrap_or_default();
        let statuses = statuses.lines().map_while(|status| status.parse().ok()).collect();
        let why = match in_time {
            true => "the host ended without the program's exit status".to_owned(),
            false => format!("no end after {} s", self.timeout.as_secs()),
        };
        Ok(Ended { statuses, last_words: format!("{why}; its console ends:\n{}", self.end_of_log()) })
    }

    fn command(&self) -> Result<Command> {
        // The machine ends with this program, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(self.emulator);
        command.args(BARE).args(HARDWARE).args(self.clock.options());
        command.args(["-smp", &self.processors.to_string()]);
        if let Some(counter) = self.counter {
            command.arg("-plugin").arg(value("file", counter));
        }
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        command.arg("-append").arg(command_line(&tools::cache()?));
        command
            .arg("-chardev")
            .arg(file(LOG, &self.folder.join(LOG)))
            .args(["-serial", &format!("chardev:{LOG}")]);
        // Without ioeventfd a byte is out when the driver's write is over: none is left when the power goes off.
        command.args(["-device", "virtio-serial-pci,ioeventfd=off"]);
        for (number, name) in PORTS {
            let path = match name {
                "output" => "/dev/fd/1".into(),
                "errors" => "/dev/fd/2".into(),
                other => self.folder.join(other),
            };
            command.arg("-chardev").arg(file(name, &path));
            command.args(["-device", &format!("virtserialport,nr={number},chardev={name}")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// A character device that writes a file.
fn file(name: &str, path: &Path) -> OsString {
    let mut device = OsString::from(format!("file,id={name},append=on,"));
    device.push(value("path", path));
    device
}

/// A path as an option's value, in which QEMU has a comma written twice.
fn value(name: &str, path: &Path) -> OsString {
    format!("{name}={}", path.to_string_lossy().replace(',', ",,")).into()
}

/// What the kernel is told: names that it does not know are the first process's environment.
fn command_line(cache: &Path) -> String {
    format!("{KERNEL} \"VIODUCT_CACHE={}\" vioduct.run={SCRIPT}", cache.display())
}

/// Why this QEMU does not take a plugin, if it does not.
pub(super) fn why_not_loaded(emulator: &Path, plugin: &Path) -> Result<Option<String>> {
    let mut command = Command::new(emulator);
    // A machine without anything, which is told to end.
    command.args(BARE).args(["-M", "none", "-accel", "tcg", "-monitor", "stdio"]);
    command.arg("-plugin").arg(value("file", plugin));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let cannot_start = || format!("cannot start {}", emulator.display());
    let mut child = command.spawn().with_context(cannot_start)?;
    if let Some(mut monitor) = child.stdin.take() {
        // One that has ended does not listen.
        let _ = monitor.write_all(b"quit\n");
    }
    let output = child.wait_with_output().with_context(cannot_start)?;
    let why = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok((!output.status.success()).then(why))
}

/// Copies to the end; a reader that is gone must not stop the machine.
fn copy(from: Option<impl Read>, to: &mut (dyn Write + Send)) {
    let mut buffer = [0; 16 << 10];
    let Some(mut from) = from else { return };
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
    }
}

/// Waits for the end; false when there was none in time, and the machine was stopped.
fn wait(child: &mut Child, timeout: Duration) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < timeout {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A program in place of QEMU, in a folder of its own.
    fn emulator(script: &str) -> (TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let emulator = folder.path().join("qemu");
        std::fs::write(&emulator, format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display())).unwrap();
        std::fs::set_permissions(&emulator, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, emulator)
    }

    fn run(script: &str, timeout: Duration) -> (Result<Ended>, Vec<u8>) {
        let (folder, emulator) = emulator(script);
        let machine = Machine {
            emulator: &emulator,
            counter: Some("/a,b.so".as_ref()),
            kernel: "/kernel".as_ref(),
            initramfs: "/initramfs".as_ref(),
            clock: Clock::Real,
            processors: 1,
            timeout,
            folder: folder.path(),
        };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let ended = machine.run(&mut output, &mut errors);
        (ended, [output, errors].concat())
    }

    #[test]
    fn the_status_and_the_output_are_the_programs() {
        let script = "printf 'a\\377b'; echo why >&2; echo 7 >status";
        let (ended, output) = run(script, Duration::from_mins(1));
        assert_eq!((ended.unwrap().statuses, output.as_slice()), (vec![7], b"a\xffbwhy\n".as_slice()));
    }

    #[test]
    fn a_plugin_is_loaded_and_one_that_cannot_be_is_said_why() {
        let (_, words) = run("echo \"$@\"", Duration::from_mins(1));
        assert!(String::from_utf8_lossy(&words).contains(" -plugin file=/a,,b.so "));
        let why_not = |script| why_not_loaded(&emulator(script).1, "/x.so".as_ref()).unwrap();
        assert_eq!(why_not("read word; test \"$word\" = quit"), None);
        assert_eq!(why_not("echo 'too new' >&2; exit 1").as_deref(), Some("too new"));
    }

    #[test]
    fn a_host_that_dies_shows_its_last_words() {
        let (ended, _) = run("echo 'Kernel panic' >log", Duration::from_mins(1));
        let text = ended.unwrap().last_words;
        assert!(
            text.contains("without the program's exit status") && text.ends_with("Kernel panic"),
            "{text}"
        );
    }

    #[test]
    fn a_host_that_does_not_end_is_stopped() {
        let (ended, _) = run("exec sleep 1000", Duration::from_millis(300));
        assert!(ended.unwrap().last_words.starts_with("no end after"));
    }

    #[test]
    fn the_cache_is_in_the_environment_and_the_script_in_a_file() {
        let line = command_line("/home/a b/.cache/vioduct".as_ref());
        assert!(
            line.ends_with("HOME=/root \"VIODUCT_CACHE=/home/a b/.cache/vioduct\" vioduct.run=/script"),
            "{line}"
        );
    }

    #[test]
    fn a_comma_in_a_path_is_no_end_of_it() {
        assert_eq!(file("log", "/a,b".as_ref()), "file,id=log,append=on,path=/a,,b");
    }
}
