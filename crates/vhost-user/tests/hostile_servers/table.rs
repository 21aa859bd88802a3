//! Answers that are none, one by one: each is an error that says what was wrong, none is waited for, and nothing stays open.

use crate::client::{self, Client};
use crate::rig::back::{Back, Deed};
use crate::rig::payloads::{inflight, span};
use crate::rig::peer::*;
use crate::{alone, expect_descriptors, open_descriptors};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use vioduct_vhost_user::Patience;
use vioduct_virtio_device::{Backend, Features, Signal};

struct Attack {
    name: &'static str,
    request: u32,
    deed: Deed,
    /// What the error says.
    words: &'static str,
}

fn attack(name: &'static str, request: u32, deed: Deed, words: &'static str) -> Attack {
    Attack { name, request, deed, words }
}

fn say(bytes: Vec<u8>) -> Deed {
    Deed::Say(bytes, 0)
}

fn answer(payload: Vec<u8>) -> Deed {
    Deed::Answer(payload, 0)
}

fn header(request: u32, flags: u32, len: u32) -> Vec<u8> {
    words(&[request, flags, len])
}

/// What is wrong with any answer, whatever was asked.
fn malformed(request: u32) -> Vec<Attack> {
    let good = message(request, VERSION | REPLY, &longs(&[0]));
    let flags = |flags| say(message(request, flags, &longs(&[0])));
    let len = |len| say(header(request, VERSION | REPLY, len));
    vec![
        attack("version 0", request, flags(REPLY), "flags 0x4"),
        attack("version 2", request, flags(2 | REPLY), "flags 0x6"),
        attack("no reply bit", request, flags(VERSION), "flags 0x1"),
        attack("reserved bits", request, flags(VERSION | REPLY | 0x100), "flags 0x105"),
        attack(
            "a request of no name",
            request,
            say(message(99, VERSION | REPLY, &longs(&[0]))),
            "request 99",
        ),
        attack(
            "another answer",
            request,
            say(message(SET_OWNER, VERSION | REPLY, &longs(&[0]))),
            "as if it were",
        ),
        attack("no payload", request, len(0), "payload of 0"),
        attack("half a payload", request, len(4), "payload of 4"),
        attack("a long payload", request, len(16), "payload of 16"),
        attack("an endless payload", request, len(u32::MAX), "payload of 4294967295"),
        attack("a descriptor", request, Deed::Say(good.clone(), 1), "1 file descriptors"),
        attack("eight descriptors", request, Deed::Say(good.clone(), 8), "8 file descriptors"),
        attack("too many descriptors", request, Deed::Say(good.clone(), 40), "descriptors were lost"),
        attack("silence", request, Deed::Silence, "not answered within"),
        attack("a header, then silence", request, len(8), "not answered within"),
        attack("the end", request, Deed::Close(Vec::new()), "closed"),
        attack("the end in the header", request, Deed::Close(good[..7].to_vec()), "closed"),
        attack("the end in the payload", request, Deed::Close(good[..17].to_vec()), "closed"),
        attack("an answer too many", request, Deed::Append(good), "nobody asked"),
    ]
}

