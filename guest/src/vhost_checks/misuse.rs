//! Programs and guests with faults.

use std::io::{Error, Read, Write};
use std::os::fd::AsFd;

use rustix::io::Errno;
use vioduct_spec::demo::INITIAL_VALUE;
use vioduct_spec::vhost::{
    GET_FEATURES, GET_VRING_BASE, RESET_OWNER, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD, SET_MEM_TABLE,
    SET_OWNER, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM,
};
use vioduct_spec::vhost_demo::SET_VALUE;

use super::device::{
    Addresses, Device, LOG_USED, NONE, NOWHERE, OF_DEVICES, OF_OTHERS, OF_QUEUES, Region, event, pair, table,
};
use super::machine::{Event, GUEST, LOG_ALL, Machine, PLAIN, WITH_INDIRECT, addresses, whole};
use super::memory::Memory;
use super::ring::{Descriptor, INDIRECT, NEXT, WRITE};
use super::{another, must_succeed};
use crate::verdict::{must_be, must_hold};

/// An argument with which each of the owner's calls would do for the owner, or fail otherwise.
const ZEROS: [u8; 64] = [0; 64];

pub(super) fn owners() -> Result<(), Error> {
    let device = Device::open()?;
    nothing_is_allowed(&device)?;
    device.set_owner()?;
    must_be(device.set_owner(), Errno::BUSY)?;
    device.set_value(1)?;
    let mut stranger = another("stranger");
    stranger.stdin(device.file().try_clone()?);
    must_succeed(stranger)?;
    must_hold(device.value()? == 1, "a stranger has changed the value")?;
    device.call(RESET_OWNER, &mut [])?;
    nothing_is_allowed(&device)?;
    device.set_owner()?;
    must_hold(device.value()? == INITIAL_VALUE, "the next owner finds the value of the last")
}

/// With a device that the process which made this one owns.
pub(super) fn stranger() -> Result<(), Error> {
    let device = Device::given(std::io::stdin().as_fd().try_clone_to_owned()?);
    nothing_is_allowed(&device)?;
    must_be(device.set_owner(), Errno::BUSY)
}

fn nothing_is_allowed(device: &Device) -> Result<(), Error> {
    for number in OF_QUEUES.into_iter().chain(OF_DEVICES).chain([RESET_OWNER]) {
        let outcome = device.call(number, &mut ZEROS.clone());
        must_be(outcome, Errno::PERM).map_err(|error| in_call(number, &error))?;
    }
    device.features().map(drop)
}

fn in_call(number: u32, error: &Error) -> Error {
    Error::other(format!("ioctl {number:#x}: {error}"))
}

pub(super) fn pointers() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    for number in OF_QUEUES.into_iter().chain(OF_DEVICES).chain([GET_FEATURES]) {
        for nowhere in 0..NOWHERE.len() {
            let outcome = machine.device.call_nowhere(number, nowhere);
            must_be(outcome, Errno::FAULT).map_err(|error| in_call(number, &error))?;
        }
        // The argument begins in this process's memory, and ends beyond it.
        let outcome = machine.device.call_in(number, &machine.memory, machine.memory.len() - 3);
        must_be(outcome, Errno::FAULT).map_err(|error| in_call(number, &error))?;
    }
    // The same of a table's regions.
    let cut = machine.memory.len() - 8 - 16;
    machine.memory.write(cut, &table(1, 0, &[]));
    must_be(machine.device.call_in(SET_MEM_TABLE, &machine.memory, cut), Errno::FAULT)?;
    machine.works()
}

