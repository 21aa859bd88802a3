//! [`Reflect`]: a port that sends packets back with their addresses exchanged; for benchmarks, and tests of drivers.

use crate::handler::{CABLE, give_back, tell_of};
use crate::mirror;
use crate::port::{Pair, Port, Shared, Tells};
use crate::receiver::{Placed, Receiver};
use crate::request::{Header, RECEIVED, Refused, to_fill, to_send};
use std::collections::VecDeque;
use std::sync::Arc;
use vioduct_spec::net::*;
use vioduct_virtio_device::{BufferError, Chain, Fault, Features, Io, QueueHandler, Wake};

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
            sent: VecDeque::with_capacity(LIMIT),
            lens: Vec::with_capacity(LIMIT),
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
    sent: VecDeque<Chain>,
    /// Lengths in bytes of what was copied; kept, so that no turn allocates.
    lens: Vec<u32>,
    negotiated: Features,
    shared: Arc<Shared>,
    tells: Tells,
}

impl Reflector {
    /// Reflects packets, as long as there are some, and buffers for them.
    fn turn(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        self.look_ahead(io)?;
        while self.receiver.is_idle() || self.receiver.place(io)? != Placed::Waiting {
            self.copy(io)?;
            let Some(sent) = self.sent.pop_front() else { break };
            let Some(room) = self.receiver.ahead().pop_front() else {
                self.sent.push_front(sent);
                break;
            };
            self.with_care(sent, room, io)?;
        }
        // There may be more: it is looked for in the next turn, once these are published. Packets without buffers must not be: they would
        // be found over and over.
        let lacking = if self.receiver.ahead().is_empty() { self.receive } else { self.transmit };
        io.expect_kick_only(lacking);
        Ok(())
    }

    /// Copies packets that take no care, and completes them, ring by ring: what is written to one lies side by side.
    fn copy(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let (rooms, lens) = (self.receiver.ahead(), &mut self.lens);
        let copied = rooms.iter().zip(&self.sent).map(|(room, sent)| mirror::copy(sent, room));
        lens.clear();
        lens.extend(copied.take_while(|len| *len != 0));
        let count = lens.len();
        complete(self.receive, rooms.drain(..count).zip(lens.drain(..)), io)?;
        complete(self.transmit, self.sent.drain(..count).map(|sent| (sent, 0)), io)
    }

    /// Pops as many buffers as a turn takes, and no more packets than that, and has the processor fetch them all while it goes on: one
    /// after the other, each would be waited for, as the driver's processor has them. A packet for which there is no buffer stays in the
    /// queue: one that is stopped loses none.
    fn look_ahead(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        let rooms = self.receiver.ahead();
        pop_up_to(LIMIT, self.receive, io, rooms, mirror::fetch_to_write)?;
        pop_up_to(rooms.len(), self.transmit, io, &mut self.sent, mirror::fetch_to_read)
    }

    /// A packet that asks for something, or does not simply fit.
    #[cold]
    #[inline(never)]
    fn with_care(&mut self, sent: Chain, room: Chain, io: &mut Io<'_>) -> Result<(), Fault> {
        match to_fill(&room) {
            Ok(()) => self.receiver.ahead().push_front(room),
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
        for sent in self.sent.drain(..) {
            self.shared.drop_sent("there is no buffer for it, and the queue is stopped");
            io.complete(self.transmit, sent, 0)?;
        }
        Ok(())
    }
}

/// Pops until there are `count`, past the budget: a turn has a limit of its own.
#[inline]
fn pop_up_to(
    count: usize,
    q: u16,
    io: &mut Io<'_>,
    chains: &mut VecDeque<Chain>,
    fetch: impl Fn(&Chain),
) -> Result<(), Fault> {
    let Some(queue) = io.queue(q) else { return Ok(()) };
    while chains.len() < count {
        let Some(chain) = queue.pop().map_err(|error| Fault::Queue { queue: q, error })? else { break };
        fetch(&chain);
        chains.push_back(chain);
    }
    Ok(())
}

#[inline]
fn complete(q: u16, mut done: impl Iterator<Item = (Chain, u32)>, io: &mut Io<'_>) -> Result<(), Fault> {
    match io.queue(q) {
        Some(queue) => queue.complete_batch(done).map_err(|error| Fault::Queue { queue: q, error }),
        None => done.try_for_each(|(chain, written)| io.complete(q, chain, written)),
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
        self.sent.drain(..).for_each(Chain::discard);
    }
}
