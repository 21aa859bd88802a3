//! The block device through the conformance tests, and the driver of block devices against it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;
use std::thread;

use tempfile::NamedTempFile;
use vioduct_block::{Block, Pace, io_uring_works};
use vioduct_loopback::failure::same;
use vioduct_loopback::{Depth, GuestDma, Machine, Outcome, Rig, Stepped, Threaded, conformance};
use vioduct_spec::{Features, blk};
use vioduct_virtio_device::Options as DeviceOptions;
use vioduct_virtio_driver::block::{Allocation, Request};
use vioduct_virtio_driver::{Block as Disk, Options, RequestError, Taken, Transport};

const SECTOR: usize = blk::SECTOR_LEN;
const DISK_LEN: usize = 1 << 20;

type AnyDisk = Disk<Box<dyn Transport + Send>, GuestDma>;

fn device(options: &str) -> Block {
    Block::from_options(&DeviceOptions::parse(options).unwrap()).unwrap()
}

/// A device over a file of zeroes without a name, which lasts as long as the device has it open.
fn over_a_file(io: &str) -> Box<Block> {
    let image = image();
    Box::new(
        device(&format!("block,path={},io={io},queues=2", image.path().display())).with_pace(Pace::Stepped),
    )
}

fn image() -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(DISK_LEN as u64).unwrap();
    image
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn write_and_read(rig: &mut Rig) -> Outcome {
    let data: Vec<u8> = (0..SECTOR).map(|byte| (byte % 251) as u8).collect();
    let (write, read) = (header(blk::T_OUT, 3), header(blk::T_IN, 3));
    let reply = rig.request(0, &[&write[..7], &write[7..], &data], &[1])?;
    same("the status of a write", (reply.written, reply.bytes), (1, vec![blk::S_OK]))?;
    let reply = rig.request(1, &[&read], &[500, 12, 1])?;
    same("bytes read", reply.written as usize, SECTOR + 1)?;
    same("what was read", reply.bytes, [data, vec![blk::S_OK]].concat())?;
    let reply = rig.request(0, &[&header(blk::T_FLUSH, 0)], &[1])?;
    same("the status of a flush", reply.bytes, vec![blk::S_OK])?;
    let reply = rig.request(0, &[&header(blk::T_IN, u64::MAX)], &[512, 1])?;
    same("the status of a read beyond the end", reply.bytes.last().copied(), Some(blk::S_IOERR))
}

fn with_threads() -> Box<Block> {
    over_a_file("threads")
}

/// Where io_uring is not permitted this is the same as with threads, and says so.
fn with_io_uring() -> Box<Block> {
    match io_uring_works() {
        Ok(()) => over_a_file("uring"),
        Err(error) => {
            eprintln!("NOT TESTED: io_uring, which this system does not permit ({error})");
            over_a_file("auto")
        }
    }
}

conformance!(block_by_threads, || with_threads(), write_and_read);
conformance!(block_by_io_uring, || with_io_uring(), write_and_read);

const DEPTHS: [Depth; 4] = [Depth::Verbs, Depth::Mmio, Depth::Pci, Depth::VhostUser];
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];

fn options(format: Features) -> Options {
    let features = Options::default().features.without(Features::RING_PACKED) | format;
    Options { features, ..Options::default() }
}

fn stepped(depth: Depth, format: Features, device: Block) -> (Stepped<Block>, AnyDisk) {
    let machine = Machine::new(16 << 20).unwrap();
    let device = machine.attach(device.with_pace(Pace::Stepped), depth, Features(u64::MAX)).unwrap();
    let disk = Disk::new(device.transport().unwrap(), machine.dma(), &options(format)).unwrap();
    (device, disk)
}

