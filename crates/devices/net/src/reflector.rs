//! [`Reflect`]: a port that sends packets back with their addresses exchanged; for benchmarks, and tests of drivers.

use crate::handler::{CABLE, give_back, tell_of};
use crate::mirror;
use crate::port::{Pair, Port, Shared, Tells};
use crate::receiver::{Placed, Receiver};
use crate::request::{Header, RECEIVED, Refused, to_fill, to_send};
use std::sync::Arc;
use vioduct_spec::net::*;
use vioduct_virtio_device::{BufferError, Burst, Chain, Fault, Features, Io, Next, QueueHandler, Wake};

/// Packets of one wake: what is reflected is published, and the driver notified, after as many at the latest.
const LIMIT: usize = 32;

/// A mirror for as many pairs of queues as are wanted: each pair gets its own packets back.
pub struct Reflect;

impl Port for Reflect {
    /// What the driver sends with work left to do comes back so, if it takes that.
    fn features(&self) -> Features {
        CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN
    }

    fn pairs(&self) -> u16 {
        QUEUE_PAIRS_MAX
    }

    fn handler(&self, pair: Pair) -> Box<dyn QueueHandler> {
        let Pair { number, negotiated, shared, tells } = pair;
        Box::new(Reflector {
            receive: receive_queue(number),
            transmit: transmit_queue(number),
            receiver: Receiver::new(receive_queue(number), negotiated, shared.clone()),
            sent: Burst::new(LIMIT),
            negotiated,
            shared,
            tells,
        })
    }
}

struct Reflector {
    receive: u16,
    transmit: u16,
    /// For packets that take several buffers, or any care; and it holds the buffers that were popped.
    receiver: Receiver,
    /// Packets that were popped, in order.
    sent: Burst,
    negotiated: Features,
    shared: Arc<Shared>,
    tells: Tells,
}

impl Reflector {
    /// Reflects packets, as long as there are some, and buffers for them.
    fn turn(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let (next_room, next_sent) = self.look_ahead(io)?;
        while self.receiver.is_idle() || self.receiver.place(io)? != Placed::Waiting {
            self.copy(io)?;
            if self.sent.is_empty() && next_sent != Next::Other {
                break;
            }
            let Some(room) = self.receiver.next_room(next_room, io)? else { break };
            match self.next_sent(next_sent, io)? {
                Some(sent) => self.with_care(sent, room, io)?,
                None => {
                    self.receiver.keep(room);
                    break;
                }
            }
        }
        // There may be more: it is looked for in the next turn, once these are published. Packets without buffers must not be: they would
        // be found over and over.
        let lacking = if self.receiver.has_room() { self.transmit } else { self.receive };
        io.expect_kick_only(lacking);
        Ok(())
    }

    /// Pops as many buffers as a turn takes, and no more packets than that, and has the processor fetch them all while it goes on: one
    /// after the other, each would be waited for, as the driver's processor has them. A packet for which there is no buffer stays in the
    /// queue: one that is stopped loses none.
    fn look_ahead(&mut self, io: &mut Io<'_>) -> Result<(Next, Next), Fault> {
        let rooms = self.receiver.rooms();
        let next_room = io.pop_burst(self.receive, rooms, LIMIT)?;
        rooms.singles().iter().for_each(mirror::fetch_to_write);
        if rooms.is_empty() {
            // What a packet is like does not matter before there is a buffer.
            return Ok((next_room, if self.receiver.has_room() { Next::Other } else { next_room }));
        }
        let next_sent = io.pop_burst(self.transmit, &mut self.sent, rooms.len())?;
        self.sent.singles().iter().for_each(mirror::fetch_to_read);
        Ok((next_room, next_sent))
    }

    /// Copies packets that take no care, and completes them, ring by ring: what is written to one lies side by side.
    fn copy(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        if self.receiver.keeps() {
            return Ok(());
        }
        let rooms = self.receiver.rooms();
        let mut count = 0;
        for (room, sent) in rooms.singles_mut().iter_mut().zip(self.sent.singles()) {
            if !mirror::copy(sent, room) {
                break;
            }
            count += 1;
        }
        io.complete_burst(self.receive, rooms, count)?;
        io.complete_burst(self.transmit, &mut self.sent, count)
    }

    fn next_sent(&mut self, next: Next, io: &mut Io<'_>) -> Result<Option<Chain>, Fault> {
        match io.chain_of(self.transmit, &mut self.sent) {
            None if next == Next::Other => io.pop(self.transmit),
            sent => Ok(sent),
        }
    }

    /// A packet that asks for something, or does not simply fit.
    #[cold]
    #[inline(never)]
    fn with_care(&mut self, sent: Chain, room: Chain, io: &mut Io<'_>) -> Result<(), Fault> {
        match to_fill(&room) {
            Ok(()) => self.receiver.keep(room),
            Err(refused) => {
                self.shared.say(format_args!("a buffer comes back untouched: {refused}"));
                io.complete(self.receive, room, 0)?;
            }
        }
        match self.load(&sent) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => self.shared.drop_sent(refused),
            Err(error) => return give_back(self.transmit, sent, error, io),
        }
        io.complete(self.transmit, sent, 0)?;
        self.receiver.place(io).map(drop)
    }

    /// Takes a packet in, if it is a good one, and what it asks for is what the driver itself takes.
    fn load(&mut self, sent: &Chain) -> Result<Result<(), Refused>, BufferError> {
        let (header, frame_len) = match to_send(sent, self.negotiated)? {
            Ok(good) => good,
            Err(refused) => return Ok(Err(refused)),
        };
        let back = Header::judge(&header.encode(0), frame_len, &RECEIVED, self.shared.offloads());
        let header = match back {
            Ok(header) => header,
            Err(refused) => return Ok(Err(refused)),
        };
        self.receiver.load(sent, frame_len as usize, header)?;
        let addresses = self.receiver.inbox.room(2 * ADDRESS_LEN);
        addresses.rotate_left(ADDRESS_LEN);
        Ok(Ok(()))
    }

    fn stopping(&mut self, q: u16, io: &mut Io<'_>) -> Result<(), Fault> {
        if q == self.receive {
            return self.receiver.let_go(io);
        }
        if self.tells == Tells::Here {
            let _ = io.unwatch(self.shared.cable.changed());
        }
        for _ in 0..self.sent.len() {
            self.shared.drop_sent("there is no buffer for it, and the queue is stopped");
        }
        let count = self.sent.len();
        io.complete_burst(self.transmit, &mut self.sent, count)
    }
}

impl QueueHandler for Reflector {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(q) if q == self.receive => {
                self.receiver.started(io);
                Ok(())
            }
            Wake::Started(_) => tell_of(self.tells, &self.shared, io),
            Wake::Kick(_) => self.turn(io),
            Wake::Source(CABLE) => {
                self.shared.cable.tell(|| io.config_changed());
                Ok(())
            }
            Wake::Source(_) => Ok(()),
            Wake::Stopping(q) => self.stopping(q, io),
        }
    }
}

impl Drop for Reflector {
    /// Its queue is gone: the driver has taken the buffers back.
    fn drop(&mut self) {
        self.sent.discard();
    }
}
