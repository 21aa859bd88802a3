//! A vhost-user server that is not ours: QEMU's storage daemon serves a file, our front-end has it behind mmio and pci, our driver
//! reads and writes it, and the daemon is killed meanwhile. It keeps no record of what is in flight.
#![allow(clippy::unwrap_used)]

mod daemon;
mod disk;

use daemon::{Daemon, is_there};
use disk::Disk;
use std::fs;
use std::time::Duration;
use vioduct_loopback::{Depth, Machine};
use vioduct_spec::{Features, Status, blk, device_type};
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::DeviceInfo;

const SECTORS: u64 = 256;
const BLOCK_LEN: usize = 4096;
const SECTORS_PER_BLOCK: u64 = (BLOCK_LEN / blk::SECTOR_LEN) as u64;

/// Bytes that tell their block and their writing apart from any other.
fn pattern(block: u64, turn: u64) -> Vec<u8> {
    let mut state = block << 32 | turn << 1 | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..BLOCK_LEN).map(|_| next()).collect()
}

/// So short a queue that what is sent one by one fills it: the daemon may use in any order what it finds at once, and a queue that
/// still shows that when the daemon is killed cannot go on.
const QUEUE_SIZE: u16 = 32;

fn info() -> DeviceInfo {
    DeviceInfo {
        config_len: blk::CONFIG_LEN,
        ..DeviceInfo::new(device_type::BLOCK, "disk", vec![QUEUE_SIZE])
    }
}

fn open(machine: &Machine, daemon: &Daemon, patience: Patience) -> Frontend {
    let regions = SharedRegion::all_of(&machine.memory()).unwrap();
    Frontend::connect(&daemon.socket, info(), regions, patience).unwrap()
}

fn write_all(disk: &mut Disk, turn: u64) {
    for block in 0..SECTORS / SECTORS_PER_BLOCK {
        let data = pattern(block, turn);
        assert_eq!(disk.write(block * SECTORS_PER_BLOCK, &data), blk::S_OK, "writing block {block}");
    }
    assert_eq!(disk.flush(), blk::S_OK);
}

fn check_all(disk: &mut Disk, daemon: &Daemon, turn: u64) {
    let file = fs::read(&daemon.image).unwrap();
    for (block, stored) in (0..SECTORS / SECTORS_PER_BLOCK).zip(file.chunks(BLOCK_LEN)) {
        let wanted = pattern(block, turn);
        assert!(stored == wanted, "block {block} of the file is not what was written");
        let (status, data) = disk.read(block * SECTORS_PER_BLOCK, BLOCK_LEN);
        assert_eq!(status, blk::S_OK);
        assert!(data == wanted, "block {block} is not read as it was written");
    }
}

#[test]
fn a_foreign_server_s_disk_is_used_over_mmio_and_pci() {
    if !is_there() {
        return;
    }
    for depth in [Depth::Mmio, Depth::Pci] {
        let daemon = Daemon::start(SECTORS);
        let machine = Machine::new(8 << 20).unwrap();
        let device = machine.attach_backend(open(&machine, &daemon, Patience::default()), depth).unwrap();
        let mut disk = Disk::new(&machine, &device);
        assert_eq!(disk.capacity(), SECTORS, "{depth}");
        write_all(&mut disk, 1);
        check_all(&mut disk, &daemon, 1);
        // Beyond the end of the disk: the server's answer, and no more.
        assert_eq!(disk.write(SECTORS, &pattern(0, 0)), blk::S_IOERR, "{depth}");
        // The driver starts over.
        let mut disk = disk.restart();
        check_all(&mut disk, &daemon, 1);
    }
}

#[test]
fn a_foreign_server_may_be_killed_and_started_again() {
    if !is_there() {
        return;
    }
    let mut daemon = Daemon::start(SECTORS);
    let machine = Machine::new(8 << 20).unwrap();
    let device = machine.attach_backend(open(&machine, &daemon, Patience::default()), Depth::Mmio).unwrap();
    let mut disk = Disk::new(&machine, &device);
    for turn in 0..5 {
        write_all(&mut disk, turn);
        daemon.kill();
        // Requests to nobody, which the next daemon answers.
        let waiting: Vec<_> = (0..8)
            .map(|block| (block, disk.submit_write(block * SECTORS_PER_BLOCK, &pattern(block, turn + 100))))
            .collect();
        daemon.start_again();
        for (block, ticket) in waiting {
            assert_eq!(disk.finish(ticket), blk::S_OK, "block {block}, turn {turn}");
        }
        let (status, data) = disk.read(7 * SECTORS_PER_BLOCK, BLOCK_LEN);
        assert!(status == blk::S_OK && data == pattern(7, turn + 100), "turn {turn}");
        write_all(&mut disk, turn);
        check_all(&mut disk, &daemon, turn);
    }
}

#[test]
fn a_foreign_server_that_stays_away_leaves_a_device_that_needs_a_reset() {
    if !is_there() {
        return;
    }
    let mut daemon = Daemon::start(SECTORS);
    let machine = Machine::new(8 << 20).unwrap();
    let patience = Patience { absence: Duration::from_millis(100), ..Patience::default() };
    let device = machine.attach_backend(open(&machine, &daemon, patience), Depth::Mmio).unwrap();
    let mut disk = Disk::new(&machine, &device);
    write_all(&mut disk, 0);
    daemon.kill();
    disk.await_failure();
    let status = device.with_endpoint(|endpoint| endpoint.status());
    assert!(status.contains(Status::NEEDS_RESET), "{status:?}");
    daemon.start_again();
    let mut disk = disk.restart();
    check_all(&mut disk, &daemon, 0);
    assert!(device.with_endpoint(|endpoint| endpoint.offered()).contains(Features::VERSION_1));
}
