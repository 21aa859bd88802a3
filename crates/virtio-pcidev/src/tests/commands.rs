//! Commands that are in order.

use super::rig::*;
use crate::protocol::{Header, op};
use crate::{PciDev, Tunnel};
use std::sync::Arc;
use vioduct_pci::{BusMaster, Hosted, NoInterrupts};
use vioduct_pci_demo::PciDemo;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{DeviceModel, Features, Inline};

#[test]
fn all_of_the_header_reads_as_the_host_shows_it_in_every_width() {
    let mut host = Hosted::new(PciDemo::new(), Arc::new(NoInterrupts)).unwrap();
    let tunnel = Tunnel::new(PciDev::registers(PciDemo::new()).unwrap(), Inline::new);
    let mut rig = Rig::new(tunnel, Features::NONE).unwrap();
    for width in [1, 2, 4, 8] {
        for offset in (0..256).step_by(width) {
            let header = Header { op: op::CONFIG_READ, bar: 0, size: width as u32, addr: offset };
            rig.submit(0, &[&header.encode()], &[width as u32]).unwrap();
            let _ = rig.kick(0).unwrap();
            rig.endpoint.backend_mut().runner_mut().run(10);
            let reply = rig.take(0).unwrap().unwrap();
            let mut expected = vec![0; width];
            host.config_read(offset, &mut expected);
            assert_eq!((reply.written as usize, reply.bytes), (width, expected), "{width} bytes at {offset}");
        }
    }
}

#[test]
fn the_device_is_of_the_type_that_it_is_told() {
    let device = PciDev::registers(PciDemo::new()).unwrap();
    assert_eq!(device.info().device_type, 62);
    assert_eq!(device.with_device_type(45).info().device_type, 45);
}

#[test]
fn ids_command_and_bars_are_as_pci_has_them() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        assert_eq!(bench.config_read(0, 4), 0x0001_1234);
        assert_eq!(bench.config_read(0, 8) as u32, 0x0001_1234);
        for (bar, len) in [(0x10, BAR_LEN as u32), (0x14, 4096)] {
            bench.config_write(bar, 4, 0xffff_ffff);
            assert_eq!(bench.config_read(bar, 4) as u32, !(len - 1));
            bench.config_write(bar, 4, 0xe000_0000);
            assert_eq!(bench.config_read(bar, 4), 0xe000_0000);
        }
        assert_eq!(bench.config_read(0x18, 4), 0, "there is no BAR 2");
        bench.config_write(4, 2, 6);
        assert_eq!(bench.config_read(4, 2), 6);
        assert_eq!(bench.take_events(), [Event::BusMaster(BusMaster::Enabled)]);
        assert_eq!(bench.config_read(0x100, 4), 0xffff_ffff, "nothing is beyond 256 bytes");
        assert_eq!(bench.config_read(u64::MAX - 1, 4), 0xffff_ffff);
    }
}

#[test]
fn accesses_of_a_bar_keep_their_width() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        for (width, offset) in [(1, 3), (2, 0x10), (4, 0x20), (8, 0x38), (4, BAR_LEN as u64 - 4)] {
            let data: Vec<u8> = (1..=width as u8).collect();
            bench.bar_write(0, offset, &data);
            assert_eq!(bench.bar_read(0, offset, width), data);
            let width = width as usize;
            assert_eq!(bench.take_events(), [Event::Write(offset, width), Event::Read(offset, width)]);
        }
    }
}

#[test]
fn copies_may_be_as_long_as_the_bar() {
    let mut bench = Bench::new(Features::NONE);
    let data: Vec<u8> = (0..BAR_LEN - 8).map(|at| (at % 251) as u8).collect();
    bench.bar_write(0, 8, &data);
    assert_eq!(bench.bar_read(0, 8, data.len() as u32), data);
    assert_eq!(bench.bar_read(0, 0, 9), [0, 0, 0, 0, 0, 0, 0, 0, data[0]]);
    assert_eq!(number(&bench.bar_read(0, BAR_LEN as u64 - 1, 1)), u64::from(*data.last().unwrap()));
}

#[test]
fn fills_are_of_one_byte() {
    let mut bench = Bench::new(Features::NONE);
    bench.bar_fill(0, 1, 5000, 0x5a);
    let all = bench.bar_read(0, 0, 5002);
    assert_eq!((all[0], all[5001]), (0, 0));
    assert!(all[1..5001].iter().all(|byte| *byte == 0x5a));
}

#[test]
fn row8_a_message_may_be_in_any_pieces() {
    let mut bench = Bench::new(Features::INDIRECT_DESC);
    let header = Header { op: op::BAR_WRITE, bar: 0, size: 8, addr: 0x40 }.encode();
    let reply = bench.raw(&[&header[..3], &header[3..16], &[1, 2], &[3, 4, 5, 6, 7, 8]], &[]);
    assert_eq!(reply.written, 0);
    let header = Header { op: op::BAR_READ, bar: 0, size: 8, addr: 0x40 }.encode();
    let reply = bench.raw(&[&header[..1], &header[1..]], &[3, 5]);
    assert_eq!((reply.written, reply.bytes), (8, vec![1, 2, 3, 4, 5, 6, 7, 8]));
}

#[test]
fn posted_writes_take_effect_in_order_before_a_read_behind_them() {
    let mut bench = Bench::new(Features::NONE);
    for value in 1..=9u8 {
        let header = Header { op: op::BAR_WRITE, bar: 0, size: 1, addr: 0 }.encode();
        bench.rig.submit(0, &[&header, &[value]], &[]).unwrap();
    }
    let header = Header { op: op::BAR_READ, bar: 0, size: 1, addr: 0 }.encode();
    bench.rig.submit(0, &[&header], &[1]).unwrap();
    let _ = bench.rig.kick(0).unwrap();
    bench.run();
    let replies: Vec<_> = std::iter::from_fn(|| bench.rig.take(0).unwrap()).collect();
    assert_eq!(replies.len(), 10);
    assert_eq!((replies[9].written, &*replies[9].bytes), (1, &[9][..]));
}
