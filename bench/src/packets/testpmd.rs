//! DPDK's program that forwards packets, as a process that is told what to do.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = "dpdk-testpmd";
const PROMPT: &str = "testpmd> ";
/// On a busy machine it starts slowly.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory of one process in MiB.
const MEMORY_MIB: u64 = 64;
/// The same in pages of 2 MiB, and some.
pub const PAGES: u64 = MEMORY_MIB / 2 + 8;

/// Says what is missing, if something is.
///
/// # Errors
/// If the program, or one of its drivers, is not installed.
pub fn check() -> Result<()> {
    let there = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_err() {
        bail!(
            "{PROGRAM} is not installed: \
             apt-get install dpdk-dev librte-net-virtio23 librte-net-vhost23 librte-mempool-ring23"
        );
    }
    Ok(())
}

/// A process that forwards what it receives by its one port, the addresses changed.
pub struct Testpmd {
    child: Child,
    orders: ChildStdin,
    said: Receiver<Vec<u8>>,
}

impl Testpmd {
    /// The back-end: DPDK's `net_vhost`, which listens at `socket`.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn server(socket: &Path, processor: usize) -> Result<Self> {
        Self::start("server", &format!("net_vhost0,iface={},queues=1", socket.display()), processor)
    }

    /// The front-end: DPDK's `net_virtio_user`, which connects to `socket`; `features` are its options.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn client(socket: &Path, features: &str, processor: usize) -> Result<Self> {
        let device = format!("net_virtio_user0,path={},queues=1,queue_size=256,{features}", socket.display());
        Self::start("client", &device, processor)
    }

    fn start(role: &str, device: &str, processor: usize) -> Result<Self> {
        // All of its threads on one processor: what it is asked meanwhile takes little.
        let cores = format!("0@{processor},1@{processor}");
        // Its prompt does not wait for what it prints before that, unless nothing of it waits.
        let mut command = Command::new("stdbuf");
        command.args(["-o0", PROGRAM]);
        command.args(["--lcores", &cores, "-m", &MEMORY_MIB.to_string(), "--no-pci", "--in-memory"]);
        command.args(["--single-file-segments", "--log-level=error", "--file-prefix"]);
        command.arg(format!("vioduct-bench-{}-{role}", std::process::id()));
        command.args(["--vdev", device, "--", "-i", "--total-num-mbufs=4096", "--forward-mode=mac"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let orders = child.stdin.take().context("it has no stdin pipe")?;
        let mut output = child.stdout.take().context("it has no stdout pipe")?;
        let (tell, said) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                if tell.send(bytes.get(..len).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut testpmd = Self { child, orders, said };
        let greeting = testpmd.until_prompt()?;
        ensure!(greeting.contains("Port 0:"), "{PROGRAM} has no port:\n{greeting}");
        Ok(testpmd)
    }

    /// Begins to forward, with `packets` new ones of `len` bytes.
    ///
    /// # Errors
    /// If it refuses.
    pub fn send_first(&mut self, packets: u32, len: u32) -> Result<()> {
        const BURST: u32 = 32;
        self.order(&format!("set txpkts {len}"))?;
        self.order(&format!("start tx_first {}", packets.div_ceil(BURST)))?;
        Ok(())
    }

    /// Begins to forward.
    ///
    /// # Errors
    /// If it refuses.
    pub fn forward(&mut self) -> Result<()> {
        self.order("start").map(drop)
    }

    /// Packets that it has received.
    ///
    /// # Errors
    /// If it does not say.
    pub fn received(&mut self) -> Result<u64> {
        let text = self.order("show port stats 0")?;
        let number = text.split("RX-packets:").nth(1).and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).with_context(|| format!("it says\n{text}"))
    }

    fn order(&mut self, words: &str) -> Result<String> {
        writeln!(self.orders, "{words}")?;
        self.until_prompt()
    }

    /// What it says until it wants to be told more.
    fn until_prompt(&mut self) -> Result<String> {
        let (began, mut said) = (Instant::now(), Vec::new());
        loop {
            match self.said.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
                Ok(more) => said.extend(more),
                Err(RecvTimeoutError::Timeout) => bail!("{PROGRAM} does not answer"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{PROGRAM} has ended:\n{}", String::from_utf8_lossy(&said))
                }
            }
            if said.ends_with(PROMPT.as_bytes()) {
                return Ok(String::from_utf8_lossy(&said).into_owned());
            }
        }
    }

    /// Holds it still.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // One that has ended is missed by whoever asks it something.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for {PROGRAM}: {error}");
        }
    }
}
