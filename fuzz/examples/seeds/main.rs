//! Writes `seeds/`, from which the fuzz targets start: `cargo run --example seeds`, in this folder.
//!
//! A seed is a queue at work as the tests have it: buffers of one piece and of several, indirect tables, a batch, a reply. This file holds
//! `unsafe` because it lays rings out in the fuzz memory, which it vouches for.
#![allow(unsafe_code)]

mod vsock;
mod wires;

use std::fs;
use std::path::Path;
use vioduct_fuzz::device::{LOG_WRITES, MISPLACED, REMOTE_RING, STEP_LEN};
use vioduct_fuzz::ends::PACKED;
use vioduct_fuzz::memory::{FuzzMemory, MAPPED_START, REMOTE_START};
use vioduct_fuzz::{input, pci, window};
use vioduct_spec::mmio;
use vioduct_spec::pci::common_config;
use vioduct_virtqueue::{Buffer, DriverQueue, IndirectMemory, IoAddr, RingFormat, RingLayout, RingMemory};
use wires::Extra;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    for (format, layout) in [(RingFormat::Split, "split"), (RingFormat::Packed, "packed")] {
        for features in 0..8 {
            let (device, driver) = (format!("device_{layout}"), format!("driver_{layout}"));
            write(&device, &format!("mapped-{features}"), &device_seed(format, features))?;
            write(&device, &format!("remote-{features}"), &device_seed(format, features | REMOTE_RING))?;
            write(&driver, &format!("ring-{features}"), &driver_seed(features))?;
            let packed = if format == RingFormat::Packed { PACKED } else { 0 };
            write(
                "mmio_window",
                &format!("{layout}-{features}"),
                &window_seed(format, features, features & 1),
            )?;
            write("pci_config", &format!("{layout}-{features}"), &pci_seed(format, features))?;
            write("restore", &format!("{layout}-{features}"), &restore_seed(format, features))?;
            write("ends", &format!("{layout}-{features}"), &ends_seed(features | packed))?;
            write("vfio_user_server", &format!("{layout}-{features}"), &wires::vfio_user(format, features))?;
            let extras = [Extra::Nothing, Extra::Records, Extra::InBand, Extra::State];
            let extra = extras[usize::from(features / 2)];
            write(
                "vhost_user_server",
                &format!("{layout}-{features}"),
                &wires::vhost_user(format, features, extra),
            )?;
        }
        let packed = if format == RingFormat::Packed { vioduct_fuzz::vsock::PACKED } else { 0 };
        for (name, seed) in vsock::seeds(packed) {
            write("vsock_packets", &format!("{layout}-{name}"), &seed)?;
        }
        let placed = device_seed(format, 7 | MISPLACED | LOG_WRITES);
        write(&format!("device_{layout}"), "placed", &placed)?;
    }
    Ok(())
}

/// The byte for a queue of 8 descriptors.
fn size_byte(format: RingFormat) -> u8 {
    match format {
        RingFormat::Split => 3,
        RingFormat::Packed => 7,
    }
}

/// Each buffer is popped, read, written and completed, late and early, and all is published.
const DEVICE_STEPS: [[u8; STEP_LEN]; 18] = [
    [11, 0, 0, 0],
    [0, 0, 0, 0],
    [7, 0, 16, 0],
    [8, 0, 16, 0],
    [3, 4, 0, 0],
    [4, 1, 16, 0],
    [10, 0, 0, 0],
    [8, 1, 8, 0],
    [5, 0, 16, 0],
    [9, 0, 8, 0],
    [4, 0, 8, 0],
    [10, 0, 0, 0],
    [15, 0, 0, 0],
    [15, 1, 0, 0],
    [16, 0, 0, 0],
    [0, 0, 0, 0],
    [13, 2, 2, 9],
    [12, 0, 0, 0],
];

type Parts<'a> = (&'a [Buffer], &'a [Buffer]);

const fn piece(offset: u64, len: u32) -> Buffer {
    Buffer { addr: IoAddr(MAPPED_START + offset), len }
}

