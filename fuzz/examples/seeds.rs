//! Writes `seeds/`, from which the fuzz targets start: `cargo run --example seeds`, in this folder.
//!
//! A seed is a queue at work as the tests have it: buffers of one piece and of several, indirect tables, a batch, a reply.
#![allow(unsafe_code)]

use std::fs;
use std::path::Path;
use vioduct_fuzz::device::{LOG_WRITES, MISPLACED, REMOTE_RING, STEP_LEN};
use vioduct_fuzz::ends::PACKED;
use vioduct_fuzz::input;
use vioduct_fuzz::memory::{FuzzMemory, MAPPED_START, REMOTE_START};
use vioduct_virtqueue::{AreaSizes, Buffer, DriverQueue, IndirectMemory, IoAddr, RingFormat, RingMemory};

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
            write("ends", &format!("{layout}-{features}"), &ends_seed(features | packed))?;
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
const DEVICE_STEPS: [[u8; STEP_LEN]; 16] = [
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
    [13, 2, 2, 9],
    [12, 0, 0, 0],
];

fn device_seed(format: RingFormat, options: u8) -> Vec<u8> {
    let (size_byte, features) = (size_byte(format), input::features(format, options));
    let size = input::size(format, size_byte);
    let start = IoAddr(if options & REMOTE_RING == 0 { MAPPED_START } else { REMOTE_START });
    let memory = FuzzMemory::new(Box::default());
    let ring_len = RingMemory::len_for(format, size);
    let tables_offset = (ring_len as u64).next_multiple_of(16);
    let tables_at = IoAddr(MAPPED_START + tables_offset);
    let tables_host = memory.host(tables_at, IndirectMemory::len_for(size, 2));
    // SAFETY: zeroed, 16-byte aligned, kept alive by `memory`.
    let tables = unsafe { IndirectMemory::new(tables_host, tables_at, size, 2) };
    let host = memory.host(start, ring_len);
    // SAFETY: as above.
    let ring = unsafe { RingMemory::new(host, start, format, size) }.expect("a valid ring");
    let mut driver = DriverQueue::new(ring, Some(tables), features).expect("the ring's layout");
    let piece = |offset: u64, len: u32| Buffer { addr: IoAddr(MAPPED_START + offset), len };
    for (readable, writable) in [
        (&[piece(0x800, 8)][..], &[piece(0x900, 8)][..]),
        (&[piece(0x1ffc, 8)], &[]),
        (&[], &[piece(0x900, 4), piece(0x1ffe, 4)]),
        (&[piece(0x2400, 4)], &[piece(0x2600, 4)]),
    ] {
        let _ = driver.add(readable, writable, 0u8);
    }
    let _ = driver.kick_prepare();
    let mut seed = vec![options, size_byte, 0, 0, 0, 0];
    if options & MISPLACED != 0 {
        let sizes = AreaSizes::of(format, size);
        for offset in [0, sizes.driver_offset(), sizes.device_offset()] {
            seed.extend((offset as u16).to_le_bytes());
        }
    }
    seed.push(DEVICE_STEPS.len() as u8);
    seed.extend(DEVICE_STEPS.concat());
    seed.extend([2, 0, 0, 0, 4, 0, 0]);
    let image = memory.get(start, tables_offset as usize + IndirectMemory::len_for(size, 2));
    let end = image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    seed.extend(&image[..end]);
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
