//! The socket device through the conformance tests, and the driver of socket devices against it, with host programs that have real
//! sockets.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use vioduct_loopback::failure::same;
use vioduct_loopback::{Depth, Failure, GuestDma, Machine, Outcome, Rig, conformance};
use vioduct_spec::Features;
use vioduct_spec::vsock::*;
use vioduct_virtio_driver::vsock::{Half, Progress, Received, Socket};
use vioduct_virtio_driver::{Options, Transport, Vsock as Driver};
use vioduct_vsock::{Listener, Setup, Vsock};

const DEPTHS: [Depth; 4] = [Depth::Verbs, Depth::Mmio, Depth::Pci, Depth::VhostUser];
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
const CID: u32 = 3;

/// A folder for sockets, and the device that has one there.
fn device() -> (Vsock, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let listener = Some(Listener::bind(&folder.path().join("v")).unwrap());
    (Vsock::new(Setup { cid: CID, listener }), folder)
}

/// The host programs of the device that this thread has made last.
struct Host {
    folder: tempfile::TempDir,
    /// Those that wait for the guest.
    programs: Vec<UnixStream>,
    /// The guest's port that the next one asks for.
    next: u32,
}

impl Host {
    /// One more, whose request waits in the device: a buffer in the receive queue is answered, whatever it is.
    fn connect(&mut self) -> u32 {
        let mut program = UnixStream::connect(self.folder.path().join("v")).unwrap();
        writeln!(program, "CONNECT {}", self.next).unwrap();
        self.programs.push(program);
        self.next += 1;
        self.next - 1
    }
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

fn in_use() -> Box<Vsock> {
    let (device, folder) = device();
    let mut host = Host { folder, programs: Vec::new(), next: 1 };
    host.connect();
    HOST.with_borrow_mut(|here| *here = Some(host));
    Box::new(device)
}

/// Whatever has been done to the device before, a new program reaches the guest, and data goes both ways.
fn connect_and_talk(rig: &mut Rig) -> Outcome {
    let port = HOST.with_borrow_mut(|host| host.as_mut().unwrap().connect());
    rig.run();
    let host_port = requested(rig, port)?;
    let answer = |op, len| Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: port,
        dst_port: host_port,
        len,
        socket_type: TYPE_STREAM,
        op,
        buf_alloc: 1000,
        ..Header::default()
    };
    let response = answer(OP_RESPONSE, 0).to_bytes();
    let (first, second) = response.split_at(20);
    rig.request(TRANSMIT_QUEUE, &[first, second], &[])?;
    rig.request(TRANSMIT_QUEUE, &[&answer(OP_RW, 5).to_bytes(), b"he", b"llo"], &[])?;
    HOST.with_borrow_mut(|host| {
        let host = host.as_mut().unwrap();
        let program = host.programs.last_mut().unwrap();
        let expected = format!("OK {host_port}\nhello");
        let mut heard = vec![0; expected.len()];
        program.read_exact(&mut heard).unwrap();
        same("what the program reads", heard.as_slice(), expected.as_bytes())?;
        program.write_all(b"world").unwrap();
        Ok::<(), Failure>(())
    })?;
    rig.run();
    let data = rig.request(RECEIVE_QUEUE, &[], &[1, 43, 4, 100])?;
    same("bytes of a packet", data.written, HEADER_LEN as u32 + 5)?;
    same("its data", &data.bytes[HEADER_LEN..HEADER_LEN + 5], &b"world"[..])?;
    rig.request(TRANSMIT_QUEUE, &[&answer(OP_RST, 0).to_bytes()], &[])?;
    // The next one waits already.
    HOST.with_borrow_mut(|host| host.as_mut().unwrap().connect());
    rig.run();
    Ok(())
}

/// The host's port in the request for `port`; those of earlier programs come before it.
fn requested(rig: &mut Rig, port: u32) -> Outcome<u32> {
    for _ in 0..200 {
        let reply = rig.request(RECEIVE_QUEUE, &[], &[20, 24])?;
        let header = Header::from_bytes(reply.bytes[..HEADER_LEN].try_into().unwrap());
        same("the operation", header.op, OP_REQUEST)?;
        if header.dst_port == port {
            return Ok(header.src_port);
        }
    }
    Err(Failure::new("no request comes"))
}

conformance!(vsock_in_use, || in_use(), connect_and_talk);

fn options(format: Features) -> Options {
    let features = Options::default().features.without(Features::RING_PACKED) | format;
    Options { features, ..Options::default() }
}

type Guest = Driver<Box<dyn Transport + Send>, GuestDma>;

fn receive_all(driver: &mut Guest, socket: Socket) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 1000]);
    while let Received::Bytes(count) = driver.try_receive(socket, &mut piece).unwrap() {
        all.extend_from_slice(&piece[..count]);
    }
    all
}

