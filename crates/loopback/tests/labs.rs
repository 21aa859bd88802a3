//! The labs, end to end: real drivers, real devices, every transport and ring.
#![allow(clippy::unwrap_used)]

mod machines;

use std::sync::{Arc, Mutex};

use machines::{attach, variants};
use vioduct_loopback::{Depth, Machine, Reply, Rig, Setup};
use vioduct_spec::{Features, demo, device_type, test};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Options as DeviceOptions;
use vioduct_virtio_driver::test::{Echo, TestConfig};
use vioduct_virtio_driver::{Demo, Entropy, Options, RequestError, Taken, Test, demo as demo_driver};
use vioduct_virtio_test::VirtioTest;

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn test_device(options: &str) -> VirtioTest {
    VirtioTest::from_options(&DeviceOptions::parse(options).unwrap()).unwrap()
}

fn demo_rig(depth: Depth, features: Features) -> Rig {
    let setup = Setup { depth, features, queue_size: u16::MAX };
    let mut rig = Rig::new(Box::new(VirtioDemo::default()), setup).unwrap();
    rig.bring_up().unwrap();
    rig
}

/// Lab 2: the first read gives 0x1333; each value written is read back, and stored.
#[test]
fn demo_stores_what_is_written() {
    for (depth, format, options) in variants(Features::EVENT_IDX) {
        let (machine, device) = attach(VirtioDemo::default(), depth);
        let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
        let mut wait = device.wait();
        assert_eq!(driver.read(&mut wait), Ok(demo::INITIAL_VALUE), "{depth} {format:?}");
        for value in demo::LAB_VALUES {
            assert_eq!(driver.write(value, &mut wait), Ok(value), "{depth} {format:?}");
            assert_eq!(driver.read(&mut wait), Ok(value), "{depth} {format:?}");
            assert_eq!(device.with_model(|model| model.value()), value);
            assert_eq!(driver.config_value(), Ok(value));
        }
    }
}

/// With all that driver and device can do, which only PCI has all of.
#[test]
fn demo_works_with_every_feature_at_once() {
    for depth in Depth::ALL {
        let (machine, device) = attach(VirtioDemo::default(), depth);
        let transport = device.transport().unwrap();
        let mut driver = Demo::new(transport, machine.dma(), &Options::default()).unwrap();
        let expected = Options::default().features.without(Features::ACCESS_PLATFORM) | Features::VERSION_1;
        let expected =
            if depth == Depth::Pci { expected } else { expected.without(Features::NOTIF_CONFIG_DATA) };
        assert_eq!(driver.device().negotiated(), expected, "{depth}");
        for value in 0..1000 {
            assert_eq!(driver.write(value, &mut device.wait()), Ok(value), "{depth}");
        }
        driver.restart_queue().unwrap();
        assert_eq!(driver.read(&mut device.wait()), Ok(999), "{depth}");
        let mut driver = driver.restart(&Options::default()).unwrap();
        assert_eq!(
            driver.read(&mut device.wait()),
            Ok(demo::INITIAL_VALUE),
            "{depth}: a reset resets the value"
        );
    }
}

/// Lab 2: an opcode that there is not is answered by 0xffffffff, and nothing is stored.
#[test]
fn demo_refuses_an_unknown_opcode() {
    for (depth, format, options) in variants(Features::NONE) {
        let (machine, device) = attach(VirtioDemo::default(), depth);
        let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
        let unknown = demo_driver::Request::Raw { opcode: 7, operand: 9 };
        assert_eq!(
            driver.call(unknown, &mut device.wait()),
            Err(RequestError::Refused),
            "{depth} {format:?}"
        );
        assert_eq!(driver.read(&mut device.wait()), Ok(demo::INITIAL_VALUE), "{depth} {format:?}");

        let mut rig = demo_rig(depth, options.features);
        let reply = rig.request(0, &[&le(&[2, 9])], &[8]).unwrap();
        assert_eq!(
            (reply.written, &reply.bytes[..4]),
            (8, &le(&[demo::OP_INVALID])[..]),
            "{depth} {format:?}"
        );
    }
}

