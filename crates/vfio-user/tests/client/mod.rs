//! A vfio-user client of its own: raw messages, and the memory that it has not shared.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod bus;
pub(crate) mod fake;
pub(crate) mod plugged;
pub(crate) mod states;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use vioduct_loopback::Machine;
use vioduct_vfio_user::{Device, ServeError, Server, Stopper};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const REGION_INFO: u16 = 5;
pub(crate) const IO_FDS: u16 = 6;
pub(crate) const IRQ_INFO: u16 = 7;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const RESET: u16 = 13;
pub(crate) const WRITE_MULTI: u16 = 15;
pub(crate) const FEATURE: u16 = 16;
pub(crate) const MIG_READ: u16 = 17;
pub(crate) const MIG_WRITE: u16 = 18;

pub(crate) const NO_REPLY: u32 = 0x10;

pub(crate) const EPERM: u32 = 1;
pub(crate) const ENOENT: u32 = 2;
pub(crate) const EIO: u32 = 5;
pub(crate) const E2BIG: u32 = 7;
pub(crate) const EACCES: u32 = 13;
pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOTTY: u32 = 25;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const EOPNOTSUPP: u32 = 95;

/// What QEMU 11.1 proposes.
pub(crate) const QEMU_VERSION: &str = r#"{"capabilities":{"pgsizes":4096,"max_msg_fds":16,"max_dma_maps":65535,
"max_data_xfer_size":1048576,"migration":{"max_bitmap_size":268435456,"pgsize":4096},"write_multiple":true}}"#;

/// The configuration region.
pub(crate) const CONFIG: u32 = 7;

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub(crate) fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

pub(crate) fn header(id: u16, command: u16, len: u32, flags: u32, error: u32) -> Vec<u8> {
    let halves = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    [halves, words(&[len, flags, error])].concat()
}

pub(crate) fn access(offset: u64, region: u32, count: u32) -> Vec<u8> {
    [longs(&[offset]), words(&[region, count])].concat()
}

/// Payload of DMA_MAP.
pub(crate) fn map(flags: u32, offset: u64, address: u64, len: u64) -> Vec<u8> {
    [words(&[32, flags]), longs(&[offset, address, len])].concat()
}

/// Payload of DMA_UNMAP.
pub(crate) fn unmap(flags: u32, address: u64, len: u64) -> Vec<u8> {
    [words(&[24, flags]), longs(&[address, len])].concat()
}

/// Payload of SET_IRQS.
pub(crate) fn irqs(flags: u32, index: u32, start: u32, count: u32) -> Vec<u8> {
    words(&[20, flags, index, start, count])
}

/// How a client shows memory to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    Descriptors,
    Messages,
}

/// A message from the server.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    next_id: u16,
    /// What DMA_READ and DMA_WRITE reach.
    pub(crate) memory: Option<Arc<MemoryMap>>,
    /// How many of those came.
    pub(crate) dma_calls: usize,
}

