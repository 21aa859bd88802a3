//! Lab 1: a function whose every register access is a trap, driven by its driver over the bus.
#![allow(clippy::unwrap_used)]

use vioduct_loopback::{Crossing, Machine};
use vioduct_pci_demo::PciDemo as Device;
use vioduct_spec::demo::LAB_VALUES;
use vioduct_spec::pci_demo::{BAR0_LEN, REG_VALUE};
use vioduct_virtio_driver::pci::{Function, PciError};
use vioduct_virtio_driver::pci_demo::{PciDemo, find};
use vioduct_virtio_driver::{RegisterWindow, Width};

fn machine() -> Machine {
    let machine = Machine::new(1 << 20).unwrap();
    machine.plug(Device::default()).unwrap();
    machine
}

#[test]
fn every_access_is_one_trap() {
    let machine = machine();
    let config = machine.config_access();
    let at = find(&config, 0).expect("the function on the bus");
    let function = Function::open(&config, at).unwrap();
    let driver = PciDemo::new(&function, &mut machine.clone()).unwrap();
    machine.reset_traffic();
    for value in [0x1333, 0x2333, 0x3333] {
        driver.store(value);
        assert_eq!(driver.load(), value);
    }
    let traffic = machine.traffic();
    assert_eq!((traffic.register_writes, traffic.register_reads), (3, 3));
    assert_eq!((traffic.doorbells, traffic.interrupts), (0, 0));
    assert_eq!(LAB_VALUES, [0x1333, 0x2333, 0x3333]);
}

/// Any other offset, and any access that is not 4 bytes: reads give all ones of that width, writes are ignored.
#[test]
fn other_accesses_read_ones_and_write_nothing() {
    let machine = machine();
    let config = machine.config_access();
    let function = Function::open(&config, find(&config, 0).unwrap()).unwrap();
    let driver = PciDemo::new(&function, &mut machine.clone()).unwrap();
    driver.store(0x1333);
    let bar = *function.bar(0).unwrap();
    let window = machine.window(bar.address, bar.len);
    for offset in [REG_VALUE, 4, 8, 0x1000, BAR0_LEN - 8] {
        for width in [Width::U8, Width::U16, Width::U32, Width::U64] {
            if (offset, width) == (REG_VALUE, Width::U32) {
                continue;
            }
            window.write(offset, width, 0x5555_5555_5555_5555);
            assert_eq!(window.read(offset, width), width.ones(), "{offset:#x} {width:?}");
        }
    }
    assert_eq!(driver.load(), 0x1333);
}

/// The trace shows the accesses at the addresses that the driver found in the BAR.
#[test]
fn the_trace_lists_every_access() {
    let machine = machine();
    let config = machine.config_access();
    let function = Function::open(&config, find(&config, 0).unwrap()).unwrap();
    let driver = PciDemo::new(&function, &mut machine.clone()).unwrap();
    let address = function.bar(0).unwrap().address;
    machine.start_trace();
    driver.store(7);
    driver.load();
    let expected = [
        Crossing::RegisterWrite { address, width: Width::U32, value: 7 },
        Crossing::RegisterRead { address, width: Width::U32, value: 7 },
    ];
    assert_eq!(machine.take_trace(), expected);
    driver.store(8);
    assert!(machine.take_trace().is_empty(), "nothing is listed unasked");
}

/// The bus has nothing where nothing was plugged in, and the driver refuses what is not its own.
#[test]
fn the_driver_takes_its_own_function_only() {
    let machine = Machine::new(1 << 20).unwrap();
    assert_eq!(find(&machine.config_access(), 0), None);
    let device = vioduct_entropy::Entropy;
    let slot = machine
        .attach(device, vioduct_loopback::Depth::Pci, vioduct_spec::Features::NONE)
        .unwrap()
        .slot()
        .expect("a slot");
    let config = machine.config_access();
    let at = vioduct_virtio_driver::FunctionAddress::new(0, slot.device(), 0).unwrap();
    let function = Function::open(&config, at).unwrap();
    let refusal = PciDemo::new(&function, &mut machine.clone()).unwrap_err();
    assert_eq!(refusal, PciError::Foreign { vendor: 0x1af4, device: 0x1044 });
}
