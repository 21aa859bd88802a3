//! The command queue: decode, and do it.

use crate::device::{SharedFunction, TunnelledFunction, lock};
use crate::protocol::{Header, op};
use vioduct_virtio_device::{BufferError, Chain, Fault, Io, QueueHandler, RateLimit, Reader, Wake};

/// What is moved at a time: a command may be as long as a BAR.
const PIECE_LEN: usize = 4096;

/// Bytes of the function that a command is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    space: Space,
    /// In bytes.
    offset: u64,
    /// In bytes.
    len: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Space {
    Config,
    Bar(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    Read(Place),
    Write(Place),
    Fill(Place),
}

impl Command {
    fn decode(header: Header) -> Option<Self> {
        let place = |space| Place { space, offset: header.addr, len: header.size.into() };
        match header.op {
            op::CONFIG_READ => Some(Self::Read(place(Space::Config))),
            // The BAR's number tells a `memset_io` of Linux from a write that is meant (see the crate's description).
            op::CONFIG_WRITE if header.bar == 0 => Some(Self::Write(place(Space::Config))),
            op::BAR_READ => Some(Self::Read(place(Space::Bar(header.bar)))),
            op::BAR_WRITE => Some(Self::Write(place(Space::Bar(header.bar)))),
            op::BAR_FILL => Some(Self::Fill(place(Space::Bar(header.bar)))),
            _ => None,
        }
    }
}

impl Place {
    /// Whether there are such bytes. Configuration space ends by itself, as on a bus.
    fn is_in(&self, function: &TunnelledFunction) -> bool {
        match self.space {
            Space::Config => matches!(self.len, 1 | 2 | 4 | 8),
            Space::Bar(bar) => {
                let end = self.offset.checked_add(self.len);
                function.spec().bar(bar).is_some_and(|bar| end.is_some_and(|end| end <= bar.len))
            }
        }
    }

    /// The same bytes in pieces, each with its length. None is cut that is as small as a register.
    fn pieces(self) -> impl Iterator<Item = (Self, usize)> {
        (0..self.len).step_by(PIECE_LEN).map(move |done| {
            let len = (self.len - done).min(PIECE_LEN as u64);
            (Self { offset: self.offset.saturating_add(done), len, ..self }, len as usize)
        })
    }

    fn read(&self, function: &mut TunnelledFunction, out: &mut [u8]) {
        match self.space {
            Space::Config => function.config_read(self.offset, out),
            Space::Bar(bar) => function.bar_read(bar, self.offset, out),
        }
    }

    fn write(&self, function: &mut TunnelledFunction, data: &[u8]) {
        match self.space {
            // What it changes beyond bytes is the driver's to know: it decodes addresses.
            Space::Config => drop(function.config_write(self.offset, data)),
            Space::Bar(bar) => function.bar_write(bar, self.offset, data),
        }
    }
}

/// Serves the command queue.
pub(crate) struct Commands {
    pub(crate) function: SharedFunction,
    pub(crate) log: RateLimit,
}

impl QueueHandler for Commands {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        io.serve(q, |chain| self.execute(chain))
    }
}

impl Commands {
    /// Does a command; how many bytes it has written.
    fn execute(&self, chain: &Chain) -> Result<u32, BufferError> {
        let mut reader = chain.reader();
        let header = Header::decode(reader.read_array()?);
        match Command::decode(header) {
            Some(Command::Read(place)) => self.read(place, chain),
            Some(Command::Write(place)) => self.write(place, reader),
            Some(Command::Fill(place)) => self.fill(place, reader),
            None => Ok(self.refuse("a command that is not known")),
        }
    }

    fn read(&self, place: Place, chain: &Chain) -> Result<u32, BufferError> {
        let mut writer = chain.writer();
        let mut bytes = [0xff; PIECE_LEN];
        let mut function = lock(&self.function);
        if place.len > chain.writable_len() || !place.is_in(&function) {
            let ones = place.len.min(chain.writable_len()).min(PIECE_LEN as u64) as usize;
            writer.write_all(bytes.get(..ones).unwrap_or_default())?;
            self.refuse("a read of what is not there, or with too small a buffer");
            return Ok(ones as u32);
        }
        for (piece, len) in place.pieces() {
            let out = bytes.get_mut(..len).unwrap_or_default();
            piece.read(&mut function, out);
            writer.write_all(out)?;
        }
        // At most 2^32 - 1: it was a field of the header.
        Ok(place.len as u32)
    }

    fn write(&self, place: Place, mut data: Reader<'_>) -> Result<u32, BufferError> {
        let mut function = lock(&self.function);
        if place.len > data.remaining() || !place.is_in(&function) {
            return Ok(self.refuse("a write to what is not there, or without its data"));
        }
        let mut bytes = [0; PIECE_LEN];
        for (piece, len) in place.pieces() {
            let bytes = bytes.get_mut(..len).unwrap_or_default();
            data.read_exact(bytes)?;
            piece.write(&mut function, bytes);
        }
        Ok(0)
    }

    fn fill(&self, place: Place, mut data: Reader<'_>) -> Result<u32, BufferError> {
        let [byte] = data.read_array()?;
        let mut function = lock(&self.function);
        if !place.is_in(&function) {
            return Ok(self.refuse("a fill of what is not there"));
        }
        let bytes = [byte; PIECE_LEN];
        for (piece, len) in place.pieces() {
            piece.write(&mut function, bytes.get(..len).unwrap_or_default());
        }
        Ok(0)
    }

    /// Says in the log, sparingly, what the driver did. Nothing is written.
    fn refuse(&self, what: &str) -> u32 {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(suppressed, "virtio-pcidev: ignored: {what}");
        }
        0
    }
}
