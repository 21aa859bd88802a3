use super::{Console, RECEIVE_BUFFERS, RECEIVE_LEN, Size};
use crate::error::RequestError;
use crate::fakes::{Call, FakeTransport, TestMemory};
use crate::request_queue::Options;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;
use vioduct_spec::console::{CONFIG_LEN, EMERG_WR, EMERG_WRITE, RECEIVE_QUEUE, SIZE};
use vioduct_spec::{Features, device_type};
use vioduct_virtqueue::{Queue, QueuePosition, RingLayout};

type Shared = Arc<TestMemory>;
type TestConsole = Console<FakeTransport, Shared>;

fn console(features: Features, queue_size: u16) -> (TestConsole, Shared) {
    let mut transport = FakeTransport::new(features | Features::VERSION_1);
    transport.device_type = device_type::CONSOLE;
    transport.config = vec![0; CONFIG_LEN];
    transport.generations = [0].into();
    let memory = TestMemory::new();
    let options = Options { queue_size, ..Options::default() };
    (Console::new(transport, memory.clone(), &options).unwrap(), memory)
}

/// The device end of the receive queue.
fn receiving(console: &mut TestConsole, memory: &Shared) -> Queue {
    let (layout, negotiated): (RingLayout, _) =
        (console.receive.virtqueue().ring().layout(), console.device().negotiated());
    Queue::new(memory.clone(), layout, negotiated, QueuePosition::START).unwrap()
}

fn fill(queue: &mut Queue, data: &[u8], written: u32) {
    let chain = queue.pop().unwrap().unwrap();
    assert_eq!((chain.readable_len(), chain.writable_len()), (0, RECEIVE_LEN as u64));
    chain.writer().write_all(data).unwrap();
    queue.complete(chain, written).unwrap();
    _ = queue.publish().unwrap();
}

#[test]
fn s5_3_6_input_is_read_in_order_and_as_much_as_is_asked_for() {
    let (mut console, memory) = console(Features::NONE, 8);
    let mut queue = receiving(&mut console, &memory);
    let mut out = [0; 4];
    assert_eq!(console.try_read(&mut out), Ok(0));
    let notified = |console: &mut TestConsole| {
        let calls = &console.device().transport().calls;
        calls.iter().filter(|call| **call == Call::Notify(RECEIVE_QUEUE)).count()
    };
    assert_eq!(notified(&mut console), 1, "once for all buffers");
    fill(&mut queue, b"abcdef", 6);
    fill(&mut queue, b"", 0);
    fill(&mut queue, b"gh", 2);
    let mut read = Vec::new();
    for expected in [4, 4, 0] {
        let count = console.try_read(&mut out).unwrap();
        assert_eq!(count, expected);
        read.extend_from_slice(&out[..count]);
    }
    assert_eq!(read, b"abcdefgh");
    assert_eq!(console.posted.len(), RECEIVE_BUFFERS, "each buffer is given back to the device");
}

#[test]
fn a_queue_smaller_than_the_buffers_for_input_is_filled() {
    let (mut console, memory) = console(Features::NONE, 2);
    let mut queue = receiving(&mut console, &memory);
    for _ in 0..5 {
        assert_eq!(console.try_read(&mut [0; 8]), Ok(0));
        assert_eq!(console.posted.len(), 2);
        fill(&mut queue, b"abc", 3);
        assert_eq!(console.try_read(&mut [0; 8]), Ok(3));
    }
}

#[test]
fn row76_a_device_that_says_it_wrote_more_than_there_is_room_for_gives_what_there_is() {
    let (mut console, memory) = console(Features::NONE, 8);
    let mut queue = receiving(&mut console, &memory);
    let mut out = [0; 2 * RECEIVE_LEN];
    assert_eq!(console.try_read(&mut out), Ok(0));
    fill(&mut queue, &[b'x'; RECEIVE_LEN], u32::MAX);
    assert_eq!(console.try_read(&mut out), Ok(RECEIVE_LEN));
}

#[test]
fn s5_3_4_size_and_emergency_write_are_used_where_they_were_negotiated() {
    let (mut with, _memory) = console(SIZE | EMERG_WRITE, 8);
    with.device().transport().config[..4].copy_from_slice(&[132, 0, 0x23, 1]);
    assert_eq!(with.size(), Ok(Some(Size { cols: 132, rows: 0x123 })));
    with.write_in_emergency(b'!').unwrap();
    assert_eq!(with.device().transport().config[EMERG_WR..], *b"!\0\0\0");
    let (mut without, _memory) = console(Features::NONE, 8);
    assert_eq!(without.size(), Ok(None));
    assert_eq!(without.write_in_emergency(b'!'), Err(RequestError::Refused));
}
