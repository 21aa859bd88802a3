//! Interrupts: from the server's eventfds to the guest.
//!
//! As VFIO has it, a function has either its pin or its vectors at a time. For a vector the server is given the eventfd that the host
//! of the function has for it, so that nothing of this process lies between; where the host has none, and for the pin, a thread
//! here listens.

use crate::client::peer::{Peer, Trouble};
use crate::wire::{IrqAction, IrqData, SetIrqs};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use vioduct_pci::{Interrupts, Level};
use vioduct_virtio_device::EventFd;

/// An interrupt type, by VFIO's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum IrqType {
    Intx = 0,
    Msix = 2,
}

/// Where the interrupts of an attached function come from.
pub(super) struct Lines {
    peer: Arc<Peer>,
    host: Interrupts,
    pin: Option<EventFd>,
    /// What the guest was told of the pin last.
    level: Mutex<Level>,
    vectors: Vec<OwnedFd>,
    /// Vectors whose eventfds are listened to here.
    heard: Vec<(u16, EventFd)>,
}

impl Lines {
    /// For a function with a pin or without.
    pub(super) fn new(peer: Arc<Peer>, host: Interrupts, has_pin: bool) -> io::Result<Self> {
        let pin = if has_pin { Some(EventFd::new()?) } else { None };
        let (mut vectors, mut heard) = (Vec::new(), Vec::new());
        for vector in 0..host.vectors() {
            vectors.push(match host.eventfd(vector) {
                Some(event) => event.try_clone_to_owned()?,
                None => {
                    let event = EventFd::new()?;
                    let copy = event.as_fd().try_clone_to_owned()?;
                    heard.push((vector, event));
                    copy
                }
            });
        }
        Ok(Self { peer, host, pin, level: Mutex::new(Level::Deasserted), vectors, heard })
    }

    /// The server signals the pin from now on, and no vector.
    pub(super) fn use_pin(&self) -> Result<(), Trouble> {
        if !self.vectors.is_empty() {
            self.silence(IrqType::Msix)?;
        }
        match &self.pin {
            Some(pin) => self.assign(IrqType::Intx, 0, std::slice::from_ref(pin)),
            None => Ok(()),
        }
    }

    /// The server signals vectors from now on, and not the pin.
    pub(super) fn use_vectors(&self) -> Result<(), Trouble> {
        if self.pin.is_some() {
            self.silence(IrqType::Intx)?;
        }
        let in_one_message = usize::try_from(self.peer.capabilities.max_msg_fds).unwrap_or(usize::MAX);
        let in_one_message = in_one_message.clamp(1, crate::wire::MAX_FDS);
        for (vectors, start) in self.vectors.chunks(in_one_message).zip((0u32..).step_by(in_one_message)) {
            self.assign(IrqType::Msix, start, vectors)?;
        }
        Ok(())
    }

    fn assign(&self, of: IrqType, start: u32, events: &[impl AsFd]) -> Result<(), Trouble> {
        let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
        let count = fds.len() as u32;
        let (action, data) = (IrqAction::Trigger, IrqData::EventFds);
        self.peer.set_irqs(&SetIrqs { index: of as u32, start, count, action, data }, &fds)
    }

    /// None of none, which stands for all.
    fn silence(&self, of: IrqType) -> Result<(), Trouble> {
        let (action, data) = (IrqAction::Trigger, IrqData::None);
        self.peer.set_irqs(&SetIrqs { index: of as u32, start: 0, count: 0, action, data }, &[])
    }

    /// The guest has touched a register, which may have been what an interrupt asks for. The server's pin has masked itself when
    /// it fired: it is unmasked, and fires again if it is still asserted.
    pub(super) fn acknowledge(&self) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if *level == Level::Deasserted {
            return;
        }
        *level = Level::Deasserted;
        self.host.intx(Level::Deasserted);
        let (action, data) = (IrqAction::Unmask, IrqData::None);
        let unmask = SetIrqs { index: IrqType::Intx as u32, start: 0, count: 1, action, data };
        if let Err(trouble) = self.peer.set_irqs(&unmask, &[]) {
            self.peer.report("to unmask its pin", trouble);
        }
    }

    fn fired(&self) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        *level = Level::Asserted;
        self.host.intx(Level::Asserted);
    }

    /// Whether there is anything to listen to.
    pub(super) fn need_listener(&self) -> bool {
        self.pin.is_some() || !self.heard.is_empty()
    }

    /// Listens until `stop` is signalled.
    pub(super) fn listen(&self, stop: &EventFd) {
        loop {
            let events = self.pin.iter().chain(self.heard.iter().map(|(_, event)| event));
            let mut fds: Vec<_> =
                std::iter::once(stop).chain(events).map(|event| PollFd::new(event, PollFlags::IN)).collect();
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("interrupts of a vfio-user server are lost: {error}");
                    return;
                }
            }
            if fds.first().is_none_or(|stop| !stop.revents().is_empty()) {
                return;
            }
            if self.pin.as_ref().is_some_and(|pin| pin.take() > 0) {
                self.fired();
            }
            for (vector, event) in &self.heard {
                if event.take() > 0 {
                    self.host.msix(*vector);
                }
            }
        }
    }
}
