//! The vfio-user wire: headers, commands and what each may carry.
//!
//! Clauses are those of QEMU's `docs/interop/vfio-user.rst`, version 0.0 of the protocol; numbers are in the byte order of the
//! machine, for both ends are on it.

mod reply;
mod request;
mod version;

pub(crate) use reply::{DeviceInfo, IoFd, IrqInfo, RegionInfo};
pub(crate) use request::{
    Access, DmaMap, DmaUnmap, Feature, FeatureAction, IrqAction, IrqData, MigrationRead, Request, SetIrqs,
    SmallWrite,
};
pub(crate) use version::{
    Capabilities, TwinSocket, VersionReply, VersionRequest, version_reply, version_request,
};

use rustix::io::Errno;
use std::os::fd::OwnedFd;

pub(crate) const HEADER_LEN: usize = 16;
/// Bytes of data in one access, the protocol's default for `max_data_xfer_size`, in both directions.
pub(crate) const MAX_DATA_LEN: usize = 1 << 20;
/// The longest message: 16 bytes of arguments and as much data as may be.
pub(crate) const MAX_MESSAGE_LEN: usize = HEADER_LEN + 16 + MAX_DATA_LEN;
/// Descriptors in one message: as many as Linux passes in one, so that none is ever lost before it can be refused.
pub(crate) const MAX_FDS: usize = 253;
/// Descriptors in one message that clients are told to send at most: QEMU 11.1 takes a larger number for an error.
pub(crate) const OFFERED_FDS: usize = 16;

const TYPE_MASK: u32 = 0xf;
const TYPE_COMMAND: u32 = 0;
const TYPE_REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// The first 16 bytes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Chosen by whoever asks, and echoed; it need not be unique.
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) payload_len: usize,
    flags: u32,
    error: u32,
}

/// What a message is, by its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Command,
    Reply,
    Unknown,
}

/// Whether the sender of a command waits for a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Wanted,
    Unwanted,
}

impl Header {
    /// `None` if the length is one that no message has: where the next one begins is then unknown.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (id, command) = (fields.u16()?, fields.u16()?);
        let len = usize::try_from(fields.u32()?).ok()?;
        let (flags, error) = (fields.u32()?, fields.u32()?);
        let payload_len = len.checked_sub(HEADER_LEN).filter(|_| len <= MAX_MESSAGE_LEN)?;
        Some(Self { id, command, payload_len, flags, error })
    }

    pub(crate) fn encode(self) -> [u8; HEADER_LEN] {
        let len = (HEADER_LEN + self.payload_len) as u32;
        let mut bytes = [0; HEADER_LEN];
        let fields = [self.id.to_ne_bytes(), self.command.to_ne_bytes()].concat();
        let words = [len, self.flags, self.error].map(u32::to_ne_bytes).concat();
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().chain(words)) {
            *to = from;
        }
        bytes
    }

    /// Of a command of this end's.
    pub(crate) fn command(id: u16, command: Command, payload_len: usize) -> Self {
        Self { id, command: command as u16, payload_len, flags: TYPE_COMMAND, error: 0 }
    }

    /// Of a command that nobody replies to.
    pub(crate) fn without_reply(self) -> Self {
        Self { flags: self.flags | NO_REPLY, ..self }
    }

    /// Of the reply to this command.
    pub(crate) fn reply(self, payload_len: usize) -> Self {
        Self { payload_len, flags: TYPE_REPLY, error: 0, ..self }
    }

    /// Of the reply that says why this command was not obeyed; it has no payload.
    pub(crate) fn refusal(self, refusal: Refusal) -> Self {
        Self { payload_len: 0, flags: TYPE_REPLY | ERROR, error: refusal.number(), ..self }
    }

    pub(crate) fn kind(self) -> Kind {
        match self.flags & TYPE_MASK {
            TYPE_COMMAND => Kind::Command,
            TYPE_REPLY => Kind::Reply,
            _ => Kind::Unknown,
        }
    }

    pub(crate) fn answer(self) -> Answer {
        if self.flags & NO_REPLY == 0 { Answer::Wanted } else { Answer::Unwanted }
    }

    pub(crate) fn is_error(self) -> bool {
        self.flags & ERROR != 0
    }

    /// In a reply that is an error: the reason, as an errno.
    pub(crate) fn errno(self) -> u32 {
        self.error
    }
}