/// Numbers and structures that cannot be.
fn untrue() -> Vec<Attack> {
    let records = |len, offset, rings, size| [inflight(len, offset, rings, size), vec![0; 4]].concat();
    let zeros = [0; 16];
    vec![
        attack("a legacy device", GET_FEATURES, answer(longs(&[1 << 30])), "VERSION_1"),
        attack("no queue", GET_QUEUE_NUM, answer(longs(&[0])), "has 0 queues"),
        attack("no room", GET_MAX_MEM_SLOTS, answer(longs(&[0])), "room for 0"),
        attack("memory refused", ADD_MEM_REG, answer(longs(&[1])), "refuses AddMemReg"),
        attack("no configuration", GET_CONFIG, answer(Vec::new()), "refuses GetConfig"),
        attack(
            "a short configuration",
            GET_CONFIG,
            answer(span(0, 16, 0, &[0; 8])),
            "GetConfig with a field",
        ),
        attack(
            "a long configuration",
            GET_CONFIG,
            answer(span(0, 16, 0, &[0; 64])),
            "GetConfig with a field",
        ),
        attack(
            "more than was asked for",
            GET_CONFIG,
            answer(span(0, 64, 0, &[0; 64])),
            "GetConfig with a field",
        ),
        attack("other configuration", GET_CONFIG, answer(span(4, 16, 0, &zeros)), "GetConfig with a field"),
        attack("endless configuration", GET_CONFIG, answer(span(0, 9000, 0, &[0; 9000])), "payload of 9012"),
        attack("features refused", SET_FEATURES, answer(longs(&[1])), "refuses SetFeatures"),
        attack("features not accepted", GET_STATUS, answer(longs(&[3])), "refuses SetFeatures"),
        attack("records nowhere", GET_INFLIGHT_FD, answer(records(0x1000, 0, 1, 16)), "0 file descriptors"),
        attack(
            "records in many files",
            GET_INFLIGHT_FD,
            Deed::Answer(records(0x1000, 0, 1, 16), 2),
            "2 file descriptors",
        ),
        attack(
            "records of no length",
            GET_INFLIGHT_FD,
            Deed::Answer(records(0, 0, 1, 16), 1),
            "a field of 0x0",
        ),
        attack(
            "records too long",
            GET_INFLIGHT_FD,
            Deed::Answer(records(0x1001, 0, 1, 16), 1),
            "field of 0x1001",
        ),
        attack(
            "records that wrap",
            GET_INFLIGHT_FD,
            Deed::Answer(records(0x1000, u64::MAX, 1, 16), 1),
            "GetInflightFd with a field",
        ),
        attack(
            "records of other rings",
            GET_INFLIGHT_FD,
            Deed::Answer(records(0x1000, 0, 2, 16), 1),
            "GetInflightFd with a field",
        ),
        attack("a ring refused", SET_VRING_ENABLE, answer(longs(&[1])), "refuses SetVringEnable"),
        attack("another ring's base", GET_VRING_BASE, answer(words(&[1, 0])), "GetVringBase with a field"),
        attack(
            "a base beyond the ring",
            GET_VRING_BASE,
            answer(words(&[0, 16])),
            "GetVringBase with a field",
        ),
        attack(
            "a base far beyond",
            GET_VRING_BASE,
            answer(words(&[0, 0x7fff_0000])),
            "GetVringBase with a field",
        ),
        attack("no state", SET_DEVICE_STATE_FD, answer(longs(&[1 << 8 | 1])), "refuses SetDeviceStateFd"),
        attack("a bad state", CHECK_DEVICE_STATE, answer(longs(&[1])), "refuses CheckDeviceState"),
    ]
}

/// The first error that a machine meets with such a server: at once, or as soon as it does more than connect.
fn meet(attack: &Attack) -> Option<String> {
    let back = Back::new(attack.request, attack.deed.clone());
    // Silence is the one answer that takes time.
    let request =
        if attack.words.contains("within") { Duration::from_millis(100) } else { client::PATIENCE.request };
    let patience = Patience { request, call: Duration::from_millis(20), ..client::PATIENCE };
    match Client::patient(&back.path, patience) {
        Err(error) => Some(error),
        Ok(mut client) => client.live(Features::RING_PACKED).err(),
    }
}

#[test]
fn row63_answers_that_are_none_end_the_connection() {
    let _alone = alone();
    // Of the first request, of those with a reply or an answer of their own, and of one whose answer is asked for.
    let asked =
        [GET_FEATURES, GET_PROTOCOL_FEATURES, GET_MAX_MEM_SLOTS, ADD_MEM_REG, SET_VRING_NUM, SET_VRING_KICK];
    for attack in asked.into_iter().flat_map(malformed).chain(untrue()) {
        let name = format!("{} in answer to {}", attack.name, attack.request);
        let (before, began) = (open_descriptors(), Instant::now());
        let error = meet(&attack).unwrap_or_else(|| panic!("{name}: nothing was wrong"));
        assert!(error.contains(attack.words), "{name}: {error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name} took {:?}", began.elapsed());
        expect_descriptors(before, &name);
    }
}

/// The index of a split ring has 16 bits.
#[test]
fn row63_a_base_that_no_split_ring_can_have_ends_the_connection() {
    let _alone = alone();
    let back = Back::new(GET_VRING_BASE, answer(words(&[0, 0x1_0000])));
    let patience = Patience { call: Duration::from_millis(20), ..client::PATIENCE };
    let error = Client::patient(&back.path, patience).unwrap().live(Features::NONE).unwrap_err();
    assert!(error.contains("GetVringBase with a field of 0x10000"), "{error}");
}

