//! Connections as they should be, from either side, with what each side can do to them.

use vioduct_fuzz::vsock::{self, STEP_LEN};
use vioduct_spec::vsock::{
    OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN,
};

type Step = [u8; STEP_LEN];

/// The guest's port in the lower half of a byte of ports, and the host's in the upper.
const FROM_GUEST: u8 = 1;
const TO_CALLER: u8 = 2 << 2;

fn packet(op: u16, ports: u8, data_len: u16, flags: u8) -> Step {
    let [low, high] = data_len.to_le_bytes();
    [0, op as u8, ports, 0, low, high, flags, 0, 0, 0, 0, 0]
}

fn step(code: u8, arguments: [u8; 2]) -> Step {
    let mut step = [0; STEP_LEN];
    step[0] = code;
    step[1..3].copy_from_slice(&arguments);
    step
}

/// Room for a packet of the device's, in two pieces.
const RECEIVE: Step = [7, 20, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];

/// The seeds by name.
pub(crate) fn seeds(options: u8) -> [(&'static str, Vec<u8>); 3] {
    let (accept, call) = (step(12, [0, 0]), step(11, [2, 0]));
    let (say, hear, leave) = ([13, 0, 100, 0], [14, 0, 100, 0], step(15, [0, 3]));
    let long = |[code, which, low, high]: [u8; 4]| {
        let mut step = step(code, [which, low]);
        step[3] = high;
        step
    };
    let talk = |ports: u8| {
        let middle = [packet(OP_RW, ports, 100, 0), long(hear), long(say), RECEIVE, RECEIVE];
        let end = [
            packet(OP_CREDIT_REQUEST, ports, 0, 0),
            packet(OP_CREDIT_UPDATE, ports, 0, 0),
            packet(OP_SHUTDOWN, ports, 0, 2),
            packet(OP_SHUTDOWN, ports, 0, 3),
            RECEIVE,
        ];
        [&middle[..], &end].concat()
    };
    let guest_calls = [packet(OP_REQUEST, FROM_GUEST, 0, 0), accept, RECEIVE];
    let host_calls = [call, RECEIVE, packet(OP_RESPONSE, TO_CALLER, 0, 0), RECEIVE, RECEIVE];
    let strangers = [packet(OP_RW, FROM_GUEST, 5, 0), packet(OP_RESPONSE, 0, 0, 0), RECEIVE, RECEIVE];
    let end = [leave, packet(OP_RST, FROM_GUEST, 0, 0), RECEIVE];
    let seed = |steps: Vec<Step>, packets: usize| {
        let seed = [&[options][..], steps.as_flattened()].concat();
        assert!(vsock::run(&seed) >= packets, "the device does not work: {options}");
        seed
    };
    [
        ("guest-calls", seed([&guest_calls[..], &talk(FROM_GUEST), &end].concat(), 3)),
        ("host-calls", seed([&host_calls[..], &talk(TO_CALLER), &end].concat(), 3)),
        ("strangers", seed(strangers.to_vec(), 2)),
    ]
}