/// `bytes` in pieces: cut behind byte `i` where bit `i` of `cuts` is set.
fn cut(bytes: &[u8], cuts: u32) -> Vec<&[u8]> {
    let ends = (1..bytes.len()).filter(|end| cuts >> (end - 1) & 1 == 1).chain([bytes.len()]);
    let mut start = 0;
    ends.map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

/// A write of `value` whose two halves are cut so, and its reply.
fn write_in_pieces(rig: &mut Rig, value: u32, readable_cuts: u32, writable_cuts: u32) -> Reply {
    let request = le(&[demo::OP_WRITE, value]);
    let writable: Vec<u32> = cut(&[0; 8], writable_cuts).iter().map(|piece| piece.len() as u32).collect();
    rig.request(0, &cut(&request, readable_cuts), &writable).unwrap()
}

/// Lab 2: the 16 bytes may be split over descriptors at every byte boundary: all 2^14 ways, over both rings.
#[test]
fn demo_takes_a_request_in_any_pieces() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let mut rig = demo_rig(Depth::Verbs, features);
        for cuts in 0..1 << 14 {
            let reply = write_in_pieces(&mut rig, cuts, cuts & 0x7f, cuts >> 7);
            let expected = Reply { written: 8, bytes: le(&[demo::OP_WRITE, cuts]) };
            assert_eq!(reply, expected, "cuts {cuts:#x} with {features}");
        }
    }
}

/// The same over registers, and through indirect tables, each half cut alike.
#[test]
fn demo_takes_a_request_in_any_pieces_over_every_transport() {
    for (depth, format, options) in variants(Features::INDIRECT_DESC) {
        let mut rig = demo_rig(depth, options.features);
        for cuts in 0..1 << 7 {
            let reply = write_in_pieces(&mut rig, cuts, cuts, cuts);
            let expected = Reply { written: 8, bytes: le(&[demo::OP_WRITE, cuts]) };
            assert_eq!(reply, expected, "cuts {cuts:#x} by {depth} {format:?}");
        }
    }
}

/// Lab 2: fewer than 8 bytes either way: nothing written, nothing stored.
#[test]
fn demo_returns_short_chains_empty() {
    for (depth, format, options) in variants(Features::NONE) {
        let mut rig = demo_rig(depth, options.features);
        let request = le(&[demo::OP_WRITE, 99]);
        let lengths = (0..=8).flat_map(|readable| (0..=8).map(move |writable| (readable, writable)));
        for (readable, writable) in lengths.filter(|lengths| !matches!(lengths, (0, 0) | (8, 8))) {
            let out: &[&[u8]] = if readable == 0 { &[] } else { &[&request[..readable]] };
            let back: &[u32] = if writable == 0 { &[] } else { &[writable as u32] };
            let reply = rig.request(0, out, back).unwrap();
            let expected = Reply { written: 0, bytes: vec![0; writable] };
            assert_eq!(reply, expected, "{readable} and {writable} bytes by {depth} {format:?}");
        }
        let stored = rig.request(0, &[&le(&[demo::OP_READ, 0])], &[8]).unwrap();
        assert_eq!(stored.bytes, le(&[demo::OP_READ, demo::INITIAL_VALUE]), "{depth} {format:?}");
    }
}

/// Lab 4: factorials, wrapping modulo 2^32.
#[test]
fn test_device_counts_factorials() {
    for (depth, format, options) in variants(Features::EVENT_IDX) {
        let (machine, device) = attach(test_device("virtio-test"), depth);
        let transport = device.transport().unwrap();
        let mut driver = Test::new(transport, machine.dma(), device_type::TEST, &options).unwrap();
        for (n, factorial) in [(0, 1), (1, 1), (12, 479_001_600), (13, 1_932_053_504), (34, 0), (u32::MAX, 0)]
        {
            let answer = driver.factorial(n, "hello back end!", &mut device.wait());
            assert_eq!(answer, Ok(factorial), "{n}! by {depth} {format:?}");
        }
    }
}

