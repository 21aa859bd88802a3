//! [`Conversation`]: one front-end, served by whoever calls, a turn at a time.

use crate::error::ServerError;
use crate::server::Limits;
use crate::session::{Client, Session};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vioduct_virtio_device::{Backend, EventFd};

/// A server of one client that is there already, without a thread: for programs that wait for descriptors by themselves, for
/// tests, and for fuzzers. Its end stops the rings.
pub struct Conversation<B: Backend>(Client<B>);

/// Whether a conversation goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Turn {
    /// There may be more, now or later.
    Open,
    /// The client has gone, or sent what cannot be answered: nothing will happen any more.
    Over,
}

impl<B: Backend> Conversation<B> {
    /// Talks over `socket`, a connected stream socket, about `device`, within `limits` for one client.
    ///
    /// # Errors
    /// If the system is short of descriptors.
    pub fn new(socket: OwnedFd, device: B, limits: &Limits) -> Result<Self, ServerError> {
        let failed = ServerError::system("create an eventfd");
        let session = Session::new(device, limits.memory()).map_err(&failed)?;
        let never = Arc::new(EventFd::new().map_err(failed)?);
        Ok(Self(Client::new(socket, session, never, limits.transfer_limit)))
    }

    /// Obeys some of the requests that have come, and looks at the rings whose front-end sends no kicks. It does not wait for
    /// requests. It does wait for a client that leaves its replies unread, and for the end of a transfer of device state if the
    /// client asks for its outcome.
    pub fn turn(&mut self) -> Turn {
        match self.0.turn() {
            Ok(()) => Turn::Open,
            Err(end) => {
                tracing::debug!("{end}");
                Turn::Over
            }
        }
    }

    /// The device, which may have to be stepped.
    pub fn device(&mut self) -> &mut B {
        self.0.device()
    }
}

impl<B: Backend> Drop for Conversation<B> {
    fn drop(&mut self) {
        self.0.close();
    }
}