#[test]
fn a_driver_uses_all_that_the_device_has() {
    for depth in DEPTHS {
        for format in FORMATS {
            let image = image();
            let path = image.path().display();
            let (device, mut disk) =
                stepped(depth, format, device(&format!("block,path={path},serial=disk-7,block-size=4096")));
            let mut wait = device.wait();
            assert_eq!(disk.geometry().sectors as usize, DISK_LEN / SECTOR, "{depth}");
            assert_eq!(disk.geometry().block_len_bytes, 4096);
            assert_eq!(disk.id(&mut wait).unwrap()[..7], *b"disk-7\0");
            let data: Vec<u8> = (0..20 * SECTOR).map(|byte| (byte % 253) as u8 | 1).collect();
            disk.write(30, &data, &mut wait).unwrap();
            disk.flush(&mut wait).unwrap();
            disk.write_zeroes(31, 2, Allocation::Kept, &mut wait).unwrap();
            disk.write_zeroes(40, 8, Allocation::MayGo, &mut wait).unwrap();
            disk.discard(0, 8, &mut wait).unwrap();
            let mut expected = data.clone();
            expected[SECTOR..3 * SECTOR].fill(0);
            expected[10 * SECTOR..18 * SECTOR].fill(0);
            let mut read = vec![0xee; data.len()];
            disk.read(30, &mut read, &mut wait).unwrap();
            assert!(read == expected, "{depth}");
            assert!(fs::read(image.path()).unwrap()[30 * SECTOR..50 * SECTOR] == expected, "{depth}");
            let beyond = disk.read(disk.geometry().sectors, &mut read, &mut wait);
            assert_eq!(beyond, Err(RequestError::Failed), "{depth}");
        }
    }
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let (device, mut disk) = stepped(Depth::Pci, Features::NONE, device("block,null=1M,readonly=on"));
    let mut wait = device.wait();
    assert_eq!(disk.write(0, &[1; SECTOR], &mut wait), Err(RequestError::Failed));
    assert_eq!(disk.discard(0, 1, &mut wait), Err(RequestError::Refused));
    assert_eq!(disk.read(0, &mut [0; SECTOR], &mut wait), Ok(()));
}

/// The device is reset while its operations go on, and starts over: nothing of before is touched or answered.
#[test]
fn a_device_may_be_reset_with_requests_in_flight() {
    for io in ["auto", "threads"] {
        for format in FORMATS {
            let image = image();
            let machine = Machine::new(16 << 20).unwrap();
            let model = device(&format!("block,path={},io={io}", image.path().display()));
            let device = machine.attach_workers(model, Depth::Pci, Features(u64::MAX)).unwrap();
            let mut disk = Disk::new(device.transport().unwrap(), machine.dma(), &options(format)).unwrap();
            for round in 0..20 {
                let data = [round; 4096];
                for sector in (0..64 * 8).step_by(8) {
                    let ticket = disk.submit(0, Request::Write { sector, data: &data }).unwrap();
                    disk.queue(0).unwrap().abandon(ticket);
                }
                disk.kick(0).unwrap();
                disk = disk.restart(&options(format)).unwrap();
                let mut wait = device.wait();
                disk.write(0, &data, &mut wait).unwrap();
                let mut read = [0xee; 4096];
                disk.read(0, &mut read, &mut wait).unwrap();
                assert!(read == data, "{io}, round {round}");
            }
        }
    }
}

/// One driver's work: rounds of writes and reads of its own sectors, deep in flight on all queues.
fn drive(device: &Threaded<Block>, machine: &Machine, format: Features) {
    const ROUNDS: u8 = 40;
    const DEPTH: u64 = 32;
    let mut disk =
        Disk::with_queues(device.transport().unwrap(), machine.dma(), &options(format), 3).unwrap();
    assert_eq!(disk.queue_count(), 3);
    let mut wait = device.wait();
    for round in 1..=ROUNDS {
        for reading in [false, true] {
            let mut waiting = Vec::new();
            for number in 0..DEPTH {
                let (queue, sector) = ((number % 3) as u16, number * 8);
                let data = [round ^ number as u8; 4096];
                let request = match reading {
                    true => Request::Read { sector, len_bytes: 4096 },
                    false => Request::Write { sector, data: &data },
                };
                waiting.push((queue, number, disk.submit(queue, request).unwrap()));
            }
            (0..3).for_each(|queue| disk.kick(queue).unwrap());
            while let Some((queue, number, ticket)) = waiting.pop() {
                let mut data = [0; 4096];
                let answer = if reading { &mut data[..] } else { &mut [] };
                match disk.take(queue, ticket, answer).unwrap() {
                    Taken::Done(()) if reading => assert!(data == [round ^ number as u8; 4096]),
                    Taken::Done(()) => {}
                    Taken::Pending(ticket) => {
                        waiting.push((queue, number, ticket));
                        if disk.service().unwrap().completed == 0 {
                            assert_eq!(wait(), ControlFlow::Continue(()), "the device is silent");
                        }
                        disk.poll(queue).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn devices_with_threads_serve_several_queues_at_once() {
    let variants = [
        (Depth::Mmio, Features::NONE, "auto"),
        (Depth::Pci, Features::RING_PACKED, "auto"),
        (Depth::Pci, Features::NONE, "threads"),
        (Depth::VhostUser, Features::RING_PACKED, "threads"),
        (Depth::VhostUser, Features::NONE, "auto"),
    ];
    thread::scope(|scope| {
        for (depth, format, io) in variants {
            scope.spawn(move || {
                let image = image();
                let machine = Machine::new(32 << 20).unwrap();
                let model = device(&format!("block,path={},io={io},queues=3", image.path().display()));
                let device = machine.attach_workers(model, depth, Features(u64::MAX)).unwrap();
                drive(&device, &machine, format);
            });
        }
    });
}
