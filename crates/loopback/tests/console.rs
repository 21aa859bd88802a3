//! The console through the conformance tests, and the driver of consoles against it.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

use vioduct_console::{Console, Line, Size};
use vioduct_loopback::failure::same;
use vioduct_loopback::{Depth, Machine, Outcome, Rig, conformance};
use vioduct_spec::Features;
use vioduct_spec::console::{RECEIVE_QUEUE, TRANSMIT_QUEUE};
use vioduct_virtio_driver::console::Size as ShownSize;
use vioduct_virtio_driver::{Console as Driver, Options};

const DEPTHS: [Depth; 4] = [Depth::Verbs, Depth::Mmio, Depth::Pci, Depth::VhostUser];
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];

/// How far what is typed is ahead of what is read, in characters.
const AHEAD: u32 = 4096;

/// A user: types, and reads.
struct User {
    keyboard: PipeWriter,
    screen: PipeReader,
    /// The number of the first character that no driver has read.
    next: u32,
}

fn console() -> (Console, PipeWriter, PipeReader) {
    let ((input, keyboard), (screen, output)) = (pipe().unwrap(), pipe().unwrap());
    let line = Line::over(Some(input.into()), output.into()).unwrap();
    (Console::new(line, Size { cols: 100, rows: 30 }).unwrap(), keyboard, screen)
}

thread_local! {
    /// The user of the device that this thread has made last.
    static USER: RefCell<Option<User>> = const { RefCell::new(None) };
}

/// Character `number` of all that is ever typed.
fn character(number: u32) -> u8 {
    (number % 251) as u8
}

/// Always has more input than a test takes: a buffer in the receive queue is answered, whatever it is.
fn in_use() -> Box<Console> {
    let (console, mut keyboard, screen) = console();
    let typed: Vec<u8> = (0..AHEAD).map(character).collect();
    keyboard.write_all(&typed).unwrap();
    USER.with_borrow_mut(|user| *user = Some(User { keyboard, screen, next: 0 }));
    Box::new(console)
}

/// Whatever has been done to the device before, not a byte of input is lost or comes twice.
fn read_and_write(rig: &mut Rig) -> Outcome {
    const TAKEN: u32 = 37;
    let input = rig.request(RECEIVE_QUEUE, &[], &[1, 20, 16])?;
    same("bytes of input", input.written, TAKEN)?;
    rig.request(TRANSMIT_QUEUE, &[b"h", b"ell", b"o"], &[])?;
    USER.with_borrow_mut(|user| {
        let user = user.as_mut().unwrap();
        let typed: Vec<u8> = (user.next..user.next + TAKEN).map(character).collect();
        same("the input", &input.bytes, &typed)?;
        user.next += TAKEN;
        // As much again, behind what is typed already.
        let end = user.next + AHEAD;
        let more: Vec<u8> = (end - TAKEN..end).map(character).collect();
        user.keyboard.write_all(&more).unwrap();
        let mut shown = [0; 5];
        user.screen.read_exact(&mut shown).unwrap();
        same("the output", &shown, b"hello")
    })
}

conformance!(console_in_use, || in_use(), read_and_write);

fn options(format: Features) -> Options {
    let features = Options::default().features.without(Features::RING_PACKED) | format;
    Options { features, ..Options::default() }
}

#[test]
fn a_driver_uses_all_that_the_device_has() {
    for depth in DEPTHS {
        for format in FORMATS {
            let (model, mut keyboard, mut screen) = console();
            let window = model.window();
            let machine = Machine::new(16 << 20).unwrap();
            let device = machine.attach(model, depth, Features(u64::MAX)).unwrap();
            let mut driver =
                Driver::new(device.transport().unwrap(), machine.dma(), &options(format)).unwrap();
            let mut wait = device.wait();
            let written: Vec<u8> = (0..10_000).map(character).collect();
            driver.write(&written, &mut wait).unwrap();
            driver.write_in_emergency(b'!').unwrap();
            let mut shown = vec![0; written.len() + 1];
            screen.read_exact(&mut shown).unwrap();
            assert!(shown.split_last() == Some((&b'!', &written[..])), "{depth}");
            let mut read = Vec::new();
            let mut out = [0; 100];
            assert_eq!(driver.try_read(&mut out), Ok(0));
            keyboard.write_all(&written).unwrap();
            while read.len() < written.len() {
                device.run();
                let count = driver.try_read(&mut out).unwrap();
                assert!(count > 0, "{depth}: {} bytes of {}", read.len(), written.len());
                read.extend_from_slice(&out[..count]);
            }
            assert!(read == written, "{depth}");
            assert_eq!(driver.size(), Ok(Some(ShownSize { cols: 100, rows: 30 })));
            driver.service().unwrap();
            window.resize(Size { cols: 40, rows: 12 });
            device.run();
            assert!(driver.service().unwrap().config_changed, "{depth}");
            assert_eq!(driver.size(), Ok(Some(ShownSize { cols: 40, rows: 12 })), "{depth}");
        }
    }
}

/// With threads of its own the device waits for the user, and the user for the device.
#[test]
fn a_device_with_threads_waits_for_input_and_for_its_reader() {
    const LEN: u32 = 300_000;
    for format in FORMATS {
        let (model, mut keyboard, mut screen) = console();
        let machine = Machine::new(16 << 20).unwrap();
        let device = machine.attach_workers(model, Depth::Pci, Features(u64::MAX)).unwrap();
        let mut driver = Driver::new(device.transport().unwrap(), machine.dma(), &options(format)).unwrap();
        let all: Vec<u8> = (0..LEN).map(character).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| keyboard.write_all(&all).unwrap());
            let reader = scope.spawn(|| {
                let mut shown = vec![0; all.len()];
                screen.read_exact(&mut shown).unwrap();
                shown
            });
            let mut wait = device.wait();
            driver.write(&all, &mut wait).unwrap();
            assert!(reader.join().unwrap() == all);
            let (mut read, mut out) = (Vec::new(), [0; 1000]);
            while read.len() < all.len() {
                match driver.try_read(&mut out).unwrap() {
                    0 => assert!(wait().is_continue(), "{} bytes, and then none", read.len()),
                    count => read.extend_from_slice(&out[..count]),
                }
                driver.service().unwrap();
            }
            assert!(read == all);
        });
    }
}
