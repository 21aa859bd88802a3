//! A queue as it lies in memory, for people: the descriptor table and both areas, read without disturbing either end.

use crate::area::Descriptor;
use crate::event::Wanted;
use crate::layout::{RingFormat, RingIndex, RingLayout};
use crate::memory::{IoAddr, Memory, MemoryFault};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use vioduct_spec::ring::packed::{EVENT_DESC, EVENT_F_DESC, EVENT_F_DISABLE, EVENT_F_MASK, EVENT_FLAGS};
use vioduct_spec::ring::split::{
    AVAIL_FLAGS, AVAIL_IDX, AVAIL_RING, USED_ELEMENT_SIZE, USED_FLAGS, USED_IDX, USED_RING, avail_event,
    used_event,
};
use vioduct_spec::ring::{
    DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE, DESCRIPTOR_SIZE,
};

/// A snapshot of a queue's memory. Both ends may be at work meanwhile: each field is read once, not all at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingView {
    /// The descriptor table or ring, a line per descriptor, under a line of headings.
    pub descriptors: Vec<String>,
    /// The available ring, or what the driver wants to be told.
    pub driver_area: String,
    /// The used ring, or what the device wants to be told.
    pub device_area: String,
}

impl RingView {
    /// Reads the queue's memory.
    ///
    /// # Errors
    /// [`MemoryFault`] if an area cannot be read.
    pub fn read(memory: &dyn Memory, layout: RingLayout, format: RingFormat) -> Result<Self, MemoryFault> {
        let reader = Reader { memory, layout };
        match format {
            RingFormat::Split => reader.split(),
            RingFormat::Packed => reader.packed(),
        }
    }

    /// All of it, line by line.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let areas = [self.driver_area.as_str(), self.device_area.as_str()];
        self.descriptors.iter().map(String::as_str).chain(areas)
    }
}

impl fmt::Display for RingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

struct Reader<'m> {
    memory: &'m dyn Memory,
    layout: RingLayout,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&self, area: IoAddr, offset: usize) -> Result<[u8; N], MemoryFault> {
        let mut bytes = [0; N];
        let fault = MemoryFault { at: area, len: N as u64 };
        self.memory.read(area.checked_add(offset as u64).ok_or(fault)?, &mut bytes)?;
        Ok(bytes)
    }

    fn u16(&self, area: IoAddr, offset: usize) -> Result<u16, MemoryFault> {
        self.bytes(area, offset).map(u16::from_le_bytes)
    }

    fn descriptor(&self, index: usize) -> Result<Descriptor, MemoryFault> {
        self.bytes(self.layout.descriptor_area, index * DESCRIPTOR_SIZE).map(Descriptor::from_bytes)
    }

    fn split(&self) -> Result<RingView, MemoryFault> {
        let RingLayout { size, driver_area, device_area, .. } = self.layout;
        let mut descriptors =
            Vec::from([format!("{:>5} {:>12} {:>6}  {:<20} {}", "desc", "addr", "len", "flags", "next")]);
        for index in 0..usize::from(size) {
            let descriptor = self.descriptor(index)?;
            let (addr, len) = (descriptor.addr, descriptor.len());
            let (flags, next) = (descriptor.third(), descriptor.fourth());
            let link = if flags & DESC_F_NEXT == 0 { String::new() } else { next.to_string() };
            descriptors.push(format!("{index:>5} {addr:>#12x} {len:>6}  {:<20} {link}", buffer_flags(flags)));
        }
        let mut heads = Vec::new();
        let mut used = Vec::new();
        for entry in 0..usize::from(size) {
            heads.push(self.u16(driver_area, AVAIL_RING + 2 * entry)?.to_string());
            let element = u64::from_le_bytes(self.bytes(device_area, USED_RING + USED_ELEMENT_SIZE * entry)?);
            used.push(format!("{}:{}", element as u32, element >> 32));
        }
        Ok(RingView {
            descriptors,
            driver_area: format!(
                "available  flags {}  idx {}  heads [{}]  used_event {}",
                self.u16(driver_area, AVAIL_FLAGS)?,
                self.u16(driver_area, AVAIL_IDX)?,
                heads.join(" "),
                self.u16(driver_area, used_event(size))?
            ),
            device_area: format!(
                "used       flags {}  idx {}  id:len [{}]  avail_event {}",
                self.u16(device_area, USED_FLAGS)?,
                self.u16(device_area, USED_IDX)?,
                used.join(" "),
                self.u16(device_area, avail_event(size))?
            ),
        })
    }

    fn packed(&self) -> Result<RingView, MemoryFault> {
        let RingLayout { size, driver_area, device_area, .. } = self.layout;
        let heading = format!(
            "{:>5} {:>12} {:>6} {:>5}  {:<20} {}",
            "desc", "addr", "len", "id", "flags", "avail used"
        );
        let mut descriptors = Vec::from([heading]);
        for index in 0..usize::from(size) {
            let descriptor = self.descriptor(index)?;
            let (addr, len) = (descriptor.addr, descriptor.len());
            let (id, flags) = (descriptor.third(), descriptor.fourth());
            let bit = |mask: u16| u16::from(flags & mask != 0);
            descriptors.push(format!(
                "{index:>5} {addr:>#12x} {len:>6} {id:>5}  {:<20} {:>5} {:>4}",
                buffer_flags(flags),
                bit(DESC_F_AVAIL),
                bit(DESC_F_USED)
            ));
        }
        Ok(RingView {
            descriptors,
            driver_area: format!("driver event suppression  {}", self.wanted(driver_area)?),
            device_area: format!("device event suppression  {}", self.wanted(device_area)?),
        })
    }

    fn wanted(&self, area: IoAddr) -> Result<String, MemoryFault> {
        let wanted = match self.u16(area, EVENT_FLAGS)? & EVENT_F_MASK {
            EVENT_F_DISABLE => Wanted::Never,
            EVENT_F_DESC => Wanted::At(RingIndex::from_packed_word(self.u16(area, EVENT_DESC)?)),
            _ => Wanted::Always,
        };
        Ok(match wanted {
            Wanted::Always => "ENABLE: notify of everything".to_string(),
            Wanted::Never => "DISABLE: notify of nothing".to_string(),
            Wanted::At(place) => {
                format!("DESC: notify at descriptor {}, wrap counter {}", place.index, place.wrap.bit())
            }
        })
    }
}

/// The flags that say what a descriptor's buffer is.
fn buffer_flags(flags: u16) -> String {
    let named = [(DESC_F_NEXT, "NEXT"), (DESC_F_WRITE, "WRITE"), (DESC_F_INDIRECT, "INDIRECT")];
    let set: Vec<&str> = named.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "-".to_string() } else { set.join(" ") }
}
