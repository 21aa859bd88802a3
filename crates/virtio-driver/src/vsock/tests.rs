use super::{BUFFER_BYTES, Half, MAX_REPLIES, PACKET_LEN, Progress, Received, SocketError, Vsock};
use crate::fakes::{FakeTransport, TestMemory};
use crate::request_queue::Options;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;
use vioduct_spec::vsock::*;
use vioduct_spec::{Features, device_type};
use vioduct_virtqueue::{Queue, QueuePosition};

const CID: u64 = 9;

/// A driver, and the device ends of its queues in the test's hands.
struct Rig {
    driver: Vsock<FakeTransport, Arc<TestMemory>>,
    receive: Queue,
    transmit: Queue,
    events: Queue,
}

impl Rig {
    fn new() -> Self {
        let mut transport = FakeTransport::new(Features::VERSION_1);
        transport.device_type = device_type::VSOCK;
        transport.config = CID.to_le_bytes().to_vec();
        let memory = TestMemory::new();
        let mut driver = Vsock::new(transport, memory.clone(), &Options::default()).unwrap();
        let negotiated = driver.device().negotiated();
        let end = |layout| Queue::new(memory.clone(), layout, negotiated, QueuePosition::START).unwrap();
        let receive = end(driver.receive.virtqueue().ring().layout());
        let transmit = end(driver.transmit.virtqueue().ring().layout());
        let events = end(driver.events.virtqueue().ring().layout());
        Self { driver, receive, transmit, events }
    }

    /// The next packet that the driver has sent.
    fn sent(&mut self) -> Option<(Header, Vec<u8>)> {
        self.driver.poll().unwrap();
        let chain = self.transmit.pop().unwrap()?;
        let mut reader = chain.reader();
        let header = Header::from_bytes(&reader.read_array().unwrap());
        let mut data = vec![0; header.len as usize];
        reader.read_exact(&mut data).unwrap();
        assert_eq!((reader.remaining(), header.src_cid, header.dst_cid), (0, CID, HOST_CID));
        self.transmit.complete(chain, 0).unwrap();
        _ = self.transmit.publish().unwrap();
        Some((header, data))
    }

    fn expect(&mut self, op: u16) -> Header {
        let (header, _) = self.sent().expect("a packet");
        assert_eq!(header.op, op, "{header:?}");
        header
    }

    /// The device sends a packet, and says that it is so long.
    fn deliver_as(&mut self, header: Header, data: &[u8], written: usize) {
        self.driver.poll().unwrap();
        let chain = self.receive.pop().unwrap().expect("a buffer");
        let mut writer = chain.writer();
        writer.write_all(&header.to_bytes()).unwrap();
        writer.write_all(data).unwrap();
        self.receive.complete(chain, written as u32).unwrap();
        _ = self.receive.publish().unwrap();
        self.driver.poll().unwrap();
    }

    fn deliver(&mut self, header: Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header };
        self.deliver_as(header, data, HEADER_LEN + data.len());
    }

    /// The host connects from port 5 to port 80.
    fn accepted(&mut self) -> super::Socket {
        self.driver.listen(80).unwrap();
        self.deliver(to(80, OP_REQUEST), &[]);
        let response = self.expect(OP_RESPONSE);
        assert_eq!((response.src_port, response.dst_port), (80, 5));
        assert_eq!((response.buf_alloc, response.fwd_cnt), (BUFFER_BYTES, 0));
        let socket = self.driver.accept(80).unwrap();
        assert_eq!(self.driver.progress(socket), Ok(Progress::Open));
        socket
    }
}

/// A packet of the host's from its port 5.
fn to(port: u32, op: u16) -> Header {
    Header {
        src_cid: HOST_CID,
        dst_cid: CID,
        src_port: 5,
        dst_port: port,
        socket_type: TYPE_STREAM,
        op,
        buf_alloc: 10_000,
        ..Header::default()
    }
}

