//! Doorbells: places of BARs that a server has signalled by eventfds instead of messages.

use super::failed;
use super::peer::{Peer, Trouble};
use crate::error::ConnectError;
use std::ops::Range;
use std::sync::Arc;
use vioduct_pci::{Capability, FunctionSpec};
use vioduct_spec::pci::{VENDOR_ID, cap};
use vioduct_virtio_device::EventFd;

/// A place of a BAR that the server has signalled by an eventfd instead of a message. Messages go on to work.
#[derive(Clone, Debug)]
pub struct RemoteDoorbell {
    /// The BAR.
    pub bar: u8,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Length in bytes of the writes that count; 0 for any.
    pub len: u64,
    /// The value of the writes that count; `None` for any.
    pub datamatch: Option<u64>,
    /// What they signal.
    pub event: Arc<EventFd>,
}

/// Asks for those of all BARs. A server that has none, or does not know of any, refuses.
pub(super) fn ask(
    peer: &Peer,
    spec: &FunctionSpec,
    bar_lens: &[u64],
) -> Result<Vec<RemoteDoorbell>, ConnectError> {
    let mut doorbells = Vec::new();
    for (bar, bar_len) in (0u8..).zip(bar_lens).filter(|(_, len)| **len > 0) {
        let (places, fds) = match peer.io_fds(bar.into()) {
            Ok(offered) => offered,
            Err(Trouble::Refused(_)) => continue,
            Err(trouble) => return Err(failed("offer doorbells")(trouble)),
        };
        let events: Vec<_> = fds.into_iter().map(|fd| Arc::new(EventFd::from(fd))).collect();
        let inside = |at: &RemoteDoorbell| at.offset.checked_add(at.len).is_some_and(|end| end <= *bar_len);
        let offered = places.iter().filter_map(|place| {
            let event = events.get(place.fd_index as usize)?.clone();
            let (offset, len, datamatch) = (place.offset, place.len, place.datamatch);
            Some(RemoteDoorbell { bar, offset, len, datamatch, event })
        });
        doorbells.extend(offered.filter(inside));
    }
    widen(&mut doorbells, &notifications(spec));
    Ok(doorbells)
}

/// virtio 1.3 §4.1.5.2: a queue with an address of its own is notified by whatever is written there, which is of 2 bytes, or of 4
/// with NOTIFICATION_DATA. What that will be nobody knows before the driver has chosen, so every write counts.
fn widen(doorbells: &mut [RemoteDoorbell], notifications: &[(u8, Range<u64>)]) {
    let places: Vec<_> = doorbells.iter().map(|at| (at.bar, at.offset)).collect();
    for doorbell in doorbells {
        let (bar, offset) = (doorbell.bar, doorbell.offset);
        let is_notification = notifications.iter().any(|(at, range)| *at == bar && range.contains(&offset));
        let alone = places.iter().filter(|place| **place == (bar, offset)).count() == 1;
        if is_notification && alone {
            (doorbell.len, doorbell.datamatch) = (0, None);
        }
    }
}

/// Where a virtio function is notified, and queues can have addresses of their own (virtio 1.3 §4.1.4.4).
fn notifications(spec: &FunctionSpec) -> Vec<(u8, Range<u64>)> {
    const WORD: u32 = 4;
    let place = |capability: &Capability| {
        let Capability::Vendor { body, .. } = capability else { return None };
        let byte = |at: usize| body.get(at - cap::CFG_TYPE).copied();
        let long = |at: usize| {
            let bytes = body.get(at - cap::CFG_TYPE..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let apart = byte(cap::CFG_TYPE)? == cap::TYPE_NOTIFY && long(cap::NOTIFY_OFF_MULTIPLIER)? >= WORD;
        let (start, len) = (u64::from(long(cap::OFFSET)?), u64::from(long(cap::LENGTH)?));
        Some((byte(cap::BAR)?, start..start + len)).filter(|_| apart)
    };
    if spec.vendor_id == VENDOR_ID {
        spec.capabilities.iter().filter_map(place).collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorbell(bar: u8, offset: u64, value: u64) -> RemoteDoorbell {
        let event = Arc::new(EventFd::new().unwrap());
        RemoteDoorbell { bar, offset, len: 2, datamatch: Some(value), event }
    }

    /// Queues that share an address, and places that are no notifications, keep their values.
    #[test]
    fn only_queues_with_an_address_of_their_own_take_every_write() {
        let mut doorbells =
            [doorbell(0, 0x100, 0), doorbell(0, 0x104, 1), doorbell(0, 0x104, 2), doorbell(1, 0x100, 3)];
        widen(&mut doorbells, &[(0, 0x100..0x108)]);
        let matches: Vec<_> = doorbells.iter().map(|at| (at.len, at.datamatch)).collect();
        assert_eq!(matches, [(0, None), (2, Some(1)), (2, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn notifications_are_found_where_they_are_apart() {
        let body = |multiplier: u8| [2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 1, 0, 0, multiplier, 0, 0, 0];
        for (vendor, body, expected) in [
            (VENDOR_ID, body(4).to_vec(), vec![(4, 0x3000..0x3100)]),
            (VENDOR_ID, body(2).to_vec(), vec![]),
            (VENDOR_ID, body(4)[..12].to_vec(), vec![]),
            (0x1234, body(4).to_vec(), vec![]),
        ] {
            let spec = FunctionSpec::new(vendor, 1, 0).with_capability(Capability::vendor(body));
            assert_eq!(notifications(&spec), expected);
        }
    }
}
