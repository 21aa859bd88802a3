//! [`Peer`]: a server, by what it can be asked for.
//!
//! A reply that no server should give ends the connection, as does none at all: what comes after it could be anything.

use crate::client::lines::IrqType;
use crate::dma::piece_len;
use crate::link::Link;
use crate::wire::{
    Access, Capabilities, Command, DeviceInfo, DmaMap, DmaUnmap, IoFd, IrqInfo, Message, Payload, RegionInfo,
    SetIrqs, VersionReply, version_request,
};
use rustix::net::sockopt::socket_type;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vioduct_virtio_device::RateLimit;

/// Why a connection ends whose server leaves a request without a reply.
const LATE: &str = "it does not answer in time";
const MALFORMED: &str = "it gives a reply that no server should";
/// Writes that may be on their way before one of them waits for its reply: a server keeps a bounded number of commands.
const POSTED_IN_A_ROW: u32 = 256;
/// Places of one region that are asked for at once; a descriptor goes with each.
const IO_FDS: u32 = crate::wire::MAX_FDS as u32;

/// A server that has said what it can do.
pub(super) struct Peer {
    link: Arc<Link>,
    /// Where its own commands come: there, or at a socket of its own for that.
    calls: Arc<Link>,
    pub(super) capabilities: Capabilities,
    /// Bytes of data in one message.
    piece_len: usize,
    posted: AtomicU32,
    refusals: RateLimit,
}

/// Why a server has not done as it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The connection has ended, for this reason.
    Gone(&'static str),
    /// By this errno.
    Refused(u32),
}

/// Whether a write waits until the server has done it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Posting {
    Allowed,
    Waits,
}

impl Peer {
    /// Proposes, and takes what the server agrees to.
    pub(super) fn negotiate(link: Link) -> Result<Self, Trouble> {
        let link = Arc::new(link);
        let mut message = request(&link, Command::Version, &[&version_request()], &[])?;
        let malformed = || gone(&link, MALFORMED);
        let VersionReply { capabilities, twin_socket } =
            VersionReply::decode(&message.payload).ok_or_else(malformed)?;
        let calls = match twin_socket {
            None => link.clone(),
            Some(index) if index < message.fds.len() => {
                let socket = message.fds.swap_remove(index);
                socket_type(&socket).map_err(|_| malformed())?;
                Arc::new(link.beside(socket))
            }
            Some(_) => return Err(malformed()),
        };
        Ok(Self {
            piece_len: piece_len(capabilities.max_data_xfer_size),
            link,
            calls,
            capabilities,
            posted: AtomicU32::new(0),
            refusals: RateLimit::default(),
        })
    }

    /// Where the server's commands come.
    pub(super) fn calls(&self) -> &Link {
        &self.calls
    }

