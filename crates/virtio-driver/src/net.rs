//! The driver of network cards (virtio 1.3 §5.1).
//!
//! Packets lie in buffers of the driver's pool: [`Net::send`] copies one in, [`Net::read`] copies one out, and [`Net::forward`] sends one
//! that was received from where it lies.

mod commands;
mod header;
mod pair;

pub use commands::Switch;
pub use header::Header;
pub use pair::Received;

use crate::config;
use crate::device::{Device, Negotiated, Reset, Running, Wanted};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Events, Options, RequestQueue};
use crate::transport::{Transport, TransportError};
use alloc::vec::Vec;
use core::fmt;
use pair::Pair;
use vioduct_spec::net::{self, ADDRESS_LEN};
use vioduct_spec::{Features, device_type};

/// Bytes of a buffer, header included, unless [`Plan`] says otherwise: a packet of usual length.
pub const BUFFER_LEN: u32 = 1664;

/// What the driver does by command, where the device takes commands.
const BY_COMMAND: Features = net::CTRL_VQ
    .with(net::CTRL_RX_MODE)
    .with(net::CTRL_RX_EXTRA)
    .with(net::CTRL_VLAN_FILTER)
    .with(net::CTRL_MAC_ADDR)
    .with(net::GUEST_ANNOUNCE)
    .with(net::CTRL_GUEST_OFFLOADS);
/// What is of use to this driver, where the device has it.
const USED: Features = net::MAC.with(net::STATUS_FIELD).with(net::MTU).with(net::MRG_RXBUF).with(BY_COMMAND);

/// How a card is to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Pairs of queues, as many as the device has of them.
    pub pairs: u16,
    /// Bytes of a buffer, header included. Without mergeable buffers, a packet that is longer is lost.
    pub buffer_len: u32,
    /// Offloads to take, where the device has them: features of the device type.
    pub offloads: Features,
    /// Features of the device type to do without.
    pub without: Features,
}

impl Default for Plan {
    /// One pair, buffers of [`BUFFER_LEN`], no offloads, and all else that there is.
    fn default() -> Self {
        Self { pairs: 1, buffer_len: BUFFER_LEN, offloads: Features::NONE, without: Features::NONE }
    }
}

/// Whether there is a link, and what the device wants to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Packets go somewhere.
    pub up: bool,
    /// The network is to be told where this card is: then [`Net::acknowledge`].
    pub announce: bool,
}

/// A running network card. Dropped, it resets the device.
pub struct Net<T: Transport, D: Dma> {
    device: Device<T, Running>,
    pairs: Vec<Pair<D>>,
    control: Option<RequestQueue<D>>,
    address: Option<[u8; ADDRESS_LEN]>,
    mtu_bytes: Option<u16>,
}

impl<T: Transport, D: Dma + Clone> Net<T, D> {
    /// Takes a device from whatever state it is in to running. With several pairs, the first alone is in use until
    /// [`set_pairs`](Self::set_pairs).
    ///
    /// # Errors
    /// [`InitError`].
    pub fn new(transport: T, dma: &D, options: &Options, plan: &Plan) -> Result<Self, InitError> {
        Self::start(Device::new(transport)?, dma, options, plan)
    }

    /// The same from a device that has been reset.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn start(
        device: Device<T, Reset>,
        dma: &D,
        options: &Options,
        plan: &Plan,
    ) -> Result<Self, InitError> {
        let several = if plan.pairs > 1 { net::MQ } else { Features::NONE };
        let optional = options.features | (USED | several | plan.offloads).without(plan.without);
        let mut device = device.negotiate(device_type::NET, Wanted { required: Features::NONE, optional })?;
        let negotiated = device.negotiated();
        let there = pairs_of(&mut device, negotiated)?;
        let count = plan.pairs.min(there).max(1);
        let pairs = (0..count)
            .map(|number| Pair::set_up(&mut device, number, plan.buffer_len, options, dma))
            .collect::<Result<Vec<_>, _>>()?;
        let control = match negotiated.contains(net::CTRL_VQ) {
            true => Some(commands::set_up(&mut device, net::control_queue(there), options, dma)?),
            false => None,
        };
        let (address, mtu_bytes) = described(device.transport(), negotiated)?;
        let mut net = Self { device: device.driver_ok()?, pairs, control, address, mtu_bytes };
        for pair in &mut net.pairs {
            // A device that has broken a queue before it was used says so at the first poll.
            let _ = pair.replenish().and_then(|()| pair.kick(net.device.transport()));
        }
        Ok(net)
    }
}

