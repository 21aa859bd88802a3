//! What both wires share: a file that the client maps and the server too, descriptors of every kind, and a raw socket.
//!
//! `unsafe` to ignore a signal.
#![allow(unsafe_code)]

use crate::input::Input;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Once;
use vioduct_virtio_device::{EventFd, MemoryMap};
use vioduct_virtqueue::{IoAddr, Memory};

/// What memory is shared by.
pub const PAGE_LEN: u64 = 0x1000;
/// Pages of the shared file.
pub const PAGES: u64 = 16;
const LEN: u64 = PAGE_LEN * PAGES;

/// A file of [`PAGES`] pages that is shared page by page; what was not shared to be written must stay as the client has it.
pub struct SharedFile {
    map: MemoryMap,
    expected: Vec<u8>,
    open: [bool; PAGES as usize],
}

impl SharedFile {
    /// Zeros, none of them shared.
    #[must_use]
    pub fn new() -> Self {
        let map = MemoryMap::shared(LEN).expect("memory");
        Self { map, expected: vec![0; LEN as usize], open: [false; PAGES as usize] }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> OwnedFd {
        let (file, _) = self.map.regions().find_map(|(_, file)| file).expect("the map is of a file");
        file.try_clone_to_owned().expect("a descriptor")
    }

    /// The client writes, as far as there is room.
    pub fn put(&mut self, offset: u64, data: &[u8]) {
        let len = LEN.saturating_sub(offset).min(data.len() as u64) as usize;
        if len > 0 {
            self.map.write(IoAddr(offset), &data[..len]).expect("within the file");
            self.expected[offset as usize..offset as usize + len].copy_from_slice(&data[..len]);
        }
    }

    /// What the client sees.
    #[must_use]
    pub fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let here = LEN.saturating_sub(offset).min(len as u64) as usize;
        if here > 0 {
            self.map.read(IoAddr(offset), &mut out[..here]).expect("within the file");
        }
        out
    }

    /// From now on the server may write these bytes.
    pub fn share(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        for (page, open) in (0..PAGES).zip(&mut self.open) {
            *open |= page * PAGE_LEN < end && offset < (page + 1) * PAGE_LEN;
        }
    }

    /// From now on the server may write anywhere.
    pub fn share_all(&mut self) {
        self.share(0, LEN);
    }

    /// What was never shared was never written.
    pub fn check(&self) {
        let found = self.get(0, LEN as usize);
        let pages = found.chunks(PAGE_LEN as usize).zip(self.expected.chunks(PAGE_LEN as usize));
        for ((found, expected), open) in pages.zip(&self.open) {
            assert!(*open || found == expected, "memory that was not shared was written");
        }
    }
}

impl Default for SharedFile {
    fn default() -> Self {
        Self::new()
    }
}

/// Descriptors that come with a message, by the code that chooses each.
pub struct Descriptors {
    /// Signalled by the client.
    pub kick: EventFd,
    /// Signalled by the server.
    pub call: EventFd,
    /// The last one that the server sent.
    pub received: Option<OwnedFd>,
    /// The client's end of the last socket that it sent.
    pub socket: Option<UnixStream>,
}

impl Descriptors {
    /// Two eventfds, and nothing else yet.
    #[must_use]
    pub fn new() -> Self {
        let event = || EventFd::new().expect("a descriptor");
        Self { kick: event(), call: event(), received: None, socket: None }
    }

    /// One of each kind: shared memory, eventfds, what the server sent, a socket, a file that can shrink, a device, a pipe that has
    /// ended.
    pub fn choose(&mut self, code: u8, memory: &mut SharedFile) -> OwnedFd {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
        match code % 9 {
            0 => {
                memory.share_all();
                memory.file()
            }
            1 => copy(self.kick.as_fd()),
            2 => copy(self.call.as_fd()),
            3 => match &self.received {
                Some(received) => copy(received.as_fd()),
                None => self.choose(0, memory),
            },
            4 => self.open_socket(),
            5 => file_that_can_shrink(),
            6 => File::open("/dev/null").expect("a device").into(),
            7 => pipe_with(&[1, 2, 3, 4]),
            _ => pipe_with(&[]),
        }
    }

    /// One end of a new socket pair; the other is kept.
    pub fn open_socket(&mut self) -> OwnedFd {
        let (near, far) = UnixStream::pair().expect("sockets");
        near.set_nonblocking(true).expect("a flag");
        self.socket = Some(near);
        far.into()
    }

    /// Reads what the server sent over the socket, and says something.
    pub fn answer_socket(&mut self, bytes: &[u8]) {
        if let Some(socket) = &mut self.socket {
            let _ = socket.read(&mut [0; 256]);
            let _ = socket.write(bytes);
        }
    }
}

impl Default for Descriptors {
    fn default() -> Self {
        Self::new()
    }
}

fn file_that_can_shrink() -> OwnedFd {
    let file = memfd_create("small", MemfdFlags::CLOEXEC).expect("a file");
    rustix::io::write(&file, &[7; 64]).expect("room");
    file
}

fn pipe_with(bytes: &[u8]) -> OwnedFd {
    let (mut near, far) = UnixStream::pair().expect("sockets");
    near.write_all(bytes).expect("room");
    far.into()
}

/// Where a message is split: `pieces` holds the lengths of all pieces but the last.
#[must_use]
pub fn pieces(message: &[u8], input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = message;
    let count = input.u8();
    // Mostly whole.
    for _ in 0..count.saturating_sub(0xf0) {
        let len = 1 + input.below(rest.len().clamp(1, 255));
        if len < rest.len() {
            let (piece, later) = rest.split_at(len);
            pieces.push(piece.to_vec());
            rest = later;
        }
    }
    pieces.push(rest.to_vec());
    pieces
}

/// Sends bytes with descriptors. Whether the server still takes any.
pub fn send(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "few descriptors");
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).is_ok()
}

/// Receives what there is, without waiting, and the last descriptor that came. `None` once the server has gone.
pub fn receive(socket: &UnixStream, received: &mut Option<OwnedFd>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 0x1_0000];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let outcome = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            *received = fds.last().or(received.take());
        }
    }
    match outcome {
        Ok(message) if message.bytes == 0 => None,
        Ok(message) => {
            bytes.truncate(message.bytes);
            Some(bytes)
        }
        Err(rustix::io::Errno::AGAIN) => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Waits until there is something to receive from any of these.
///
/// # Panics
/// If nothing comes for longer than a server may take.
pub fn await_server(sockets: &[&UnixStream]) {
    let patience = Timespec { tv_sec: 8, tv_nsec: 0 };
    let mut fds: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    assert_ne!(poll(&mut fds, Some(&patience)), Ok(0), "the server hangs");
}

/// Has the system say by an error that nobody reads what is written, as in every program of Rust's but a fuzzer.
pub fn ignore_broken_pipes() {
    static ONCE: Once = Once::new();
    // SAFETY: no handler is installed, and none was.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    });
}

/// Descriptors that this process has open.
#[must_use]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
