//! [`Switchboard`]: serves the queues.

use crate::connection::{Connection, Ports, reset_for};
use crate::greeting::{Greeted, Greeting, MAX_GREETINGS};
use crate::host::{Listener, Stream};
use crate::request::{Op, Refused, decode, to_fill, to_take};
use crate::table::Table;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vioduct_spec::vsock::{
    EVENT_QUEUE, EVENT_TRANSPORT_RESET, HEADER_LEN, HOST_CID, Header, RECEIVE_QUEUE, TRANSMIT_QUEUE,
    TYPE_STREAM,
};
use vioduct_virtio_device::{
    BufferError, Chain, Fault, Interest, Io, QueueHandler, RateLimit, SourceId, Wake,
};

/// Resets of connections that there are not, which wait for buffers of the driver's; while there are so many, it is not listened to.
pub const MAX_REPLIES: usize = 256;
/// Host programs that are let in at a time, so that others have their turn.
const ACCEPTED_AT_ONCE: usize = 32;
/// Bytes that are read from a host program at a time.
const READ_BYTES: usize = 32 << 10;

const LISTENER: SourceId = SourceId(0);
const FIRST_GREETING: u32 = 1;
const FIRST_CONNECTION: u32 = FIRST_GREETING + MAX_GREETINGS as u32;

/// What the model and its handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where host programs are, if they are anywhere.
    pub(crate) listener: Option<Listener>,
    /// Every connection is lost, which the driver is to be told.
    pub(crate) lost: AtomicBool,
    /// Packets and buffers that did nothing, for they broke the rules.
    pub(crate) dropped: AtomicU64,
}

/// What goes to the guest next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// The first of the replies.
    Reply,
    /// A connection's packet.
    Connection(usize, Op),
}

/// Whether something was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Some,
    None,
}

/// All connections of a device.
pub(crate) struct Switchboard {
    shared: Arc<Shared>,
    guest_cid: u32,
    table: Table,
    greetings: [Option<Greeting>; MAX_GREETINGS],
    /// The greeting that gives way if there are too many.
    first_greeting: usize,
    replies: VecDeque<Header>,
    scratch: Vec<u8>,
    /// Host programs are listened to: while the guest can be reached.
    listens: bool,
    /// A host program may wait to be let in; one that could not be, for want of descriptors, has another chance with each event.
    kept_out: bool,
    log: RateLimit,
}

impl Switchboard {
    pub(crate) fn new(shared: Arc<Shared>, guest_cid: u32) -> Self {
        Self {
            shared,
            guest_cid,
            table: Table::new(),
            greetings: [const { None }; MAX_GREETINGS],
            first_greeting: 0,
            replies: VecDeque::new(),
            scratch: vec![0; READ_BYTES],
            listens: false,
            kept_out: false,
            log: RateLimit::default(),
        }
    }

    /// Sends and takes packets by turns, as long as there is one and a buffer for it: neither direction holds the other up.
    fn serve(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        loop {
            let sent = self.send_one(io)?;
            let taken = self.take_one(io)?;
            if (sent, taken) == (Progress::None, Progress::None) {
                return Ok(());
            }
        }
    }

    fn send_one(&mut self, io: &mut Io<'_>) -> Result<Progress, Fault> {
        let Some(turn) = self.turn() else { return Ok(Progress::None) };
        let Some(chain) = io.pop(RECEIVE_QUEUE)? else { return Ok(Progress::None) };
        let data = matches!(turn, Turn::Connection(_, Op::Data));
        if let Err(refused) = to_fill(&chain, HEADER_LEN + usize::from(data)) {
            self.drop_for(refused);
            io.complete(RECEIVE_QUEUE, chain, 0)?;
            return Ok(Progress::Some);
        }
        match self.write(turn, &chain) {
            Ok(written) => io.complete(RECEIVE_QUEUE, chain, written)?,
            Err(error) => give_back(RECEIVE_QUEUE, chain, error, io)?,
        }
        Ok(Progress::Some)
    }

    /// Passes over connections that have nothing to say.
    fn turn(&mut self) -> Option<Turn> {
        if !self.replies.is_empty() {
            return Some(Turn::Reply);
        }
        while let Some(place) = self.table.first() {
            let scratch = &mut self.scratch;
            match self.table.get(place).and_then(|connection| connection.next(scratch)) {
                Some(op) => return Some(Turn::Connection(place, op)),
                None => self.table.pass(),
            }
        }
        None
    }

    fn write(&mut self, turn: Turn, chain: &Chain) -> Result<u32, BufferError> {
        match turn {
            Turn::Reply => {
                let header = self.replies.pop_front().unwrap_or_default();
                chain.writer().write_all(&header.to_bytes())?;
                Ok(HEADER_LEN as u32)
            }
            Turn::Connection(place, op) => {
                let Some(connection) = self.table.get(place) else { return Ok(0) };
                let written = connection.say(op, self.guest_cid, chain)?;
                self.table.pass();
                self.table.changed(place);
                Ok(written)
            }
        }
    }

