//! The device in the smallest machine, its line held by the test: pipes, files, a terminal.

use crate::wire::{Kind, Wire};
use crate::{Console, Line, MAX_BUFFER_BYTES, MAX_UNREAD_BYTES, MAX_UNSENT_BYTES, Size};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::{File, OpenOptions, read_to_string};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::time::{Duration, Instant};
use vioduct_spec::console::{CONFIG_LEN, EMERG_WR, EMERG_WRITE, RECEIVE_QUEUE, SIZE, TRANSMIT_QUEUE};
use vioduct_spec::device_type;
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{Backend, DeviceModel, Features, Inline, Options};

const KINDS: [Kind; 2] = [Kind::Own, Kind::Shared];
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
const STEPS: usize = 1000;

type Machine = Rig<Inline<Console>>;

fn machine(console: Console, features: Features) -> Machine {
    Rig::new(Inline::new(console), features).unwrap()
}

/// A device brought up, the writing end of its keyboard, and the reading end of its screen, which does not wait.
fn piped(features: Features) -> (Machine, PipeWriter, PipeReader) {
    piped_as(Kind::Own, features)
}

/// The same over descriptors of this kind: those that are shared block.
fn piped_as(kind: Kind, features: Features) -> (Machine, PipeWriter, PipeReader) {
    let ((input, keyboard), (screen, output)) = (pipe().unwrap(), pipe().unwrap());
    fcntl_setfl(&screen, fcntl_getfl(&screen).unwrap() | OFlags::NONBLOCK).unwrap();
    let line = match kind {
        Kind::Shared => Line {
            input: Some(Wire::new(input.into(), kind)),
            output: Wire::new(output.into(), kind),
            terminal: None,
        },
        _ => Line::over(Some(input.into()), output.into()).unwrap(),
    };
    (machine(Console::new(line, Size::default()).unwrap(), features), keyboard, screen)
}

fn from_options(options: &str) -> Console {
    Console::from_options(&Options::parse(options).unwrap()).unwrap()
}

fn error(options: &str) -> String {
    Console::from_options(&Options::parse(options).unwrap()).map(drop).unwrap_err().to_string()
}

fn run(machine: &mut Machine) {
    let steps = machine.endpoint.backend_mut().run(STEPS);
    assert!(steps < STEPS, "it does not come to rest");
}

fn healthy(machine: &Machine) {
    assert!(!machine.endpoint.status().contains(vioduct_spec::Status::NEEDS_RESET));
}

/// All that is there now.
fn seen(screen: &mut PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    match screen.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
    bytes
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte % 251) as u8).collect()
}

/// What the driver gets in a buffer of these pieces.
fn received(machine: &mut Machine, pieces: &[u32]) -> Vec<u8> {
    let reply = machine.request_in_pieces(RECEIVE_QUEUE, &[], pieces).unwrap();
    reply.bytes[..reply.written as usize].to_vec()
}

#[test]
fn s5_3_6_output_is_sent_in_order_whatever_its_pieces() {
    for (kind, format) in KINDS.into_iter().flat_map(|kind| FORMATS.map(|format| (kind, format))) {
        let (mut machine, _keyboard, mut screen) = piped_as(kind, format);
        for pieces in [&[&b"one "[..], b"t", b"wo "][..], &[b"three"]] {
            let reply = machine.request_in_pieces(TRANSMIT_QUEUE, pieces, &[]).unwrap();
            assert_eq!(reply.written, 0);
        }
        assert_eq!(seen(&mut screen), b"one two three");
    }
}

#[test]
fn s5_3_6_input_waits_for_buffers_and_fills_them_in_order() {
    for (kind, format) in KINDS.into_iter().flat_map(|kind| FORMATS.map(|format| (kind, format))) {
        let (mut machine, mut keyboard, _screen) = piped_as(kind, format);
        keyboard.write_all(b"typed before").unwrap();
        run(&mut machine);
        assert_eq!(received(&mut machine, &[1, 4, 1]), b"typed ");
        assert_eq!(received(&mut machine, &[100]), b"before", "no more than there is");
        // A buffer that waits is used as soon as something comes, and no sooner.
        machine.submit(RECEIVE_QUEUE, &[], &[16]).unwrap();
        let _ = machine.kick(RECEIVE_QUEUE).unwrap();
        run(&mut machine);
        assert_eq!(machine.take(RECEIVE_QUEUE).unwrap(), None);
        keyboard.write_all(b"later").unwrap();
        run(&mut machine);
        let reply = machine.take(RECEIVE_QUEUE).unwrap().unwrap();
        assert_eq!((reply.written, &reply.bytes[..5]), (5, &b"later"[..]));
    }
}

