//! Commands to the card, by its control queue (virtio 1.3 §5.1.6.5).

use super::Net;
use crate::device::{Device, Negotiated};
use crate::dma::Dma;
use crate::error::{InitError, RequestError};
use crate::request_queue::{Options, RequestQueue, SlotShape, Wait};
use crate::transport::Transport;
use alloc::vec::Vec;
use vioduct_spec::Features;
use vioduct_spec::net::*;

/// Longest command in bytes: tables of more than a hundred addresses.
const COMMAND_MAX_LEN: usize = 1024;
const SHAPE: SlotShape = SlotShape { readable_len: COMMAND_MAX_LEN as u32, writable_len: 1 };
/// Commands that wait at a time, and their pieces.
const QUEUE_SIZE: u16 = 4;

/// Which packets are received, beside those to the card's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// All.
    Promiscuous,
    /// All multicast.
    AllMulticast,
    /// All unicast.
    AllUnicast,
    /// No multicast.
    NoMulticast,
    /// No unicast.
    NoUnicast,
    /// No broadcast.
    NoBroadcast,
}

impl Switch {
    const fn command(self) -> u8 {
        match self {
            Self::Promiscuous => CTRL_RX_PROMISC,
            Self::AllMulticast => CTRL_RX_ALLMULTI,
            Self::AllUnicast => CTRL_RX_ALLUNI,
            Self::NoMulticast => CTRL_RX_NOMULTI,
            Self::NoUnicast => CTRL_RX_NOUNI,
            Self::NoBroadcast => CTRL_RX_NOBCAST,
        }
    }
}

pub(super) fn set_up<T: Transport, D: Dma + Clone>(
    device: &mut Device<T, Negotiated>,
    queue: u16,
    options: &Options,
    dma: &D,
) -> Result<RequestQueue<D>, InitError> {
    let options = Options { queue_size: options.queue_size.min(QUEUE_SIZE), ..options.clone() };
    RequestQueue::set_up(device, queue, SHAPE, &options, dma)
}

impl<T: Transport, D: Dma> Net<T, D> {
    /// Switches on which packets are received.
    ///
    /// # Errors
    /// [`RequestError::Refused`] by a device that does not know of it, as for all commands.
    pub fn switch_on(&mut self, what: Switch, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_RX, what.command(), &[1], wait)
    }

    /// Switches it off.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn switch_off(&mut self, what: Switch, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_RX, what.command(), &[0], wait)
    }

    /// Says which addresses are received beside the card's own.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on); [`RequestError::TooLong`] for more than about 160.
    pub fn set_tables(
        &mut self,
        unicast: &[[u8; ADDRESS_LEN]],
        multicast: &[[u8; ADDRESS_LEN]],
        wait: Wait<'_>,
    ) -> Result<(), RequestError> {
        let mut data = Vec::new();
        for table in [unicast, multicast] {
            data.extend((table.len() as u32).to_le_bytes());
            data.extend_from_slice(table.as_flattened());
        }
        self.command(CTRL_MAC, CTRL_MAC_TABLE_SET, &data, wait)
    }

    /// Sets the card's address.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn set_address(&mut self, address: [u8; ADDRESS_LEN], wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_MAC, CTRL_MAC_ADDRESS_SET, &address, wait)?;
        self.address = Some(address);
        Ok(())
    }

    /// Receives a VLAN's packets.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn add_vlan(&mut self, id: u16, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_VLAN, CTRL_VLAN_ADD, &id.to_le_bytes(), wait)
    }

    /// Receives them no more.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn remove_vlan(&mut self, id: u16, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_VLAN, CTRL_VLAN_DEL, &id.to_le_bytes(), wait)
    }

    /// Says that the network is being told where the card is.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn acknowledge(&mut self, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_ANNOUNCE, CTRL_ANNOUNCE_ACK, &[], wait)
    }

    /// Uses so many pairs of queues.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on); [`RequestError::NoQueue`] for more than were set up.
    pub fn set_pairs(&mut self, count: u16, wait: Wait<'_>) -> Result<(), RequestError> {
        if count > self.pair_count() {
            return Err(RequestError::NoQueue);
        }
        self.command(CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET, &count.to_le_bytes(), wait)
    }

    /// Takes these offloads, of those that were negotiated.
    ///
    /// # Errors
    /// As [`switch_on`](Self::switch_on).
    pub fn set_offloads(&mut self, taken: Features, wait: Wait<'_>) -> Result<(), RequestError> {
        self.command(CTRL_OFFLOADS, CTRL_GUEST_OFFLOADS_SET, &taken.0.to_le_bytes(), wait)
    }

    fn command(&mut self, class: u8, command: u8, data: &[u8], wait: Wait<'_>) -> Result<(), RequestError> {
        let Self { device, control, .. } = self;
        let queue = control.as_mut().ok_or(RequestError::Refused)?;
        let mut bytes = Vec::with_capacity(COMMAND_LEN + data.len());
        bytes.extend([class, command]);
        bytes.extend_from_slice(data);
        let [answer] = queue.call_exact(device, &bytes, wait)?;
        if answer == CTRL_OK { Ok(()) } else { Err(RequestError::Refused) }
    }
}
