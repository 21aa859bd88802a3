//! Doorbells: writes of the guest's that KVM turns into signals of an eventfd (ioeventfd), without an exit.

use super::Vm;
use super::events::same_event;
use crate::error::MachineError;
use kvm_ioctls::{IoEventAddress, NoDatamatch};
use std::os::fd::AsFd;
use std::sync::Arc;
use vioduct_virtio_device::EventFd;
use vmm_sys_util::eventfd::EventFd as KvmEvent;

/// Which writes to an address count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Match {
    /// All, of whatever length: the kernel need not decode the instruction.
    Any,
    /// Those of 4 bytes with this value.
    Word(u32),
}

/// One doorbell at an address, until it is dropped.
pub(crate) struct Doorbell {
    vm: Arc<Vm>,
    event: KvmEvent,
    address: u64,
    matches: Match,
}

impl Doorbell {
    /// Has writes to `address` signal `event`.
    pub(crate) fn hang(
        vm: Arc<Vm>,
        event: &EventFd,
        address: u64,
        matches: Match,
    ) -> Result<Self, MachineError> {
        let event = same_event(event.as_fd())
            .map_err(MachineError::system("copy a descriptor (raise the limit of open files)"))?;
        let at = IoEventAddress::Mmio(address);
        let outcome = match matches {
            Match::Any => vm.fd.register_ioevent(&event, &at, NoDatamatch),
            Match::Word(value) => vm.fd.register_ioevent(&event, &at, value),
        };
        outcome.map_err(MachineError::kvm("take a doorbell"))?;
        Ok(Self { vm, event, address, matches })
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        let at = IoEventAddress::Mmio(self.address);
        // It was registered like this, so it can be removed.
        let _ = match self.matches {
            Match::Any => self.vm.fd.unregister_ioevent(&self.event, &at, NoDatamatch),
            Match::Word(value) => self.vm.fd.unregister_ioevent(&self.event, &at, value),
        };
    }
}
