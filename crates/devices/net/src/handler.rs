//! [`PairHandler`]: serves a pair of queues before a port of packets.

use crate::cable::Link;
use crate::port::{Pair, Shared, Tells};
use crate::receiver::Receiver;
use crate::transmitter::{Pumped, Transmitter};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_spec::net::{receive_queue, transmit_queue};
use vioduct_virtio_device::{BufferError, Chain, Fault, Interest, Io, QueueHandler, SourceId, Wake};

/// Packets came, or can go.
const PORT: SourceId = SourceId(0);
/// The cable's state has changed.
pub(crate) const CABLE: SourceId = SourceId(1);

/// What a handler does about its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watch {
    /// Neither queue runs, and it is woken by nothing.
    Off,
    On,
    /// There is no port any more.
    Unplugged,
}

pub(crate) struct PairHandler {
    port: Arc<OwnedFd>,
    shared: Arc<Shared>,
    receiver: Receiver,
    transmitter: Transmitter,
    watch: Watch,
    /// How many of the two queues run.
    running: u8,
    tells: Tells,
}

impl PairHandler {
    /// Over packets of `port`, which does not block: each is read and written whole, behind its header.
    pub(crate) fn new(pair: Pair, port: Arc<OwnedFd>) -> Self {
        let Pair { number, negotiated, shared, tells } = pair;
        Self {
            receiver: Receiver::new(receive_queue(number), negotiated, shared.clone()),
            transmitter: Transmitter::new(transmit_queue(number), negotiated, shared.clone()),
            port,
            shared,
            watch: Watch::Off,
            running: 0,
            tells,
        }
    }

    fn started(&mut self, q: u16, io: &mut Io<'_>) -> Result<(), Fault> {
        self.running += 1;
        if q == self.receiver.queue() {
            self.receiver.started(io);
        }
        if self.watch == Watch::Off {
            self.watch = Watch::On;
            self.watch(io)?;
            tell_of(self.tells, &self.shared, io)?;
        }
        Ok(())
    }

    /// Ready is reported once; watching anew reports what is ready still.
    fn watch(&self, io: &mut Io<'_>) -> Result<(), Fault> {
        io.watch(&self.port, PORT, Interest::Both)
            .map_err(|error| Fault::Device(format!("cannot wait for the port: {error}").into()))
    }

    fn stopping(&mut self, q: u16, io: &mut Io<'_>) -> Result<(), Fault> {
        self.running = self.running.saturating_sub(1);
        if self.running == 0 {
            self.unwatch(io);
            if self.tells == Tells::Here {
                let _ = io.unwatch(self.shared.cable.changed());
            }
        }
        match q == self.receiver.queue() {
            true => self.receiver.let_go(io),
            false => self.transmit(io).and_then(|()| self.transmitter.let_go(io)),
        }
    }

    fn unwatch(&mut self, io: &mut Io<'_>) {
        if self.watch == Watch::On {
            // It may have gone with the port.
            let _ = io.unwatch(&self.port);
            self.watch = Watch::Off;
        }
    }

    fn receive(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        if self.watch != Watch::On {
            return Ok(());
        }
        match self.receiver.pump(&self.port, io)? {
            Pumped::Dry => Ok(()),
            Pumped::Limit => self.watch(io),
            Pumped::Gone(error) => {
                self.unplug(&error, io);
                Ok(())
            }
        }
    }

    fn transmit(&mut self, io: &mut Io<'_>) -> Result<(), Fault> {
        if self.watch == Watch::Unplugged {
            return self.transmitter.drop_all(io);
        }
        match self.transmitter.pump(&self.port, io)? {
            Pumped::Gone(error) => {
                self.unplug(&error, io);
                self.transmitter.drop_all(io)
            }
            Pumped::Dry | Pumped::Limit => Ok(()),
        }
    }

    /// The port was taken away: to the driver the cable is out, and what it sends is lost.
    fn unplug(&mut self, error: &io::Error, io: &mut Io<'_>) {
        self.unwatch(io);
        self.watch = Watch::Unplugged;
        self.shared.say(format_args!("what the card was plugged into is gone: {error}"));
        self.shared.cable.set_link(Link::Down);
    }
}

impl QueueHandler for PairHandler {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(q) => self.started(q, io),
            Wake::Kick(q) if q == self.receiver.queue() => self.receive(io),
            Wake::Kick(_) => self.transmit(io),
            Wake::Source(CABLE) => {
                self.shared.cable.tell(|| io.config_changed());
                Ok(())
            }
            Wake::Source(_) => {
                self.receive(io)?;
                if self.transmitter.is_parked() { self.transmit(io) } else { Ok(()) }
            }
            Wake::Stopping(q) => self.stopping(q, io),
        }
    }
}

/// Watches the cable, where that is for this handler to do.
pub(crate) fn tell_of(tells: Tells, shared: &Shared, io: &mut Io<'_>) -> Result<(), Fault> {
    if tells == Tells::Elsewhere {
        return Ok(());
    }
    io.watch(shared.cable.changed(), CABLE, Interest::Readable)
        .map_err(|error| Fault::Device(format!("cannot wait for the cable: {error}").into()))
}

/// Gives back a buffer whose memory is not there.
pub(crate) fn give_back(q: u16, chain: Chain, error: BufferError, io: &mut Io<'_>) -> Result<(), Fault> {
    io.complete(q, chain, 0)?;
    match error {
        BufferError::Memory(fault) => Err(Fault::Memory(fault)),
        BufferError::Short { .. } => Ok(()),
    }
}
