//! [`Vring`]: what a front-end has said of one ring.

use crate::channel::Channel;
use crate::error::Refusal;
use crate::notify::{Call, Kick};
use std::sync::Arc;
use vioduct_spec::ring::split::USED_IDX;
use vioduct_spec::ring::{DESC_F_USED, DESCRIPTOR_SIZE, MAX_QUEUE_SIZE};
use vioduct_virtqueue::{IoAddr, Memory, QueuePosition, RingFormat, RingIndex, RingLayout};

/// Where the areas of a ring are, by the front-end's own addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Areas {
    pub(crate) descriptor: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
}

/// One ring. It runs while it is started and enabled: the two are independent of each other.
pub(crate) struct Vring {
    pub(crate) size: Option<u16>,
    pub(crate) areas: Option<Areas>,
    /// Where writes to the device area are logged, as a guest address; `None`: they are not.
    pub(crate) log: Option<u64>,
    /// Where to begin, as the front-end or the last stop has it. What it means depends on the format.
    pub(crate) base: u32,
    pub(crate) kick: Kick,
    pub(crate) call: Arc<Call>,
    pub(crate) started: bool,
    pub(crate) enabled: bool,
    /// The device serves it.
    pub(crate) running: bool,
}

impl Vring {
    pub(crate) fn new(ring: u16, channel: &Arc<Channel>) -> Self {
        Self {
            size: None,
            areas: None,
            log: None,
            base: 0,
            kick: Kick::InBand,
            call: Arc::new(Call::new(ring, channel.clone())),
            started: false,
            enabled: false,
            running: false,
        }
    }

    pub(crate) fn is_polled(&self) -> bool {
        self.running && matches!(self.kick, Kick::Polled)
    }

    /// Back to how it was at first, but for the call: that is the front-end's, not the device's. It does not run.
    pub(crate) fn reset(&mut self) {
        let Self { size, areas, log, base, kick, call: _, started, enabled, running } = self;
        (*size, *areas, *log, *base, *kick) = (None, None, None, 0, Kick::InBand);
        (*started, *enabled, *running) = (false, false, false);
    }
}

/// A ring size, if a queue can have it. The front-end is not told what the device would like, so any is served.
pub(crate) fn ring_size(value: u32) -> Result<u16, Refusal> {
    u16::try_from(value)
        .ok()
        .filter(|size| (1..=MAX_QUEUE_SIZE).contains(size))
        .ok_or(Refusal::Rule("a ring size that no queue can have"))
}

/// The wrap counter of the next available descriptor in a packed ring's base.
const AVAILABLE_WRAP: u32 = 1 << 15;

/// Where a ring that lies at `layout` is to begin, given the base that the front-end has set.
///
/// Split: the base is the next available index; the used index is in the ring. Packed: the base is both, with their wrap
/// counters in bits 15 and 31.
pub(crate) fn position(
    format: RingFormat,
    base: u32,
    layout: &RingLayout,
    memory: &dyn Memory,
) -> Result<QueuePosition, Refusal> {
    match format {
        RingFormat::Split => {
            let available = u16::try_from(base)
                .map_err(|_| Refusal::Rule("a base above 65535 is none of a split ring"))?;
            let used = read_u16(memory, layout.device_area, USED_IDX as u64)?;
            let index = |index| RingIndex { index, ..RingIndex::START };
            Ok(QueuePosition { available: index(available), used: index(used) })
        }
        RingFormat::Packed if matches!(base, 0 | AVAILABLE_WRAP) && is_fresh(layout, memory)? => {
            Ok(QueuePosition::START)
        }
        RingFormat::Packed => Ok(packed_position(base)),
    }
}

/// What the base of a packed ring says.
pub(crate) fn packed_position(base: u32) -> QueuePosition {
    QueuePosition {
        available: RingIndex::from_packed_word(base as u16),
        used: RingIndex::from_packed_word((base >> 16) as u16),
    }
}

/// The base that stands for a position.
pub(crate) fn vring_base(format: RingFormat, position: QueuePosition) -> u32 {
    match format {
        RingFormat::Split => position.available.index.into(),
        RingFormat::Packed => {
            u32::from(position.available.to_packed_word()) | u32::from(position.used.to_packed_word()) << 16
        }
    }
}

/// A packed ring that begins has both wrap counters set (virtio 1.3 §2.8.1), so that its base is 0x8000_8000; but some
/// front-ends, user-mode Linux's among them, send 0, and DPDK's sends 0x8000. These are also bases of a ring that has gone
/// round once, or any odd number of times, with nothing or all of it in flight. The ring tells which: the last used descriptor
/// of a round begins in that round, for no chain is longer than the ring, and there the `USED` bit is set, whether or not the
/// driver has made it available since; in a ring that begins, it is clear everywhere. The first descriptor alone does not tell:
/// it may be the rest of a chain that went round.
fn is_fresh(layout: &RingLayout, memory: &dyn Memory) -> Result<bool, Refusal> {
    const FLAGS: u64 = 14;
    for place in 0..u64::from(layout.size) {
        let flags = read_u16(memory, layout.descriptor_area, place * DESCRIPTOR_SIZE as u64 + FLAGS)?;
        if flags & DESC_F_USED != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_u16(memory: &dyn Memory, area: IoAddr, offset: u64) -> Result<u16, Refusal> {
    let outside = Refusal::Rule("a ring area is not in the front-end's memory");
    let mut bytes = [0; 2];
    match area.checked_add(offset).map(|at| memory.read(at, &mut bytes)) {
        Some(Ok(())) => Ok(u16::from_le_bytes(bytes)),
        _ => Err(outside),
    }
}

#[cfg(test)]
mod tests;