#[test]
fn a_driver_uses_all_that_the_device_has() {
    for depth in DEPTHS {
        for format in FORMATS {
            let (model, folder) = device();
            let server = UnixListener::bind(folder.path().join("v_1024")).unwrap();
            let machine = Machine::new(16 << 20).unwrap();
            let device = machine.attach(model, depth, Features(u64::MAX)).unwrap();
            let mut driver =
                Driver::new(device.transport().unwrap(), machine.dma(), &options(format)).unwrap();
            assert_eq!(driver.cid(), u64::from(CID));
            let settle = |driver: &mut Guest| {
                for _ in 0..4 {
                    driver.poll().unwrap();
                    device.run();
                    driver.poll().unwrap();
                }
            };
            // Out, and to nobody.
            let (out, nobody) = (driver.connect(1024).unwrap(), driver.connect(1025).unwrap());
            settle(&mut driver);
            assert_eq!(driver.progress(out), Ok(Progress::Open), "{depth}");
            assert_eq!(driver.progress(nobody), Ok(Progress::Over), "{depth}");
            let (mut program, _) = server.accept().unwrap();
            assert_eq!(driver.try_send(out, b"from the guest"), Ok(14));
            device.run();
            let mut heard = [0; 14];
            program.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"from the guest");
            driver.shutdown(out, Half::Send).unwrap();
            device.run();
            assert_eq!(program.read(&mut heard).unwrap(), 0);
            program.write_all(b"answer").unwrap();
            drop(program);
            settle(&mut driver);
            assert_eq!(receive_all(&mut driver, out), b"answer");
            assert_eq!(driver.try_receive(out, &mut [0]), Ok(Received::End));
            driver.close(out).unwrap();
            // In.
            driver.listen(7).unwrap();
            let mut program = UnixStream::connect(folder.path().join("v")).unwrap();
            program.write_all(b"CONNECT 7\nhello").unwrap();
            settle(&mut driver);
            let socket = driver.accept(7).unwrap();
            settle(&mut driver);
            assert_eq!(receive_all(&mut driver, socket), b"hello", "{depth}");
            let mut greeting = String::new();
            BufReader::new(&program).read_line(&mut greeting).unwrap();
            assert!(greeting.starts_with("OK "), "{greeting}");
            driver.close(socket).unwrap();
            settle(&mut driver);
            assert_eq!(program.read(&mut [0]).unwrap(), 0, "{depth}");
        }
    }
}

/// Connections in each direction.
const PARALLEL: u32 = 100;
/// Bytes through each connection, in each direction: a gibibyte in all.
const LEN: usize = (1usize << 30).div_ceil(4 * PARALLEL as usize);
/// Bytes after which content begins anew: a prime, with which no packet or ring goes even.
const PERIOD: usize = 65_521;
/// Bytes that are said or heard in one call, at most.
const PIECE: usize = 16 << 10;

/// Where all contents are taken from.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let word = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    (0..PERIOD + PIECE).map(|at| word(at % PERIOD) as u8).collect()
});

#[derive(Clone, Copy)]
enum Speaker {
    Host,
    Guest,
}

/// Up to so many bytes of what one side says on a connection, from one place on: other bytes on each, and from each side.
fn content(connection: u32, speaker: Speaker, at: usize, len: usize) -> &'static [u8] {
    let start = ((connection as usize * 2 + speaker as usize) * 163 + at) % PERIOD;
    &TABLE[start..start + len.min(PIECE).min(LEN.saturating_sub(at))]
}

/// A host program: says all, and hears all.
fn converse(stream: UnixStream, connection: u32) {
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for at in (0..LEN).step_by(PIECE) {
                writer.write_all(content(connection, Speaker::Host, at, PIECE)).unwrap();
            }
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let (mut heard, mut piece) = (0, [0; PIECE]);
        loop {
            let count = (&stream).read(&mut piece).unwrap();
            let right = piece[..count] == *content(connection, Speaker::Guest, heard, count);
            assert!(right, "connection {connection}, from byte {heard}");
            heard += count;
            if count == 0 {
                break;
            }
        }
        assert_eq!(heard, LEN, "connection {connection}");
    });
}

/// The host program that asks the guest.
fn ask(path: PathBuf, connection: u32) {
    let mut stream = UnixStream::connect(path).unwrap();
    writeln!(stream, "CONNECT {}", 5000 + connection - PARALLEL).unwrap();
    let mut byte = [0];
    // To the end of the line, and not a byte further.
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    converse(stream, connection);
}

/// One of the guest's connections.
struct Talk {
    socket: Socket,
    connection: u32,
    said: usize,
    heard: usize,
    over: bool,
}

impl Talk {
    /// Goes on as far as it can; whether it has got on.
    fn go_on(&mut self, driver: &mut Guest) -> bool {
        let before = (self.said, self.heard, self.over);
        if driver.progress(self.socket) == Ok(Progress::Connecting) {
            return false;
        }
        let mut piece = [0; PIECE];
        if self.said < LEN {
            let next = content(self.connection, Speaker::Guest, self.said, PIECE);
            self.said += driver.try_send(self.socket, next).unwrap();
            if self.said == LEN {
                driver.shutdown(self.socket, Half::Send).unwrap();
            }
        }
        match driver.try_receive(self.socket, &mut piece).unwrap() {
            Received::Bytes(count) => {
                let right = piece[..count] == *content(self.connection, Speaker::Host, self.heard, count);
                assert!(right, "connection {}, from byte {}", self.connection, self.heard);
                self.heard += count;
            }
            Received::End if self.said == LEN => {
                assert_eq!(self.heard, LEN, "connection {}", self.connection);
                driver.close(self.socket).unwrap();
                self.over = true;
            }
            Received::End | Received::Nothing => {}
        }
        before != (self.said, self.heard, self.over)
    }
}

