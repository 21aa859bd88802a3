//! A chain as a token: it is given back, or let go of, and to its own queue only.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Pair;
use rig::raw::every_feature_set;
use vioduct_spec::Features;
use vioduct_virtqueue::{BufferError, Chain, QueueError};

fn one(pair: &mut Pair, readable: u32, writable: u32) -> Chain {
    let (readable, writable) = (pair.alloc(readable), pair.alloc(writable));
    pair.driver.add(&[readable], &[writable], 1).unwrap();
    let _ = pair.driver.kick_prepare();
    pair.device.pop().unwrap().unwrap()
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "dropped without being completed or discarded")]
fn a_lost_chain_panics_in_a_debug_build() {
    let mut pair = Pair::new(4, Features::NONE);
    drop(one(&mut pair, 4, 4));
}

#[test]
fn a_discarded_chain_does_not() {
    let mut pair = Pair::new(4, Features::NONE);
    one(&mut pair, 4, 4).discard();
    assert_eq!(pair.device.in_flight(), 1, "the driver still waits for it, until the queue is reset");
}

#[test]
fn a_chain_of_another_queue_is_refused_and_neither_used_nor_counted() {
    for features in every_feature_set() {
        let (mut first, mut second) = (Pair::new(4, features), Pair::new(4, features));
        let (ours, theirs) = (one(&mut first, 4, 4), one(&mut second, 4, 4));
        assert_eq!(ours.id(), theirs.id());
        assert_eq!(first.device.complete(theirs, 4), Err(QueueError::BufferId(ours.id())));
        assert_eq!((first.device.in_flight(), second.device.in_flight()), (1, 1));
        let _ = first.device.publish();
        assert_eq!(first.driver.get(), Ok(None));
        // The queue is none the worse for it.
        assert!(first.device.owns(&ours) && !second.device.owns(&ours));
        first.device.complete(ours, 0).unwrap();
        let _ = first.device.publish().unwrap();
        assert!(first.driver.get().unwrap().is_some());
    }
}

#[test]
fn written_is_cut_to_what_the_writers_account_for() {
    for features in every_feature_set() {
        // Written by the writer, then marked, then claimed; reported.
        for (wrote, marked, claimed, told) in [
            (0, 0, 8, 0),
            (3, 0, 8, 3),
            (3, 5, 8, 5),
            (5, 3, 8, 5),
            (3, 0, 1, 1),
            (8, 99, 99, 8),
            (0, 99, 99, 8),
        ] {
            let mut pair = Pair::new(4, features);
            let chain = one(&mut pair, 4, 8);
            chain.writer().write_all(&vec![1; wrote]).unwrap();
            chain.mark_written(marked);
            pair.device.complete(chain, claimed).unwrap();
            let _ = pair.device.publish().unwrap();
            assert_eq!(pair.driver.get().unwrap().unwrap().written, told, "{features} {wrote} {marked}");
        }
    }
}

#[test]
fn cursors_stop_at_the_end_and_fail_without_moving() {
    let mut pair = Pair::new(4, Features::NONE);
    let chain = one(&mut pair, 5, 6);
    let mut reader = chain.reader();
    reader.skip(2).unwrap();
    assert_eq!(reader.read_u32(), Err(BufferError::Short { wanted: 4, remaining: 3 }));
    assert_eq!(reader.skip(4), Err(BufferError::Short { wanted: 4, remaining: 3 }));
    assert_eq!(reader.clone().read(&mut [0; 9]), Ok(3));
    assert_eq!((reader.remaining(), chain.reader().remaining()), (3, 5));
    let mut writer = chain.writer();
    writer.write_u16(7).unwrap();
    assert_eq!(writer.write_all(&[0; 5]), Err(BufferError::Short { wanted: 5, remaining: 4 }));
    assert_eq!(writer.write(&[1; 9]), Ok(4));
    assert_eq!((writer.written(), writer.remaining()), (6, 0));
    assert_eq!(chain.writer().remaining(), 6, "each writer starts anew");
    pair.device.complete(chain, 6).unwrap();
}

#[test]
fn a_second_writer_adds_to_the_first_and_never_takes_away() {
    let mut pair = Pair::new(4, Features::NONE);
    let chain = one(&mut pair, 1, 8);
    // The status byte at the end first, as block devices do; then the data before it.
    let mut status = chain.writer();
    status.skip(7).unwrap();
    status.write_all(&[0]).unwrap();
    chain.writer().write_all(&[1; 7]).unwrap();
    pair.device.complete(chain, 8).unwrap();
    let _ = pair.device.publish().unwrap();
    assert_eq!(pair.driver.get().unwrap().unwrap().written, 8);
}
