//! Virtqueue layouts: split (virtio 1.3 §2.7) and packed (virtio 1.3 §2.8). Sizes and offsets are in bytes.

/// Largest queue size, in descriptors, of either layout (virtio 1.3 §2.7, §2.8.10.1).
pub const MAX_QUEUE_SIZE: u16 = 32768;
/// Size of a descriptor of either layout (virtio 1.3 §2.7.5, §2.8.13).
pub const DESCRIPTOR_SIZE: usize = 16;

/// The buffer continues in another descriptor (virtio 1.3 §2.7.5, §2.8.6).
pub const DESC_F_NEXT: u16 = 1 << 0;
/// The buffer is device-writable (virtio 1.3 §2.7.5, §2.8.3).
pub const DESC_F_WRITE: u16 = 1 << 1;
/// The buffer holds a table of descriptors (virtio 1.3 §2.7.5.3, §2.8.7).
pub const DESC_F_INDIRECT: u16 = 1 << 2;
/// Packed only: compared with the driver's wrap counter (virtio 1.3 §2.8.1).
pub const DESC_F_AVAIL: u16 = 1 << 7;
/// Packed only: compared with the device's wrap counter (virtio 1.3 §2.8.1).
pub const DESC_F_USED: u16 = 1 << 15;

/// Alignment of the descriptor area of either layout (virtio 1.3 §2.7, §2.8.10.1).
pub const DESCRIPTOR_AREA_ALIGN: u64 = 16;

/// The split layout (virtio 1.3 §2.7).
pub mod split {
    /// Alignment of the available ring (virtio 1.3 §2.7).
    pub const DRIVER_AREA_ALIGN: u64 = 2;
    /// Alignment of the used ring (virtio 1.3 §2.7).
    pub const DEVICE_AREA_ALIGN: u64 = 4;

    /// Offset of a descriptor's address, `u64`.
    pub const DESC_ADDR: usize = 0;
    /// Offset of a descriptor's length, `u32`.
    pub const DESC_LEN: usize = 8;
    /// Offset of a descriptor's flags, `u16`.
    pub const DESC_FLAGS: usize = 12;
    /// Offset of a descriptor's next index, `u16`.
    pub const DESC_NEXT: usize = 14;

    /// Offset of the available ring's flags, `u16` (virtio 1.3 §2.7.6).
    pub const AVAIL_FLAGS: usize = 0;
    /// Offset of the available ring's index, `u16`.
    pub const AVAIL_IDX: usize = 2;
    /// Offset of the available ring's entries, `u16` each; `used_event` follows them.
    pub const AVAIL_RING: usize = 4;
    /// The driver wants no used-buffer notification (virtio 1.3 §2.7.7).
    pub const AVAIL_F_NO_INTERRUPT: u16 = 1;

    /// Offset of the used ring's flags, `u16` (virtio 1.3 §2.7.8).
    pub const USED_FLAGS: usize = 0;
    /// Offset of the used ring's index, `u16`.
    pub const USED_IDX: usize = 2;
    /// Offset of the used ring's entries, `u32` id and `u32` length each; `avail_event` follows them.
    pub const USED_RING: usize = 4;
    /// Size of a used ring entry.
    pub const USED_ELEMENT_SIZE: usize = 8;
    /// The device wants no available-buffer notification (virtio 1.3 §2.7.10).
    pub const USED_F_NO_NOTIFY: u16 = 1;

    /// Size of the descriptor table of a queue of `size` descriptors.
    #[must_use]
    pub const fn descriptor_area_len(size: u16) -> usize {
        size as usize * super::DESCRIPTOR_SIZE
    }

    /// Offset of `used_event` in the available ring (virtio 1.3 §2.7.6).
    #[must_use]
    pub const fn used_event(size: u16) -> usize {
        AVAIL_RING + size as usize * 2
    }

    /// Size of the available ring, `used_event` included (virtio 1.3 §2.7).
    #[must_use]
    pub const fn driver_area_len(size: u16) -> usize {
        used_event(size) + 2
    }

    /// Offset of `avail_event` in the used ring (virtio 1.3 §2.7.8).
    #[must_use]
    pub const fn avail_event(size: u16) -> usize {
        USED_RING + size as usize * USED_ELEMENT_SIZE
    }

    /// Size of the used ring, `avail_event` included (virtio 1.3 §2.7).
    #[must_use]
    pub const fn device_area_len(size: u16) -> usize {
        avail_event(size) + 2
    }
}

/// The packed layout (virtio 1.3 §2.8).
pub mod packed {
    /// Alignment of the driver and device event suppression structures (virtio 1.3 §2.8.10.1).
    pub const EVENT_AREA_ALIGN: u64 = 4;
    /// Size of an event suppression structure (virtio 1.3 §2.8.10.1).
    pub const EVENT_AREA_LEN: usize = 4;

    /// Offset of a descriptor's address, `u64` (virtio 1.3 §2.8.13).
    pub const DESC_ADDR: usize = 0;
    /// Offset of a descriptor's length, `u32`.
    pub const DESC_LEN: usize = 8;
    /// Offset of a descriptor's buffer id, `u16`.
    pub const DESC_ID: usize = 12;
    /// Offset of a descriptor's flags, `u16`.
    pub const DESC_FLAGS: usize = 14;

    /// Offset of an event suppression structure's descriptor offset (bits 0 to 14) and wrap counter (bit 15), `u16`.
    pub const EVENT_DESC: usize = 0;
    /// Offset of an event suppression structure's flags, `u16`.
    pub const EVENT_FLAGS: usize = 2;
    /// Notify for everything (virtio 1.3 §2.8.10).
    pub const EVENT_F_ENABLE: u16 = 0;
    /// Notify for nothing.
    pub const EVENT_F_DISABLE: u16 = 1;
    /// Notify when the descriptor named is reached; needs `EVENT_IDX`.
    pub const EVENT_F_DESC: u16 = 2;
    /// The bits of the flags word that carry one of the above.
    pub const EVENT_F_MASK: u16 = 3;

    /// Size of the descriptor ring of a queue of `size` descriptors.
    #[must_use]
    pub const fn descriptor_area_len(size: u16) -> usize {
        size as usize * super::DESCRIPTOR_SIZE
    }
}
