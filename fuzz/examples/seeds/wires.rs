//! Clients of both wires that bring the device up, have requests served, and try what else there is.

use crate::{REQUESTS as BUFFERS, queue, size_byte};
use vioduct_fuzz::input;
use vioduct_fuzz::memory::MAPPED_START;
use vioduct_fuzz::vfio_user::{self, BAR_WRITE, COMMAND, COMMANDS, CONFIG_WRITE};
use vioduct_fuzz::vhost_user::{self, ASK, ASK_ANSWER, KICK, POKE, REQUESTS, WORK};
use vioduct_spec::pci::common_config;
use vioduct_virtqueue::{RingFormat, RingLayout};

/// Options, and what lies in memory.
fn head(options: u8, image: &[u8]) -> Vec<u8> {
    [&[options][..], &(image.len() as u16).to_le_bytes(), image].concat()
}

/// Offsets of descriptor area, driver area, device area in memory.
fn offsets(layout: &RingLayout) -> [[u8; 2]; 3] {
    [layout.descriptor_area, layout.driver_area, layout.device_area]
        .map(|area| ((area.0 - MAPPED_START) as u16).to_le_bytes())
}

/// A request, its arguments, no descriptors but its own, in one piece.
fn ask(code: u8, number: u8, arguments: &[u8]) -> Vec<u8> {
    let index = REQUESTS.iter().position(|request| *request == number).expect("a request") as u8;
    [&[code, index], arguments, &[0, 0]].concat()
}

/// What is tried besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// Records of what is in flight, in memory that the front-end writes to; a log of what is written.
    Records,
    /// Kicks and calls in messages; no kicks at all.
    InBand,
    /// The device's state, its status, a reset.
    State,
}

