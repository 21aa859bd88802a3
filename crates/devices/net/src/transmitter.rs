//! [`Transmitter`]: packets of the driver's to a port.
//!
//! This module holds `unsafe` because the kernel reads packets where the driver has put them.
#![allow(unsafe_code)]

use crate::handler::give_back;
use crate::port::Shared;
use crate::request::{Refused, to_send};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use vioduct_spec::net::HEADER_LEN;
use vioduct_virtio_device::{BufferError, Chain, Fault, Features, Io};

/// Pieces of one packet that the kernel takes at a time; a packet of more is copied together first.
const MAX_PIECES: usize = 128;

/// How often a packet that the driver sends is copied on its way to the system: it is taken where it is, in up to 127 pieces.
pub const COPIES_SENT: u32 = 0;

/// Why a pump has ended.
#[derive(Debug)]
pub(crate) enum Pumped {
    /// There is nothing more to do for now.
    Dry,
    /// It has done its share; there may be more.
    Limit,
    /// The port is gone.
    Gone(io::Error),
}

/// Whether an error says that the port itself is no more.
pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::BADFD | Errno::BADF | Errno::NODEV | Errno::NXIO | Errno::PIPE | Errno::CONNRESET)
        || matches!(error, Errno::NOTCONN | Errno::CONNREFUSED)
}

pub(crate) struct Transmitter {
    queue: u16,
    negotiated: Features,
    shared: Arc<Shared>,
    /// A packet that the port has no room for.
    parked: Option<Chain>,
    pieces: Vec<libc::iovec>,
    copy: Vec<u8>,
}

// SAFETY: the pointers in `pieces` are used only within the call that puts them there, while their chain is held.
unsafe impl Send for Transmitter {}

/// What has become of a packet.
enum Sent {
    Done,
    /// The port has no room.
    Blocked,
    Refused(Refused),
    Failed(Errno),
}

impl Transmitter {
    pub(crate) fn new(queue: u16, negotiated: Features, shared: Arc<Shared>) -> Self {
        Self { queue, negotiated, shared, parked: None, pieces: Vec::new(), copy: Vec::new() }
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Sends packets, as long as there are some, and the port takes them.
    pub(crate) fn pump(&mut self, port: &impl AsFd, io: &mut Io<'_>) -> Result<Pumped, Fault> {
        while let Some(chain) = self.next(io)? {
            match self.send(&chain, port.as_fd()) {
                Ok(Sent::Done) => {}
                Ok(Sent::Blocked) => {
                    self.parked = Some(chain);
                    return Ok(Pumped::Dry);
                }
                Ok(Sent::Refused(refused)) => self.shared.drop_sent(refused),
                Ok(Sent::Failed(error)) if is_gone(error) => {
                    self.parked = Some(chain);
                    return Ok(Pumped::Gone(error.into()));
                }
                Ok(Sent::Failed(error)) => self.shared.drop_sent(io::Error::from(error)),
                Err(error) => return give_back(self.queue, chain, error, io).map(|()| Pumped::Dry),
            }
            io.complete(self.queue, chain, 0)?;
        }
        Ok(Pumped::Dry)
    }

    fn next(&mut self, io: &mut Io<'_>) -> Result<Option<Chain>, Fault> {
        match self.parked.take() {
            Some(chain) => Ok(Some(chain)),
            None => io.pop(self.queue),
        }
    }

    fn send(&mut self, chain: &Chain, port: BorrowedFd<'_>) -> Result<Sent, BufferError> {
        let (header, frame_len) = match to_send(chain, self.negotiated)? {
            Ok(good) => good,
            Err(refused) => return Ok(Sent::Refused(refused)),
        };
        let header = header.encode(0);
        self.pieces.clear();
        if !self.list(&header, chain) {
            self.pieces.clear();
            self.copy.clear();
            self.copy.extend(header);
            self.copy.resize(HEADER_LEN + frame_len as usize, 0);
            let mut reader = chain.reader();
            reader.skip(HEADER_LEN)?;
            reader.read_exact(self.copy.get_mut(HEADER_LEN..).unwrap_or_default())?;
            self.pieces
                .push(libc::iovec { iov_base: self.copy.as_mut_ptr().cast(), iov_len: self.copy.len() });
        }
        loop {
            // SAFETY: each piece is mapped for as long as `chain` is held, or is `header` or `copy`, which are held here; the
            // kernel only reads them. The driver may change its own meanwhile: they are its packet.
            let sent = unsafe {
                libc::writev(port.as_raw_fd(), self.pieces.as_ptr(), self.pieces.len() as libc::c_int)
            };
            if sent >= 0 {
                return Ok(Sent::Done);
            }
            match Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO) {
                Errno::INTR => {}
                Errno::AGAIN => return Ok(Sent::Blocked),
                error => return Ok(Sent::Failed(error)),
            }
        }
    }

    /// Lists the good header, and the packet's pieces where they are; not if they are too many, or not in this process.
    fn list(&mut self, header: &[u8; HEADER_LEN], chain: &Chain) -> bool {
        self.pieces.push(libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: HEADER_LEN });
        let mut skip = HEADER_LEN as u32;
        for segment in chain.readable() {
            let Some(host) = segment.host().filter(|_| self.pieces.len() < MAX_PIECES) else { return false };
            let before = skip.min(segment.len());
            skip -= before;
            if before < segment.len() {
                let iov_len = (segment.len() - before) as usize;
                // SAFETY: `before` is less than the segment's length, all of which is mapped.
                let iov_base = unsafe { host.as_ptr().add(before as usize) }.cast();
                self.pieces.push(libc::iovec { iov_base, iov_len });
            }
        }
        true
    }

    /// Sends nothing any more: there is no port.
    pub(crate) fn drop_all(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        while let Some(chain) = self.next(io)? {
            self.shared.drop_sent("the card is plugged into nothing");
            io.complete(self.queue, chain, 0)?;
        }
        Ok(())
    }

    /// Gives back what is held: a reset, or a migration, does not wait for the port.
    pub(crate) fn let_go(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(chain) = self.parked.take() else { return Ok(()) };
        self.shared.drop_sent("the port has no room for it, and the queue is stopped");
        io.complete(self.queue, chain, 0)
    }
}

impl Drop for Transmitter {
    /// Its queue is gone: the driver has taken the buffer back.
    fn drop(&mut self) {
        if let Some(chain) = self.parked.take() {
            chain.discard();
        }
    }
}
