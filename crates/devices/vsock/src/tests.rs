//! The device in the smallest machine: the test is its driver, and the host programs.

mod changing;
mod hostile;
mod streams;

use crate::{BUFFER_BYTES, Setup, Vsock};
use crate::{ListenError, Listener};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use tempfile::TempDir;
use vioduct_spec::vsock::*;
use vioduct_spec::{Status, device_type};
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{Backend, DeviceModel, Features, Inline, Options};

const CID: u32 = 42;
const FORMATS: [Features; 2] = [Features::NONE, Features::RING_PACKED];
const STEPS: usize = 10_000;
/// Bytes of a buffer in the receive queue: a header and some data.
const RECEIVE_LEN: u32 = 4096;
/// What the test keeps for a connection, unless it says otherwise.
const ROOM: u32 = 64 << 10;

/// A device that has been brought up, and its driver.
struct Guest {
    machine: Rig<Inline<Vsock>>,
    folder: TempDir,
    posted: usize,
}

impl Guest {
    fn new() -> Self {
        Self::with(Features::NONE)
    }

    fn with(features: Features) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = Some(Listener::bind(&folder.path().join("v")).unwrap());
        let model = Vsock::new(Setup { cid: CID, listener });
        Self { machine: Rig::new(Inline::new(model), features).unwrap(), folder, posted: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&mut self) {
        let steps = self.machine.endpoint.backend_mut().run(STEPS);
        assert!(steps < STEPS, "it does not come to rest");
    }

    /// Makes so many buffers for packets available.
    fn post(&mut self, count: usize) {
        for _ in 0..count {
            self.machine.submit(RECEIVE_QUEUE, &[], &[40, 5, RECEIVE_LEN - 45]).unwrap();
        }
        let _ = self.machine.kick(RECEIVE_QUEUE).unwrap();
        self.posted += count;
        self.run();
    }

    /// A packet that has come already.
    fn arrived(&mut self) -> Option<(Header, Vec<u8>)> {
        let reply = self.machine.take(RECEIVE_QUEUE).unwrap()?;
        self.posted -= 1;
        let (header, data) = reply.bytes.split_at(HEADER_LEN);
        let header = Header::from_bytes(header.try_into().unwrap());
        assert_eq!(reply.written, HEADER_LEN as u32 + header.len);
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID.into()));
        assert_eq!(header.socket_type, TYPE_STREAM);
        Some((header, data[..header.len as usize].to_vec()))
    }

    /// The next packet, if there is one to come.
    fn packet(&mut self) -> Option<(Header, Vec<u8>)> {
        if self.posted == 0 {
            self.post(1);
        }
        self.run();
        self.arrived()
    }

    /// The next packet, which is of this operation.
    fn expect(&mut self, op: u16) -> (Header, Vec<u8>) {
        let (header, data) = self.packet().expect("a packet comes");
        assert_eq!(header.op, op, "{header:?}");
        (header, data)
    }

    fn silent(&mut self) {
        assert_eq!(self.packet(), None);
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header };
        self.send_raw(&header.to_bytes(), data);
    }

    fn send_raw(&mut self, header: &[u8], data: &[u8]) {
        let (first, second) = header.split_at(header.len().min(7));
        let pieces: Vec<_> = [first, second, data].into_iter().filter(|piece| !piece.is_empty()).collect();
        let reply = self.machine.request_in_pieces(TRANSMIT_QUEUE, &pieces, &[]).unwrap();
        assert_eq!(reply.written, 0);
        self.run();
    }

    /// The guest's program on port 7000 connects to the host's on port 52.
    fn connect(&mut self) -> UnixStream {
        let listener = UnixListener::bind(self.path("v_52")).unwrap();
        self.send(from(7000, 52, OP_REQUEST), &[]);
        let (response, _) = self.expect(OP_RESPONSE);
        assert_eq!((response.src_port, response.dst_port), (52, 7000));
        assert_eq!((response.buf_alloc, response.fwd_cnt), (BUFFER_BYTES, 0));
        std::fs::remove_file(self.path("v_52")).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// A host program that greets with these words.
    fn greet(&mut self, words: &str) -> UnixStream {
        let mut program = UnixStream::connect(self.path("v")).unwrap();
        program.write_all(words.as_bytes()).unwrap();
        program.set_nonblocking(true).unwrap();
        self.run();
        program
    }

    fn healthy(&self) {
        assert!(!self.machine.endpoint.status().contains(Status::NEEDS_RESET));
    }

    fn dropped(&mut self) -> u64 {
        self.machine.endpoint.backend_mut().model().dropped()
    }
}

