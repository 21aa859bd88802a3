//! [`Plug`]: a PCI function on the machine's bus, with its doorbells.

use crate::error::MachineError;
use crate::vm::{Doorbell, Match, Vm, new_event};
use std::sync::Arc;
use vioduct_pci::Counters;
use vioduct_vfio_user::RemoteDoorbell;
use vioduct_virtio_device::{Backend, EventFd};
use vioduct_virtio_pci::VirtioPci;

/// What the machine keeps of a function.
pub(crate) struct Plug {
    vm: Arc<Vm>,
    /// What the command line calls it.
    pub(crate) name: &'static str,
    pub(crate) counters: Arc<Counters>,
    bells: Vec<Bell>,
    /// Those that hang somewhere, by BAR.
    hung: Vec<(u8, Doorbell)>,
}

/// A doorbell's place in a BAR, and what it signals.
struct Bell {
    bar: u8,
    offset: u64,
    matches: Match,
    event: Arc<EventFd>,
}

impl Plug {
    /// A function without doorbells.
    pub(crate) fn new(vm: Arc<Vm>, name: &'static str, counters: Arc<Counters>) -> Self {
        Self { vm, name, counters, bells: Vec::new(), hung: Vec::new() }
    }

    /// A doorbell for each queue of a virtio function, which is not running yet.
    pub(crate) fn take_bells<B: Backend>(&mut self, function: &mut VirtioPci<B>) -> Result<(), MachineError> {
        for q in 0..function.endpoint().queue_count() {
            let Some(doorbell) = function.doorbell(q) else { continue };
            let event = Arc::new(new_event()?);
            function.endpoint_mut().set_queue_kick(q, Some(event.clone()));
            // Every queue has an address of its own, so whatever is written there is for it.
            self.bells.push(Bell { bar: doorbell.bar, offset: doorbell.offset, matches: Match::Any, event });
        }
        Ok(())
    }

    /// The doorbells of a function in another process. Those of a length that KVM does not have go on to trap.
    pub(crate) fn add_bells(&mut self, doorbells: &[RemoteDoorbell]) {
        let bell = |at: &RemoteDoorbell| {
            let matches = Match::of(at.len, at.datamatch)?;
            Some(Bell { bar: at.bar, offset: at.offset, matches, event: at.event.clone() })
        };
        self.bells.extend(doorbells.iter().filter_map(bell));
    }

    /// A BAR is decoded at `to` from now on, or nowhere.
    pub(crate) fn hang_doorbells(&mut self, bar: u8, to: Option<u64>) -> Result<(), MachineError> {
        if !self.bells.iter().any(|bell| bell.bar == bar) {
            return Ok(());
        }
        self.hung.retain(|(other, _)| *other != bar);
        let Some(base) = to else { return Ok(()) };
        for bell in self.bells.iter().filter(|bell| bell.bar == bar) {
            let address = base.wrapping_add(bell.offset);
            self.hung.push((bar, Doorbell::hang(self.vm.clone(), &bell.event, address, bell.matches)?));
        }
        Ok(())
    }
}
