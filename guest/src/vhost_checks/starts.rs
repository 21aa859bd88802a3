//! Starts and stops, with requests in flight and without what belongs to them.

use std::io::Error;
use std::thread;

use rustix::io::Errno;
use vioduct_spec::Features;
use vioduct_spec::demo::OP_READ;
use vioduct_spec::vhost::{SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_NUM};

use super::device::{Addresses, Device, Region, pair};
use super::machine::{LOG_ALL, Machine, PLAIN, WITH_EVENT_INDEX, WITH_INDIRECT, addresses, whole};
use super::random::Random;
use crate::verdict::{must_be, must_hold};

pub(super) fn hand_over() -> Result<(), Error> {
    let mut machine = Machine::new(WITH_EVENT_INDEX, 128, 65_500)?;
    machine.device.set_running(1)?;
    for _ in 0..50 {
        machine.works()?;
    }
    machine.device.set_running(0)?;
    must_hold(machine.device.position()? == u32::from(machine.ring.made), "it is at another place")?;
    machine.write_request(OP_READ, 0);
    machine.describe(&machine.descriptors(&[8], &[8]));
    for _ in 0..3 {
        machine.ring.make_available(&machine.memory, 0);
    }
    machine.kick.signal()?;
    // This waits for the worker: what it was to do it has done.
    machine.device.set_table(&[whole(&machine.memory)])?;
    must_hold(machine.ring.waiting(&machine.memory) == 0, "a queue that is stopped was served")?;
    let mut next = Machine::with(machine.memory.clone(), machine.ring, machine.features)?;
    next.device.set_value(machine.device.value()?)?;
    drop(machine);
    // Without a kick: it was for the other.
    next.device.set_running(1)?;
    for _ in 0..3 {
        must_hold(next.next_used()? == (0, 8), "another chain was used")?;
    }
    next.works()
}

pub(super) fn stops_under_load() -> Result<(), Error> {
    let mut random = Random(1);
    for features in [PLAIN, WITH_EVENT_INDEX] {
        let mut machine = Machine::started(features)?;
        machine.write_request(OP_READ, 0);
        machine.describe(&machine.descriptors(&[3, 5], &[6, 2]));
        for _ in 0..500 {
            for _ in 0..=random.below(100) {
                machine.ring.make_available(&machine.memory, 0);
            }
            machine.kick.signal()?;
            for _ in 0..random.below(5) {
                thread::yield_now();
            }
            machine.device.set_running(0)?;
            let taken = machine.device.position()?;
            let used = machine.ring.used_index(&machine.memory);
            must_hold(taken == u32::from(used), "a chain was taken and not used")?;
            machine.device.set_running(1)?;
            while machine.ring.seen != machine.ring.made {
                must_hold(machine.next_used()? == (0, 8), "another answer")?;
            }
        }
        machine.works()?;
    }
    Ok(())
}

pub(super) fn closes_under_load() -> Result<(), Error> {
    for _ in 0..100 {
        let mut machine = Machine::started(WITH_INDIRECT)?;
        machine.write_request(OP_READ, 0);
        machine.describe(&machine.descriptors(&[8], &[8]));
        // More than there is room for, again and again, so that the worker always has some.
        for _ in 0..128 {
            machine.ring.make_available(&machine.memory, 0);
        }
        machine.kick.signal()?;
        let Machine { device, memory, ring, kick, .. } = machine;
        drop(device);
        let used = ring.used_index(&memory);
        kick.signal()?;
        for _ in 0..100 {
            thread::yield_now();
        }
        must_hold(ring.used_index(&memory) == used, "a device that was closed goes on")?;
    }
    Ok(())
}

pub(super) fn features() -> Result<(), Error> {
    let device = Device::open()?;
    let all = WITH_INDIRECT.with(WITH_EVENT_INDEX).with(LOG_ALL);
    must_hold(device.features()? == all.0, "it offers other features")?;
    device.set_owner()?;
    for bit in (0..64).map(Features::bit).filter(|bit| !all.contains(*bit)) {
        must_be(device.set_features(bit.with(PLAIN).0), Errno::OPNOTSUPP)?;
    }
    device.set_features(all.0)?;
    let mut machine = Machine::started(PLAIN)?;
    for other in [Features::NONE, WITH_EVENT_INDEX, WITH_INDIRECT] {
        must_be(machine.device.set_features(other.0), Errno::BUSY)?;
    }
    machine.device.set_features(PLAIN.0)?;
    must_be(machine.device.call(SET_VRING_NUM, &mut pair(0, 64)), Errno::BUSY)?;
    must_be(machine.device.call(SET_VRING_BASE, &mut pair(0, 0)), Errno::BUSY)?;
    machine.works()
}

pub(super) fn incomplete() -> Result<(), Error> {
    let device = Device::open()?;
    device.set_owner()?;
    must_be(device.set_running(1), Errno::INVAL)?;
    device.set_features(PLAIN.0)?;
    // Neither table nor ring, then a table without a ring.
    must_be(device.set_running(1), Errno::FAULT)?;
    let mut machine = Machine::new(PLAIN, 128, 0)?;
    let (memory, right) = (machine.memory.clone(), addresses(&machine.memory, &machine.ring));
    device.set_table(&[whole(&memory)])?;
    must_be(device.set_running(1), Errno::FAULT)?;
    device.set_running(0)?;
    for running in [2, -1, i32::MIN] {
        must_be(device.set_running(running), Errno::INVAL)?;
    }
    // A ring where this process has nothing, and where no process may have anything.
    for address in [memory.address(memory.len()), 0, 0xffff_8000_0000_0000, !0xf] {
        for wrong in [
            Addresses { used: address, ..right },
            Addresses { descriptors: address, used: address, available: address, ..right },
        ] {
            machine.device.call(SET_VRING_ADDR, &mut wrong.bytes())?;
            must_be(machine.device.set_running(1), Errno::FAULT)?;
        }
    }
    machine.device.call(SET_VRING_ADDR, &mut right.bytes())?;
    // A table with memory that no process may have.
    machine.device.set_table(&[Region { address: 0xffff_8000_0000_0000, ..whole(&memory) }])?;
    must_be(machine.device.set_running(1), Errno::FAULT)?;
    machine.device.set_table(&[whole(&memory)])?;
    machine.device.set_running(1)?;
    machine.device.set_running(1)?;
    machine.works()
}