#[test]
fn s5_10_6_5_a_connection_is_asked_for_and_made_or_refused() {
    let mut rig = Rig::new();
    assert_eq!(rig.driver.cid(), CID);
    for (answer, progress) in [(OP_RESPONSE, Progress::Open), (OP_RST, Progress::Over)] {
        let socket = rig.driver.connect(5).unwrap();
        assert_eq!(rig.driver.progress(socket), Ok(Progress::Connecting));
        assert_eq!(rig.driver.try_send(socket, b"too early"), Ok(0));
        let request = rig.expect(OP_REQUEST);
        assert_eq!(request.dst_port, 5);
        rig.deliver(to(request.src_port, answer), &[]);
        assert_eq!(rig.driver.progress(socket), Ok(progress));
    }
}

#[test]
fn s5_10_6_3_no_more_is_sent_than_there_is_credit_for() {
    let mut rig = Rig::new();
    let socket = rig.accepted();
    let data = vec![7; 20_000];
    assert_eq!(rig.driver.try_send(socket, &data), Ok(10_000));
    for len in [PACKET_LEN, PACKET_LEN, 10_000 - 2 * PACKET_LEN] {
        let (header, data) = rig.sent().unwrap();
        assert_eq!((header.op, data.len()), (OP_RW, len));
    }
    assert_eq!(rig.driver.try_send(socket, &data), Ok(0));
    rig.expect(OP_CREDIT_REQUEST);
    assert_eq!(rig.sent(), None, "it asks once");
    // The buffer has shrunk below what is in flight.
    rig.deliver(Header { buf_alloc: 100, fwd_cnt: 100, ..to(80, OP_CREDIT_UPDATE) }, &[]);
    assert_eq!(rig.driver.try_send(socket, &data), Ok(0));
    rig.deliver(Header { fwd_cnt: 10_000, ..to(80, OP_CREDIT_UPDATE) }, &[]);
    assert_eq!(rig.driver.try_send(socket, &data), Ok(10_000));
}

#[test]
fn row38_a_host_that_breaks_the_rules_of_credit_is_left() {
    let mut rig = Rig::new();
    let socket = rig.accepted();
    let packet = vec![1; PACKET_LEN];
    for _ in 0..BUFFER_BYTES as usize / PACKET_LEN {
        rig.deliver(to(80, OP_RW), &packet);
    }
    assert_eq!(rig.sent(), None);
    rig.deliver(to(80, OP_RW), &packet);
    rig.expect(OP_RST);
    assert_eq!(rig.driver.progress(socket), Ok(Progress::Over));
    let mut out = vec![0; 2 * BUFFER_BYTES as usize];
    let Ok(Received::Bytes(count)) = rig.driver.try_receive(socket, &mut out) else { panic!() };
    assert!(count <= BUFFER_BYTES as usize && count > BUFFER_BYTES as usize - PACKET_LEN);
    rig.driver.close(socket).unwrap();
    rig.deliver(to(80, OP_REQUEST), &[]);
    rig.expect(OP_RESPONSE);
    rig.deliver(Header { fwd_cnt: 1, ..to(80, OP_CREDIT_UPDATE) }, &[]);
    rig.expect(OP_RST);
}

#[test]
fn row76_a_packet_is_what_its_header_and_its_length_agree_on() {
    let mut rig = Rig::new();
    let socket = rig.accepted();
    let data = |len| Header { len, ..to(80, OP_RW) };
    rig.deliver_as(data(5), b"abc", HEADER_LEN + 3);
    rig.deliver_as(data(3), b"abc", HEADER_LEN - 1);
    rig.deliver_as(data(u32::MAX), b"abc", HEADER_LEN + 3);
    assert_eq!(rig.driver.try_receive(socket, &mut [0; 8]), Ok(Received::Nothing));
    rig.deliver_as(data(2), b"xyz", HEADER_LEN + 3);
    // More than the buffer has is what the buffer has.
    rig.deliver_as(data(3), b"abc", u32::MAX as usize);
    let mut out = [0; 8];
    assert_eq!(rig.driver.try_receive(socket, &mut out), Ok(Received::Bytes(5)));
    assert_eq!(&out[..5], b"xyabc");
    assert_eq!(rig.sent(), None);
}

