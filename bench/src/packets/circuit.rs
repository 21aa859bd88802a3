//! Two processes between which packets go round, held still between windows.

use super::testpmd::Testpmd;
use crate::disk::servers::listens;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Packets that go round: fewer than a queue has descriptors.
pub(super) const PACKETS: u32 = 192;

/// Whoever serves the card.
pub enum Server {
    /// Ours, before a mirror.
    Ours(Vioduct),
    /// DPDK's.
    Theirs(Testpmd),
}

/// `vioduct serve net,port=reflect`.
pub struct Vioduct {
    child: Child,
}

impl Vioduct {
    /// Starts it at `socket`, on this processor.
    ///
    /// # Errors
    /// If it does not come to listen.
    pub fn start(program: &Path, socket: &Path, processor: &CpuSet) -> Result<Self> {
        let mut child = Command::new(program)
            // The client does not seal its memory.
            .args(["serve", "net,port=reflect", "--memory-files", "any", "--vhost-user"])
            .arg(socket)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the program has no stdout pipe")?;
        let server = Self { child };
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(ready.starts_with("ready "), "the program says {ready:?}");
        // The threads that it starts later are there, too.
        let _ = sched_setaffinity(server.pid(), processor);
        Ok(server)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    fn signal(&self, signal: Signal) {
        // One that has ended is missed by its client.
        let _ = self.pid().map(|pid| kill_process(pid, signal));
    }

    /// Keeps its threads on this processor.
    pub fn bind_to(&self, processor: &CpuSet) {
        for task in
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten()
        {
            let number = task.file_name().to_string_lossy().parse().ok();
            // Unbound, it makes a benchmark worse, not wrong.
            let _ = sched_setaffinity(number.and_then(Pid::from_raw), processor);
        }
    }
}

impl Drop for Vioduct {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the program: {error}");
        }
    }
}

impl Server {
    /// DPDK's, forwarding.
    ///
    /// # Errors
    /// If it does not come to listen.
    pub fn theirs(socket: &Path, processor: usize) -> Result<Self> {
        let mut server = Testpmd::server(socket, processor)?;
        let began = Instant::now();
        while !listens(socket)? {
            ensure!(began.elapsed() < Duration::from_secs(10), "DPDK's server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        server.forward()?;
        Ok(Self::Theirs(server))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "vioduct",
            Self::Theirs(_) => "DPDK",
        }
    }

    pub(super) fn pause(&self) {
        match self {
            Self::Ours(server) => server.signal(Signal::STOP),
            Self::Theirs(server) => server.pause(),
        }
    }

    pub(super) fn resume(&self) {
        match self {
            Self::Ours(server) => server.signal(Signal::CONT),
            Self::Theirs(server) => server.resume(),
        }
    }
}

/// A client of DPDK's, and a server; held still unless a window runs.
pub struct Circuit {
    // The client goes first: a server survives it.
    client: Testpmd,
    server: Server,
}

/// What the client is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Length of a packet in bytes.
    pub frame_len: u32,
    /// Whether rings are packed.
    pub packed: bool,
    /// Whether a packet may be in several buffers.
    pub mergeable: bool,
}

impl Shape {
    fn features(self) -> String {
        format!("packed_vq={},mrg_rxbuf={}", u8::from(self.packed), u8::from(self.mergeable))
    }
}

impl Circuit {
    /// Connects a client on `processor` to the server at `socket`, and sends packets round.
    ///
    /// # Errors
    /// If that does not work.
    pub fn new(server: Server, socket: &Path, shape: Shape, processor: usize) -> Result<Self> {
        let mut client = Testpmd::client(socket, &shape.features(), processor)?;
        client.send_first(PACKETS, shape.frame_len)?;
        let circuit = Self { client, server };
        circuit.pause();
        Ok(circuit)
    }

    /// Who serves.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn pause(&self) {
        self.client.pause();
        self.server.pause();
    }

    /// Lets packets go round for about `length`; nanoseconds per packet.
    ///
    /// # Errors
    /// If none do, time and again: a busy machine may leave one of the processes without its processor for a window.
    pub fn window(&mut self, length: Duration) -> Result<f64> {
        const ATTEMPTS: u32 = 3;
        for _ in 0..ATTEMPTS {
            if let Some(nanos) = self.one_window(length)? {
                return Ok(nanos);
            }
        }
        bail!("no packet comes back from {}", self.server.name())
    }

    fn one_window(&mut self, length: Duration) -> Result<Option<f64>> {
        self.server.resume();
        self.client.resume();
        let first = self.client.received()?;
        let began = Instant::now();
        thread::sleep(length);
        let last = self.client.received()?;
        let nanos = began.elapsed().as_nanos() as f64;
        self.pause();
        Ok((last > first).then(|| nanos / (last - first) as f64))
    }
}