/// 100 connections each way at a time, and every byte of them compared: a gibibyte in all.
#[test]
fn parallel_connections_both_ways_lose_not_a_byte() {
    let (model, folder) = device();
    let servers: Vec<_> = (0..PARALLEL)
        .map(|number| UnixListener::bind(folder.path().join(format!("v_{number}"))).unwrap())
        .collect();
    let machine = Machine::new(16 << 20).unwrap();
    let device = machine.attach_workers(model, Depth::Pci, Features(u64::MAX)).unwrap();
    let mut driver =
        Driver::new(device.transport().unwrap(), machine.dma(), &options(Features::RING_PACKED)).unwrap();
    (0..PARALLEL).for_each(|port| driver.listen(5000 + port).unwrap());
    thread::scope(|scope| {
        for (number, server) in (0..).zip(servers) {
            scope.spawn(move || converse(server.accept().unwrap().0, number));
            let path = folder.path().join("v");
            scope.spawn(move || ask(path, PARALLEL + number));
        }
        let mut talks = Vec::new();
        for connection in 0..PARALLEL {
            let socket = driver.connect(connection).unwrap();
            talks.push(Talk { socket, connection, said: 0, heard: 0, over: false });
        }
        let mut wait = device.wait();
        let mut expected: Vec<u32> = (0..PARALLEL).collect();
        while !(talks.iter().all(|talk| talk.over) && expected.is_empty()) {
            expected.retain(|port| match driver.accept(5000 + port) {
                Some(socket) => {
                    talks.push(Talk { socket, connection: PARALLEL + port, said: 0, heard: 0, over: false });
                    false
                }
                None => true,
            });
            let mut got_on = false;
            for talk in talks.iter_mut().filter(|talk| !talk.over) {
                got_on |= talk.go_on(&mut driver);
            }
            if !got_on {
                assert_eq!(wait(), ControlFlow::Continue(()), "nothing goes on any more");
            }
            driver.service().unwrap();
        }
    });
}

const PAGE: &str = include_str!("../../../docs/vsock.md");

/// The page's program, as it stands there but for the folder; it runs.
fn program_of_the_page(number: usize, folder: &Path) -> Child {
    let pieces = PAGE.split("```").skip(1).step_by(2);
    let mut programs = pieces.filter_map(|piece| piece.strip_prefix("python\n"));
    let program = programs.nth(number).unwrap();
    let placed = program.replace("/run/guest3/vsock", folder.join("v").to_str().unwrap());
    assert_ne!(placed, program);
    Command::new("python3").args(["-c", &placed]).stdout(Stdio::piped()).spawn().expect("there is Python")
}

/// What it has printed, once it has ended well.
fn printed(program: Child) -> String {
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_pages_programs_do_what_it_says() {
    let (model, folder) = device();
    let machine = Machine::new(16 << 20).unwrap();
    let device = machine.attach_workers(model, Depth::Pci, Features(u64::MAX)).unwrap();
    let mut driver =
        Driver::new(device.transport().unwrap(), machine.dma(), &options(Features::NONE)).unwrap();
    let mut wait = device.wait();
    let mut go_on = |driver: &mut Guest| {
        assert_eq!(wait(), ControlFlow::Continue(()), "nothing goes on any more");
        driver.service().unwrap();
    };
    // The host calls, and hears what it has said.
    driver.listen(1234).unwrap();
    let program = program_of_the_page(0, folder.path());
    let called = loop {
        match driver.accept(1234) {
            Some(socket) => break socket,
            None => go_on(&mut driver),
        }
    };
    while receive_all(&mut driver, called) != b"hello" {
        go_on(&mut driver);
    }
    assert_eq!(driver.try_send(called, b"hello"), Ok(5));
    assert_eq!(printed(program), "b'hello'\n");
    driver.close(called).unwrap();
    // The guest calls, once the host program is there.
    let program = program_of_the_page(1, folder.path());
    let calling = loop {
        let socket = driver.connect(52).unwrap();
        while driver.progress(socket) == Ok(Progress::Connecting) {
            go_on(&mut driver);
        }
        match driver.progress(socket).unwrap() {
            Progress::Open => break socket,
            _ => driver.close(socket).unwrap(),
        }
        go_on(&mut driver);
    };
    assert_eq!(driver.try_send(calling, b"hello"), Ok(5));
    while receive_all(&mut driver, calling) != b"HELLO" {
        go_on(&mut driver);
    }
    assert_eq!(printed(program), "");
}