/// Lab 4: for 10 the device sees 10, 11, 12, 13 and the text, and the driver gets 111, 112, 113. Another device id will do.
#[test]
fn test_device_echoes() {
    for (depth, format, options) in variants(Features::IN_ORDER) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let model = test_device("virtio-test,format=echo,id=62")
            .on_request(move |request| log.lock().unwrap().push(request.to_string()));
        let (machine, device) = attach(model, depth);
        let mut driver = Test::new(device.transport().unwrap(), machine.dma(), 62, &options).unwrap();
        let answer = driver.echo(10, &mut device.wait());
        assert_eq!(answer, Ok(Echo { ret: 111, arg1: 112, arg2: 113 }), "{depth} {format:?}");
        let text = test::ECHO_TEXT;
        assert_eq!(*seen.lock().unwrap(), [format!("10 11 12 13 \"{text}\"")], "{depth} {format:?}");
        let wrapped = driver.echo(u32::MAX, &mut device.wait());
        assert_eq!(wrapped, Ok(Echo { ret: 100, arg1: 101, arg2: 102 }), "{depth} {format:?}");
    }
}

/// Lab 4: the driver may write the configuration back.
#[test]
fn test_device_takes_its_configuration_back() {
    for (depth, format, options) in variants(Features::NONE) {
        let (machine, device) = attach(test_device("virtio-test"), depth);
        let transport = device.transport().unwrap();
        let mut driver = Test::new(transport, machine.dma(), device_type::TEST, &options).unwrap();
        let wanted = TestConfig { num_pages: 1, actual: 0x0203_0405, event: u32::MAX };
        driver.write_config(wanted).unwrap();
        assert_eq!(driver.read_config(), Ok(wanted), "{depth} {format:?}");
    }
}

/// Lab 4: without `CAN_PRINT` the driver uses no queue.
#[test]
fn test_device_without_can_print_has_no_queue() {
    let machine = Machine::new(machines::MEMORY_BYTES).unwrap();
    let device = machine.attach(test_device("virtio-test"), Depth::Mmio, Features::RING).unwrap();
    let options = Options::default();
    let transport = device.transport().unwrap();
    let mut driver = Test::new(transport, machine.dma(), device_type::TEST, &options).unwrap();
    assert_eq!(driver.factorial(3, "", &mut device.wait()), Err(RequestError::NoQueue));
}

/// A batch of 64 requests is one doorbell and one interrupt: each costs a trap or an injection, a request does not.
#[test]
fn a_batch_is_one_doorbell_and_one_interrupt() {
    for features in [Features::NONE, Features::EVENT_IDX, Features::IN_ORDER | Features::INDIRECT_DESC] {
        for (depth, format, options) in variants(features) {
            let (machine, device) = attach(VirtioDemo::default(), depth);
            let mut driver = Demo::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
            let before = machine.traffic();
            let submit = |_| driver.submit(demo_driver::Request::Read).unwrap();
            let tickets: Vec<_> = (0..64).map(submit).collect();
            driver.kick().unwrap();
            device.run();
            let crossed = machine.traffic() - before;
            let context = format!("{features} by {depth} {format:?}");
            assert_eq!((crossed.doorbells, crossed.interrupts), (1, 1), "{context}");
            assert_eq!(crossed.traps(), u64::from(depth != Depth::Verbs), "{context}");
            assert_eq!(driver.service().unwrap().completed, 64, "{context}");
            for ticket in tickets {
                assert_eq!(driver.take(ticket), Ok(Taken::Done(demo::INITIAL_VALUE)), "{context}");
            }
        }
    }
}

/// The entropy device fills any length, and not with the same bytes twice.
#[test]
fn entropy_fills_buffers() {
    for (depth, format, options) in variants(Features::NONE) {
        let (machine, device) = attach(vioduct_entropy::Entropy, depth);
        let mut driver = Entropy::new(device.transport().unwrap(), machine.dma(), &options).unwrap();
        let mut blocks = [[0; 700]; 2];
        for block in &mut blocks {
            driver.fill(block, &mut device.wait()).unwrap();
        }
        assert_ne!(blocks[0], blocks[1], "{depth} {format:?}");
        assert!(blocks[0].chunks(100).all(|chunk| chunk != [0; 100]), "{depth} {format:?}");
    }
}
