//! One packet from one of the driver's buffers to another, its addresses exchanged: the one copy of a reflected packet.
//!
//! This module holds `unsafe` because both buffers are the driver's memory, which is reached by pointers and which it may change at
//! any moment: what is read twice is read into this process first.
#![allow(unsafe_code)]

use crate::request::{Header, MAX_FRAME_BYTES, MIN_FRAME_BYTES};
use std::ptr::{self, NonNull};
use vioduct_spec::net::{ADDRESS_LEN, HEADER_LEN, HEADER_NUM_BUFFERS};
use vioduct_virtio_device::{Chain, fetch};

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

/// Copies a packet that asks for nothing, of one piece, or two of which the first is its header, into one piece that is long enough.
/// How many bytes were written; 0 if the packet, or a buffer, is another.
#[inline]
pub(crate) fn copy(sent: &Chain, room: &Chain) -> u32 {
    let (header, frame, frame_len) = match sent.readable() {
        [all] => {
            let frame_len = (all.len() as usize).wrapping_sub(HEADER_LEN);
            let Some(host) = all.host() else { return 0 };
            (host.as_ptr(), host.as_ptr().wrapping_add(HEADER_LEN), frame_len)
        }
        [first, second] if first.len() as usize == HEADER_LEN => {
            let (Some(first), Some(host)) = (first.host(), second.host()) else { return 0 };
            (first.as_ptr(), host.as_ptr(), second.len() as usize)
        }
        _ => return 0,
    };
    let [to] = room.writable() else { return 0 };
    // What is too short has wrapped, and is too long.
    if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&frame_len)
        || (to.len() as usize) < HEADER_LEN + frame_len
        || sent.writable_len() | room.readable_len() != 0
    {
        return 0;
    }
    let Some(to) = to.host() else { return 0 };
    let to = to.as_ptr();
    // SAFETY: the header and `frame_len` bytes of the frame are within pieces that are mapped while `sent` is held, and as many bytes
    // are there at `to` while `room` is, checked above. The driver may have the pieces overlap: the long copy allows for that, and
    // the short ones go by way of registers.
    unsafe {
        let [asked @ .., _, _] = header.cast::<[u8; HEADER_LEN]>().read_unaligned();
        if asked != ASKS_NOTHING {
            return 0;
        }
        let addresses = (frame.cast::<u64>().read_unaligned(), frame.add(8).cast::<u32>().read_unaligned());
        let frame_to = to.add(HEADER_LEN);
        let rest = frame_len - ADDRESSES_LEN;
        ptr::copy(frame.add(ADDRESSES_LEN), frame_to.add(ADDRESSES_LEN), rest);
        let (front, back) = exchanged(addresses);
        frame_to.cast::<u64>().write_unaligned(front);
        frame_to.add(8).cast::<u32>().write_unaligned(back);
        to.cast::<[u8; HEADER_LEN]>().write_unaligned(IN_ONE);
    }
    let written = HEADER_LEN + frame_len;
    room.mark_written(written as u64);
    written as u32
}

/// Has the processor fetch the beginning of a packet, which is read soon.
#[inline]
pub(crate) fn fetch_to_read(sent: &Chain) {
    if let Some(host) = sent.readable().first().and_then(|piece| piece.host()) {
        lines(host).for_each(fetch::to_read);
    }
}

/// Has the processor fetch the beginning of a buffer, which is written soon.
#[inline]
pub(crate) fn fetch_to_write(room: &Chain) {
    if let Some(host) = room.writable().first().and_then(|piece| piece.host()) {
        lines(host).for_each(fetch::to_write);
    }
}

/// The header's cache line, and the next one.
#[inline]
fn lines(host: NonNull<u8>) -> impl Iterator<Item = *const u8> {
    const LINE: usize = 64;
    let at = host.as_ptr().cast_const();
    [at, at.wrapping_add(LINE)].into_iter()
}
