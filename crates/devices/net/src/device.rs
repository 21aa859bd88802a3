//! [`Net`]: identity, features, configuration space and state (virtio 1.3 §5.1.2 to §5.1.5).

use crate::cable::Cable;
use crate::control::Control;
use crate::filter::{Address, Filter};
use crate::port::{Pair, Port, Shared, Tells};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vioduct_spec::{device_type, net};
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Features, Handlers, StateError};

/// Pairs of queues that a card has at most: more than a machine has processors.
pub const MAX_QUEUE_PAIRS: u16 = 64;
/// Largest size of a queue of packets, in descriptors.
const QUEUE_SIZE: u16 = 1024;
/// Largest size of the control queue.
const CONTROL_QUEUE_SIZE: u16 = 64;
/// Length of what precedes the filter in a saved state: pairs `u16`, offloads `u64`.
const STATE_HEAD_LEN: usize = 10;

/// A virtio network card.
pub struct Net {
    port: Arc<dyn Port>,
    shared: Arc<Shared>,
    address: Address,
    pairs: u16,
    mtu_bytes: Option<u16>,
    negotiated: Features,
}

/// What a card is, beside what it is plugged into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Its address; not that of a group.
    pub address: Address,
    /// Pairs of queues, each served by a thread: from 1 to what the port has, at most [`MAX_QUEUE_PAIRS`].
    pub pairs: u16,
    /// Length of packets that the driver is to keep to, without their Ethernet header; from 68 bytes on.
    pub mtu_bytes: Option<u16>,
}

/// Packets that went nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Of those that the driver sent.
    pub sent: u64,
    /// Of those that came for it; not those that it did not want.
    pub received: u64,
}

impl Net {
    /// A card plugged into `port`. What `setup` says beyond what there can be is cut to it.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new(port: Arc<dyn Port>, setup: Setup) -> io::Result<Self> {
        let Setup { address, pairs, mtu_bytes } = setup;
        let shared = Arc::new(Shared::new(Cable::new()?, Filter::new(address)));
        let pairs = pairs.clamp(1, port.pairs().clamp(1, MAX_QUEUE_PAIRS));
        let mtu_bytes = mtu_bytes.map(|mtu| mtu.max(net::MTU_MIN));
        Ok(Self { port, shared, address, pairs, mtu_bytes, negotiated: Features::NONE })
    }

    /// Its cable, to be pulled and put in at any time, by any thread.
    #[must_use]
    pub fn cable(&self) -> Cable {
        self.shared.cable.clone()
    }

    /// Packets that went nowhere since the card was made.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let Shared { sent_dropped, received_dropped, .. } = &*self.shared;
        Dropped {
            sent: sent_dropped.load(Ordering::Relaxed),
            received: received_dropped.load(Ordering::Relaxed),
        }
    }

    fn offered(&self) -> Features {
        let always = net::MAC | net::STATUS_FIELD | net::MRG_RXBUF;
        let by_command = net::CTRL_VQ
            | net::CTRL_RX_MODE
            | net::CTRL_RX_EXTRA
            | net::CTRL_VLAN_FILTER
            | net::CTRL_MAC_ADDR
            | net::GUEST_ANNOUNCE;
        let when = |holds: bool, feature: Features| if holds { feature } else { Features::NONE };
        always
            | by_command
            | self.port.features()
            | when(self.pairs > 1, net::MQ)
            | when(self.mtu_bytes.is_some(), net::MTU)
    }

    /// virtio 1.3 §5.1.4.
    fn config(&self) -> [u8; net::CONFIG_LEN] {
        let fields: [(usize, &[u8]); 4] = [
            (net::MAC_ADDRESS, &self.shared.filter().address().0),
            (net::STATUS, &self.shared.cable.status().to_le_bytes()),
            (net::MAX_QUEUE_PAIRS, &self.pairs.to_le_bytes()),
            (net::MTU_BYTES, &self.mtu_bytes.unwrap_or(0).to_le_bytes()),
        ];
        let mut config = [0; net::CONFIG_LEN];
        for (offset, bytes) in fields {
            config.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
        }
        config
    }

    /// Pairs of queues that a driver with these features has. virtio 1.3 §5.1.2: one without `MQ`. A driver without a control queue
    /// may still have several: front-ends of vhost-user keep control to themselves.
    fn pairs_of(&self, negotiated: Features) -> u16 {
        let many = negotiated.contains(net::MQ) || !negotiated.contains(net::CTRL_VQ);
        if many { self.pairs } else { 1 }
    }

    /// Has the port do as the driver wants.
    fn apply(&self, pairs: u16, offloads: Features) {
        let outcome = self.port.set_offloads(offloads).and_then(|()| self.port.set_pairs(pairs));
        if let Err(error) = outcome {
            self.shared.say(format_args!("the port does not do as the driver wants: {error}"));
        }
        self.shared.set_pairs(pairs);
        self.shared.set_offloads(offloads);
    }

    /// What a driver begins with: virtio 1.3 §5.1.6.5.5, one pair until it says so, if it can; §5.1.6.5.6, all offloads that were
    /// negotiated.
    fn apply_first(&self, negotiated: Features) {
        let pairs = if negotiated.contains(net::CTRL_VQ) { 1 } else { self.pairs };
        self.apply(pairs, negotiated & net::GUEST_OFFLOADS);
    }
}