#[test]
fn no_more_input_is_taken_than_is_kept() {
    let (mut machine, mut keyboard, _screen) = piped(Features::NONE);
    fcntl_setfl(&keyboard, fcntl_getfl(&keyboard).unwrap() | OFlags::NONBLOCK).unwrap();
    let typed = pattern(1 << 20);
    let mut count = 0;
    while let Ok(more) = keyboard.write(&typed[count..]) {
        count += more;
        run(&mut machine);
    }
    assert!((MAX_UNREAD_BYTES..typed.len()).contains(&count), "its writer waits: {count} bytes");
    let mut got = Vec::new();
    while got.len() < count {
        got.extend(received(&mut machine, &[5000, 300]));
    }
    assert!(got == typed[..count], "nothing is lost, nothing comes twice");
}

#[test]
fn the_end_of_input_is_no_end_of_the_device() {
    for kind in KINDS {
        let (mut machine, mut keyboard, mut screen) = piped_as(kind, Features::NONE);
        keyboard.write_all(b"last").unwrap();
        drop(keyboard);
        assert_eq!(received(&mut machine, &[100]), b"last");
        machine.submit(RECEIVE_QUEUE, &[], &[16]).unwrap();
        let _ = machine.kick(RECEIVE_QUEUE).unwrap();
        run(&mut machine);
        assert_eq!(machine.take(RECEIVE_QUEUE).unwrap(), None);
        machine.request(TRANSMIT_QUEUE, b"still here", 0).unwrap();
        assert_eq!(seen(&mut screen), b"still here");
        healthy(&machine);
    }
}

/// Fills the pipe, then what the device keeps, then a buffer in part.
#[test]
fn output_that_is_not_read_waits_and_goes_on_in_order() {
    for (kind, format) in KINDS.into_iter().flat_map(|kind| FORMATS.map(|format| (kind, format))) {
        let (mut machine, _keyboard, mut screen) = piped_as(kind, format);
        let (mut written, mut used) = (Vec::new(), 0);
        for round in 0..32 {
            let data: Vec<u8> = pattern(10_000).iter().map(|byte| byte ^ round).collect();
            machine.submit(TRANSMIT_QUEUE, &[&data[..3], &data[3..]], &[]).unwrap();
            let _ = machine.kick(TRANSMIT_QUEUE).unwrap();
            run(&mut machine);
            written.extend(data);
            used += machine.take(TRANSMIT_QUEUE).unwrap().iter().count();
        }
        assert!(used * 10_000 >= MAX_UNSENT_BYTES && used < 20, "{used} buffers, and then none");
        let mut all = Vec::new();
        while all.len() < written.len() {
            let more = seen(&mut screen);
            assert!(!more.is_empty(), "{} bytes of {}", all.len(), written.len());
            all.extend(more);
            run(&mut machine);
        }
        assert!(all == written);
        while machine.take(TRANSMIT_QUEUE).unwrap().is_some() {
            used += 1;
        }
        assert_eq!(used, 32, "every buffer has come back");
    }
}

#[test]
fn a_reset_does_not_wait_for_a_reader_and_keeps_what_was_typed_and_written() {
    let (mut machine, mut keyboard, mut screen) = piped(Features::NONE);
    keyboard.write_all(b"typed").unwrap();
    let data = pattern(MAX_UNSENT_BYTES * 4);
    machine.submit(TRANSMIT_QUEUE, &[&data], &[]).unwrap();
    let _ = machine.kick(TRANSMIT_QUEUE).unwrap();
    run(&mut machine);
    machine.endpoint.reset();
    machine.negotiate(Features::NONE).unwrap();
    for q in [RECEIVE_QUEUE, TRANSMIT_QUEUE] {
        machine.enable_queue(q).unwrap();
    }
    machine.write_status(vioduct_spec::Status::DRIVER_OK).unwrap();
    assert_eq!(received(&mut machine, &[100]), b"typed");
    let mut all = Vec::new();
    loop {
        run(&mut machine);
        match seen(&mut screen) {
            more if more.is_empty() => break,
            more => all.extend(more),
        }
    }
    assert!(all.len() >= MAX_UNSENT_BYTES && all == data[..all.len()], "{}", all.len());
    machine.request(TRANSMIT_QUEUE, b"afterwards", 0).unwrap();
    assert_eq!(seen(&mut screen), b"afterwards");
}

