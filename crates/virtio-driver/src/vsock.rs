//! The driver of socket devices (virtio 1.3 §5.10): stream connections, listened for and made.
//!
//! | module | what is in it |
//! |---|---|
//! | `connection` | one connection: data, credit, and what is to be said next |
//!
//! Nothing happens but in calls: [`Vsock::poll`] takes what has come and says what is to be said.

mod connection;
#[cfg(test)]
mod tests;

pub use connection::BUFFER_BYTES;

use crate::config;
use crate::device::{Device, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue, SlotShape, Taken, Ticket};
use crate::transport::Transport;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use connection::{Connection, Say};
use core::fmt;
use vioduct_spec::vsock::{
    EVENT_LEN, EVENT_QUEUE, EVENT_TRANSPORT_RESET, GUEST_CID, HEADER_LEN, HOST_CID, Header, OP_REQUEST,
    OP_RST, RECEIVE_QUEUE, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, STREAM, TRANSMIT_QUEUE, TYPE_STREAM,
};
use vioduct_spec::{Features, device_type};

/// Connections at a time, at most.
pub const MAX_CONNECTIONS: usize = 256;
/// Connections that wait on a port to be accepted, at most.
pub const MAX_BACKLOG: usize = 128;
/// Ports that are listened on, at most.
pub const MAX_LISTENERS: usize = 256;
/// Bytes of data in one packet, at most.
pub const PACKET_LEN: usize = 4096 - HEADER_LEN;

/// Buffers that wait for packets, at most.
const RECEIVE_BUFFERS: usize = 64;
const EVENT_BUFFERS: usize = 4;
/// Resets of connections that there are not, which wait for room in the queue; while there are so many, no packet is taken.
const MAX_REPLIES: usize = 64;
/// The ports of connections that are made from here.
const FIRST_LOCAL_PORT: u32 = 49152;
const RECEIVED: SlotShape = SlotShape { readable_len: 0, writable_len: (HEADER_LEN + PACKET_LEN) as u32 };
const TRANSMITTED: SlotShape = SlotShape { readable_len: (HEADER_LEN + PACKET_LEN) as u32, writable_len: 0 };
const EVENTS: SlotShape = SlotShape { readable_len: 0, writable_len: EVENT_LEN as u32 };

/// A connection, for whoever has it. It is good until [`Vsock::close`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Socket {
    place: u16,
    turn: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The other side has not answered yet.
    Connecting,
    /// Both sides have it.
    Open,
    /// The other side has refused it, ended it, or lost it. What came before can still be received.
    Over,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    End,
}

/// What a side does no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Receiving.
    Receive,
    /// Sending.
    Send,
}

/// Why a socket could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketError {
    /// There are as many connections, or listeners, as there can be.
    TooMany,
    /// Somebody listens on the port already.
    PortInUse,
    /// The connection was closed here.
    Closed,
    /// The other side takes no more, or is not there any more.
    Ended,
    /// The device.
    Device(RequestError),
}

impl From<RequestError> for SocketError {
    fn from(error: RequestError) -> Self {
        Self::Device(error)
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("there are as many connections as there can be: close one"),
            Self::PortInUse => f.write_str("somebody listens on the port already"),
            Self::Closed => f.write_str("the connection was closed here"),
            Self::Ended => f.write_str("the other side takes no more"),
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SocketError {}

#[derive(Debug)]
struct Listener {
    port: u32,
    backlog: VecDeque<Socket>,
}

#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    /// Counts the connections that it has had, so that an old [`Socket`] is none of a new one's.
    turn: u32,
}

/// A running socket device. Dropped, it resets the device.
#[derive(Debug)]
pub struct Vsock<T: Transport, D: Dma> {
    device: Device<T, Running>,
    receive: RequestQueue<D>,
    transmit: RequestQueue<D>,
    events: RequestQueue<D>,
    /// Buffers for packets and events, in the order in which the device has got them.
    posted: VecDeque<Ticket>,
    posted_events: VecDeque<Ticket>,
    cid: u64,
    places: Vec<Place>,
    listeners: Vec<Listener>,
    replies: VecDeque<Header>,
    next_port: u32,
    /// Whose turn it is to say something.
    next_place: usize,
    packet: Vec<u8>,
    dma: D,
}

impl<T: Transport, D: Dma + Clone> Vsock<T, D> {
    /// Takes a device from whatever state it is in to running.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(transport: T, dma: D, options: &Options) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, options)
    }