impl DeviceModel for Net {
    fn info(&self) -> DeviceInfo {
        let mut queue_sizes = vec![QUEUE_SIZE; usize::from(2 * self.pairs)];
        queue_sizes.push(CONTROL_QUEUE_SIZE);
        DeviceInfo {
            features: self.offered(),
            config_len: net::CONFIG_LEN,
            ..DeviceInfo::new(device_type::NET, "net", queue_sizes)
        }
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        out.iter_mut().zip(self.config().iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    fn handlers(&mut self, negotiated: Features) -> Handlers {
        self.negotiated = negotiated;
        self.apply_first(negotiated);
        let pairs = self.pairs_of(negotiated);
        let controlled = negotiated.contains(net::CTRL_VQ);
        // virtio 1.3 §5.1.4.2: without STATUS a driver does not know of links.
        let tells = |here: bool| match here && negotiated.contains(net::STATUS_FIELD) {
            true => Tells::Here,
            false => Tells::Elsewhere,
        };
        let mut handlers: Handlers = (0..pairs)
            .map(|number| {
                let tells = tells(!controlled && number == 0);
                let pair = Pair { number, negotiated, shared: self.shared.clone(), tells };
                (net::receive_queue(number)..net::receive_queue(number + 1), self.port.handler(pair))
            })
            .collect();
        if controlled {
            let (port, shared) = (self.port.clone(), self.shared.clone());
            let control = Control { port, shared, negotiated, tells: tells(true), max_pairs: pairs };
            let queue = net::control_queue(pairs);
            handlers.push((queue..queue + 1, Box::new(control)));
        }
        handlers
    }

    /// Whether there is a link is not the driver's to say.
    fn reset(&mut self) {
        let Self { port: _, shared, address, pairs: _, mtu_bytes: _, negotiated } = self;
        *shared.filter() = Filter::new(*address);
        shared.cable.acknowledge();
        *negotiated = Features::NONE;
        self.apply(1, Features::NONE);
    }

    /// What the driver has said by the control queue.
    fn save(&self) -> Vec<u8> {
        let Self { port: _, shared, address: _, pairs: _, mtu_bytes: _, negotiated: _ } = self;
        let mut state = shared.pairs().to_le_bytes().to_vec();
        state.extend(shared.offloads().0.to_le_bytes());
        state.extend(shared.filter().save());
        state
    }

    /// A driver that has moved is to say so to its network (virtio 1.3 §5.1.6.5.4), if it knows of that.
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let wrong = |what: &'static str| StateError(what.into());
        let (head, filter) = state
            .split_first_chunk::<STATE_HEAD_LEN>()
            .ok_or(wrong("it is too short for a network card's"))?;
        let [a, b, offloads @ ..] = *head;
        let (pairs, offloads) = (u16::from_le_bytes([a, b]), Features(u64::from_le_bytes(offloads)));
        let filter = Filter::restored(filter).ok_or(wrong("its addresses are none"))?;
        if pairs == 0 || pairs > self.pairs {
            return Err(StateError(format!("{pairs} pairs of queues, of {}", self.pairs).into()));
        }
        if !offloads.without(self.negotiated & net::GUEST_OFFLOADS).is_empty() {
            return Err(wrong("it has offloads that were not negotiated"));
        }
        *self.shared.filter() = filter;
        self.apply(pairs, offloads);
        if self.negotiated.contains(net::GUEST_ANNOUNCE) {
            self.shared.cable.announce();
        }
        Ok(())
    }
}