/// A device at work over vhost-user.
pub(crate) fn vhost_user(format: RingFormat, features: u8, extra: Extra) -> Vec<u8> {
    let (layout, image) = queue(format, features, MAPPED_START, &BUFFERS);
    let packed = if format == RingFormat::Packed { 8 } else { 0 };
    let log = if extra == Extra::Records { 32 } else { 0 };
    let [descriptor, driver, device] = offsets(&layout);
    let set_up = |code: u8| {
        let areas = [&[0, log >> 5][..], &descriptor, &device, &driver, &device].concat();
        let num = ask(code, 8, &[0, input::size(format, size_byte(format)) as u8]);
        [num, ask(code, 10, &[0, 0]), ask(code, 9, &areas)].concat()
    };
    let start =
        [ask(ASK, 14, &[0]), ask(ASK, 13, &[0]), ask(ASK, 12, &[0]), ask(ASK_ANSWER, 18, &[0, 1])].concat();
    let work = vec![KICK, WORK, 7, 14, 0];
    let mut seed = head(features & vhost_user::AUTO, &image);
    for part in [
        ask(ASK, 3, &[]),
        ask(ASK, 1, &[]),
        ask(ASK, 15, &[]),
        ask(ASK_ANSWER, 16, &[u8::from(extra != Extra::InBand)]),
        ask(ASK_ANSWER, 2, &[features | packed | log]),
        ask(ASK_ANSWER, 5, &[0, 0, 0, 0]),
    ] {
        seed.extend(part);
    }
    if extra == Extra::Records {
        seed.extend(ask(ASK, 31, &[0, 0, 16, 0]));
        seed.extend(ask(ASK_ANSWER, 32, &[0, 0, 16, 0, 8]));
        seed.extend(ask(ASK, 6, &[1, 14]));
    }
    seed.extend(set_up(ASK_ANSWER));
    seed.extend(match extra {
        Extra::InBand => [ask(ASK, 21, &[]), ask(ASK, 18, &[0, 1]), ask(ASK, 35, &[0, 0])].concat(),
        _ => start.clone(),
    });
    seed.extend(&work);
    // A request is written once more, as a driver that has got both back would.
    seed.extend([POKE, 0, 8, 8, 1, 0, 0, 0, 7, 0, 0, 0]);
    seed.extend(&work);
    match extra {
        Extra::State => {
            seed.extend(ask(ASK, 39, &[15]));
            seed.extend(ask(ASK, 40, &[]));
            seed.extend(ask(ASK, 11, &[0, 0]));
            seed.extend(
                [ask(ASK, 42, &[0, 0, 0]), ask(ASK, 43, &[]), ask(ASK, 42, &[2, 1, 0]), ask(ASK, 43, &[])]
                    .concat(),
            );
            seed.extend([ask(ASK, 34, &[]), ask(ASK_ANSWER, 2, &[features | packed])].concat());
            seed.extend([set_up(ASK), start].concat());
        }
        Extra::Records => {
            seed.extend(ask(ASK, 11, &[0, 0]));
            seed.extend([set_up(ASK), start].concat());
            seed.extend([POKE, 0, 0x80, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
        }
        Extra::InBand => {
            seed.extend([ask(ASK, 12, &[0x80]), ask(ASK, 1, &[]), ask(ASK, 35, &[0, 0])].concat())
        }
        Extra::Nothing => {
            seed.extend(
                [ask(ASK, 24, &[0, 4, 0, 0, 0, 0, 0]), ask(ASK, 25, &[0, 4, 1, 2, 3, 4, 0])].concat(),
            );
            seed.extend([ask(ASK, 17, &[]), ask(ASK, 36, &[])].concat());
            seed.extend([ask(ASK, 37, &[1, 32, 3]), ask(ASK, 38, &[1, 32, 3])].concat());
            seed.extend(ask(ASK_ANSWER, 18, &[0, 0]));
        }
    }
    seed.extend(&work);
    assert!(vhost_user::run(&seed) >= 2, "the device does not work: {format:?}, {features}");
    seed
}

fn command(number: u16, arguments: &[u8]) -> Vec<u8> {
    let index = COMMANDS.iter().position(|command| *command == number).expect("a command") as u8;
    [&[COMMAND, index], arguments, &[0, 0, 0]].concat()
}

fn write(region: u8, offset: u64, width: u8, value: u32) -> Vec<u8> {
    [&[region][..], &(offset as u16).to_le_bytes(), &[width.ilog2() as u8], &value.to_le_bytes()].concat()
}

/// A device at work over vfio-user, with interrupts by its pin, or by a vector if that is where its capability is.
fn vfio_user_with(format: RingFormat, features: u8, options: u8, msix: Option<u64>) -> Vec<u8> {
    // With a twin socket, for some of those that are asked for their memory.
    let version = if features & 5 == 5 { 3 } else { 0 };
    let (layout, image) = queue(format, features, MAPPED_START, &BUFFERS);
    let negotiated = input::features(format, features);
    let mut seed = head(options, &image);
    seed.extend([command(1, &[version, 0]), command(4, &[]), command(5, &[0]), command(7, &[2])].concat());
    seed.extend(command(2, &[0, 0, 0, 0]));
    seed.extend(match msix {
        Some(at) => [command(8, &[0, 0, 2, 0]), write(CONFIG_WRITE, at + 2, 2, 0x8000)].concat(),
        None => command(8, &[2, 0, 1, 0]),
    });
    seed.extend(write(CONFIG_WRITE, 4, 2, 6));
    for (offset, width, value) in [
        (common_config::DEVICE_STATUS, 1, 1),
        (common_config::DEVICE_STATUS, 1, 3),
        (common_config::DRIVER_FEATURE_SELECT, 4, 0),
        (common_config::DRIVER_FEATURE, 4, negotiated.word(0)),
        (common_config::DRIVER_FEATURE_SELECT, 4, 1),
        (common_config::DRIVER_FEATURE, 4, negotiated.word(1)),
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
        seed.extend(write(BAR_WRITE, offset, width, value));
    }
    seed
}

/// The same, and whatever else there is.
pub(crate) fn vfio_user(format: RingFormat, features: u8) -> Vec<u8> {
    let options = features & vfio_user::MESSAGES;
    let works = |msix| vfio_user::run(&vfio_user_with(format, features, options, msix)) > 0;
    let msix = (0x40..0x100).step_by(4).find(|at| works(Some(*at)));
    assert!(msix.is_some() && works(None), "the device does not work: {format:?}, {features}");
    let mut seed = vfio_user_with(format, features, options, msix.filter(|_| features & 2 == 0));
    let parts: &[&[u8]] = &[
        &command(6, &[255, 0]),
        &[11],
        &command(9, &[0, 0x14, 0, 0]),
        &command(10, &[0, 0, 0x30, 1, 0]),
        &command(16, &[0, 64, 0]),
        &command(10, &[0, 0, 0x30, 1, 0]),
        &command(16, &[2, 0, 0, 0, 1, 0, 0, 12, 64, 0]),
        &command(16, &[1, 64, 0]),
        &command(15, &[1, 0, 0, 0x30, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
        &[10, 0, 8, 8, 1, 0, 0, 0, 7, 0, 0, 0],
        // The device is stopped, its state read, written back, and it goes on.
        &command(16, &[6, 64, 0]),
        &command(16, &[4, 3, 64, 0]),
        &command(17, &[255]),
        &command(16, &[4, 1, 64, 0]),
        &command(16, &[4, 4, 64, 0]),
        &command(18, &[0]),
        &command(16, &[4, 1, 64, 0]),
        &command(16, &[4, 2, 64, 0]),
        &command(16, &[5, 64, 0]),
        &write(BAR_WRITE, 0x3000, 2, 0),
        &command(2, &[0, 32, 2, 4]),
        &command(3, &[32, 2, 0]),
        &[15],
        &command(1, &[0, 0]),
        &command(2, &[0, 0, 0, 0]),
        &command(8, &[0, 0, 2, 0]),
        &command(9, &[7, 0, 0, 2]),
        &write(BAR_WRITE, 0x3000, 2, 0),
        &command(3, &[0, 0, 0]),
        &command(13, &[]),
    ];
    seed.extend(parts.concat());
    vfio_user::run(&seed);
    seed
}
