//! A virtual machine of KVM's: its memory, its interrupt controllers, and events that never leave the kernel.
//!
//! This module holds `unsafe` because KVM is given the guest's memory by its address in this process.
#![allow(unsafe_code)]

mod doorbells;
mod events;
mod irqs;
mod listener;

pub(crate) use doorbells::{Doorbell, Match};
pub(crate) use events::new_event;
pub(crate) use irqs::{EdgeLine, FunctionIrqs, LevelLine, Routes};
pub(crate) use listener::Listener;

use crate::error::MachineError;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};
use std::io;
use std::sync::Arc;
use vioduct_virtio_device::MemoryMap;

/// Pages that KVM needs for itself on processors of Intel's, where no RAM is: below the top of the hole.
const TSS: usize = 0xfffb_d000;

/// A machine in the kernel. It holds the RAM that it was given.
pub(crate) struct Vm {
    pub(crate) kvm: Kvm,
    pub(crate) fd: VmFd,
    ram: Arc<MemoryMap>,
}

impl Vm {
    /// A machine with this RAM and the interrupt controllers of a PC, without processors.
    pub(crate) fn new(ram: Arc<MemoryMap>) -> Result<Self, MachineError> {
        let kvm =
            Kvm::new().map_err(|error| MachineError::NoKvm(io::Error::from_raw_os_error(error.errno())))?;
        let fd = kvm.create_vm().map_err(MachineError::kvm("make a machine"))?;
        fd.set_tss_address(TSS).map_err(MachineError::kvm("place its own pages"))?;
        let vm = Self { kvm, fd, ram };
        // First: once there are interrupt controllers, memory is not taken before the kernel has let go of what was there before them,
        // which is a tick of its timer.
        vm.give_memory()?;
        vm.fd.create_irq_chip().map_err(MachineError::kvm("make interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.fd.create_pit2(pit).map_err(MachineError::kvm("make a timer"))?;
        Ok(vm)
    }

    fn give_memory(&self) -> Result<(), MachineError> {
        for (slot, (region, _)) in (0..).zip(self.ram.regions()) {
            let memory = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.at.0,
                memory_size: region.len,
                userspace_addr: region.host.as_ptr() as u64,
            };
            // SAFETY: the range is mapped for as long as the map lives, which this object holds longer than the machine: fields are
            // dropped in order. The guest may write all of it; nothing in this process relies on what it holds.
            unsafe { self.fd.set_user_memory_region(memory) }.map_err(MachineError::kvm("map the memory"))?;
        }
        Ok(())
    }

    pub(crate) fn ram(&self) -> &Arc<MemoryMap> {
        &self.ram
    }
}
