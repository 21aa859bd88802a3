//! Right use: what the device answers.

use std::io::Error;

use vioduct_spec::demo::{INITIAL_VALUE, LAB_VALUES, OP_INVALID, OP_READ, OP_WRITE};
use vioduct_spec::vhost::{SET_LOG_BASE, SET_LOG_FD, SET_VRING_ADDR};

use super::device::LOG_USED;
use super::machine::{Event, GUEST, LOG_ALL, Machine, PLAIN, WITH_EVENT_INDEX, WITH_INDIRECT, addresses};
use crate::verdict::must_hold;

/// Ways in which 8 bytes can be in pieces.
const SPLITS: [&[u32]; 9] =
    [&[8], &[1, 7], &[2, 6], &[3, 5], &[4, 4], &[5, 3], &[6, 2], &[7, 1], &[1, 1, 1, 1, 1, 1, 1, 1]];

pub(super) fn every_layout() -> Result<(), Error> {
    for features in [PLAIN, WITH_EVENT_INDEX, WITH_INDIRECT, WITH_INDIRECT.with(WITH_EVENT_INDEX)] {
        let mut machine = Machine::started(features)?;
        let first = machine.request((OP_READ, 0), &[8], &[8])?;
        must_hold(first == ((OP_READ, INITIAL_VALUE), 8), "another value at first")?;
        for (round, readable) in SPLITS.iter().enumerate() {
            for writable in SPLITS {
                let value = LAB_VALUES[round % LAB_VALUES.len()] + round as u32;
                let reply = machine.request((OP_WRITE, value), readable, writable)?;
                must_hold(reply == ((OP_WRITE, value), 8), "a write is not repeated")?;
                let reply = machine.request((OP_READ, 0), writable, readable)?;
                must_hold(reply == ((OP_READ, value), 8), "another value came back")?;
            }
        }
        let ((opcode, _), len) = machine.request((7, 1), &[8], &[8])?;
        must_hold((opcode, len) == (OP_INVALID, 8), "an unknown opcode is not said to be one")?;
        // Longer halves than the request's: the rest is not touched, nor read.
        let reply = machine.request((OP_WRITE, 5), &[8, 100], &[4, 100])?;
        must_hold(reply == ((OP_WRITE, 5), 8), "a longer request has another answer")?;
        must_hold(!machine.error.take(), "an error was reported")?;
    }
    Ok(())
}

pub(super) fn too_short() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    let halves: [(&[u32], &[u32]); 6] =
        [(&[7], &[8]), (&[8], &[7]), (&[8], &[]), (&[], &[8]), (&[3, 4], &[8]), (&[0], &[8, 0])];
    for (readable, writable) in halves {
        let (reply, len) = machine.request((OP_WRITE, 1), readable, writable)?;
        must_hold((reply, len) == ((0xeeee_eeee, 0xeeee_eeee), 0), "it got a reply")?;
    }
    must_hold(machine.device.value()? == INITIAL_VALUE, "it stored something")?;
    machine.works()
}

pub(super) fn more_than_a_turn() -> Result<(), Error> {
    // A turn is 256 chains; all of these are available before the start, and there is no kick.
    const CHAINS: u16 = 1024;
    for features in [WITH_INDIRECT, WITH_INDIRECT.with(WITH_EVENT_INDEX)] {
        // The ring's index wraps meanwhile.
        let mut machine = Machine::new(features, CHAINS, u16::MAX - 100)?;
        machine.write_request(OP_READ, 0);
        let descriptors = machine.descriptors(&[8], &[8]);
        machine.describe(&descriptors);
        for head in 0..CHAINS {
            machine.ring.describe(&machine.memory, head, machine.table_of(descriptors.len()));
            machine.ring.make_available(&machine.memory, head);
        }
        machine.device.set_running(1)?;
        for head in 0..CHAINS {
            must_hold(machine.next_used()? == (head.into(), 8), "another chain was used")?;
        }
        machine.works()?;
    }
    Ok(())
}

pub(super) fn value() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    machine.works()?;
    let stored = machine.reply().1;
    must_hold(machine.device.value()? == stored, "the owner reads another value")?;
    machine.device.set_value(0x4444)?;
    let reply = machine.request((OP_READ, 0), &[8], &[8])?;
    must_hold(reply == ((OP_READ, 0x4444), 8), "the guest reads another value than the owner set")?;
    machine.device.set_running(0)?;
    must_hold(machine.device.value()? == 0x4444, "a stop changes the value")?;
    must_hold(Machine::started(PLAIN)?.device.value()? == INITIAL_VALUE, "two devices have one value")
}

pub(super) fn dirty_log() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    machine.works()?;
    let log = machine.table_at() + (16 << 10);
    let changed = Event::new()?;
    machine.device.call(SET_LOG_BASE, &mut machine.memory.address(log).to_ne_bytes())?;
    machine.device.call(SET_LOG_FD, &mut changed.number().to_ne_bytes())?;
    // While the queue runs: that is when a migration begins.
    machine.device.set_features(PLAIN.with(LOG_ALL).0)?;
    let ring = addresses(&machine.memory, &machine.ring);
    let ring = super::device::Addresses { flags: LOG_USED, ..ring };
    machine.device.call(SET_VRING_ADDR, &mut ring.bytes())?;
    must_hold(logged(&machine, log).is_empty(), "something is dirty before anything was written")?;
    // The reply over the end of a page: two pages, and the used ring.
    let reply = machine.reply_at();
    machine.write_request(OP_READ, 0);
    let mut descriptors = machine.descriptors(&[8], &[8]);
    descriptors[1].guest += 4096 - 4;
    machine.describe(&descriptors);
    must_hold(machine.answered(0)? == 8, "no reply")?;
    let page = |offset: usize| (GUEST as usize + offset) / 4096;
    let expected = [page(machine.ring.used), page(reply), page(reply) + 1];
    must_hold(logged(&machine, log) == expected, "other pages are dirty than were written")?;
    must_hold(changed.take(), "the log's event is silent")?;
    machine.device.set_features(PLAIN.0)?;
    machine.works()
}

/// The dirty pages of the guest's, by their numbers.
fn logged(machine: &Machine, log: usize) -> Vec<usize> {
    let mut bytes = [0; 4096];
    machine.memory.read(log, &mut bytes);
    (0..bytes.len() * 8).filter(|page| bytes[page / 8] & (1 << (page % 8)) != 0).collect()
}
