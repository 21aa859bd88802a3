use super::{Device, Negotiated, Wanted};
use crate::error::{InitError, RequestError};
use crate::fakes::{Call, FakeTransport, TestMemory};
use crate::transport::TransportError;
use crate::virtqueue::{QueueSetup, Virtqueue};
use std::sync::Arc;
use vioduct_spec::{Features, Status, device_type};

const SETUP: QueueSetup = QueueSetup { max_size: 128, indirect_entries: 4 };
const WANTED: Wanted = Wanted { required: Features::NONE, optional: Features::RING };

fn transport() -> FakeTransport {
    FakeTransport::new(Features::VERSION_1)
}

fn negotiated(transport: &mut FakeTransport) -> Device<&mut FakeTransport, Negotiated> {
    Device::new(transport).unwrap().negotiate(device_type::DEMO, WANTED).unwrap()
}

type TestQueue = Virtqueue<Arc<TestMemory>, u32>;

fn with_queue<'t>(
    transport: &'t mut FakeTransport,
    memory: &Arc<TestMemory>,
) -> (Device<&'t mut FakeTransport, Negotiated>, TestQueue) {
    let mut device = negotiated(transport);
    let queue = device.set_up_queue(0, SETUP, memory).unwrap();
    (device, queue)
}

#[test]
fn s3_1_1_initialization_is_written_in_order() {
    let mut transport = transport();
    let memory = TestMemory::new();
    let (device, queue) = with_queue(&mut transport, &memory);
    let mut device = device.driver_ok().unwrap();
    let written = [
        Call::Status(0),
        Call::Status(1),
        Call::Status(1 | 2),
        Call::Features(Features::VERSION_1),
        Call::Status(1 | 2 | 8),
        Call::ConfigInterrupt,
        Call::Enable(0),
        Call::Status(1 | 2 | 8 | 4),
    ];
    assert_eq!(device.transport().calls, written);
    drop((queue, device));
}

#[test]
fn s3_1_1_features_ok_is_read_again() {
    let mut transport = transport();
    transport.refused = Status::FEATURES_OK;
    let error = Device::new(&mut transport).unwrap().negotiate(device_type::DEMO, WANTED).unwrap_err();
    assert_eq!(error, InitError::FeaturesRefused(Features::VERSION_1));
    assert_eq!(transport.calls.last(), Some(&Call::Status(1 | 2 | 8 | 128)));
}

#[test]
fn s3_1_1_an_abandoned_device_is_marked_failed_in_every_state() {
    let mut transport = transport();
    drop(Device::new(&mut transport).unwrap());
    assert_eq!(transport.calls, [Call::Status(0)], "a device that is reset needs no FAILED");
    drop(Device::new(&mut transport).unwrap().acknowledge());
    assert_eq!(transport.calls.last(), Some(&Call::Status(1 | 128)));
    drop(Device::new(&mut transport).unwrap().acknowledge().identify(device_type::DEMO).unwrap());
    assert_eq!(transport.calls.last(), Some(&Call::Status(1 | 2 | 128)));
    drop(negotiated(&mut transport));
    assert_eq!(transport.calls.last(), Some(&Call::Status(1 | 2 | 8 | 128)));
}

#[test]
fn s3_1_1_a_device_of_another_type_is_given_up() {
    let mut transport = transport();
    let error = Device::new(&mut transport).unwrap().negotiate(device_type::NET, WANTED).unwrap_err();
    assert_eq!(error, InitError::DeviceType { found: device_type::DEMO, wanted: device_type::NET });
    assert_eq!(transport.calls.last(), Some(&Call::Status(1 | 128)));
}

#[test]
fn s6_1_version_1_is_required() {
    let mut transport = FakeTransport::new(Features::RING.without(Features::VERSION_1));
    let error = Device::new(&mut transport).unwrap().negotiate(device_type::DEMO, WANTED).unwrap_err();
    assert_eq!(error, InitError::FeaturesMissing(Features::VERSION_1));
}

#[test]
fn s2_2_1_only_offered_features_are_accepted() {
    let offered = Features::VERSION_1 | Features::EVENT_IDX | Features::bit(5);
    let mut transport = FakeTransport::new(offered);
    let device = negotiated(&mut transport);
    assert_eq!(device.negotiated(), Features::VERSION_1 | Features::EVENT_IDX);
}

