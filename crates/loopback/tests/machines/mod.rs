//! Every way to attach a device and every ring, for tests that drive it with its real driver.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use vioduct_loopback::{Depth, Machine, RingFormat, Stepped};
use vioduct_spec::Features;
use vioduct_virtio_device::DeviceModel;
use vioduct_virtio_driver::Options;

pub const MEMORY_BYTES: usize = 4 << 20;

/// Depth, ring format, and a driver's options for it with `features` beside the format.
pub fn variants(features: Features) -> Vec<(Depth, RingFormat, Options)> {
    let mut variants = Vec::new();
    for depth in Depth::ALL {
        for (format, bit) in
            [(RingFormat::Split, Features::NONE), (RingFormat::Packed, Features::RING_PACKED)]
        {
            variants.push((depth, format, Options { features: features | bit, ..Options::default() }));
        }
    }
    variants
}

/// A machine with one device.
pub fn attach<M: DeviceModel + 'static>(model: M, depth: Depth) -> (Machine, Stepped<M>) {
    let machine = Machine::new(MEMORY_BYTES).unwrap();
    let device = machine.attach(model, depth, Features(u64::MAX)).unwrap();
    (machine, device)
}