    /// virtio 1.3 §5.10.6.1: packets are taken as long as what they cause can be kept.
    fn take_one(&mut self, io: &mut Io<'_>) -> Result<Progress, Fault> {
        if self.replies.len() >= MAX_REPLIES {
            return Ok(Progress::None);
        }
        let Some(chain) = io.pop(TRANSMIT_QUEUE)? else { return Ok(Progress::None) };
        match self.take(&chain, io) {
            Ok(()) => io.complete(TRANSMIT_QUEUE, chain, 0)?,
            Err(error) => give_back(TRANSMIT_QUEUE, chain, error, io)?,
        }
        Ok(Progress::Some)
    }

    fn take(&mut self, chain: &Chain, io: &mut Io<'_>) -> Result<(), BufferError> {
        if let Err(refused) = to_take(chain) {
            self.drop_for(refused);
            return Ok(());
        }
        let mut reader = chain.reader();
        let header = Header::from_bytes(&reader.read_array()?);
        let op = match decode(&header, chain, self.guest_cid) {
            Ok(op) => op,
            Err(refused) => {
                self.drop_for(refused);
                return Ok(());
            }
        };
        let ports = Ports { guest: header.src_port, host: header.dst_port };
        // virtio 1.3 §5.10.6.4: a packet of an unknown type is answered by a reset; and so is one for somebody who is not there.
        let known = header.socket_type == TYPE_STREAM && header.dst_cid == HOST_CID;
        match (known.then(|| self.table.find(ports)), op) {
            (Some(Some(place)), _) => {
                let scratch = &mut self.scratch;
                if let Some(connection) = self.table.get(place) {
                    connection.hear(op, &header, &mut reader, scratch)?;
                }
                self.table.changed(place);
            }
            (_, Op::Reset) => {}
            (Some(None), Op::Request) => self.reach(ports, &header, io),
            _ => self.replies.push_back(reset_for(&header)),
        }
        Ok(())
    }

    /// The guest wants to be connected with a host program.
    fn reach(&mut self, ports: Ports, request: &Header, io: &mut Io<'_>) {
        let listener = self.shared.listener.as_ref().filter(|_| !self.table.is_full());
        let stream = listener.and_then(|listener| listener.reach(ports.host).ok());
        let connection = stream.map(|stream| Connection::of_guest(ports, stream, request));
        if connection.is_none_or(|connection| self.admit(connection, io).is_none()) {
            self.replies.push_back(reset_for(request));
        }
    }

    /// Takes a connection in, if there is a place and it can be waited for.
    fn admit(&mut self, connection: Connection, io: &mut Io<'_>) -> Option<()> {
        let ports = connection.ports();
        let place = self.table.insert(connection)?;
        let stream = self.table.get(place)?.stream();
        if self.listens && stream.is_some_and(|stream| watch(io, stream, of_connection(place)).is_err()) {
            self.log_line(format_args!("a connection of port {} cannot be waited for", ports.guest));
        }
        Some(())
    }

    fn source(&mut self, SourceId(id): SourceId, io: &mut Io<'_>) -> Result<(), Fault> {
        match id.checked_sub(FIRST_CONNECTION) {
            Some(place) => self.host_moves(place as usize),
            None if SourceId(id) == LISTENER => self.kept_out = true,
            None => self.greeted(id.saturating_sub(FIRST_GREETING) as usize, io),
        }
        if std::mem::take(&mut self.kept_out) { self.let_in(io) } else { Ok(()) }
    }

    fn host_moves(&mut self, place: usize) {
        if let Some(connection) = self.table.get(place) {
            connection.host_moves();
        }
        self.table.changed(place);
    }