/// A whole message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    /// Those that came with any byte of it; closed when it is dropped.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why a command is not obeyed, as its reply says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The arguments are wrong.
    Invalid,
    /// Something is mapped there.
    Exists,
    /// Nothing is mapped there.
    Missing,
    /// No more of these.
    Full,
    /// Too much was asked for at once.
    TooMuch,
    /// There is no such command, or not from a client.
    Unsupported,
    /// There is no such feature.
    NoFeature,
    /// The file cannot be mapped so.
    Unmappable,
    /// The device could not do it.
    Failed,
}

impl Refusal {
    fn number(self) -> u32 {
        let errno = match self {
            Self::Invalid => Errno::INVAL,
            Self::Exists => Errno::EXIST,
            Self::Missing => Errno::NOENT,
            Self::Full => Errno::NOSPC,
            Self::TooMuch => Errno::TOOBIG,
            Self::Unsupported => Errno::OPNOTSUPP,
            Self::NoFeature => Errno::NOTTY,
            Self::Unmappable => Errno::ACCESS,
            Self::Failed => Errno::IO,
        };
        errno.raw_os_error().unsigned_abs()
    }
}

/// The commands, with their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    GetInfo = 4,
    GetRegionInfo = 5,
    GetRegionIoFds = 6,
    GetIrqInfo = 7,
    SetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    /// From the server.
    DmaRead = 11,
    /// From the server.
    DmaWrite = 12,
    Reset = 13,
    WriteMulti = 15,
    Feature = 16,
    MigrationRead = 17,
    MigrationWrite = 18,
}

/// What a command from a client may carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) command: Command,
    /// Payload in bytes.
    pub(crate) min_len: usize,
    pub(crate) max_len: usize,
    pub(crate) max_fds: usize,
}

const fn shape(command: Command, min_len: usize, max_len: usize, max_fds: usize) -> Shape {
    Shape { command, min_len, max_len, max_fds }
}

/// The commands that a client may send. DIRTY_PAGES (14) is of versions before 0.0's.
const SHAPES: &[Shape] = &[
    shape(Command::Version, 4, 4096, 0),
    shape(Command::DmaMap, 32, 32, 1),
    shape(Command::DmaUnmap, 24, 24, 0),
    shape(Command::GetInfo, 16, 16, 0),
    shape(Command::GetRegionInfo, 32, 32, 0),
    shape(Command::GetRegionIoFds, 16, 16, 0),
    shape(Command::GetIrqInfo, 16, 16, 0),
    shape(Command::SetIrqs, 20, 20 + MAX_FDS_OR_BYTES, MAX_FDS),
    shape(Command::RegionRead, 16, 16, 0),
    shape(Command::RegionWrite, 16, 16 + MAX_DATA_LEN, 0),
    shape(Command::Reset, 0, 0, 0),
    shape(Command::WriteMulti, 8, 8 + MAX_DATA_LEN, 0),
    shape(Command::Feature, 8, 4096, 0),
    shape(Command::MigrationRead, 8, 8, 0),
    shape(Command::MigrationWrite, 8, 8 + MAX_DATA_LEN, 0),
];

/// A byte for each of the vectors that a function can have.
const MAX_FDS_OR_BYTES: usize = 2048;

impl Shape {
    pub(crate) fn of(command: u16) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.command as u16 == command)
    }
}

/// Takes numbers from the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A payload in the making.
#[derive(Clone, Default, Debug)]
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