#[test]
fn s2_4_2_a_reset_is_complete_when_the_status_reads_zero() {
    let mut transport = transport();
    transport.reset_polls = 3;
    drop(Device::new(&mut transport).unwrap());
    transport.reset_polls = u32::MAX;
    let error = Device::new(&mut transport).unwrap_err();
    assert_eq!(error, InitError::Transport(TransportError::ResetTimeout));
}

#[test]
fn s2_1_1_a_running_device_is_reset_when_dropped_and_its_memory_freed() {
    let mut transport = transport();
    let memory = TestMemory::new();
    let (device, queue) = with_queue(&mut transport, &memory);
    let device = device.driver_ok().unwrap();
    drop(device);
    assert_eq!(transport.calls.last(), Some(&Call::Status(0)));
    assert_eq!(memory.live(), 1);
    drop(queue);
    assert_eq!(memory.live(), 0);
}

#[test]
fn memory_is_freed_when_the_device_was_never_started() {
    let mut transport = transport();
    let memory = TestMemory::new();
    drop(with_queue(&mut transport, &memory));
    assert_eq!(memory.live(), 0);
    transport.enable_error = Some(TransportError::QueueRefused(0));
    let refused = negotiated(&mut transport).set_up_queue::<_, u32>(0, SETUP, &memory).unwrap_err();
    assert_eq!(refused, InitError::Transport(TransportError::QueueRefused(0)));
    assert_eq!(memory.live(), 0);
}

#[test]
fn a_device_that_never_finishes_its_reset_keeps_its_memory() {
    let mut transport = transport();
    let memory = TestMemory::new();
    let (device, mut queue) = with_queue(&mut transport, &memory);
    let mut device = device.driver_ok().unwrap();
    device.transport().reset_polls = u32::MAX;
    queue.add(&[], &[vioduct_virtqueue::Buffer { addr: Default::default(), len: 4 }], 7).unwrap();
    assert_eq!(device.reset().unwrap_err(), InitError::Transport(TransportError::ResetTimeout));
    drop(queue);
    assert_eq!(memory.live(), 1, "the device may still write to the ring");
}

#[test]
fn s2_1_1_needs_reset_is_told_and_the_device_starts_over() {
    let mut transport = transport();
    let mut device = negotiated(&mut transport).driver_ok().unwrap();
    assert_eq!(device.check(), Ok(()));
    device.transport().status = Status(1 | 2 | 4 | 8 | 64);
    assert_eq!(device.check(), Err(RequestError::NeedsReset));
    let mut device =
        device.reset().unwrap().negotiate(device_type::DEMO, WANTED).unwrap().driver_ok().unwrap();
    assert_eq!(device.check(), Ok(()));
    device.transport().status = Status(0xff);
    assert_eq!(device.check(), Err(RequestError::Gone(Status(0xff))));
    device.transport().status = Status::RESET;
    assert_eq!(device.check(), Err(RequestError::Gone(Status::RESET)));
}

#[test]
fn row77_queue_sizes_are_limited_whatever_the_device_says() {
    let size = |features, max, wanted| {
        let mut transport = FakeTransport::new(Features::VERSION_1 | features);
        transport.queue_size_max = max;
        let setup = QueueSetup { max_size: wanted, indirect_entries: 0 };
        let memory = TestMemory::new();
        let queue: Result<TestQueue, _> = negotiated(&mut transport).set_up_queue(0, setup, &memory);
        queue.map(|queue| queue.ring().size())
    };
    assert_eq!(size(Features::NONE, 0xffff, 128), Ok(128));
    assert_eq!(size(Features::NONE, 0xffff, 0xffff), Ok(32768));
    assert_eq!(size(Features::NONE, 100, 128), Ok(64), "a power of two in a split ring");
    assert_eq!(size(Features::RING_PACKED, 100, 128), Ok(100));
    assert_eq!(size(Features::NONE, 0, 128), Err(InitError::Transport(TransportError::NoQueue(0))));
    let none = TransportError::QueueSize { queue: 0, wanted: 0, max: 8 };
    assert_eq!(size(Features::NONE, 8, 0), Err(InitError::Transport(none)));
}
