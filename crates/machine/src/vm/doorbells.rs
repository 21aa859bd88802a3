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
    /// Those of 2 bytes with this value.
    Half(u16),
    /// Those of 4 bytes with this value.
    Word(u32),
}

impl Match {
    /// Writes of `len` bytes, with a value or with any; `None` where KVM cannot tell them from others here.
    pub(crate) fn of(len: u64, value: Option<u64>) -> Option<Self> {
        match (len, value) {
            (_, None) => Some(Self::Any),
            (2, Some(value)) => u16::try_from(value).ok().map(Self::Half),
            (4, Some(value)) => u32::try_from(value).ok().map(Self::Word),
            _ => None,
        }
    }
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
        let event = same_event(event.as_fd())?;
        let at = IoEventAddress::Mmio(address);
        let outcome = match matches {
            Match::Any => vm.fd.register_ioevent(&event, &at, NoDatamatch),
            Match::Half(value) => vm.fd.register_ioevent(&event, &at, value),
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
            Match::Half(value) => self.vm.fd.unregister_ioevent(&self.event, &at, value),
            Match::Word(value) => self.vm.fd.unregister_ioevent(&self.event, &at, value),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Match;

    #[test]
    fn what_kvm_can_tell_is_matched() {
        let rows = [
            (2, None, Some(Match::Any)),
            (0, None, Some(Match::Any)),
            (2, Some(7), Some(Match::Half(7))),
            (4, Some(7), Some(Match::Word(7))),
            (2, Some(0x1_0000), None),
            (0, Some(7), None),
            (8, Some(7), None),
        ];
        for (len, value, matches) in rows {
            assert_eq!(Match::of(len, value), matches, "{len} {value:?}");
        }
    }
}
