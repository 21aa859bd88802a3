// SPDX-License-Identifier: GPL-2.0

//! `pci-demo`: the value behind `/dev/demo` is a register of a PCI function; each read and write is one access to it.
//!
//! When the function goes while a file is open, its mapping goes too: reads and writes are then `ENODEV`.
//!
//! Unsafe code makes a vendor of a number: the kernel crate knows registered vendors only.
#![allow(unsafe_code)]

mod node;
mod spec;
mod word_device;

use kernel::devres::Devres;
use kernel::io::Io;
use kernel::pci;
use kernel::prelude::*;
use kernel::sync::Arc;
use spec::{Features, pci_demo};
use word_device::{Word, WordNode};

const BAR: u32 = 0;
const BAR_LEN: usize = pci_demo::BAR0_LEN as usize;
const REG_VALUE: usize = pci_demo::REG_VALUE as usize;
// SAFETY: `Vendor` is a transparent wrapper, and any number may be in it.
const VENDOR: pci::Vendor = unsafe { core::mem::transmute::<u16, pci::Vendor>(pci_demo::VENDOR_ID) };

struct Driver;

kernel::pci_device_table!(
    IDS,
    MODULE_IDS,
    <Driver as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_id(VENDOR, pci_demo::DEVICE_ID as u32), ())]
);

impl pci::Driver for Driver {
    type IdInfo = ();
    type Data<'bound> = Bound;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &IDS;

    fn probe<'bound>(
        function: &'bound pci::Device<kernel::device::Core<'_>>,
        _info: &'bound Self::IdInfo,
    ) -> impl PinInit<Bound, Error> + 'bound {
        function.enable_device_mem()?;
        let bar = function.iomap_region_sized::<BAR_LEN>(BAR, c"pci-demo")?;
        let registers = Arc::new(Registers(bar.into_devres()?), GFP_KERNEL)?;
        Ok(Bound { _node: word_device::register(registers)? })
    }
}

/// What exists while the function does.
struct Bound {
    _node: Pin<KBox<WordNode<Registers>>>,
}

/// BAR0, as long as the function is there.
struct Registers(Devres<pci::Bar<'static, BAR_LEN>>);

impl Word for Registers {
    const NAME: &'static CStr = c"demo";

    fn load(&self) -> Result<u32> {
        self.0.try_access_with(|bar| bar.read32(REG_VALUE)).ok_or(ENODEV)
    }

    fn store(&self, value: u32) -> Result {
        self.0.try_access_with(|bar| bar.write32(value, REG_VALUE)).ok_or(ENODEV)
    }
}

kernel::module_pci_driver! {
    type: Driver,
    name: "vioduct_pci_demo",
    authors: ["The Vioduct project"],
    description: "pci-demo: one register of a PCI function",
    license: "GPL",
}