    /// The same from a device that has been reset.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn start(device: Device<T, Reset>, dma: D, options: &Options) -> Result<Self, InitError> {
        let wanted = Wanted { required: Features::NONE, optional: options.features | STREAM };
        let mut device = device.negotiate(device_type::VSOCK, wanted)?;
        let receive = RequestQueue::set_up(&mut device, RECEIVE_QUEUE, RECEIVED, options, &dma)?;
        let transmit = RequestQueue::set_up(&mut device, TRANSMIT_QUEUE, TRANSMITTED, options, &dma)?;
        let events = RequestQueue::set_up(&mut device, EVENT_QUEUE, EVENTS, options, &dma)?;
        let cid = config::read_u64(device.transport(), GUEST_CID as u64)?;
        Ok(Self {
            device: device.driver_ok()?,
            receive,
            transmit,
            events,
            posted: VecDeque::new(),
            posted_events: VecDeque::new(),
            cid,
            places: (0..MAX_CONNECTIONS).map(|_| Place::default()).collect(),
            listeners: Vec::new(),
            replies: VecDeque::new(),
            next_port: FIRST_LOCAL_PORT,
            next_place: 0,
            packet: vec![0; HEADER_LEN + PACKET_LEN],
            dma,
        })
    }

    /// Resets the device and starts over: every connection is lost, and nobody listens.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn restart(self, options: &Options) -> Result<Self, InitError> {
        let Self { device, receive, transmit, events, dma, .. } = self;
        let device = device.reset()?;
        drop((receive, transmit, events));
        Self::start(device, dma, options)
    }

    /// This guest's context identifier.
    pub const fn cid(&self) -> u64 {
        self.cid
    }

    /// Lets others connect to `port`. The device has buffers for that from now on.
    ///
    /// # Errors
    /// [`SocketError::PortInUse`], [`SocketError::TooMany`], or of the device.
    pub fn listen(&mut self, port: u32) -> Result<(), SocketError> {
        if self.listeners.iter().any(|listener| listener.port == port) {
            return Err(SocketError::PortInUse);
        }
        if self.listeners.len() >= MAX_LISTENERS {
            return Err(SocketError::TooMany);
        }
        self.listeners.push(Listener { port, backlog: VecDeque::new() });
        Ok(self.poll()?)
    }

    /// A connection that somebody has made to `port`, if there is one.
    pub fn accept(&mut self, port: u32) -> Option<Socket> {
        self.listeners.iter_mut().find(|listener| listener.port == port)?.backlog.pop_front()
    }

    /// Begins a connection to the host's `port`.
    ///
    /// # Errors
    /// [`SocketError::TooMany`], or of the device.
    pub fn connect(&mut self, port: u32) -> Result<Socket, SocketError> {
        let local = self.local_port(port);
        let socket = self.insert(Connection::requesting(local, port)).ok_or(SocketError::TooMany)?;
        self.poll()?;
        Ok(socket)
    }

    /// A port that no connection to that port of the host's has.
    fn local_port(&mut self, remote: u32) -> u32 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_LOCAL_PORT);
            if self.find(port, remote).is_none() {
                return port;
            }
        }
    }

    /// How far a connection is.
    ///
    /// # Errors
    /// [`SocketError::Closed`].
    pub fn progress(&mut self, socket: Socket) -> Result<Progress, SocketError> {
        Ok(self.get(socket)?.progress())
    }

    /// Sends as much of `data` as there is credit and room for, and says how much that is.
    ///
    /// # Errors
    /// [`SocketError::Ended`], [`SocketError::Closed`], or of the device.
    pub fn try_send(&mut self, socket: Socket, data: &[u8]) -> Result<usize, SocketError> {
        self.poll()?;
        let mut sent = 0;
        while let Some(rest) = data.get(sent..).filter(|rest| !rest.is_empty()) {
            let len = self.get(socket)?.sendable()?.min(rest.len()).min(PACKET_LEN);
            let part = rest.get(..len).unwrap_or_default();
            if len == 0 || !self.transmit_packet(socket.place.into(), Say::Data, part)? {
                break;
            }
            sent += len;
        }
        if sent > 0 {
            self.transmit.kick(&mut self.device)?;
        }
        Ok(sent)
    }

    /// Receives what has come, at most `out.len()` bytes.
    ///
    /// # Errors
    /// [`SocketError::Closed`], or of the device.
    pub fn try_receive(&mut self, socket: Socket, out: &mut [u8]) -> Result<Received, SocketError> {
        self.poll()?;
        Ok(self.get(socket)?.receive(out))
    }

    /// Says that this side does one thing no more.
    ///
    /// # Errors
    /// [`SocketError::Closed`], or of the device.
    pub fn shutdown(&mut self, socket: Socket, half: Half) -> Result<(), SocketError> {
        let flag = match half {
            Half::Receive => SHUTDOWN_RECEIVE,
            Half::Send => SHUTDOWN_SEND,
        };
        self.get(socket)?.shutdown(flag);
        Ok(self.poll()?)
    }

    /// Ends a connection: what was sent arrives; what was not received is lost.
    ///
    /// # Errors
    /// [`SocketError::Closed`], or of the device.
    pub fn close(&mut self, socket: Socket) -> Result<(), SocketError> {
        self.get(socket)?.close();
        if let Some(place) = self.places.get_mut(usize::from(socket.place)) {
            place.turn = place.turn.wrapping_add(1);
            place.connection.take_if(|connection| connection.is_done());
        }
        Ok(self.poll()?)
    }

    /// Takes what has come, and says what is to be said, as far as the queues have room.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke a queue's rules, and the like.
    pub fn poll(&mut self) -> Result<(), RequestError> {
        self.transmit.poll()?;
        self.receive.poll()?;
        self.events.poll()?;
        while self.replies.len() < MAX_REPLIES && self.take_packet()? {}
        while self.take_event()? {}
        post(&mut self.receive, &mut self.device, &mut self.posted, RECEIVE_BUFFERS, RECEIVED)?;
        post(&mut self.events, &mut self.device, &mut self.posted_events, EVENT_BUFFERS, EVENTS)?;
        self.say()
    }

    /// Handles an interrupt: polls, and sees to the device's health.
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        let interrupts = self.device.interrupts()?;
        let mut completed = 0;
        if interrupts.queue {
            completed = self.receive.drain()? + self.transmit.drain()? + self.events.drain()?;
            self.poll()?;
        }
        Ok(Events { completed, config_changed: interrupts.config })
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    /// The queue of packets that come, for its waker.
    pub const fn receive_queue(&mut self) -> &mut RequestQueue<D> {
        &mut self.receive
    }

    /// Takes the oldest packet, if the device has sent one.
    fn take_packet(&mut self) -> Result<bool, RequestError> {
        let Some(ticket) = self.posted.pop_front() else { return Ok(false) };
        match self.receive.take(ticket, &mut self.packet)? {
            Taken::Pending(ticket) => {
                self.posted.push_front(ticket);
                return Ok(false);
            }
            // Row 76: a device may say that it wrote what it likes; a packet is what header and count agree on.
            Taken::Done(written) => {
                let packet = core::mem::take(&mut self.packet);
                if let Some((header, data)) = split(&packet, written as usize) {
                    self.hear(&header, data);
                }
                self.packet = packet;
            }
        }
        Ok(true)
    }

    fn hear(&mut self, header: &Header, data: &[u8]) {
        // virtio 1.3 §5.10.6.2: what is not for this guest is none of its business.
        if header.dst_cid != self.cid {
            return;
        }
        let known = header.socket_type == TYPE_STREAM && header.src_cid == HOST_CID;
        match known.then(|| self.find(header.dst_port, header.src_port)) {
            Some(Some(place)) => self.hear_connection(place, header, data),
            Some(None) if header.op == OP_REQUEST => self.requested(header),
            _ if header.op == OP_RST => {}
            // virtio 1.3 §5.10.6.4: unknown types are answered so, too.
            _ => self.replies.push_back(reset_for(header)),
        }
    }

    fn hear_connection(&mut self, place: usize, header: &Header, data: &[u8]) {
        let Some(place) = self.places.get_mut(place) else { return };
        if let Some(connection) = &mut place.connection {
            connection.hear(header, data);
        }
        place.connection.take_if(|connection| connection.is_done());
    }

    fn requested(&mut self, header: &Header) {
        let waiting = self.listeners.iter().position(|listener| listener.port == header.dst_port);
        let room = |listener: &Listener| listener.backlog.len() < MAX_BACKLOG;
        let at = waiting.filter(|at| self.listeners.get(*at).is_some_and(room));
        let socket = at.and_then(|_| self.insert(Connection::responding(header)));
        match (at.and_then(|at| self.listeners.get_mut(at)), socket) {
            (Some(listener), Some(socket)) => listener.backlog.push_back(socket),
            _ => self.replies.push_back(reset_for(header)),
        }
    }

    /// virtio 1.3 §5.10.6.7: after a transport reset every connection is lost, and the identifier is read anew.
    fn take_event(&mut self) -> Result<bool, RequestError> {
        let Some(ticket) = self.posted_events.pop_front() else { return Ok(false) };
        match self.events.take_reply(ticket) {
            Ok(Taken::Pending(ticket)) => {
                self.posted_events.push_front(ticket);
                Ok(false)
            }
            Ok(Taken::Done(event)) if u32::from_le_bytes(event) == EVENT_TRANSPORT_RESET => {
                self.cid = config::read_u64(self.device.transport(), GUEST_CID as u64)?;
                for place in &mut self.places {
                    place.connection.iter_mut().for_each(Connection::lose);
                    place.connection.take_if(|connection| connection.is_done());
                }
                Ok(true)
            }
            Ok(Taken::Done(_)) | Err(RequestError::ShortReply { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Says what is to be said, a packet of each connection by turns.
    fn say(&mut self) -> Result<(), RequestError> {
        let mut said = false;
        while let Some(header) = self.replies.front() {
            if !submit(&mut self.transmit, &header.to_bytes())? {
                break;
            }
            self.replies.pop_front();
            said = true;
        }
        for step in 0..self.places.len() {
            let place = (self.next_place + step) % MAX_CONNECTIONS;
            let say = |this: &mut Self| this.connection(place).and_then(Connection::next);
            while let Some(say) = say(self) {
                if !self.transmit_packet(place, say, &[])? {
                    self.next_place = place;
                    return if said { self.transmit.kick(&mut self.device) } else { Ok(()) };
                }
                said = true;
            }
        }
        if said { self.transmit.kick(&mut self.device) } else { Ok(()) }
    }

    /// Sends a packet of a connection, if the queue has room.
    fn transmit_packet(&mut self, place: usize, say: Say, data: &[u8]) -> Result<bool, RequestError> {
        let cid = self.cid;
        let Some(connection) = self.connection(place) else { return Ok(false) };
        let header = connection.header(say, cid, data.len() as u32).to_bytes();
        let mut len = 0;
        for (to, from) in self.packet.iter_mut().zip(header.iter().chain(data)) {
            *to = *from;
            len += 1;
        }
        if !submit(&mut self.transmit, self.packet.get(..len).unwrap_or_default())? {
            return Ok(false);
        }
        if let Some(place) = self.places.get_mut(place) {
            place.connection.iter_mut().for_each(|connection| connection.said(say, data.len() as u32));
            place.connection.take_if(|connection| connection.is_done());
        }
        Ok(true)
    }

    fn connection(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.connection.as_mut()
    }

    fn insert(&mut self, connection: Connection) -> Option<Socket> {
        let index = self.places.iter().position(|place| place.connection.is_none())?;
        let place = self.places.get_mut(index)?;
        place.connection = Some(connection);
        Some(Socket { place: index as u16, turn: place.turn })
    }

    fn find(&self, local: u32, remote: u32) -> Option<usize> {
        let is_it = |connection: &Connection| connection.ports() == (local, remote);
        self.places.iter().position(|place| place.connection.as_ref().is_some_and(is_it))
    }

    fn get(&mut self, socket: Socket) -> Result<&mut Connection, SocketError> {
        let place = self.places.get_mut(usize::from(socket.place));
        let place = place.filter(|place| place.turn == socket.turn);
        place.and_then(|place| place.connection.as_mut()).ok_or(SocketError::Closed)
    }
}

/// Gives the device as many buffers as it is to have.
fn post<T: Transport, D: Dma>(
    queue: &mut RequestQueue<D>,
    device: &mut Device<T, Running>,
    posted: &mut VecDeque<Ticket>,
    count: usize,
    shape: SlotShape,
) -> Result<(), RequestError> {
    let before = posted.len();
    while posted.len() < count {
        match queue.submit(&[], shape.writable_len) {
            Ok(ticket) => posted.push_back(ticket),
            Err(RequestError::Full) => break,
            Err(error) => return Err(error),
        }
    }
    if posted.len() > before { queue.kick(device) } else { Ok(()) }
}

/// Makes a packet available, if there is room; its buffer is free again once the device has used it.
fn submit<D: Dma>(queue: &mut RequestQueue<D>, packet: &[u8]) -> Result<bool, RequestError> {
    match queue.submit(packet, 0) {
        Ok(ticket) => {
            queue.abandon(ticket);
            Ok(true)
        }
        Err(RequestError::Full) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The header and the data of a packet, if it has all that it announces.
fn split(packet: &[u8], written: usize) -> Option<(Header, &[u8])> {
    let (header, data) = packet.get(..written)?.split_first_chunk::<HEADER_LEN>()?;
    let header = Header::from_bytes(header);
    Some((header, data.get(..header.len as usize)?))
}

/// What answers a packet of no connection.
fn reset_for(packet: &Header) -> Header {
    Header {
        src_cid: packet.dst_cid,
        dst_cid: packet.src_cid,
        src_port: packet.dst_port,
        dst_port: packet.src_port,
        socket_type: packet.socket_type,
        op: OP_RST,
        ..Header::default()
    }
}
