//! Drivers that break the rules.

use super::rig::*;
use crate::protocol::{Header, op};
use crate::{PciDev, Tunnel};
use vioduct_pci_demo::PciDemo;
use vioduct_spec::Status;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{Budget, Features, Inline, Step};
use vioduct_virtqueue::{Buffer, IoAddr};

const BAR_END: u64 = BAR_LEN as u64;

/// Operation, BAR, size and address of a command that cannot be.
const IMPOSSIBLE: [(u8, u8, u32, u64); 18] = [
    (op::CONFIG_READ, 0, 3, 0),
    (op::CONFIG_READ, 0, 5, 0),
    (op::CONFIG_READ, 0, 0, 0),
    (op::CONFIG_READ, 0, 64, 0),
    (op::CONFIG_WRITE, 0, 3, 4),
    (op::CONFIG_WRITE, 0, 0, 4),
    // Linux's `memset_io`.
    (op::CONFIG_WRITE, 0, 64, 0),
    (op::CONFIG_WRITE, 1, 1, 4),
    (op::BAR_READ, 0, 4, BAR_END - 3),
    (op::BAR_READ, 0, 4, u64::MAX - 1),
    (op::BAR_READ, 2, 4, 0),
    (op::BAR_READ, 255, 4, 0),
    (op::BAR_WRITE, 0, 4, BAR_END - 3),
    (op::BAR_WRITE, 0, 8, u64::MAX),
    (op::BAR_WRITE, 6, 4, 0),
    (op::BAR_FILL, 0, u32::MAX, 0),
    (op::BAR_FILL, 0, 1, BAR_END),
    (op::BAR_FILL, 3, 1, 0),
];

#[test]
fn row16_commands_that_cannot_be_read_ones_and_write_nothing() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        for (op, bar, size, addr) in IMPOSSIBLE {
            let what = format!("op {op} bar {bar} size {size} addr {addr:#x}");
            let reads = matches!(op, op::CONFIG_READ | op::BAR_READ);
            let message = [&Header { op, bar, size, addr }.encode()[..], &[0x55; 64]].concat();
            let reply = bench.raw(&[&message], &[64]);
            assert_eq!(reply.written, if reads { size.min(64) } else { 0 }, "{what}");
            assert!(reply.bytes[..reply.written as usize].iter().all(|byte| *byte == 0xff), "{what}");
            assert_eq!(bench.take_events(), [], "{what}: the function is not bothered");
        }
        assert_eq!(bench.config_read(4, 2), 0, "configuration space is as it was");
        assert_eq!(bench.config_read(0, 4), 0x0001_1234, "the device goes on");
    }
}

#[test]
fn operations_that_are_no_commands_are_returned_empty() {
    let mut bench = Bench::new(Features::NONE);
    for op in [0, op::PIN, op::MSI, 8, 9, 255] {
        let header = Header { op, bar: 0, size: 4, addr: 0 };
        assert_eq!(bench.raw(&[&header.encode()], &[8]).written, 0, "op {op}");
    }
    assert_eq!(bench.take_events(), []);
    assert_eq!(bench.config_read(0, 2), 0x1234);
}

#[test]
fn row8_messages_and_buffers_that_are_too_short_do_nothing() {
    let mut bench = Bench::new(Features::NONE);
    let read = Header { op: op::BAR_READ, bar: 0, size: 8, addr: 0 }.encode();
    let write = Header { op: op::BAR_WRITE, bar: 0, size: 8, addr: 0 }.encode();
    let fill = Header { op: op::BAR_FILL, bar: 0, size: 8, addr: 0 }.encode();
    for len in 1..16 {
        assert_eq!(bench.raw(&[&read[..len]], &[8]).written, 0, "{len} bytes of a header");
    }
    assert_eq!(bench.raw(&[], &[8]).written, 0);
    let reply = bench.raw(&[&read], &[7]);
    assert_eq!((reply.written, reply.bytes), (7, vec![0xff; 7]));
    assert_eq!(bench.raw(&[&read], &[]).written, 0);
    assert_eq!(bench.raw(&[&write, &[1; 7]], &[]).written, 0);
    assert_eq!(bench.raw(&[&write], &[8]).written, 0);
    assert_eq!(bench.raw(&[&fill], &[8]).written, 0);
    assert_eq!(bench.take_events(), [], "none of them reached the function");
    assert_eq!(bench.bar_read(0, 0, 8), [0; 8]);
}

#[test]
fn sizes_of_nothing_are_accesses_of_nothing() {
    let mut bench = Bench::new(Features::NONE);
    for op in [op::BAR_READ, op::BAR_WRITE, op::BAR_FILL] {
        let header = Header { op, bar: 0, size: 0, addr: BAR_END }.encode();
        assert_eq!(bench.raw(&[&header, &[1]], &[8]).written, 0);
    }
    assert_eq!(bench.take_events(), []);
}

#[test]
fn row16_what_lies_across_the_msix_table_reads_ones() {
    let mut bench = Bench::new(Features::NONE);
    bench.program(0, 0xa_0000, 1);
    assert_eq!(bench.bar_read(MSIX_BAR, 0, 8), 0xa_0000u64.to_le_bytes());
    let across = u64::from(VECTORS) * 16 - 4;
    assert_eq!(bench.bar_read(MSIX_BAR, across, 8), [0xff; 8]);
    bench.bar_write(MSIX_BAR, across, &[0; 8]);
    assert_eq!(number(&bench.bar_read(MSIX_BAR, across, 4)), 1, "vector 2 is masked still");
}

#[test]
fn buffers_in_no_memory_stop_the_device_until_it_is_reset() {
    for queue in [0, 1] {
        let mut bench = Bench::new(Features::NONE);
        let nowhere = Buffer { addr: IoAddr(1 << 40), len: 20 };
        let (readable, writable) = if queue == 0 { (vec![nowhere], vec![]) } else { (vec![], vec![nowhere]) };
        bench.program(0, 0xa_0000, 1);
        bench.raise(0);
        bench.rig.queue(queue).unwrap().add(&readable, &writable, Vec::new()).map_err(drop).unwrap();
        let _ = bench.rig.kick(queue).unwrap();
        bench.run();
        assert!(bench.rig.endpoint.status().contains(Status::NEEDS_RESET), "queue {queue}");
    }
}

/// A driver that never stops: each wake ends all the same.
#[test]
fn row22_a_flood_of_commands_is_served_in_portions() {
    let device = PciDev::registers(PciDemo::new()).unwrap();
    let budget = Budget { chains: 10, ..Budget::default() };
    let tunnel = Tunnel::new(device, |device| Inline::new(device).with_budget(budget));
    let mut rig = Rig::new(tunnel, Features::NONE).unwrap();
    let header = Header { op: op::BAR_READ, bar: 0, size: 4, addr: 0 }.encode();
    for _ in 0..100 {
        rig.submit(0, &[&header], &[4]).unwrap();
    }
    let _ = rig.kick(0).unwrap();
    let mut portions = Vec::new();
    while rig.endpoint.backend_mut().runner_mut().step() == Step::Worked {
        portions.push(std::iter::from_fn(|| rig.take(0).unwrap()).count());
    }
    assert!(portions.iter().all(|count| *count <= 10), "{portions:?}");
    assert_eq!(portions.iter().sum::<usize>(), 100);
}
