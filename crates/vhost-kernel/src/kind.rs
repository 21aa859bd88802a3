//! [`Kind`]: which of the kernel's vhost devices, and what is particular to each.

use crate::node::{Node, Vhost};
use crate::refusal::Refusal;
use crate::unit::{Source, Unit};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_spec::{Features, net, vhost_demo};

/// A vhost device of the kernel's.
#[derive(Debug)]
pub enum Kind {
    /// vhost-net: the queues of as many pairs as there are TAPs, queue 0 to receive, 1 to send, and so on.
    Net {
        /// A queue of the TAP for each pair.
        taps: Vec<OwnedFd>,
        /// Whether packets of the TAP begin with a header of virtio's.
        framing: Framing,
    },
    /// vhost-vsock: queue 0 to receive and queue 1 to send; that of events is not its.
    Vsock {
        /// The guest's context id, from 3 on.
        cid: u64,
    },
    /// vhost-demo: this project's module.
    Demo,
}

/// What a packet of a TAP begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// virtio's header (`IFF_VNET_HDR`), which goes to the guest as it is.
    Header,
    /// The packet itself: the kernel makes headers for the guest.
    Bare,
}

/// How many of so many nodes have queues that a driver with these features has. Only network cards have several: virtio 1.3 §5.1.2, a
/// driver with a control queue and without `MQ` has one pair, and the control queue where the second one's would begin.
pub(crate) fn nodes_in_use(nodes: usize, negotiated: Features) -> usize {
    let all = negotiated.contains(net::MQ) || !negotiated.contains(net::CTRL_VQ);
    if all { nodes } else { nodes.min(1) }
}

/// vhost-net adds headers to what the TAP gives (`VHOST_NET_F_VIRTIO_NET_HDR`).
const NET_HEADERS: Features = Features::bit(27);
/// virtio 1.3 §5.10.3: `SEQPACKET` and `NO_IMPLIED_STREAM`.
const VSOCK_SOCKETS: Features = Features::bit(1).with(Features::bit(2));

impl Kind {
    pub(crate) fn node(&self) -> &'static str {
        match self {
            Self::Net { .. } => "/dev/vhost-net",
            Self::Vsock { .. } => "/dev/vhost-vsock",
            Self::Demo => vhost_demo::NODE,
        }
    }

    /// How to get the node.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Net { .. } => "modprobe vhost_net",
            Self::Vsock { .. } => "modprobe vhost_vsock",
            Self::Demo => "build and load our module: kernel/README.md",
        }
    }

    /// How many queues one node has.
    pub(crate) fn queues_per_node(&self) -> u16 {
        match self {
            Self::Net { .. } | Self::Vsock { .. } => 2,
            Self::Demo => 1,
        }
    }

    fn nodes(&self) -> usize {
        match self {
            Self::Net { taps, .. } => taps.len(),
            Self::Vsock { .. } | Self::Demo => 1,
        }
    }

    /// Features that are not to be negotiated unless the kernel has them, too. Not those of notifications: KVM and the transport see to
    /// these.
    pub(crate) fn in_its_hands(&self) -> Features {
        let device = match self {
            // It fills the buffers of a packet (virtio 1.3 §5.1.3).
            Self::Net { .. } => net::MRG_RXBUF,
            Self::Vsock { .. } => VSOCK_SOCKETS,
            Self::Demo => Features::NONE,
        };
        device | Features::RESERVED.without(Features::NOTIFICATION_DATA | Features::NOTIF_CONFIG_DATA)
    }

    /// What the kernel does beside what is negotiated.
    pub(crate) fn silently(&self) -> Features {
        match self {
            Self::Net { framing: Framing::Bare, .. } => NET_HEADERS,
            Self::Net { framing: Framing::Header, .. } | Self::Vsock { .. } | Self::Demo => Features::NONE,
        }
    }

    /// Opens as many nodes as are needed.
    pub(crate) fn open(&self) -> Result<Vec<Arc<dyn Vhost>>, Refusal> {
        let open = |_| match Node::open(self.node()) {
            Ok(node) => Ok(Arc::new(node) as Arc<dyn Vhost>),
            Err(source) => Err(Refusal::open(self.node(), self.remedy(), source)),
        };
        (0..self.nodes()).map(open).collect()
    }

    /// Takes open nodes into use.
    pub(crate) fn units(self, nodes: Vec<Arc<dyn Vhost>>) -> Result<Vec<Unit>, Refusal> {
        let (queues, silently) = (self.queues_per_node(), self.silently());
        let sources: Vec<Source> = match self {
            Self::Net { taps, .. } => taps.into_iter().map(Source::Net).collect(),
            Self::Vsock { cid } => vec![Source::Vsock { cid }],
            Self::Demo => vec![Source::Demo],
        };
        nodes
            .into_iter()
            .zip(sources)
            .map(|(node, source)| Unit::new(node, source, queues, silently))
            .collect()
    }
}