/// How many pairs of queues there are: one without MQ (virtio 1.3 §5.1.2); and row 77: a device may say of their number what it likes.
fn pairs_of<T: Transport>(
    device: &mut Device<T, Negotiated>,
    negotiated: Features,
) -> Result<u16, TransportError> {
    if !negotiated.contains(net::MQ) {
        return Ok(1);
    }
    let count = config::read_bytes(device.transport(), net::MAX_QUEUE_PAIRS as u64)?;
    Ok(u16::from_le_bytes(count).clamp(1, net::QUEUE_PAIRS_MAX - 1))
}

type Description = (Option<[u8; ADDRESS_LEN]>, Option<u16>);

fn described<T: Transport>(transport: &mut T, negotiated: Features) -> Result<Description, TransportError> {
    config::stable(transport, |transport| {
        let (mut address, mut mtu) = ([0; ADDRESS_LEN], [0; 2]);
        if negotiated.contains(net::MAC) {
            transport.read_config_field(net::MAC_ADDRESS as u64, &mut address)?;
        }
        if negotiated.contains(net::MTU) {
            transport.read_config_field(net::MTU_BYTES as u64, &mut mtu)?;
        }
        let mtu = Some(u16::from_le_bytes(mtu)).filter(|mtu| *mtu >= net::MTU_MIN);
        Ok((Some(address).filter(|_| negotiated.contains(net::MAC)), mtu))
    })
}

impl<T: Transport, D: Dma> Net<T, D> {
    /// The card's address, if it tells one.
    #[must_use]
    pub const fn address(&self) -> Option<[u8; ADDRESS_LEN]> {
        self.address
    }

    /// Length of packets to keep to, without their Ethernet header, if the device says one.
    #[must_use]
    pub const fn mtu_bytes(&self) -> Option<u16> {
        self.mtu_bytes
    }

    /// How many pairs of queues there are.
    #[must_use]
    pub const fn pair_count(&self) -> u16 {
        self.pairs.len() as u16
    }

    /// The link as it is now. A device that does not tell has one (virtio 1.3 §5.1.4.2).
    ///
    /// # Errors
    /// [`RequestError::Transport`] from a device whose configuration keeps changing.
    pub fn link(&mut self) -> Result<Link, RequestError> {
        if !self.device.negotiated().contains(net::STATUS_FIELD) {
            return Ok(Link { up: true, announce: false });
        }
        let status = u16::from_le_bytes(config::read_bytes(self.device.transport(), net::STATUS as u64)?);
        Ok(Link { up: status & net::STATUS_LINK_UP != 0, announce: status & net::STATUS_ANNOUNCE != 0 })
    }

    /// Copies a packet, with what is to be done to it, into a buffer that the next [`kick`](Self::kick) shows the device.
    ///
    /// # Errors
    /// [`RequestError::Full`] while all buffers are with the device; [`RequestError::TooLong`].
    pub fn send(&mut self, pair: u16, header: &Header, frame: &[u8]) -> Result<(), RequestError> {
        self.pair(pair)?.send(header, frame)
    }

    /// The next packet that was received, if there is one. It keeps its buffers until it is [released](Self::release) or
    /// [forwarded](Self::forward).
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules; [`RequestError::ShortReply`] for a packet without all of its
    /// parts, which is lost.
    pub fn receive(&mut self, pair: u16) -> Result<Option<Received>, RequestError> {
        self.pair(pair)?.receive()
    }

