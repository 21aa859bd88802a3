//! The device end: pop every chain, walk every descriptor, complete every chain, against rust-vmm's `virtio-queue`.
//!
//! Both contenders have the same memory contents and read the same addresses and lengths of the same descriptors. Ours publishes
//! once per batch; theirs publishes with each used entry, for that is what its interface does.

use crate::contest::Contender;
use crate::guest::{QUEUE_SIZE, Ram, Refill, Shape, layout};
use std::hint::black_box;
use vioduct_spec::Features;
use vioduct_virtqueue::{Queue, QueuePosition, RingFormat, Segment};
use virtio_queue::{QueueOwnedT, QueueT, desc::split::Descriptor};
use vm_memory::Address;

/// The peer, as rows name it.
pub const PEER: &str = "virtio-queue 0.18";

/// Our device end. An operation is one descriptor of a buffer.
///
/// # Panics
/// If the first batch does not come to the right sum.
#[must_use]
pub fn ours(format: RingFormat, shape: Shape) -> Contender<'static> {
    let ram = Ram::new();
    let mut refill = Refill::new(&ram, format, shape);
    let layout_feature = match format {
        RingFormat::Split => Features::NONE,
        RingFormat::Packed => Features::RING_PACKED,
    };
    let negotiated = Features::VERSION_1 | Features::INDIRECT_DESC | layout_feature;
    let mut queue = Queue::new(ram, layout(format), negotiated, QueuePosition::START)
        .expect("invariant: the queue's layout is valid");
    let mut round = move || {
        refill.batch();
        our_batch(&mut queue)
    };
    assert_eq!(round(), shape.checksum());
    Contender::new(shape.total(), move || {
        black_box(round());
    })
}

#[inline(never)]
fn our_batch(queue: &mut Queue) -> u64 {
    let add = |sum: u64, segment: &Segment| sum + segment.addr().0 + u64::from(segment.len());
    let mut sum = 0;
    while let Some(chain) = queue.pop().expect("invariant: the driver is well-behaved") {
        sum = chain.readable().iter().chain(chain.writable()).fold(sum, add);
        queue.complete(chain, 0).expect("invariant: the chain is this queue's");
    }
    let _ = queue.publish().expect("invariant: the driver is well-behaved");
    sum
}

/// The peer's device end, in the way its documentation shows: an iterator over the chains, each an iterator over descriptors.
///
/// # Panics
/// If the first batch does not come to the right sum.
#[must_use]
pub fn theirs(shape: Shape) -> Contender<'static> {
    let ram = Ram::new();
    let mut refill = Refill::new(&ram, RingFormat::Split, shape);
    let places = layout(RingFormat::Split);
    let mut queue = virtio_queue::Queue::new(QUEUE_SIZE).expect("invariant: the size is valid");
    let halves = |at: vioduct_virtqueue::IoAddr| (Some(at.0 as u32), Some((at.0 >> 32) as u32));
    let (low, high) = halves(places.descriptor_area);
    queue.set_desc_table_address(low, high);
    let (low, high) = halves(places.driver_area);
    queue.set_avail_ring_address(low, high);
    let (low, high) = halves(places.device_area);
    queue.set_used_ring_address(low, high);
    queue.set_ready(true);
    assert!(queue.is_valid(ram.map()));
    let mut round = move || {
        refill.batch();
        their_batch(&mut queue, &ram)
    };
    assert_eq!(round(), shape.checksum());
    Contender::new(shape.total(), move || {
        black_box(round());
    })
}

#[inline(never)]
fn their_batch(queue: &mut virtio_queue::Queue, ram: &Ram) -> u64 {
    let memory = ram.map();
    let add =
        |sum: u64, descriptor: Descriptor| sum + descriptor.addr().raw_value() + u64::from(descriptor.len());
    let mut sum = 0;
    // The iterator borrows the queue, so the heads are kept until it is done: faster than a pop for each, which reads the
    // available index each time.
    let mut heads = [0u16; QUEUE_SIZE as usize];
    let mut count = 0;
    for chain in queue.iter(memory).expect("invariant: the driver is well-behaved") {
        heads[count] = chain.head_index();
        count += 1;
        sum = chain.fold(sum, add);
    }
    for head in &heads[..count] {
        queue.add_used(memory, *head, 0).expect("invariant: the head is below the queue size");
    }
    sum
}
