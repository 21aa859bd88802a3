//! What a server replies. Decoded, `None` is everywhere for a reply that no server should give.

use super::{Fields, Payload};

/// Reply to GET_INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceInfo {
    pub(crate) flags: u32,
    pub(crate) regions: u32,
    pub(crate) irqs: u32,
}

impl DeviceInfo {
    pub(crate) const RESET: u32 = 1 << 0;
    pub(crate) const PCI: u32 = 1 << 1;

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(payload);
        let _argsz = fields.u32()?;
        Some(Self { flags: fields.u32()?, regions: fields.u32()?, irqs: fields.u32()? })
    }
}

/// Reply to GET_REGION_INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RegionInfo {
    /// Length in bytes; 0 for a region that is not there.
    pub(crate) len: u64,
}

impl RegionInfo {
    pub(crate) fn decode(payload: &[u8], asked: u32) -> Option<Self> {
        let mut fields = Fields::new(payload);
        let (_argsz, _flags, index, _capabilities) =
            (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let (len, _offset) = (fields.u64()?, fields.u64()?);
        (index == asked).then_some(Self { len })
    }
}

/// Reply to GET_IRQ_INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IrqInfo {
    /// How many interrupts of the type there are.
    pub(crate) count: u32,
}

impl IrqInfo {
    pub(crate) fn decode(payload: &[u8], asked: u32) -> Option<Self> {
        let mut fields = Fields::new(payload);
        let (_argsz, _flags, index) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let count = fields.u32()?;
        (index == asked).then_some(Self { count })
    }
}

/// A place in a region that is signalled by an eventfd: part of the reply to GET_REGION_IO_FDS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IoFd {
    /// In the region, in bytes.
    pub(crate) offset: u64,
    /// Bytes of the writes that count.
    pub(crate) len: u64,
    /// Which of the reply's descriptors is the eventfd.
    pub(crate) fd_index: u32,
    /// The value of the writes that count, unless all do.
    pub(crate) datamatch: Option<u64>,
}

impl IoFd {
    const LEN: u32 = 40;
    const HEAD_LEN: u32 = 16;
    /// The kind of place that is understood here; the others, of which memory is mapped, are left out.
    const IOEVENTFD: u32 = 0;
    const DATAMATCH: u32 = 1;

    /// Room for so many places, in bytes of a reply.
    pub(crate) const fn room(places: u32) -> u32 {
        Self::LEN.saturating_mul(places).saturating_add(Self::HEAD_LEN)
    }

    /// Adds this one to a reply.
    pub(crate) fn encode(&self, reply: Payload) -> Payload {
        let flags = if self.datamatch.is_some() { Self::DATAMATCH } else { 0 };
        let place = reply.u64(self.offset).u64(self.len).u32(self.fd_index);
        place.u32(Self::IOEVENTFD).u32(flags).u32(0).u64(self.datamatch.unwrap_or(0))
    }

    /// All of a reply, which came with `fds` descriptors.
    pub(crate) fn decode_all(payload: &[u8], asked: u32, fds: usize) -> Option<Vec<Self>> {
        let mut fields = Fields::new(payload);
        let (_argsz, _flags, index, count) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let (places, rest) = fields.rest().as_chunks::<{ Self::LEN as usize }>();
        // More than there was room for: the reply says how much that would be, and has none of them.
        let count = if places.is_empty() { 0 } else { count };
        if index != asked || places.len() != count as usize || !rest.is_empty() {
            return None;
        }
        let mut found = Vec::new();
        for place in places {
            found.extend(Self::decode(Fields::new(place), fds)?);
        }
        Some(found)
    }

    /// `Some(None)` for a kind that is not understood.
    fn decode(mut fields: Fields<'_>, fds: usize) -> Option<Option<Self>> {
        let (offset, len, fd_index) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let (kind, flags, _padding, value) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u64()?);
        if kind != Self::IOEVENTFD {
            return Some(None);
        }
        if fd_index as usize >= fds {
            return None;
        }
        let datamatch = (flags & Self::DATAMATCH != 0).then_some(value);
        Some(Some(Self { offset, len, fd_index, datamatch }))
    }
}