    /// How many packets to receive before the next [`kick`](Self::kick): as many buffers as were taken from the queue together, none if
    /// nothing has come. What is forwarded in such batches suits a device that works on whole cache lines of descriptors. Of buffers that
    /// are merged it takes several for a packet, so there may be fewer.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn at_hand(&mut self, pair: u16) -> Result<usize, RequestError> {
        self.pair(pair)?.at_hand()
    }

    /// Copies from a packet what lies from `offset` on, and says how much that is.
    ///
    /// # Errors
    /// [`RequestError::NoQueue`].
    pub fn read(
        &mut self,
        pair: u16,
        packet: &Received,
        offset: usize,
        out: &mut [u8],
    ) -> Result<usize, RequestError> {
        self.pair(pair)?.read(packet, offset, out)
    }

    /// Changes the first bytes of a packet, which are in its first part.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] if that part has less.
    pub fn overwrite(&mut self, pair: u16, packet: &Received, bytes: &[u8]) -> Result<(), RequestError> {
        self.pair(pair)?.overwrite(packet, bytes)
    }

    /// Sends a packet from where it lies, with nothing to be done to it; its buffers can be filled again when it has gone. The device
    /// sees it at the next [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`RequestError::Full`] while the queue is, with the packet released.
    pub fn forward(&mut self, pair: u16, packet: Received) -> Result<(), RequestError> {
        self.pair(pair)?.forward(packet)
    }

    /// Gives a packet's buffers back to be filled again.
    ///
    /// # Errors
    /// [`RequestError::NoQueue`].
    pub fn release(&mut self, pair: u16, packet: Received) -> Result<(), RequestError> {
        self.pair(pair)?.release(packet);
        Ok(())
    }

    /// Shows the device what is to be sent, gives it as many buffers to fill as it is to have, and notifies it if it wants to know: once
    /// per batch. Buffers whose packets have gone are collected when they are needed.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules.
    pub fn kick(&mut self, pair: u16) -> Result<(), RequestError> {
        let Self { device, pairs, .. } = self;
        let pair = pairs.get_mut(usize::from(pair)).ok_or(RequestError::NoQueue)?;
        pair.publish();
        let turned = pair.turn();
        // Whatever became of the others: what is to be sent has been shown, and the device may sleep.
        pair.kick(device.transport())?;
        turned
    }

    /// Packets that were sent and have not gone yet.
    ///
    /// # Errors
    /// [`RequestError::Queue`] from a device that broke the queue's rules.
    pub fn sending(&mut self, pair: u16) -> Result<u16, RequestError> {
        let pair = self.pair(pair)?;
        pair.reclaim()?;
        Ok(pair.sending())
    }

    /// Has the device interrupt when a packet comes, or not. A driver that polls does without.
    ///
    /// # Errors
    /// [`RequestError::NoQueue`].
    pub fn disable_callbacks(&mut self, pair: u16) -> Result<(), RequestError> {
        self.pair(pair)?.disable_callbacks();
        Ok(())
    }

    /// Handles an interrupt: says whether the configuration, and with it the link, may have changed. Packets are for
    /// [`receive`](Self::receive), and buffers that have gone for [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`RequestError::NeedsReset`] and the like.
    pub fn service(&mut self) -> Result<Events, RequestError> {
        let interrupts = self.device.interrupts()?;
        let mut completed = 0;
        if interrupts.queue {
            for pair in &mut self.pairs {
                completed += pair.reclaim()?;
            }
        }
        Ok(Events { completed, config_changed: interrupts.config })
    }

    /// The device, for its transport and its health.
    pub const fn device(&mut self) -> &mut Device<T, Running> {
        &mut self.device
    }

    fn pair(&mut self, pair: u16) -> Result<&mut Pair<D>, RequestError> {
        self.pairs.get_mut(usize::from(pair)).ok_or(RequestError::NoQueue)
    }
}

impl<T: Transport, D: Dma> fmt::Debug for Net<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("device", &self.device)
            .field("pairs", &self.pairs.len())
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