/// Memory from `start` on, with a ring there in which `buffers` are available, and tables for them in mapped memory.
fn queue(format: RingFormat, features: u8, start: u64, buffers: &[Parts<'_>]) -> (RingLayout, Vec<u8>) {
    let (size, start) = (input::size(format, size_byte(format)), IoAddr(start));
    let memory = FuzzMemory::new(Box::default());
    let ring_len = RingMemory::len_for(format, size);
    let tables_offset = (ring_len as u64).next_multiple_of(16);
    let (tables_at, tables_len) = (IoAddr(MAPPED_START + tables_offset), IndirectMemory::len_for(size, 2));
    // SAFETY: zeroed, 16-byte aligned, kept alive by `memory`.
    let tables = unsafe { IndirectMemory::new(memory.host(tables_at, tables_len), tables_at, size, 2) };
    // SAFETY: as above.
    let ring = unsafe { RingMemory::new(memory.host(start, ring_len), start, format, size) }.expect("valid");
    let mut driver =
        DriverQueue::new(ring, Some(tables), input::features(format, features)).expect("one layout");
    for (readable, writable) in buffers {
        driver.add(readable, writable, ()).expect("room");
    }
    let _ = driver.kick_prepare();
    let mut image = memory.get(start, tables_offset as usize + tables_len);
    let end = image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    image.truncate(end);
    (driver.layout(), image)
}

fn device_seed(format: RingFormat, options: u8) -> Vec<u8> {
    let start = if options & REMOTE_RING == 0 { MAPPED_START } else { REMOTE_START };
    let (layout, image) = queue(
        format,
        options,
        start,
        &[
            (&[piece(0x800, 8)], &[piece(0x900, 8)]),
            (&[piece(0x1ffc, 8)], &[]),
            (&[], &[piece(0x900, 4), piece(0x1ffe, 4)]),
            (&[piece(0x2400, 4)], &[piece(0x2600, 4)]),
        ],
    );
    let mut seed = vec![options, size_byte(format), 0, 0, 0, 0];
    if options & MISPLACED != 0 {
        for area in [layout.descriptor_area, layout.driver_area, layout.device_area] {
            seed.extend(((area.0 - start) as u16).to_le_bytes());
        }
    }
    seed.push(DEVICE_STEPS.len() as u8);
    seed.extend(DEVICE_STEPS.concat());
    seed.extend([2, 0, 0, 0, 4, 0, 0]);
    seed.extend(image);
    seed
}

/// Two requests that virtio-demo can serve, and the entropy device half of.
const REQUESTS: [Parts<'static>; 2] =
    [(&[piece(0x800, 8)], &[piece(0x900, 8)]), (&[piece(0x800, 4), piece(0x804, 4)], &[piece(0x980, 8)])];

/// The driver's features for a device, in two words.
fn words(format: RingFormat, features: u8) -> [u32; 2] {
    let features = input::features(format, features);
    [features.word(0), features.word(1)]
}

/// A device is brought up, works, and is paused.
fn window_seed(format: RingFormat, features: u8, device: u8) -> Vec<u8> {
    let (layout, image) = queue(format, features, MAPPED_START, &REQUESTS);
    let [low, high] = words(format, features);
    let registers = [
        (mmio::STATUS, 1),
        (mmio::STATUS, 3),
        (mmio::DRIVER_FEATURES_SEL, 0),
        (mmio::DRIVER_FEATURES, low),
        (mmio::DRIVER_FEATURES_SEL, 1),
        (mmio::DRIVER_FEATURES, high),
        (mmio::STATUS, 11),
        (mmio::QUEUE_SEL, 0),
        (mmio::QUEUE_SIZE, layout.size.into()),
        (mmio::QUEUE_DESC_LOW, layout.descriptor_area.0 as u32),
        (mmio::QUEUE_DRIVER_LOW, layout.driver_area.0 as u32),
        (mmio::QUEUE_DEVICE_LOW, layout.device_area.0 as u32),
        (mmio::QUEUE_READY, 1),
        (mmio::STATUS, 15),
        (mmio::QUEUE_NOTIFY, 0),
        (mmio::INTERRUPT_ACK, 3),
    ];
    let mut steps: Vec<[u8; window::STEP_LEN]> = Vec::new();
    for (register, value) in registers {
        let [a, b, c, d] = u32::to_le_bytes(value);
        steps.push([0, (register / 4) as u8, a, b, c, d, 0, 0]);
    }
    steps.extend([[11, 2, 0, 1, 0, 0, 0, 0], [14, 0, 0, 0, 0, 0, 0, 0], [15, 0, 0, 0, 0, 0, 0, 0]]);
    [vec![device], (steps.len() as u16).to_le_bytes().to_vec(), steps.concat(), image].concat()
}

/// The same device over PCI, with a vector for its queue, and its neighbours' registers written.
fn pci_seed(format: RingFormat, features: u8) -> Vec<u8> {
    const CONFIG: u8 = 1;
    const BAR: u8 = 7;
    let (layout, image) = queue(format, features, MAPPED_START, &REQUESTS);
    let [low, high] = words(format, features);
    let mut steps: Vec<[u8; pci::STEP_LEN]> = vec![[0, 18, 0, 0, 0, 0, 0, 0, 0, 0]];
    let mut command = |function| steps.push([function, CONFIG, 4, 0, 1, 7, 0, 0, 0, 0]);
    (0..3).for_each(&mut command);
    let mut bar = |function: u8, offset: u64, width: u8, value: u32| {
        let ([low, high], [a, b, c, d]) = ((offset as u16).to_le_bytes(), value.to_le_bytes());
        steps.push([function, BAR, 0, low, high, width.ilog2() as u8, a, b, c, d]);
    };
    for (offset, width, value) in [
        (0x4000, 4, 0xfee0_0000),
        (0x400c, 4, 0),
        (common_config::DEVICE_STATUS, 1, 1),
        (common_config::DEVICE_STATUS, 1, 3),
        (common_config::DRIVER_FEATURE_SELECT, 4, 0),
        (common_config::DRIVER_FEATURE, 4, low),
        (common_config::DRIVER_FEATURE_SELECT, 4, 1),
        (common_config::DRIVER_FEATURE, 4, high),
        (common_config::DEVICE_STATUS, 1, 11),
        (common_config::QUEUE_SIZE, 2, layout.size.into()),
        (common_config::QUEUE_MSIX_VECTOR, 2, 0),
        (common_config::QUEUE_DESC, 4, layout.descriptor_area.0 as u32),
        (common_config::QUEUE_DRIVER, 4, layout.driver_area.0 as u32),
        (common_config::QUEUE_DEVICE, 4, layout.device_area.0 as u32),
        (common_config::QUEUE_ENABLE, 2, 1),
        (common_config::DEVICE_STATUS, 1, 15),
        (0x3000, 2, 0),
    ] {
        bar(0, offset, width, value);
    }
    bar(1, 0x10, 4, 5);
    bar(2, 0, 4, 0x1333);
    steps.extend([
        [1, 11, 0, 0x10, 0, 2, 0, 0, 0, 0],
        [1, 6, 2, 0, 1, 2, 0, 0, 0, 0],
        [1, 15, 3, 0, 0, 0, 0, 0, 0, 0],
        [1, 16, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 13, 0x40, 0x80, 1, 0, 2, 0, 0, 0],
        [2, 14, 0, 16, 2, 0, 0, 0, 0, 0],
        [0, 0, 0x40, 0, 2, 0, 0, 0, 0, 0],
    ]);
    [(steps.len() as u16).to_le_bytes().to_vec(), steps.concat(), image].concat()
}

/// A device at work, saved, with two requests waiting.
fn restore_seed(format: RingFormat, features: u8) -> Vec<u8> {
    let (layout, image) = queue(format, features, MAPPED_START, &REQUESTS);
    let mut seed = vec![15];
    seed.extend(input::features(format, features).0.to_le_bytes());
    seed.extend([1, 0, 0, 0, 0]);
    seed.extend(layout.size.to_le_bytes());
    for area in [layout.descriptor_area, layout.driver_area, layout.device_area] {
        seed.extend(area.0.to_le_bytes());
    }
    seed.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    seed.extend(image);
    seed
}

/// Two buffers of one piece and one of two, published, reported out of order, got; then one reported twice.
fn driver_seed(features: u8) -> Vec<u8> {
    let add = |readable, writable| [0, readable, writable, 8, 0, 0, 0].to_vec();
    let report = |id| [12, id, 4, 0, 0, 0].to_vec();
    let (kick, get, enable, late) = (vec![4], vec![6], vec![9], vec![10]);
    let steps = [
        add(1, 0),
        enable.clone(),
        add(0, 1),
        kick.clone(),
        add(1, 1),
        kick,
        late,
        report(1),
        get.clone(),
        report(0),
        get.clone(),
        report(2),
        get.clone(),
        enable,
        report(0),
        get,
        vec![8],
        vec![15],
        add(1, 0),
    ];
    [vec![features, 7], steps.concat()].concat()
}

/// A batch of three and one alone, completed out of order, with both ends going to sleep between.
fn ends_seed(options: u8) -> Vec<u8> {
    let size = if options & PACKED == 0 { 2 } else { 4 };
    let (one, two) = (vec![0, 1, 0x85], vec![0, 2, 4, 0x87]);
    let (kick, get, pop, arm, disarm, publish) = (vec![4], vec![6], vec![11], vec![17], vec![18], vec![16]);
    let (enable, late, disable, resume) = (vec![9], vec![10], vec![8], vec![19]);
    let complete = |which, short| vec![13, which, short];
    let round = [
        arm.clone(),
        one.clone(),
        two,
        one.clone(),
        kick.clone(),
        disarm,
        pop.clone(),
        pop.clone(),
        enable,
        complete(1, 0),
        publish.clone(),
        disable,
        get.clone(),
        pop,
        complete(0, 1),
        arm,
        one,
        kick,
        late,
        complete(0, 0),
        publish,
        get.clone(),
        get,
        resume,
    ];
    [vec![options, size], round.concat(), round.concat(), round.concat()].concat()
}
