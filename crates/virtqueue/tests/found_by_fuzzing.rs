//! What fuzzing, or thinking about what it might find, has found.

mod rig;

use rig::Pair;
use vioduct_spec::Features;
use vioduct_spec::ring::packed::{DESC_FLAGS, DESC_ID};
use vioduct_spec::ring::split::{AVAIL_IDX, AVAIL_RING};
use vioduct_spec::ring::{DESC_F_AVAIL, DESC_F_USED, DESCRIPTOR_SIZE};
use vioduct_virtqueue::QueueError;

/// With `IN_ORDER` a completion that waits for an earlier one is not in flight any more; a driver that made its head available
/// again, before it was used, had the queue confuse the two once a lap of buffers had passed.
#[test]
fn a_buffer_whose_completion_is_held_back_cannot_be_made_available_again() {
    let mut pair = Pair::new(2, Features::IN_ORDER);
    let buffer = pair.alloc(4);
    for token in 0..2 {
        pair.driver.add(&[buffer], &[], token).unwrap();
    }
    let _ = pair.driver.kick_prepare();
    let first = pair.device.pop().unwrap().expect("published");
    let second = pair.device.pop().unwrap().expect("published");
    let head = second.id();
    pair.device.complete(second, 0).unwrap();
    assert!(pair.device.pop().unwrap().is_none());
    let area = pair.driver.layout().driver_area;
    pair.memory.put_u16(area, AVAIL_RING, head);
    pair.memory.put_u16(area, AVAIL_IDX, 3);
    let fault = QueueError::AvailableIndex { found: 3, processed: 2 };
    assert_eq!(pair.device.pop().unwrap_err(), fault);
    first.discard();
}

/// A device that says that it has used buffers which it was not shown yet kept the count of descriptors to be published growing,
/// until it overflowed.
#[test]
fn buffers_reported_before_they_are_published_do_not_add_up() {
    let size = 32768;
    let mut pair = Pair::with_tables(size, Features::RING_PACKED, 1);
    let buffer = pair.alloc(4);
    let ring = pair.driver.layout().descriptor_area;
    for lap in 0..2 {
        for index in 0..size {
            pair.driver.add(&[buffer], &[], 0).unwrap();
            let at = usize::from(index) * DESCRIPTOR_SIZE;
            pair.memory.put_u16(ring, at + DESC_ID, index);
            let used = if lap == 0 { DESC_F_AVAIL | DESC_F_USED } else { 0 };
            pair.memory.put_u16(ring, at + DESC_FLAGS, used);
            assert!(pair.driver.get().unwrap().is_some(), "lap {lap}, index {index}");
        }
    }
    assert_eq!(pair.driver.free_descriptors(), size);
}
