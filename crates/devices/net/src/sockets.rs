//! [`Sockets`]: a port of sockets that carry packets.

use crate::port::{Pair, Port};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_spec::net::*;
use vioduct_virtio_device::{Features, QueueHandler};

/// A socket for each pair of queues, of a kind that keeps packets apart (`SOCK_DGRAM`, `SOCK_SEQPACKET`). Each packet is one message
/// behind the header of virtio 1.3 §5.1.6; whoever is at the other end does what the header asks for.
pub struct Sockets {
    sockets: Vec<Arc<OwnedFd>>,
}

impl Sockets {
    /// A port of these sockets, which are made not to block.
    ///
    /// # Errors
    /// Of the system, or for no socket at all.
    pub fn new(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        if sockets.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for socket in &sockets {
            fcntl_setfl(socket, fcntl_getfl(socket)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { sockets: sockets.into_iter().map(Arc::new).collect() })
    }
}

impl Port for Sockets {
    fn features(&self) -> Features {
        CSUM | HOST_TSO4
            | HOST_TSO6
            | HOST_ECN
            | HOST_USO
            | GUEST_OFFLOADS.without(GUEST_UFO)
            | CTRL_GUEST_OFFLOADS
    }

    fn pairs(&self) -> u16 {
        self.sockets.len().try_into().unwrap_or(QUEUE_PAIRS_MAX)
    }

    fn handler(&self, pair: Pair) -> Box<dyn QueueHandler> {
        // A device asks for no more pairs than there are, and there is at least one.
        let at = usize::from(pair.number) % self.sockets.len();
        let socket = self.sockets.get(at).expect("invariant: a remainder is below its divisor");
        pair.serve(socket.clone())
    }
}
