//! A function that is saved here and goes on there.

use vioduct_pci::registers::COMMAND_BUS_MASTER;
use vioduct_spec::pci::common_config as at;
use vioduct_spec::{Features, Status};

use super::rig::{PLAIN, Rig, Stopping};

/// What a driver reads of the common configuration, queue by queue.
fn registers(rig: &mut Rig) -> Vec<u64> {
    let selected = rig.get(at::QUEUE_SELECT, 2);
    let of_device = [
        (at::DEVICE_FEATURE_SELECT, 4),
        (at::DEVICE_FEATURE, 4),
        (at::DRIVER_FEATURE_SELECT, 4),
        (at::DRIVER_FEATURE, 4),
        (at::CONFIG_MSIX_VECTOR, 2),
        (at::DEVICE_STATUS, 1),
        (at::QUEUE_SELECT, 2),
    ];
    let of_queue = [
        (at::QUEUE_SIZE, 2),
        (at::QUEUE_MSIX_VECTOR, 2),
        (at::QUEUE_ENABLE, 2),
        (at::QUEUE_DESC, 8),
        (at::QUEUE_DRIVER, 8),
        (at::QUEUE_DEVICE, 8),
        (at::QUEUE_RESET, 2),
    ];
    let mut values: Vec<_> = of_device.map(|(offset, len)| rig.get(offset, len)).into();
    for q in 0..3 {
        rig.put(at::QUEUE_SELECT, 2, q);
        values.extend(of_queue.map(|(offset, len)| rig.get(offset, len)));
    }
    rig.put(at::QUEUE_SELECT, 2, selected);
    values
}

/// The function of `from`, with its memory, in another place.
fn moved(from: &mut Rig) -> Rig {
    from.hosted.function_mut().pause();
    let state = from.hosted.save().unwrap();
    let mut to = Rig::new();
    to.ram.copy_from(&from.ram);
    to.hosted.restore(&state).unwrap();
    to
}

#[test]
fn a_function_goes_on_elsewhere() {
    for msix in [false, true] {
        let mut here = if msix { Rig::live_with_msix(PLAIN) } else { Rig::live(PLAIN) };
        for _ in 0..7 {
            here.offer(0);
            here.kick(0);
        }
        here.put(at::DEVICE_FEATURE_SELECT, 4, 1);
        here.put(at::QUEUE_SELECT, 2, 2);
        let shown = here.get(at::CONFIG_GENERATION, 1);
        let mut there = moved(&mut here);
        assert_eq!(registers(&mut here), registers(&mut there));
        assert_ne!(there.get(at::CONFIG_GENERATION, 1), shown, "what was read may be outdated");
        assert_eq!(there.isr(), u64::from(!msix), "the ISR");
        assert_eq!(there.isr(), 0);
        there.sink.take();
        there.offer(0);
        there.kick(0);
        assert_eq!(there.used(0), 8, "from where it stood");
        assert_eq!(there.sink.take().len(), 1);
    }
}

/// The host's pause and the driver's permission hold there as they did here.
#[test]
fn a_function_that_may_not_run_does_not() {
    let mut here = Rig::live(PLAIN);
    here.set_command(0);
    let mut there = moved(&mut here);
    there.offer(0);
    there.kick(0);
    assert_eq!(there.used(0), 0);
    there.set_command(COMMAND_BUS_MASTER);
    assert_eq!(there.used(0), 1);
    let state = here.hosted.save().unwrap();
    let mut paused = Rig::new();
    paused.hosted.function_mut().pause();
    paused.ram.copy_from(&here.ram);
    paused.hosted.restore(&state).unwrap();
    paused.set_command(COMMAND_BUS_MASTER);
    paused.offer(0);
    paused.kick(0);
    assert_eq!(paused.used(0), 0);
    paused.hosted.function_mut().resume();
    assert_eq!(paused.used(0), 1);
}

/// Saving is a look: a function that runs goes on.
#[test]
fn a_function_that_is_saved_runs_on() {
    let mut rig = Rig::live(PLAIN);
    rig.hosted.save().unwrap();
    rig.offer(0);
    rig.kick(0);
    assert_eq!(rig.used(0), 1);
}

/// Memory that changes after the device was saved would be lost: so it is not saved, until it stands still.
#[test]
fn a_function_whose_queues_do_not_stop_is_not_saved() {
    let mut here = Rig::live(PLAIN);
    here.backend().stopping = Stopping::Fails;
    here.hosted.function_mut().pause();
    let error = here.hosted.save().unwrap_err().to_string();
    assert!(error.contains("queue 0 does not stop"), "{error}");
    here.backend().stopping = Stopping::Works;
    let mut there = moved(&mut here);
    assert!(there.status().contains(Status::NEEDS_RESET), "as it does here");
}

/// Every byte in turn is another: what is refused leaves a function in reset, and what is taken over is one that works.
#[test]
fn row75_damaged_states_are_refused_or_taken_over_whole() {
    let mut here = Rig::live_with_msix(PLAIN | Features::RING_RESET);
    here.hosted.function_mut().pause();
    let state = here.hosted.save().unwrap();
    let mut refused = 0;
    for at in 0..state.len() {
        let mut damaged = state.clone();
        damaged[at] ^= 0xff;
        let mut there = Rig::new();
        let fresh = registers(&mut there);
        if there.hosted.restore(&damaged).is_err() {
            assert_eq!(registers(&mut there), fresh, "byte {at}");
            refused += 1;
        }
        there.offer(0);
        there.kick(0);
        there.hosted.reset();
        assert_eq!(registers(&mut there), fresh, "byte {at}");
    }
    assert!(refused > state.len() / 2 && refused < state.len(), "{refused} of {}", state.len());
}
