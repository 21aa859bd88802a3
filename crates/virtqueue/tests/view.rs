//! What people are shown of a queue's memory.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Pair;
use vioduct_spec::Features;
use vioduct_virtqueue::RingView;

fn view(pair: &Pair) -> RingView {
    RingView::read(&*pair.memory, pair.driver.layout(), pair.driver.format()).unwrap()
}

#[test]
fn a_split_ring_shows_descriptors_heads_and_used_entries() {
    let mut pair = Pair::new(4, Features::EVENT_IDX);
    let (request, reply) = (pair.alloc(8), pair.alloc(8));
    pair.driver.add(&[request], &[reply], 1).unwrap();
    let _ = pair.driver.kick_prepare();
    let shown = view(&pair);
    assert_eq!(shown.descriptors.len(), 5);
    let fields: Vec<&str> = shown.descriptors[1].split_whitespace().collect();
    assert_eq!(fields, ["0", &format!("{:#x}", request.addr.0), "8", "NEXT", "1"]);
    let fields: Vec<&str> = shown.descriptors[2].split_whitespace().collect();
    assert_eq!(fields, ["1", &format!("{:#x}", reply.addr.0), "8", "WRITE"]);
    assert_eq!(shown.driver_area, "available  flags 0  idx 1  heads [0 0 0 0]  used_event 0");
    let chain = pair.device.pop().unwrap().unwrap();
    chain.writer().write_u64(7).unwrap();
    pair.device.complete(chain, 8).unwrap();
    let _ = pair.device.publish().unwrap();
    assert_eq!(view(&pair).device_area, "used       flags 0  idx 1  id:len [0:8 0:0 0:0 0:0]  avail_event 0");
}

#[test]
fn a_packed_ring_shows_wrap_bits_and_what_each_side_wants() {
    let mut pair = Pair::new(3, Features::RING_PACKED | Features::EVENT_IDX);
    let buffer = pair.alloc(16);
    pair.driver.add(&[buffer], &[], 1).unwrap();
    let _ = pair.driver.kick_prepare();
    let _ = pair.device.arm().unwrap();
    pair.driver.disable_callback();
    let shown = view(&pair);
    let fields: Vec<&str> = shown.descriptors[1].split_whitespace().collect();
    assert_eq!(fields, ["0", &format!("{:#x}", buffer.addr.0), "16", "0", "-", "1", "0"]);
    assert_eq!(shown.driver_area, "driver event suppression  DISABLE: notify of nothing");
    assert_eq!(shown.device_area, "device event suppression  DESC: notify at descriptor 0, wrap counter 1");
}
