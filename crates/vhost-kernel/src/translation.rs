//! Translations that the kernel asks for where `ACCESS_PLATFORM` is negotiated (virtio 1.3 §6): messages as their bytes.
//!
//! The platform is this project's machine, which has no IOMMU: a driver's addresses are the guest's own, whole regions of memory at a time.

use crate::request::Slot;
use vioduct_spec::vhost::translation as at;

/// What the kernel is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// This memory may be accessed.
    Update(Slot),
    /// It may not any more.
    Invalidate(Slot),
}

impl Message {
    pub(crate) fn bytes(self) -> [u8; at::LEN] {
        let (slot, message) = match self {
            Self::Update(slot) => (slot, at::UPDATE),
            Self::Invalidate(slot) => (slot, at::INVALIDATE),
        };
        let mut bytes = [0; at::LEN];
        let fields: [(usize, &[u8]); 6] = [
            (at::TYPE, &at::KIND.to_ne_bytes()),
            (at::IOVA, &slot.guest.to_ne_bytes()),
            (at::SIZE, &slot.len.to_ne_bytes()),
            (at::USER, &slot.user.to_ne_bytes()),
            (at::PERMISSION, &[at::READ_WRITE]),
            (at::MESSAGE, &[message]),
        ];
        for (place, field) in fields {
            bytes.iter_mut().skip(place).zip(field).for_each(|(to, from)| *to = *from);
        }
        bytes
    }
}

/// The address that the kernel has no translation for, if that is what the message is.
pub(crate) fn miss(message: &[u8; at::LEN]) -> Option<u64> {
    let kind = message.get(at::TYPE..)?.first_chunk().map(|kind| u32::from_ne_bytes(*kind))?;
    let address = message.get(at::IOVA..)?.first_chunk().map(|address| u64::from_ne_bytes(*address))?;
    (kind == at::KIND && message.get(at::MESSAGE) == Some(&at::MISS)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { guest: 1 << 32, len: 0x1000, user: 0x7f00_0000_1000 };

    /// `struct vhost_msg_v2`: type, address space, and of `struct vhost_iotlb_msg` address, size, user address, permission, type.
    fn message(permission: u8, kind: u8) -> [u8; at::LEN] {
        let mut bytes = [0; at::LEN];
        bytes[0] = 2;
        bytes[12] = 1;
        bytes[17] = 0x10;
        bytes[24..30].copy_from_slice(&[0x00, 0x10, 0x00, 0x00, 0x00, 0x7f]);
        bytes[32..34].copy_from_slice(&[permission, kind]);
        bytes
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn messages_have_the_kernels_layout() {
        assert_eq!(Message::Update(SLOT).bytes(), message(3, 2));
        assert_eq!(Message::Invalidate(SLOT).bytes(), message(3, 3));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_miss_is_an_address() {
        assert_eq!(miss(&message(1, 1)), Some(1 << 32));
        assert_eq!(miss(&message(1, 2)), None, "what is told is not asked");
        assert_eq!(miss(&[0; at::LEN]), None);
    }
}
