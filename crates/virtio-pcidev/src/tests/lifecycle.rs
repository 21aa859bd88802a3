//! When the function runs, and what a reset leaves.

use super::rig::*;
use std::sync::Arc;
use vioduct_pci::BusMaster;
use vioduct_spec::Status;
use vioduct_virtio_device::{Backend, Features, MemoryMap, StatusWrite};
use vioduct_virtqueue::{IoAddr, Memory};

#[test]
fn the_function_uses_memory_while_the_command_queue_runs_and_no_longer() {
    let mut bench = Bench::in_reset();
    assert_eq!(bench.take_events(), [Event::Pause, Event::Memory], "it has its memory before anything runs");
    bench.rig.negotiate(Features::NONE).unwrap();
    bench.take_events();
    for q in 0..2 {
        bench.rig.enable_queue(q).unwrap();
    }
    assert_eq!(bench.take_events(), []);
    bench.rig.write_status(Status::DRIVER_OK).unwrap();
    assert_eq!(bench.take_events(), [Event::Resume]);
    bench.rig.endpoint.pause();
    assert_eq!(bench.take_events(), [Event::Pause]);
    bench.rig.endpoint.resume();
    assert_eq!(bench.take_events(), [Event::Resume]);
}

#[test]
fn memory_is_replaced_while_the_function_is_paused() {
    let mut bench = Bench::new(Features::NONE);
    bench.bar_write(0, 0, &[7]);
    bench.take_events();
    bench.rig.endpoint.pause();
    let other = Arc::new(MemoryMap::anonymous(4 << 20).unwrap());
    bench.rig.endpoint.replace_memory(other.clone());
    assert_eq!(bench.take_events(), [Event::Pause, Event::Memory]);
    other.write(IoAddr(0x10_0000), b"other").unwrap();
    let mut seen = [0; 5];
    bench.memory.lock().unwrap().as_ref().unwrap().read(IoAddr(0x10_0000), &mut seen).unwrap();
    assert_eq!(&seen, b"other");
}

#[test]
fn a_reset_of_the_device_resets_the_function_and_drops_its_interrupts() {
    for ring in RINGS {
        let mut bench = Bench::new(ring);
        bench.config_write(4, 2, 6);
        bench.program(0, 0xa_0000, 1);
        bench.bar_write(0, 0, &[7]);
        bench.raise(0);
        bench.take_events();
        assert_eq!(bench.rig.endpoint.write_status(0), StatusWrite::Reset);
        let events = bench.take_events();
        assert_eq!(events, [Event::Reset, Event::BusMaster(BusMaster::Disabled), Event::Pause]);
        bench.rig.negotiate(ring).unwrap();
        for q in 0..2 {
            bench.rig.enable_queue(q).unwrap();
        }
        bench.rig.write_status(Status::DRIVER_OK).unwrap();
        bench.offer(2);
        assert_eq!(bench.interrupts(), []);
        assert_eq!(bench.config_read(4, 2), 0);
        assert_eq!(bench.config_read(MSIX_CAP + 2, 2) & 0x8000, 0);
        assert_eq!(bench.bar_read(0, 0, 1), [0]);
        bench.program(0, 0xa_0000, 2);
        bench.raise(0);
        assert_eq!(bench.interrupts(), [msi(0xa_0000, 2)]);
    }
}

/// What was raised while no queue ran is delivered when they do.
#[test]
fn interrupts_outlast_a_pause() {
    let mut bench = Bench::new(Features::NONE);
    bench.offer(2);
    bench.program(1, 0xa_0000, 3);
    bench.rig.endpoint.pause();
    bench.raise(1);
    bench.rig.endpoint.resume();
    bench.run();
    assert_eq!(bench.interrupts(), [msi(0xa_0000, 3)]);
}

#[test]
fn a_function_is_not_saved_in_silence() {
    let mut bench = Bench::new(Features::NONE);
    bench.rig.endpoint.pause();
    let error = bench.rig.endpoint.backend_mut().save_state().unwrap_err().to_string();
    assert!(error.contains("cannot be saved"), "{error}");
}

/// Whoever negotiates anew without stopping queues has stopped them so.
#[test]
fn negotiation_stops_the_function_with_the_queues() {
    let mut bench = Bench::new(Features::NONE);
    bench.rig.endpoint.backend_mut().set_features(Features::VERSION_1).unwrap();
    assert_eq!(bench.take_events(), [Event::Pause]);
}