impl Client {
    /// A client that has said nothing yet.
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn over(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, next_id: 0, memory: None, dma_calls: 0 }
    }

    /// A client that has negotiated as QEMU does.
    pub(crate) fn qemu(path: &Path) -> Self {
        let mut client = Self::connect(path);
        client.negotiate(QEMU_VERSION).unwrap();
        client
    }

    pub(crate) fn negotiate(&mut self, json: &str) -> Result<Vec<u8>, u32> {
        self.request(VERSION, &[&[0, 0, 0, 0], json.as_bytes(), &[0]].concat())
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        self.socket.write_all(&bytes[sent..]).unwrap();
    }

    /// Sends a command, and returns its id.
    pub(crate) fn send(&mut self, command: u16, flags: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        let header = header(self.next_id, command, 16 + payload.len() as u32, flags, 0);
        self.send_raw(&[&header, payload].concat(), fds);
        self.next_id
    }

    /// The next message; `None` if the server has hung up.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        let mut head = [0; 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let first =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let first = match first {
            Ok(first) if first.bytes > 0 => first.bytes,
            Ok(_) | Err(rustix::io::Errno::CONNRESET) => return None,
            Err(error) => panic!("no message: {error}"),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        self.socket.read_exact(&mut head[first..]).ok()?;
        let half = |at: usize| u16::from_ne_bytes(head[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - 16];
        self.socket.read_exact(&mut payload).ok()?;
        Some(Received { id: half(0), command: half(2), flags: word(8), error: word(12), payload, fds })
    }

    /// The reply to the command with this id; calls of the server's are answered meanwhile.
    pub(crate) fn reply(&mut self, id: u16) -> Result<Received, u32> {
        loop {
            let message = self.receive().expect("the server has hung up");
            if message.flags & 0xf == 0 {
                self.serve(&message);
                continue;
            }
            assert_eq!((message.id, message.flags & 0xf), (id, 1));
            if message.flags & 0x20 != 0 {
                assert!(message.payload.is_empty(), "an error has no payload");
                return Err(message.error);
            }
            return Ok(message);
        }
    }

    pub(crate) fn request(&mut self, command: u16, payload: &[u8]) -> Result<Vec<u8>, u32> {
        self.request_with(command, payload, &[]).map(|reply| reply.payload)
    }

    pub(crate) fn request_with(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Received, u32> {
        let id = self.send(command, 0, payload, fds);
        let reply = self.reply(id)?;
        assert_eq!(reply.command, command);
        Ok(reply)
    }

    /// Answers DMA_READ and DMA_WRITE from the memory that is not shared.
    pub(crate) fn serve(&mut self, call: &Received) {
        self.dma_calls += 1;
        let address = u64::from_ne_bytes(call.payload[..8].try_into().unwrap());
        let count = u64::from_ne_bytes(call.payload[8..16].try_into().unwrap()) as usize;
        let memory = self.memory.clone().expect("the server calls for memory that it has");
        let mut data = Vec::new();
        let done = match call.command {
            DMA_READ => {
                data.resize(count, 0);
                memory.read(IoAddr(address), &mut data)
            }
            DMA_WRITE => memory.write(IoAddr(address), &call.payload[16..]),
            other => panic!("the server sent command {other}"),
        };
        let payload = [longs(&[address, count as u64]), data].concat();
        let bytes = match done {
            Ok(()) => [header(call.id, call.command, 16 + payload.len() as u32, 1, 0), payload].concat(),
            Err(_) => header(call.id, call.command, 16, 0x21, EINVAL),
        };
        self.send_raw(&bytes, &[]);
    }

    /// Answers the one call that is there.
    pub(crate) fn answer_call(&mut self) {
        let call = self.receive().expect("the server has hung up");
        assert_eq!(call.flags & 0xf, 0, "a reply that nobody waits for");
        self.serve(&call);
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let head = access(offset, region, count);
        let reply = self.request(REGION_READ, &head)?;
        assert_eq!(reply[..16], head);
        Ok(reply[16..].to_vec())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), u32> {
        let head = access(offset, region, data.len() as u32);
        let reply = self.request(REGION_WRITE, &[&head, data].concat())?;
        assert_eq!(reply, head);
        Ok(())
    }

    pub(crate) fn read_u32(&mut self, region: u32, offset: u64) -> u32 {
        u32::from_le_bytes(self.read(region, offset, 4).unwrap().try_into().unwrap())
    }

    /// Shows the server the memory of a machine, with descriptors or without.
    pub(crate) fn map_machine(&mut self, machine: &Machine, sharing: Sharing) {
        self.memory = Some(machine.memory());
        let memory = machine.memory();
        for (region, file) in memory.regions() {
            let (file, offset) = file.unwrap();
            let (fds, offset) = match sharing {
                Sharing::Descriptors => (vec![file], offset),
                Sharing::Messages => (Vec::new(), 0),
            };
            self.request_with(DMA_MAP, &map(3, offset, region.at.0, region.len), &fds).unwrap();
        }
    }
}

/// A server in a thread, stopped when this is dropped.
pub(crate) struct Served {
    pub(crate) path: PathBuf,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn new(device: Device) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vfio.sock");
        let mut server = Server::bind(&path, device).unwrap();
        let stopper = server.stopper();
        let thread = Some(std::thread::spawn(move || server.run()));
        Self { path, stopper, thread, _directory: directory }
    }

    pub(crate) fn join(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server panicked").unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let outcome = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(outcome.is_none_or(|outcome| outcome.is_ok_and(|run| run.is_ok())), "the server failed");
        }
    }
}

/// A file to share.
pub(crate) fn memfd(len: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, len).unwrap();
    file
}

pub(crate) fn eventfd() -> vioduct_virtio_device::EventFd {
    vioduct_virtio_device::EventFd::new().unwrap()
}

/// How often an eventfd was signalled, once it was: waits for that.
pub(crate) fn wait_for(event: &vioduct_virtio_device::EventFd) -> u64 {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    poll(&mut [PollFd::new(&event.as_fd(), PollFlags::IN)], Some(&patience)).unwrap();
    event.take()
}

/// Open descriptors of this process.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
