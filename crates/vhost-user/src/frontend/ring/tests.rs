use super::*;
use vioduct_virtio_device::MemoryMap;

const LAYOUT: RingLayout = RingLayout {
    size: 4,
    descriptor_area: IoAddr(0),
    driver_area: IoAddr(0x100),
    device_area: IoAddr(0x200),
};

/// A ring in which these heads were made available, and these used, from the beginning on.
fn verdict(available: &[u16], used: &[u16]) -> bool {
    let memory = MemoryMap::anonymous(0x1000).unwrap();
    let put = |at: u64, word: u16| memory.write(IoAddr(at), &word.to_le_bytes()).unwrap();
    for (place, head) in available.iter().enumerate() {
        put(0x104 + place as u64 % 4 * 2, *head);
    }
    for (place, head) in used.iter().enumerate() {
        put(0x204 + place as u64 % 4 * 8, *head);
    }
    put(0x102, available.len() as u16);
    put(0x202, used.len() as u16);
    let call = Arc::new(EventFd::new().unwrap());
    let position = QueuePosition::START;
    let setup = QueueSetup { layout: LAYOUT, position, kick: None, call, in_flight: None };
    Ring::new(setup).unwrap().was_used_in_order(&memory).unwrap()
}

#[test]
fn a_ring_that_was_used_in_order_shows_what_is_in_flight() {
    assert!(verdict(&[], &[]));
    assert!(verdict(&[3, 1, 2, 0], &[]));
    assert!(verdict(&[3, 1, 2, 0], &[3, 1]));
    assert!(verdict(&[3, 1, 2, 0, 3, 1], &[3, 1, 2, 0, 3]));
    assert!(verdict(&[3, 1, 2, 0, 3, 1, 2], &[3, 1, 2]));
    // Out of order, and all the same again.
    assert!(verdict(&[3, 1, 2, 0], &[1, 3]));
    assert!(verdict(&[3, 1, 2, 0, 3], &[3, 2, 0, 1]));
}

#[test]
fn a_buffer_that_was_used_early_hides_another() {
    assert!(!verdict(&[3, 1, 2, 0], &[1]));
    assert!(!verdict(&[3, 1, 2, 0, 1, 2], &[1, 2, 0, 1]));
    assert!(!verdict(&[3, 1, 2, 0], &[3, 2]));
    // Nothing is in flight: the order does not matter any more.
    assert!(verdict(&[3, 1, 2, 0], &[0, 2, 1, 3]));
}