pub(super) fn ranges() -> Result<(), Error> {
    let mut machine = Machine::new(PLAIN, 128, 0)?;
    for number in OF_QUEUES {
        for index in [1, 2, 0x8000_0000, u32::MAX] {
            let mut argument = ZEROS;
            argument[..4].copy_from_slice(&index.to_ne_bytes());
            must_be(machine.device.call(number, &mut argument), Errno::NOBUFS)
                .map_err(|error| in_call(number, &error))?;
        }
    }
    for size in [0, 3, 127, 0x1_0000, 0x8000_0000, u32::MAX] {
        must_be(machine.device.call(SET_VRING_NUM, &mut pair(0, size)), Errno::INVAL)?;
    }
    for base in [0x1_0000, u32::MAX] {
        must_be(machine.device.call(SET_VRING_BASE, &mut pair(0, base)), Errno::INVAL)?;
    }
    let right = addresses(&machine.memory, &machine.ring);
    for wrong in [
        Addresses { used: right.used + 2, ..right },
        Addresses { available: right.available + 1, ..right },
        Addresses { log: right.log + 1, ..right },
    ] {
        must_be(machine.device.call(SET_VRING_ADDR, &mut wrong.bytes()), Errno::INVAL)?;
    }
    for flags in [2, 0x8000_0000, u32::MAX] {
        let wrong = Addresses { flags, ..right };
        must_be(machine.device.call(SET_VRING_ADDR, &mut wrong.bytes()), Errno::OPNOTSUPP)?;
    }
    // While the queue runs, addresses are looked at at once.
    machine.device.set_running(1)?;
    let wrong = Addresses { used: 0xffff_8000_0000_0000, ..right };
    must_be(machine.device.call(SET_VRING_ADDR, &mut wrong.bytes()), Errno::INVAL)?;
    let log = 0xffff_8000_0000_0000_u64;
    machine.device.call(SET_LOG_BASE, &mut log.to_ne_bytes())?;
    must_be(machine.device.set_features(PLAIN.with(LOG_ALL).0), Errno::FAULT)?;
    let wrong = Addresses { flags: LOG_USED, ..right };
    must_be(machine.device.call(SET_VRING_ADDR, &mut wrong.bytes()), Errno::INVAL)?;
    machine.works()
}

pub(super) fn tables() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    let right = whole(&machine.memory);
    let set = |mut bytes: Vec<u8>| machine.device.call(SET_MEM_TABLE, &mut bytes);
    must_be(set(table(1, 1, &[right])), Errno::OPNOTSUPP)?;
    for count in [65, 0x8000_0000, u32::MAX] {
        must_be(set(table(count, 0, &[right])), Errno::TOOBIG)?;
    }
    for wrong in [
        Region { len: 0, ..right },
        Region { len: u64::MAX, ..right },
        Region { guest: u64::MAX, ..right },
        Region { address: u64::MAX, ..right },
        Region { address: 0xffff_8000_0000_0000, ..right },
        Region { len: 1 << 63, ..right },
        Region { guest: 0, len: 0, ..right },
    ] {
        must_be(set(table(1, 0, &[wrong])), Errno::FAULT)?;
        // One that is wrong among many spoils all.
        let mut many = vec![right; 63];
        many.push(wrong);
        must_be(set(table(64, 0, &many)), Errno::FAULT)?;
    }
    // Over each other, and in no order: whichever is taken, it is this process's memory.
    let later = Region { guest: GUEST + 4096, len: 4096, address: machine.memory.address(4096) };
    set(table(3, 0, &[later, right, later]))?;
    machine.works()
}

pub(super) fn descriptors() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    let file = std::fs::File::open("/proc/self/exe")?;
    let wrong = [
        (9999, Errno::BADF),
        (-2, Errno::BADF),
        (i32::MIN, Errno::BADF),
        (std::os::fd::AsRawFd::as_raw_fd(&file), Errno::INVAL),
        (std::os::fd::AsRawFd::as_raw_fd(machine.device.file()), Errno::INVAL),
    ];
    for (descriptor, errno) in wrong {
        for number in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            must_be(machine.device.call(number, &mut event(0, descriptor)), errno)?;
        }
        must_be(machine.device.call(SET_LOG_FD, &mut descriptor.to_ne_bytes()), errno)?;
    }
    machine.works()?;
    // Without events there is no kick and no interrupt; with them again, all is as before.
    for number in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        machine.device.call(number, &mut event(0, NONE))?;
    }
    let (kick, call) = (Event::new()?, Event::new()?);
    kick.signal()?;
    machine.device.call(SET_VRING_CALL, &mut event(0, call.number()))?;
    machine.device.call(SET_VRING_KICK, &mut event(0, kick.number()))?;
    (machine.kick, machine.call) = (kick, call);
    machine.works()
}

pub(super) fn unknown() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    for number in OF_OTHERS {
        let outcome = machine.device.call(number, &mut ZEROS.clone());
        must_be(outcome, Errno::NOTTY).map_err(|error| in_call(number, &error))?;
    }
    let mut file = machine.device.file();
    must_be(file.read(&mut [0; 64]), Errno::INVAL)?;
    must_be(file.write(&[0; 64]), Errno::INVAL)?;
    machine.works()
}

/// What makes a ring wrong.
type Wrong = fn(&mut Machine);