/// A server that answers as it should does not fail.
#[test]
fn row63_a_good_server_is_served() {
    let _alone = alone();
    let before = open_descriptors();
    let back = Back::good();
    // It has no rings, and says of none where it stands.
    Client::connect(&back.path).unwrap().live(Features::NONE).unwrap();
    drop(back);
    expect_descriptors(before, "a good server");
}

/// A notification that is not an eventfd: the front-end listens for it.
#[derive(Default)]
struct Called(AtomicBool);

impl Signal for Called {
    fn signal(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The eventfds of a ring are shared: a server that has them block, as QEMU's do for a moment, has nobody wait for a count but itself.
#[test]
fn a_server_that_has_eventfds_block_holds_nobody_up() {
    let _alone = alone();
    let back = Back::good();
    back.told.blocks.store(true, Ordering::SeqCst);
    let (done, until_done) = channel();
    let path = back.path.clone();
    let (start, started) = channel();
    thread::spawn(move || {
        let mut client = Client::connect(&path).unwrap();
        let call = Arc::new(Called::default());
        client.call = call.clone();
        client.start(Features::NONE).unwrap();
        start.send(()).unwrap();
        // Whoever listens takes the call, and then looks for an error.
        while !call.0.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        client.frontend.reset().unwrap();
        done.send(client.reports.failures()).unwrap();
    });
    started.recv_timeout(PATIENCE).unwrap();
    let eventfds = std::mem::take(&mut *back.told.eventfds.lock().unwrap());
    let requests: Vec<u32> = eventfds.iter().map(|(request, _)| *request).collect();
    assert_eq!(requests, [SET_VRING_ERR, SET_VRING_CALL]);
    rustix::io::write(&eventfds[1].1, &1u64.to_ne_bytes()).unwrap();
    let failures = until_done.recv_timeout(PATIENCE).expect("the front-end waits for a count");
    assert_eq!(failures, [""; 0]);
}

/// A server that offers everything that it can name, and more queues than there can be, is used for what is known.
#[test]
fn row63_offers_of_everything_are_taken_for_what_is_known() {
    let _alone = alone();
    let all = answer(longs(&[u64::MAX]));
    for request in [GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_MAX_MEM_SLOTS] {
        let back = Back::new(request, all.clone());
        let mut client = Client::connect(&back.path).unwrap();
        client.live(Features::NONE).unwrap_or_else(|error| panic!("{request}: {error}"));
    }
}

/// The server is told where the guest has its memory, and never where this process does.
#[test]
fn row63_no_address_of_this_process_is_told() {
    let _alone = alone();
    let back = Back::good();
    Client::connect(&back.path).unwrap().live(Features::NONE).unwrap();
    let told = back.told.messages.lock().unwrap();
    let payload = |request| {
        let (_, payload) = told.iter().find(|(number, _)| *number == request).unwrap();
        payload.chunks(8).map(|long| u64::from_ne_bytes(long.try_into().unwrap())).collect::<Vec<_>>()
    };
    const START: u64 = crate::rig::front::GUEST_START;
    assert_eq!(payload(ADD_MEM_REG)[1..], [START, crate::rig::front::MEMORY_LEN, START, 0]);
    assert_eq!(payload(SET_VRING_ADDR)[1..4], [START, START + 0x2000, START + 0x1000]);
}

/// A server that comes back only to go again has not come back.
#[test]
fn row63_a_server_that_only_breaks_connections_is_sought_with_pauses() {
    let _alone = alone();
    let back = Back::new(SET_VRING_NUM, Deed::Close(Vec::new()));
    let patience = Patience { call: Duration::from_millis(150), ..client::PATIENCE };
    let mut client = Client::patient(&back.path, patience).unwrap();
    let error = client.live(Features::NONE).unwrap_err();
    assert!(error.contains("closed"), "{error}");
    let connections =
        back.told.messages.lock().unwrap().iter().filter(|(request, _)| *request == SET_OWNER).count();
    // 150 ms of pauses from 2 to 20 ms.
    assert!((2..40).contains(&connections), "{connections} connections");
    assert!(client.reports.failures().is_empty(), "it may still come back");
}