#[test]
fn s5_3_6_1_buffers_of_the_wrong_direction_come_back_untouched() {
    for format in FORMATS {
        let (mut machine, mut keyboard, mut screen) = piped(format);
        keyboard.write_all(b"input").unwrap();
        let only_readable = machine.request(RECEIVE_QUEUE, b"???", 0).unwrap();
        assert_eq!(only_readable.written, 0);
        let both = machine.request(RECEIVE_QUEUE, b"???", 8).unwrap();
        assert_eq!((both.written, both.bytes), (0, vec![0; 8]));
        let only_writable = machine.request(TRANSMIT_QUEUE, b"", 8).unwrap();
        assert_eq!((only_writable.written, only_writable.bytes), (0, vec![0; 8]));
        assert_eq!(machine.request(TRANSMIT_QUEUE, b"not this", 1).unwrap().written, 0);
        assert_eq!(seen(&mut screen), b"");
        assert_eq!(received(&mut machine, &[8]), b"input", "none of it was lost on the way");
        healthy(&machine);
    }
}

#[test]
fn empty_pieces_do_no_harm() {
    let (mut machine, mut keyboard, mut screen) = piped(Features::NONE);
    machine.request_in_pieces(TRANSMIT_QUEUE, &[b"", b"a", b"", b"b"], &[]).unwrap();
    machine.request_in_pieces(TRANSMIT_QUEUE, &[b""], &[]).unwrap();
    assert_eq!(seen(&mut screen), b"ab");
    keyboard.write_all(b"cd").unwrap();
    assert_eq!(machine.request_in_pieces(RECEIVE_QUEUE, &[], &[0]).unwrap().written, 0);
    assert_eq!(received(&mut machine, &[0, 1, 0, 8]), b"cd");
    healthy(&machine);
}

/// The rig's memory goes round, so that the pieces overlap.
#[test]
fn a_buffer_of_more_than_4_mib_is_not_sent() {
    let (mut machine, _keyboard, mut screen) = piped(Features::NONE);
    let piece = pattern(2 << 20);
    let pieces = vec![&piece[..]; (MAX_BUFFER_BYTES >> 21) as usize + 1];
    machine.request_in_pieces(TRANSMIT_QUEUE, &pieces, &[]).unwrap();
    assert_eq!(seen(&mut screen), b"");
    healthy(&machine);
}

#[test]
fn a_reader_that_has_gone_stops_nothing() {
    let (mut machine, mut keyboard, screen) = piped(Features::NONE);
    drop(screen);
    for _ in 0..100 {
        machine.request(TRANSMIT_QUEUE, b"to nobody", 0).unwrap();
    }
    keyboard.write_all(b"typed").unwrap();
    assert_eq!(received(&mut machine, &[8]), b"typed");
    healthy(&machine);
}

#[test]
fn a_full_disk_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let line = Line::over(None, full.into()).unwrap();
    let mut machine = machine(Console::new(line, Size::default()).unwrap(), Features::NONE);
    machine.request(TRANSMIT_QUEUE, b"lost", 0).unwrap();
    healthy(&machine);
}

#[test]
fn a_file_is_added_to() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "before\n").unwrap();
    let options = format!("console,path={}", file.path().display());
    for text in ["one\n", "two\n"] {
        let mut machine = machine(from_options(&options), Features::NONE);
        machine.request(TRANSMIT_QUEUE, text.as_bytes(), 0).unwrap();
    }
    assert_eq!(read_to_string(file.path()).unwrap(), "before\none\ntwo\n");
}

#[test]
fn a_terminal_passes_every_byte_both_ways() {
    let console = from_options("console,path=pty");
    let name = console.terminal().unwrap().to_owned();
    let mut machine = machine(console, Features::NONE);
    // More than a terminal keeps, while nobody has it open: lost, and nothing waits for it.
    for _ in 0..64 {
        machine.request(TRANSMIT_QUEUE, &pattern(4000), 0).unwrap();
    }
    for typed in [&b"\x03\n\x04"[..], b"again\r"] {
        let mut far: File = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        far.write_all(typed).unwrap();
        assert_eq!(received(&mut machine, &[100]), typed);
        machine.request(TRANSMIT_QUEUE, b"a\nb", 0).unwrap();
        let mut shown = [0; 3];
        far.read_exact(&mut shown).unwrap();
        assert_eq!(shown, *b"a\nb", "neither echoed nor edited");
    }
    healthy(&machine);
}

