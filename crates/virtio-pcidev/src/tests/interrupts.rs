//! Interrupts into the driver's buffers.

use super::rig::*;
use crate::protocol::{Header, op};
use vioduct_pci::Level;
use vioduct_virtio_device::Features;

#[test]
fn a_vector_sends_the_message_that_its_table_entry_holds() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        bench.offer(4);
        bench.program(0, 0xa_0000, 17);
        bench.program(2, 0xfee0_1000, 0x8765_4321);
        bench.raise(2);
        assert_eq!(bench.interrupts(), [msi(0xfee0_1000, 0x8765_4321)]);
        bench.raise(0);
        assert_eq!(bench.interrupts(), [msi(0xa_0000, 17)]);
        bench.raise(1);
        assert_eq!(bench.interrupts(), [], "it is masked, as every vector is at first");
        assert!(bench.rig.notifications.used() > 0, "the driver is told");
    }
}

#[test]
fn without_buffers_interrupts_wait_one_for_each_vector() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        for vector in 0..3 {
            bench.program(vector, 0xa_0000, vector as u32);
        }
        for vector in [2, 0, 2, 2, 1] {
            bench.raise(vector);
        }
        assert_eq!(bench.interrupts(), []);
        bench.offer(1);
        assert_eq!(bench.interrupts().len(), 1);
        bench.offer(9);
        assert_eq!(bench.interrupts().len(), 2, "one for each vector, however often it was raised");
        bench.raise(1);
        assert_eq!(bench.interrupts(), [msi(0xa_0000, 1)], "buffers that were left are used");
    }
}

#[test]
fn no_vector_starves_another() {
    let mut bench = Bench::new(Features::NONE);
    for vector in 0..3 {
        bench.program(vector, 0xa_0000, vector as u32);
    }
    let mut seen = Vec::new();
    for _ in 0..6 {
        for vector in 0..3 {
            bench.raise(vector);
        }
        bench.offer(1);
        seen.extend(bench.interrupts().iter().map(|(_, data)| data[0]));
    }
    assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_vector_masked_while_it_waits_waits_on_and_takes_its_new_message() {
    let mut bench = Bench::new(Features::NONE);
    bench.program(0, 0xa_0000, 1);
    bench.raise(0);
    bench.mask(0, 1);
    bench.offer(2);
    assert_eq!(bench.interrupts(), [], "after masking, no message");
    bench.bar_write(MSIX_BAR, 8, &7u32.to_le_bytes());
    bench.mask(0, 0);
    assert_eq!(bench.interrupts(), [msi(0xa_0000, 7)]);
}

#[test]
fn what_waits_is_dropped_when_msix_is_turned_off() {
    let mut bench = Bench::new(Features::NONE);
    bench.program(0, 0xa_0000, 1);
    bench.raise(0);
    bench.config_write(MSIX_CAP + 2, 2, 0);
    bench.config_write(MSIX_CAP + 2, 2, 0x8000);
    bench.offer(1);
    assert_eq!(bench.interrupts(), []);
    bench.raise(0);
    assert_eq!(bench.interrupts(), [msi(0xa_0000, 1)]);
}

#[test]
fn buffers_too_short_for_a_message_are_returned_empty_and_the_interrupt_goes_on() {
    let mut bench = Bench::new(Features::NONE);
    bench.program(0, 0xa_0000, 1);
    bench.raise(0);
    bench.offer_of(3, 19);
    for _ in 0..3 {
        assert_eq!(bench.rig.take(1).unwrap().unwrap().written, 0);
    }
    bench.offer_of(1, 64);
    assert_eq!(bench.interrupts(), [msi(0xa_0000, 1)]);
}

/// The device asserts the pin again only after it was deasserted, which drivers cause by what they read.
#[test]
fn the_pin_is_one_message_each_time_it_is_asserted() {
    let mut bench = Bench::new(Features::NONE);
    let pin_b = (Header { op: op::PIN, bar: 0, size: 0, addr: 2 }, Vec::new());
    bench.offer(4);
    bench.pin(Level::Asserted);
    assert_eq!(bench.interrupts(), std::slice::from_ref(&pin_b));
    bench.pin(Level::Asserted);
    bench.pin(Level::Deasserted);
    assert_eq!(bench.interrupts(), []);
    bench.pin(Level::Asserted);
    assert_eq!(bench.interrupts(), std::slice::from_ref(&pin_b));
    bench.pin(Level::Deasserted);
    bench.program(0, 0xa_0000, 1);
    bench.pin(Level::Asserted);
    assert_eq!(bench.interrupts(), [], "with MSI-X on there is no pin");
}

/// A thousand interrupts through ten buffers that come back, as Linux's driver has them.
#[test]
fn buffers_are_recycled() {
    for ring in RINGS {
        let mut bench = Bench::new(ring | Features::EVENT_IDX);
        bench.program(1, 0xa_0000, 5);
        bench.offer(10);
        for round in 0..1000 {
            bench.raise(1);
            assert_eq!(bench.interrupts(), [msi(0xa_0000, 5)], "round {round}");
            bench.offer(1);
        }
    }
}
