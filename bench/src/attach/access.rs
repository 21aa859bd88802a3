//! Accesses to four bytes of a BAR over vfio-user: our server against that of the crate `vfio_user`, for the same raw client.

use crate::cores::pin;
use anyhow::{Context, Result, ensure};
use rustix::thread::CpuSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, ServerBackend, ServerRegion};
use vioduct_pci_demo::PciDemo;
use vioduct_spec::pci_demo;
use vioduct_vfio_user::{Device, Server};

/// The other server, as rows name it.
pub const PEER: &str = "vfio_user 0.1.7";

const VERSION: u16 = 1;
const READ: u16 = 9;
const WRITE: u16 = 10;
const NO_REPLY: u32 = 0x10;
const HEADER_LEN: usize = 16;
const CAPABILITIES: &[u8] = b"{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576}}\0";

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A read.
    Read,
    /// A write that is answered.
    Write,
    /// 15 writes that are not answered and a read, counted as 16.
    Posted,
}

impl Operation {
    /// All of them, as rows name them.
    pub const ALL: [(Self, &str); 3] = [
        (Self::Read, "read 4 bytes"),
        (Self::Write, "write 4 bytes, answered"),
        (Self::Posted, "write 4 bytes, posted"),
    ];
}

/// A client of either server, which runs in a thread.
pub struct Access {
    socket: Option<UnixStream>,
    server: Option<JoinHandle<Result<()>>>,
    value: u32,
}

impl Access {
    /// Of our server, on these processors.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ours(processors: Option<CpuSet>) -> Result<Self> {
        let device = Device::registers(PciDemo::new())?;
        let (near, far) = UnixStream::pair()?;
        let mut server = Server::inherited(far.into(), device)?;
        Self::start(near, processors, move || Ok(server.run()?))
    }

    /// Of the other, which listens at `path`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn theirs(path: &Path, processors: Option<CpuSet>) -> Result<Self> {
        let mut region =
            ServerRegion { region_info: Default::default(), sparse_areas: Vec::new(), mmap_fd: None };
        region.region_info.size = pci_demo::BAR0_LEN;
        let server = vfio_user::Server::new(path, true, Vec::new(), vec![region])?;
        let near = UnixStream::connect(path)?;
        Self::start(near, processors, move || Ok(server.run(&mut Register(0))?))
    }

    fn start(
        socket: UnixStream,
        processors: Option<CpuSet>,
        serve: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let server = spawn(move || {
            pin(processors);
            serve()
        });
        let mut client = Self { socket: Some(socket), server: Some(server), value: 0 };
        let hello = message(VERSION, 0, &[&[0; 4], CAPABILITIES].concat());
        client.send(&hello)?;
        let mut header = [0; HEADER_LEN];
        client.receive(&mut header)?;
        let len = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]) as usize;
        client.receive(&mut vec![0; len - HEADER_LEN])?;
        Ok(client)
    }

    fn socket(&mut self) -> Result<&mut UnixStream> {
        self.socket.as_mut().context("the connection has ended")
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket()?.write_all(bytes)?)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        Ok(self.socket()?.read_exact(bytes)?)
    }

    fn read(&mut self) -> Result<u32> {
        self.send(&message(READ, 0, &access()))?;
        let mut reply = [0; HEADER_LEN + 20];
        self.receive(&mut reply)?;
        let [.., a, b, c, d] = reply;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    fn write(&mut self, flags: u32) -> Result<()> {
        self.value = self.value.wrapping_add(1);
        let payload = [&access()[..], &self.value.to_ne_bytes()].concat();
        self.send(&message(WRITE, flags, &payload))
    }

    /// Does it; how many accesses it was.
    fn round(&mut self, operation: Operation) -> Result<u64> {
        match operation {
            Operation::Read => ensure!(self.read()? == self.value, "what was written is not read"),
            Operation::Write => {
                self.write(0)?;
                self.receive(&mut [0; HEADER_LEN + 16])?;
            }
            Operation::Posted => {
                (0..15).try_for_each(|_| self.write(NO_REPLY))?;
                self.round(Operation::Read)?;
                return Ok(16);
            }
        }
        Ok(1)
    }

    /// Goes on for about `length`; nanoseconds per access.
    ///
    /// # Errors
    /// If the connection fails, or an access.
    pub fn window(&mut self, operation: Operation, length: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut accesses = 0;
        loop {
            for _ in 0..8 {
                accesses += self.round(operation)?;
            }
            let elapsed = start.elapsed();
            if elapsed >= length {
                return Ok(elapsed.as_nanos() as f64 / accesses as f64);
            }
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.socket = None;
        match self.server.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("the server has failed: {error:#}"),
            Some(Err(_)) => eprintln!("the server has panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

fn access() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&pci_demo::REG_VALUE.to_ne_bytes());
    bytes[12..].copy_from_slice(&4u32.to_ne_bytes());
    bytes
}

fn message(command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let head = [[0; 2], command.to_ne_bytes()].concat();
    let words = [(HEADER_LEN + payload.len()) as u32, flags, 0].map(u32::to_ne_bytes).concat();
    [head, words, payload.to_vec()].concat()
}

/// The same register for the other server.
struct Register(u32);

impl ServerBackend for Register {
    fn region_read(&mut self, _region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match offset {
            pci_demo::REG_VALUE if data.len() == 4 => data.copy_from_slice(&self.0.to_le_bytes()),
            _ => data.fill(0xff),
        }
        Ok(())
    }

    fn region_write(&mut self, _region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if let (pci_demo::REG_VALUE, Ok(bytes)) = (offset, data.try_into()) {
            self.0 = u32::from_le_bytes(bytes);
        }
        Ok(())
    }

    fn dma_map(&mut self, _: DmaMapFlags, _: u64, _: u64, _: u64, _: Option<File>) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}