/// Works until `done`, which others bring about: the system hands output on to terminals when it likes.
fn run_until(machine: &mut Machine, mut done: impl FnMut(&mut Machine) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done(machine) {
        run(machine);
        assert!(Instant::now() < deadline, "it waits for what does not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_terminal_that_is_read_slowly_gets_all_and_one_that_is_closed_holds_nothing_up() {
    let console = from_options("console,path=pty");
    let name = console.terminal().unwrap().to_owned();
    let mut machine = machine(console, Features::NONE);
    let written = pattern(300_000);
    let mut far = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    machine.submit(TRANSMIT_QUEUE, &[&written], &[]).unwrap();
    let _ = machine.kick(TRANSMIT_QUEUE).unwrap();
    run(&mut machine);
    assert_eq!(machine.take(TRANSMIT_QUEUE).unwrap(), None, "its reader is waited for");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut shown = vec![0; written.len()];
            far.read_exact(&mut shown).unwrap();
            shown
        });
        run_until(&mut machine, |_| reader.is_finished());
        assert!(reader.join().unwrap() == written);
    });
    assert!(machine.take(TRANSMIT_QUEUE).unwrap().is_some());
    machine.submit(TRANSMIT_QUEUE, &[&written], &[]).unwrap();
    let _ = machine.kick(TRANSMIT_QUEUE).unwrap();
    run(&mut machine);
    assert_eq!(machine.take(TRANSMIT_QUEUE).unwrap(), None);
    drop(far);
    run_until(&mut machine, |machine| machine.take(TRANSMIT_QUEUE).unwrap().is_some());
}

#[test]
fn s5_3_4_the_size_is_shown_and_its_changes_are_told() {
    for features in [SIZE, Features::NONE] {
        let mut console = from_options("console,path=/dev/null,cols=132,rows=0x32");
        let window = console.window();
        assert_eq!(console.info().device_type, device_type::CONSOLE);
        console.write_config(0, &[1, 2]);
        let mut machine = machine(console, features);
        run(&mut machine);
        let shown = |machine: &mut Machine| {
            let mut config = [0xee; CONFIG_LEN];
            machine.endpoint.read_config(0, &mut config);
            config
        };
        assert_eq!(shown(&mut machine), [132, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let generation = machine.endpoint.generation();
        window.resize(Size { cols: 0x123, rows: 7 });
        run(&mut machine);
        assert_eq!(window.size(), Size { cols: 0x123, rows: 7 });
        assert_eq!(machine.notifications.config(), u64::from(features == SIZE), "as far as it was agreed on");
        assert_eq!(shown(&mut machine)[..4], [0x23, 1, 7, 0]);
        assert_ne!(machine.endpoint.generation(), generation);
    }
}

#[test]
fn s5_3_5_1_an_emergency_write_is_output_without_queues() {
    let (mut machine, _keyboard, mut screen) = piped(EMERG_WRITE);
    let say = |machine: &mut Machine, text: &[u8]| {
        for character in text {
            let word = 0xaabb_cc00 | u32::from(*character);
            machine.endpoint.write_config(EMERG_WR as u64, &word.to_le_bytes());
        }
    };
    machine.endpoint.reset();
    say(&mut machine, b"h");
    machine.write_status(vioduct_spec::Status::ACKNOWLEDGE).unwrap();
    say(&mut machine, b"e");
    machine.write_status(vioduct_spec::Status::DRIVER).unwrap();
    say(&mut machine, b"l");
    machine.write_status(vioduct_spec::Status::FAILED).unwrap();
    say(&mut machine, b"p");
    machine.endpoint.write_config(EMERG_WR as u64 - 4, b"max_");
    assert_eq!(seen(&mut screen), b"help");
    let mut field = [0xee; 4];
    machine.endpoint.read_config(EMERG_WR as u64, &mut field);
    assert_eq!(field, [0; 4]);
}

#[test]
fn input_that_waits_is_saved_and_restored_before_what_comes_later() {
    let (mut from, mut keyboard, _screen) = piped(Features::NONE);
    keyboard.write_all(b"early ").unwrap();
    run(&mut from);
    let (mut to, mut keyboard, _screen) = piped(Features::NONE);
    let state = from.endpoint.backend_mut().save_state().unwrap();
    to.endpoint.backend_mut().restore_state(&state).unwrap();
    keyboard.write_all(b"late").unwrap();
    assert_eq!(received(&mut to, &[8]), b"early ");
    assert_eq!(received(&mut to, &[8]), b"late");
    let too_long = vec![0; MAX_UNREAD_BYTES + 1];
    assert!(to.endpoint.backend_mut().restore_state(&too_long).is_err());
}

#[test]
fn options_that_cannot_be_say_so() {
    assert_eq!(error("console,cols=0"), "console: `cols=0`: write a number from 1 to 65535, decimal or 0x…");
    assert!(error("console,size=80").contains("it has: path, cols, rows"));
    let missing = error("console,path=/no/such/folder/file");
    assert!(missing.starts_with("console: `path=/no/such/folder/file`: "), "{missing}");
    assert!(missing.ends_with("name a file that can be written to, pty or stdio"), "{missing}");
}