    /// Lets host programs in.
    fn let_in(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let Some(listener) = &shared.listener else { return Ok(()) };
        for _ in 0..ACCEPTED_AT_ONCE {
            match listener.accept() {
                Ok(Some(stream)) => self.greet(stream, io),
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.kept_out = true;
                    self.log_line(format_args!("a host program cannot be let in: {error}"));
                    return Ok(());
                }
            }
        }
        // There may be more: watched anew, it is reported again.
        watch(io, listener, LISTENER).map_err(cannot_wait)
    }

    fn greet(&mut self, stream: Stream, io: &mut Io<'_>) {
        let free = self.greetings.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.first_greeting = (self.first_greeting + 1) % MAX_GREETINGS;
            self.first_greeting
        });
        if let Some(here) = self.greetings.get_mut(place)
            && watch(io, &stream, of_greeting(place)).is_ok()
        {
            *here = Some(Greeting::new(stream));
        }
    }

    /// A host program has said something.
    fn greeted(&mut self, place: usize, io: &mut Io<'_>) {
        let Some(here) = self.greetings.get_mut(place) else { return };
        let Some(greeting) = here.take() else { return };
        match greeting.read() {
            Greeted::NotYet(greeting) => *here = Some(greeting),
            Greeted::Nothing => {}
            Greeted::Port(stream, guest, said) => {
                let ports = Ports { guest, host: self.table.host_port(guest) };
                // Without a place for it, the host program finds its connection closed.
                let _ = self.admit(Connection::of_host(ports, stream, said), io);
            }
        }
    }

    /// While packets can reach the guest, host programs are listened to.
    fn listen(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        self.listens = true;
        let listener = self.shared.listener.iter().try_for_each(|listener| watch(io, listener, LISTENER));
        let greetings = (0..).zip(&self.greetings).filter_map(|(place, here)| Some((place, here.as_ref()?)));
        let greetings = greetings.map(|(place, greeting)| (of_greeting(place), greeting.stream()));
        let connections =
            self.table.iter().filter_map(|(place, one)| Some((of_connection(place), one.stream()?)));
        listener
            .and_then(|()| greetings.chain(connections).try_for_each(|(id, stream)| watch(io, stream, id)))
            .map_err(cannot_wait)
    }

    /// A device at rest is woken by nothing. What is not watched cannot be unwatched, which is as well.
    fn rest(&mut self, io: &mut Io<'_>) {
        self.listens = false;
        self.shared.listener.iter().for_each(|listener| drop(io.unwatch(listener)));
        let greetings = self.greetings.iter().flatten().map(Greeting::stream);
        let connections = self.table.iter().filter_map(|(_, connection)| connection.stream());
        greetings.chain(connections).for_each(|stream| drop(io.unwatch(stream)));
    }

    /// virtio 1.3 §5.10.6.7: a guest that has been moved learns that its connections are lost.
    fn tell_of_loss(&self, io: &mut Io<'_>) -> Result<(), Fault> {
        while self.shared.lost.load(Ordering::Acquire) {
            let Some(chain) = io.pop(EVENT_QUEUE)? else { break };
            let written = match to_fill(&chain, size_of::<u32>()) {
                Ok(()) => chain.writer().write_u32(EVENT_TRANSPORT_RESET).map(|()| size_of::<u32>() as u32),
                Err(refused) => {
                    self.drop_for(refused);
                    Ok(0)
                }
            };
            match written {
                Ok(count) => {
                    io.complete(EVENT_QUEUE, chain, count)?;
                    self.shared.lost.store(count == 0, Ordering::Release);
                }
                Err(error) => return give_back(EVENT_QUEUE, chain, error, io),
            }
        }
        Ok(())
    }

    fn drop_for(&self, refused: Refused) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        self.log_line(format_args!("dropped: {refused}"));
    }

    fn log_line(&self, what: std::fmt::Arguments<'_>) {
        if let Some(suppressed) = self.log.admit() {
            let dropped = self.shared.dropped.load(Ordering::Relaxed);
            tracing::warn!(device = "vsock", suppressed, dropped, "{what}");
        }
    }
}

impl QueueHandler for Switchboard {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(RECEIVE_QUEUE) => self.listen(io),
            Wake::Kick(EVENT_QUEUE) => self.tell_of_loss(io),
            Wake::Kick(_) => self.serve(io),
            Wake::Source(id) => self.source(id, io).and_then(|()| self.serve(io)),
            Wake::Stopping(RECEIVE_QUEUE) => {
                self.rest(io);
                Ok(())
            }
            // None of its buffers is held.
            Wake::Started(_) | Wake::Stopping(_) => Ok(()),
        }
    }
}

fn of_greeting(place: usize) -> SourceId {
    SourceId(FIRST_GREETING + place as u32)
}

fn of_connection(place: usize) -> SourceId {
    SourceId(FIRST_CONNECTION + place as u32)
}

fn watch(io: &mut Io<'_>, fd: impl AsFd, id: SourceId) -> io::Result<()> {
    io.watch(fd, id, Interest::Both)
}

fn cannot_wait(error: io::Error) -> Fault {
    Fault::Device(format!("cannot wait for the host's sockets: {error}").into())
}

/// Gives back a buffer whose memory is not there.
fn give_back(queue: u16, chain: Chain, error: BufferError, io: &mut Io<'_>) -> Result<(), Fault> {
    io.complete(queue, chain, 0)?;
    match error {
        BufferError::Memory(fault) => Err(Fault::Memory(fault)),
        BufferError::Short { .. } => Ok(()),
    }
}