/// A packet of the guest's on these ports, which has consumed nothing.
fn from(guest: u32, host: u32, op: u16) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: guest,
        dst_port: host,
        socket_type: TYPE_STREAM,
        op,
        buf_alloc: ROOM,
        ..Header::default()
    }
}

/// What the host program can read now.
fn read(program: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match program.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
    bytes
}

fn has_ended(program: &mut UnixStream) -> bool {
    match program.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte % 251) as u8).collect()
}

#[test]
fn s5_10_4_the_configuration_is_the_guests_identifier() {
    let model = Vsock::new(Setup { cid: 0x8000_0001, listener: None });
    let info = model.info();
    assert_eq!((info.device_type, info.config_len, info.queue_sizes.len()), (device_type::VSOCK, 8, 3));
    let mut config = [0xff; 8];
    model.read_config(GUEST_CID, &mut config);
    assert_eq!(config, [1, 0, 0, 0x80, 0, 0, 0, 0], "the upper half is zeros");
    let mut part = [0xff; 2];
    model.read_config(3, &mut part);
    assert_eq!(part, [0x80, 0]);
}

#[test]
fn options_are_checked() {
    let made = |text: &str| Vsock::from_options(&Options::parse(text).unwrap());
    let refused = |text: &str| made(text).unwrap_err().to_string();
    assert!(refused("vsock").contains("cid"));
    for cid in ["2", "4294967295", "x"] {
        assert!(refused(&format!("vsock,cid={cid}")).contains(cid), "{cid}");
    }
    assert_eq!(made("vsock,cid=4294967294").unwrap().cid(), u32::MAX - 1);
    assert!(refused("vsock,cid=3,path=/nowhere/there").contains("name a socket"));
    assert!(refused("vsock,cid=3,port=1").contains("path"));
}

#[test]
fn a_socket_that_nobody_has_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    drop(Listener::bind(&path).unwrap());
    let there = Listener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(ListenError::InUse)));
    drop(there);
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    assert!(matches!(Listener::bind(&file), Err(ListenError::System(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
}

#[test]
fn s5_10_6_7_a_guest_that_was_moved_is_told_that_its_connections_are_lost() {
    for format in FORMATS {
        let mut guest = Guest::with(format);
        let _program = guest.connect();
        let event = |guest: &mut Guest| {
            guest.machine.submit(EVENT_QUEUE, &[], &[1, 7]).unwrap();
            let _ = guest.machine.kick(EVENT_QUEUE).unwrap();
            guest.run();
            guest.machine.take(EVENT_QUEUE).unwrap()
        };
        assert_eq!(event(&mut guest), None, "nothing has happened");
        let state = guest.machine.endpoint.save();
        let model = guest.machine.endpoint.backend_mut().save_state().unwrap();
        guest.machine.endpoint.reset();
        guest.machine.endpoint.restore(&state).unwrap();
        guest.machine.endpoint.backend_mut().restore_state(&model).unwrap();
        guest.machine.endpoint.resume();
        guest.run();
        let told = guest.machine.take(EVENT_QUEUE).unwrap().expect("the event");
        assert_eq!((told.written, &told.bytes[..4]), (4, &EVENT_TRANSPORT_RESET.to_le_bytes()[..]));
        assert_eq!(event(&mut guest), None, "once");
        guest.send(from(7000, 52, OP_CREDIT_REQUEST), &[]);
        guest.expect(OP_RST);
        guest.healthy();
    }
}