/// Each is reported, and nothing is used.
const WRONG_RINGS: [(&str, Wrong); 9] = [
    ("a head out of the ring", |machine| machine.ring.make_available(&machine.memory, 128)),
    ("the last head there could be", |machine| machine.ring.make_available(&machine.memory, u16::MAX)),
    ("more chains than the ring has", |machine| machine.ring.claim_too_many(&machine.memory)),
    ("a chain that is a ring", |machine| offer(machine, &[part(0, NEXT, 1), part(0, NEXT, 0)])),
    ("a next descriptor out of the ring", |machine| offer(machine, &[part(0, NEXT, 128)])),
    ("writable before readable", |machine| offer(machine, &[part(0, NEXT | WRITE, 1), part(0, 0, 0)])),
    ("memory that the guest has not", |machine| offer(machine, &[part(1 << 40, 0, 0)])),
    ("a table of no whole descriptors", |machine| offer(machine, &[part(0, INDIRECT, 0)])),
    ("a table of tables", |machine| {
        let inner = machine.table_of(1);
        machine.memory.write(machine.table_at(), &inner.bytes());
        let outer = machine.table_of(1);
        machine.ring.describe(&machine.memory, 0, outer);
        machine.ring.make_available(&machine.memory, 0);
    }),
];

fn part(offset: u64, flags: u16, next: u16) -> Descriptor {
    Descriptor { guest: GUEST + offset, len: 9, flags, next }
}

fn offer(machine: &mut Machine, descriptors: &[Descriptor]) {
    for (index, descriptor) in descriptors.iter().enumerate() {
        machine.ring.describe(&machine.memory, index as u16, *descriptor);
    }
    machine.ring.make_available(&machine.memory, 0);
}

pub(super) fn bad_rings() -> Result<(), Error> {
    for (what, wrong) in WRONG_RINGS {
        let said = |error: Error| Error::other(format!("{what}: {error}"));
        let mut machine = Machine::new(PLAIN, 128, 0)?;
        // The features say what a driver may do, and not what it does.
        machine.device.set_features(WITH_INDIRECT.0)?;
        machine.device.set_running(1)?;
        machine.works().map_err(said)?;
        let seen = machine.ring.seen;
        wrong(&mut machine);
        machine.kick.signal()?;
        machine.error.wait().map_err(said)?;
        machine.device.set_running(0)?;
        must_hold(machine.ring.used_index(&machine.memory) == seen, "something was used").map_err(said)?;
        must_hold(machine.device.position()? == u32::from(seen), "something was taken").map_err(said)?;
    }
    memory_that_is_not_there()
}

/// The table has it, this process does not: a fault of one request, and not of the ring.
fn memory_that_is_not_there() -> Result<(), Error> {
    let mut machine = Machine::started(PLAIN)?;
    let right = whole(&machine.memory);
    machine.device.set_table(&[Region { len: 2 * right.len, ..right }])?;
    let mut descriptors = machine.descriptors(&[8], &[8]);
    for at in 0..2 {
        let there = descriptors[at].guest;
        // Half of it is there.
        descriptors[at].guest = GUEST + right.len - 4;
        machine.describe(&descriptors);
        let written = machine.answered(0)?;
        must_hold(written < 8, "there was a whole reply")?;
        machine.error.wait()?;
        descriptors[at].guest = there;
    }
    machine.works()?;
    // A log that goes away: requests are answered all the same.
    let log = Memory::new(4096)?;
    machine.device.call(SET_LOG_BASE, &mut log.address(0).to_ne_bytes())?;
    machine.device.set_features(PLAIN.with(LOG_ALL).0)?;
    drop(log);
    machine.works()?;
    machine.error.wait()?;
    machine.device.set_features(PLAIN.0)?;
    // The ring itself goes away while it is used.
    let memory = Memory::new(4096)?;
    let ring = addresses(&machine.memory, &machine.ring);
    let gone = Addresses { used: memory.address(0), ..ring };
    machine.device.call(SET_VRING_ADDR, &mut gone.bytes())?;
    drop(memory);
    machine.ring.make_available(&machine.memory, 0);
    machine.kick.signal()?;
    machine.error.wait()?;
    machine.device.set_running(0)?;
    for number in [SET_FEATURES, SET_VALUE, GET_VRING_BASE] {
        let bytes = if number == SET_FEATURES { PLAIN.0 } else { 0 };
        machine.device.call(number, &mut bytes.to_ne_bytes())?;
    }
    must_be(machine.device.call(SET_OWNER, &mut []), Errno::BUSY)
}
