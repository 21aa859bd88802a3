//! A saved state that nobody saved, restored into a device, which then goes on with whatever lies in memory.
//!
//! The bytes: status, features, generation, how many queues and what is saved of each, a count of kicks, and then what lies in
//! memory from its start.

use crate::input::Input;
use crate::memory::{FuzzMemory, MAPPED_START, PIECE_LEN};
use crate::window::Line;
use std::sync::Arc;
use vioduct_spec::{Features, Status};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EndpointState, Inline, QueueState};
use vioduct_virtio_mmio::Mmio;
use vioduct_virtqueue::{IoAddr, QueuePosition, RingFormat, RingIndex, Wrap};

fn position(input: &mut Input<'_>) -> QueuePosition {
    let mut place = || RingIndex { index: input.u16(), wrap: Wrap::from_bit(u16::from(!input.u8() & 1)) };
    QueuePosition { available: place(), used: place() }
}

fn state(input: &mut Input<'_>) -> EndpointState {
    let status = input.u8();
    let driver_features = input.u64();
    let generation = input.u32();
    // One queue is what the device has.
    let queues = match input.u8() {
        0..=0xef => 1,
        other => usize::from(other - 0xf0),
    };
    let queue = |_| QueueState {
        size: input.u16(),
        descriptor_area: input.u64(),
        driver_area: input.u64(),
        device_area: input.u64(),
        position: (input.u8() & 1 == 0).then(|| position(input)),
    };
    EndpointState { status, driver_features, generation, queues: (0..queues).map(queue).collect() }
}

type Device = Mmio<Inline<VirtioDemo>>;

fn device(memory: &Arc<FuzzMemory>) -> Device {
    Mmio::new(Inline::auto(VirtioDemo::default()), memory.clone(), Box::new(Line::default()))
}

/// One run.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let state = state(&mut input);
    let kicks = input.below(16);
    let memory = FuzzMemory::new(Box::default());
    memory.put(IoAddr(MAPPED_START), input.bytes(PIECE_LEN));
    let mut first = device(&memory);
    if first.endpoint_mut().restore(&state).is_err() {
        assert_eq!(first.endpoint().status(), Status::RESET, "a refusal leaves a device in reset");
        return;
    }
    check(&first, &state);
    assert_eq!(first.endpoint_mut().save().queues, state.queues, "saved without having run");
    first.endpoint_mut().resume();
    for _ in 0..kicks {
        first.endpoint_mut().notify(0);
    }
    let later = first.endpoint_mut().save();
    let mut second = device(&memory);
    second.endpoint_mut().restore(&later).expect("what a device saved can be restored");
    check(&second, &later);
    second.endpoint_mut().resume();
    second.endpoint_mut().write_status(0);
    assert_eq!(second.endpoint().status(), Status::RESET);
}

/// What was accepted is what a driver can have negotiated.
fn check(device: &Device, state: &EndpointState) {
    let endpoint = device.endpoint();
    assert_eq!(endpoint.status(), Status(state.status));
    let negotiated = endpoint.negotiated();
    assert!(endpoint.offered().contains(negotiated));
    for (q, queue) in (0u16..).zip(&state.queues) {
        assert_eq!(endpoint.queue_enabled(q), queue.position.is_some());
        if queue.position.is_some() {
            assert!(negotiated.contains(Features::VERSION_1));
            assert!(vioduct_virtqueue::is_valid_size(RingFormat::of(negotiated), queue.size));
        }
    }
}