#[test]
fn s5_10_6_4_unknown_connections_are_reset_and_those_answers_are_bounded() {
    let mut rig = Rig::new();
    rig.deliver(to(81, OP_REQUEST), &[]);
    let reset = rig.expect(OP_RST);
    assert_eq!((reset.src_port, reset.dst_port), (81, 5));
    rig.deliver(to(81, OP_RST), &[]);
    rig.deliver(Header { dst_cid: CID + 1, ..to(81, OP_RW) }, &[]);
    assert_eq!(rig.sent(), None);
    // The device takes no packets: the transmit queue fills up, then the answers, then packets stay where they are.
    let mut delivered = 0;
    for _ in 0..1000 {
        rig.driver.poll().unwrap();
        let Some(chain) = rig.receive.pop().unwrap() else { break };
        chain.writer().write_all(&to(82, OP_RW).to_bytes()).unwrap();
        rig.receive.complete(chain, HEADER_LEN as u32).unwrap();
        _ = rig.receive.publish().unwrap();
        delivered += 1;
    }
    assert!(delivered < 1000, "it is not answered without end");
    assert_eq!(rig.driver.replies.len(), MAX_REPLIES);
    for _ in 0..delivered {
        rig.expect(OP_RST);
    }
}

#[test]
fn s5_10_6_5_halves_end_by_themselves_and_both_by_a_reset() {
    let mut rig = Rig::new();
    let socket = rig.accepted();
    rig.driver.shutdown(socket, Half::Send).unwrap();
    assert_eq!(rig.expect(OP_SHUTDOWN).flags, SHUTDOWN_SEND);
    assert_eq!(rig.driver.try_send(socket, b"more"), Err(SocketError::Ended));
    rig.deliver(to(80, OP_RW), b"last");
    rig.deliver(Header { flags: SHUTDOWN_SEND, ..to(80, OP_SHUTDOWN) }, &[]);
    let mut out = [0; 8];
    assert_eq!(rig.driver.try_receive(socket, &mut out), Ok(Received::Bytes(4)));
    assert_eq!(rig.driver.try_receive(socket, &mut out), Ok(Received::End));
    rig.driver.close(socket).unwrap();
    assert_eq!(rig.expect(OP_SHUTDOWN).flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    assert_eq!(rig.driver.progress(socket), Err(SocketError::Closed));
    rig.deliver(to(80, OP_RST), &[]);
    // The other way around.
    rig.deliver(to(80, OP_REQUEST), &[]);
    rig.expect(OP_RESPONSE);
    rig.deliver(to(80, OP_RW), b"x");
    rig.deliver(Header { flags: SHUTDOWN_SEND | SHUTDOWN_RECEIVE, ..to(80, OP_SHUTDOWN) }, &[]);
    rig.expect(OP_RST);
    let socket = rig.driver.accept(80).unwrap();
    assert_eq!(rig.driver.try_receive(socket, &mut out), Ok(Received::Bytes(1)));
    assert_eq!(rig.driver.try_receive(socket, &mut out), Ok(Received::End));
}

#[test]
fn s5_10_6_7_a_transport_reset_loses_every_connection_and_may_change_the_identifier() {
    let mut rig = Rig::new();
    let socket = rig.accepted();
    rig.driver.device().transport().config = 12u64.to_le_bytes().to_vec();
    let chain = rig.events.pop().unwrap().expect("a buffer for events");
    chain.writer().write_u32(EVENT_TRANSPORT_RESET).unwrap();
    rig.events.complete(chain, 4).unwrap();
    _ = rig.events.publish().unwrap();
    rig.driver.poll().unwrap();
    assert_eq!((rig.driver.cid(), rig.driver.progress(socket)), (12, Ok(Progress::Over)));
}
