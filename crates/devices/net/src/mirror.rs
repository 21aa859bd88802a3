//! One packet from one of the driver's buffers to another, its addresses exchanged: the one copy of a reflected packet.
//!
//! This module holds `unsafe` because both buffers are the driver's memory, which is reached by pointers and which it may change at
//! any moment: what is read twice is read into this process first.
#![allow(unsafe_code)]

use crate::request::{Header, MIN_FRAME_BYTES};
use std::ptr;
use vioduct_spec::net::{ADDRESS_LEN, HEADER_LEN, HEADER_NUM_BUFFERS, MAX_FRAME_BYTES};
use vioduct_virtio_device::{Single, fetch};

const ADDRESSES_LEN: usize = 2 * ADDRESS_LEN;

/// A header that asks for nothing, but for the number of buffers, which a driver that forwards may have left from the packet's way in.
const ASKS_NOTHING: [u8; HEADER_NUM_BUFFERS] = [0; HEADER_NUM_BUFFERS];

/// The same before a packet in one buffer (virtio 1.3 §5.1.6.4.1).
const IN_ONE: [u8; HEADER_LEN] = {
    let mut header = Header::PLAIN;
    header[HEADER_NUM_BUFFERS] = 1;
    header
};

/// Two addresses in the other order, as 8 bytes and 4. In registers: what is put together from pieces in memory, and read as one, is
/// waited for.
#[inline]
fn exchanged((front, back): (u64, u32)) -> (u64, u32) {
    const BITS: u32 = 8 * ADDRESS_LEN as u32;
    let (front, back) = (u64::from_le(front), u64::from(u32::from_le(back)));
    let destination = front & ((1 << BITS) - 1);
    let source = front >> BITS | back << (u64::BITS - BITS);
    ((source | destination << BITS).to_le(), ((destination >> (u64::BITS - BITS)) as u32).to_le())
}

/// Copies a packet that asks for nothing into a buffer that is long enough. Whether that was done: not for another packet, or buffer.
#[inline]
pub(crate) fn copy(sent: &Single, room: &mut Single) -> bool {
    let frame_len = (sent.len() as usize).wrapping_sub(HEADER_LEN);
    // What is too short has wrapped, and is too long.
    if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&frame_len)
        || room.len() < sent.len()
        || sent.is_writable()
        || !room.is_writable()
    {
        return false;
    }
    let (header, to) = (sent.host().as_ptr(), room.host().as_ptr());
    let frame = header.wrapping_add(HEADER_LEN);
    // SAFETY: the header and `frame_len` bytes of the frame are within pieces that are mapped while `sent` is held, and as many bytes
    // are there at `to` while `room` is, checked above. The driver may have the pieces overlap: the long copy allows for that, and
    // the short ones go by way of registers.
    unsafe {
        let [asked @ .., _, _] = header.cast::<[u8; HEADER_LEN]>().read_unaligned();
        if asked != ASKS_NOTHING {
            return false;
        }
        let addresses = (frame.cast::<u64>().read_unaligned(), frame.add(8).cast::<u32>().read_unaligned());
        let frame_to = to.add(HEADER_LEN);
        let rest = frame_len - ADDRESSES_LEN;
        ptr::copy(frame.add(ADDRESSES_LEN), frame_to.add(ADDRESSES_LEN), rest);
        let (front, back) = exchanged(addresses);
        frame_to.cast::<u64>().write_unaligned(front);
        frame_to.add(8).cast::<u32>().write_unaligned(back);
        let header_to = to.cast::<[u8; HEADER_LEN]>();
        if header_to.read_unaligned() != IN_ONE {
            header_to.write_unaligned(IN_ONE);
        }
    }
    room.mark_written(sent.len());
    true
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Has the processor fetch the beginning of a packet, which is read soon.
#[inline]
pub(crate) fn fetch_to_read(sent: &Single) {
    let at = sent.host().as_ptr().cast_const();
    fetch::to_read(at);
    fetch::to_read(at.wrapping_add(LINE));
}

/// Has the processor fetch the beginning of a buffer, which is written soon. A header that lies in a line of its own is what it was the
/// last time, most often, and is only read.
#[inline]
pub(crate) fn fetch_to_write(room: &Single) {
    let at = room.host().as_ptr().cast_const();
    if (at.addr() + HEADER_LEN).is_multiple_of(LINE) {
        fetch::to_read(at);
    } else {
        fetch::to_write(at);
    }
    fetch::to_write(at.wrapping_add(LINE));
}
