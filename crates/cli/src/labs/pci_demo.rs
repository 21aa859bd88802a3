//! `pci-demo`: one register, every access a trap.

use super::Setup;
use super::stage::{Job, failed, machine};
use crate::Failure;
use crate::report::{Check, Cost, Costs, Transcript};
use vioduct_loopback::{Machine, Window};
use vioduct_spec::{demo, pci_demo};
use vioduct_virtio_driver::PciDemo as Driver;
use vioduct_virtio_driver::pci::Function;
use vioduct_virtio_driver::pci_demo::find;

/// Bytes that one access moves.
const ACCESS_BYTES: u64 = 4;

pub(super) fn run(_setup: &Setup, out: &mut Transcript) -> Result<Costs, Failure> {
    let machine = machine()?;
    let driver = start(&machine, out)?;
    for value in demo::LAB_VALUES {
        driver.store(value);
        out.say(format!("write {value:#x}"));
        let read = driver.load();
        out.check(format!("read = {read:#x}"), Check::equal(&read, &value));
    }
    Ok(Costs { ways: vec![stores(&machine, &driver)?, loads(&machine, &driver)?] })
}

/// What storing values costs by emulated PCI, to compare with.
pub(super) fn cost_of_stores() -> Result<Cost, Failure> {
    let machine = machine()?;
    let driver = start(&machine, &mut Transcript::unheard())?;
    stores(&machine, &driver)
}

fn start(machine: &Machine, out: &mut Transcript) -> Result<Driver<Window>, Failure> {
    let device = vioduct_pci_demo::PciDemo::default();
    machine.plug(device).map_err(failed("plug pci-demo"))?;
    let config = machine.config_access();
    let at = find(&config, 0)
        .ok_or_else(|| Failure::Failed("pci-demo is not where it was plugged, on bus 0".to_owned()))?;
    let function = Function::open(&config, at).map_err(failed("open pci-demo"))?;
    let identity = function.identity();
    out.check(
        format!("found {:04x}:{:04x} at {at}", identity.vendor, identity.device),
        Check::equal(&(identity.vendor, identity.device), &(pci_demo::VENDOR_ID, pci_demo::DEVICE_ID)),
    );
    Driver::new(&function, &mut machine.clone()).map_err(failed("start pci-demo"))
}

fn job<'m>(machine: &'m Machine, way: &str) -> Job<'m> {
    Job { machine, way: way.to_owned(), batch: 1, bytes_per_operation: ACCESS_BYTES }
}

fn stores(machine: &Machine, driver: &Driver<Window>) -> Result<Cost, Failure> {
    job(machine, "emulated PCI, a store each").measure(|value, _| {
        driver.store(value as u32);
        Ok(())
    })
}

fn loads(machine: &Machine, driver: &Driver<Window>) -> Result<Cost, Failure> {
    let [.., stored] = demo::LAB_VALUES;
    driver.store(stored);
    job(machine, "emulated PCI, a load each").measure(|_, _| match driver.load() {
        value if value == stored => Ok(()),
        value => Err(Failure::Failed(format!("load gave {value:#x} where {stored:#x} was stored"))),
    })
}