    /// Ends the connection; why it ended, which may have been before.
    pub(super) fn close(&self, why: &'static str) -> &'static str {
        self.link.close(why);
        self.calls.close(why);
        self.link.end().unwrap_or(why)
    }

    /// Says in the log, sparingly, what the server refuses.
    pub(super) fn report(&self, what: &str, trouble: Trouble) {
        // That it is gone is said once, by who listens to it.
        if let (Trouble::Refused(errno), Some(suppressed)) = (trouble, self.refusals.admit()) {
            tracing::warn!(errno, suppressed, "the vfio-user server refuses {what}");
        }
    }

    pub(super) fn device_info(&self) -> Result<DeviceInfo, Trouble> {
        let payload = Payload::default().u32(16).u32(0).u32(0).u32(0).into_bytes();
        self.query(Command::GetInfo, &payload, |reply| DeviceInfo::decode(&reply.payload))
    }

    pub(super) fn region_info(&self, region: u32) -> Result<RegionInfo, Trouble> {
        let payload = Payload::default().u32(32).u32(0).u32(region).u32(0).u64(0).u64(0).into_bytes();
        self.query(Command::GetRegionInfo, &payload, |reply| RegionInfo::decode(&reply.payload, region))
    }

    pub(super) fn irq_info(&self, of: IrqType) -> Result<IrqInfo, Trouble> {
        let payload = Payload::default().u32(16).u32(0).u32(of as u32).u32(0).into_bytes();
        self.query(Command::GetIrqInfo, &payload, |reply| IrqInfo::decode(&reply.payload, of as u32))
    }

    /// Places of a region that are signalled by eventfds, with those.
    pub(super) fn io_fds(&self, region: u32) -> Result<(Vec<IoFd>, Vec<OwnedFd>), Trouble> {
        let payload = Payload::default().u32(IoFd::room(IO_FDS)).u32(0).u32(region).u32(0).into_bytes();
        self.query(Command::GetRegionIoFds, &payload, |reply| {
            let places = IoFd::decode_all(&reply.payload, region, reply.fds.len())?;
            Some((places, reply.fds))
        })
    }

    pub(super) fn dma_map(&self, map: &DmaMap, file: Option<BorrowedFd<'_>>) -> Result<(), Trouble> {
        self.request(Command::DmaMap, &[&map.encode()], file.as_slice()).map(drop)
    }

    pub(super) fn dma_unmap(&self, unmap: DmaUnmap) -> Result<(), Trouble> {
        self.request(Command::DmaUnmap, &[&unmap.encode()], &[]).map(drop)
    }

    pub(super) fn set_irqs(&self, change: &SetIrqs, fds: &[BorrowedFd<'_>]) -> Result<(), Trouble> {
        self.request(Command::SetIrqs, &[&change.encode()], fds).map(drop)
    }

    pub(super) fn reset(&self) -> Result<(), Trouble> {
        self.request(Command::Reset, &[], &[]).map(drop)
    }

    /// Fills `out`; after an error some of it may be filled.
    pub(super) fn read(&self, region: u32, offset: u64, out: &mut [u8]) -> Result<(), Trouble> {
        for (piece, offset) in out.chunks_mut(self.piece_len).zip((offset..).step_by(self.piece_len)) {
            let head = access(region, offset, piece).encode().into_bytes();
            let data = self.query(Command::RegionRead, &head, |reply| {
                let data = reply.payload.strip_prefix(&head[..])?;
                (data.len() == piece.len()).then(|| data.to_vec())
            })?;
            piece.copy_from_slice(&data);
        }
        Ok(())
    }

    /// The server obeys in order, so a read sees the writes before it, those too that were posted. What it makes of these is not
    /// known.
    pub(super) fn write(
        &self,
        region: u32,
        offset: u64,
        data: &[u8],
        posting: Posting,
    ) -> Result<(), Trouble> {
        for (piece, offset) in data.chunks(self.piece_len).zip((offset..).step_by(self.piece_len)) {
            let head = access(region, offset, piece).encode().into_bytes();
            let in_a_row = self.posted.fetch_add(1, Ordering::Relaxed);
            if posting == Posting::Allowed && !in_a_row.is_multiple_of(POSTED_IN_A_ROW) {
                self.link.tell(Command::RegionWrite, &[&head, piece]);
                continue;
            }
            let reply = self.request(Command::RegionWrite, &[&head, piece], &[])?;
            if reply.payload != head {
                return Err(self.malformed());
            }
        }
        Ok(())
    }

    fn query<T>(
        &self,
        command: Command,
        payload: &[u8],
        decode: impl FnOnce(Message) -> Option<T>,
    ) -> Result<T, Trouble> {
        decode(self.request(command, &[payload], &[])?).ok_or_else(|| self.malformed())
    }

    fn request(
        &self,
        command: Command,
        payload: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Message, Trouble> {
        request(&self.link, command, payload, fds)
    }

    fn malformed(&self) -> Trouble {
        gone(&self.link, MALFORMED)
    }
}

/// The reply, which is no error and to this command.
fn request(
    link: &Link,
    command: Command,
    payload: &[&[u8]],
    fds: &[BorrowedFd<'_>],
) -> Result<Message, Trouble> {
    let reply = link.ask(command, payload, fds).ok_or_else(|| gone(link, LATE))?;
    if reply.header.command != command as u16 {
        return Err(gone(link, MALFORMED));
    }
    if reply.header.is_error() { Err(Trouble::Refused(reply.header.errno())) } else { Ok(reply) }
}

/// Ends a connection, unless it has ended already.
fn gone(link: &Link, why: &'static str) -> Trouble {
    link.close(why);
    Trouble::Gone(link.end().unwrap_or(why))
}

fn access(region: u32, offset: u64, piece: &[u8]) -> Access {
    Access { offset, region, count: u32::try_from(piece.len()).unwrap_or(u32::MAX) }
}
