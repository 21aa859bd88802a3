//! Messages, after `linux/virtio_pcidev.h`.
//!
//! A message is a [`Header`] and data. Header fields are in the machine's own byte order: both ends are on one machine. Data is
//! little-endian, as registers are.
//!
//! On [`COMMAND_QUEUE`] the readable part of a buffer is a message; a reading one has a writable part of as many bytes as its
//! size says, which gets the data alone. On [`INTERRUPT_QUEUE`] buffers are writable, and get a message of the device.

/// Queue of the driver's commands.
pub const COMMAND_QUEUE: u16 = 0;
/// Queue of the device's interrupts.
pub const INTERRUPT_QUEUE: u16 = 1;

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 16;
/// Length in bytes of the longest message on the interrupt queue.
pub const INTERRUPT_LEN: usize = HEADER_LEN + 4;

/// Operations: the first byte of a message.
pub mod op {
    /// Reads configuration space: 1, 2, 4 or 8 bytes.
    pub const CONFIG_READ: u8 = 1;
    /// Writes configuration space: 1, 2, 4 or 8 bytes.
    pub const CONFIG_WRITE: u8 = 2;
    /// Reads a BAR: any number of bytes.
    pub const BAR_READ: u8 = 3;
    /// Writes a BAR: any number of bytes.
    pub const BAR_WRITE: u8 = 4;
    /// Fills any number of bytes of a BAR with one byte, which is the data.
    pub const BAR_FILL: u8 = 5;
    /// An interrupt by a pin: the address is its number, 1 to 4.
    pub const PIN: u8 = 6;
    /// An interrupt by a message: the 2 or 4 bytes of data that it writes to the address.
    pub const MSI: u8 = 7;
}

/// What every message begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which operation, of [`op`].
    pub op: u8,
    /// Which BAR; 0 for configuration space.
    pub bar: u8,
    /// How many bytes are meant.
    pub size: u32,
    /// Offset in configuration space or in the BAR, in bytes; on the interrupt queue as the operation says.
    pub addr: u64,
}

impl Header {
    /// The header in these bytes. Two of them are reserved.
    #[must_use]
    pub const fn decode(bytes: [u8; HEADER_LEN]) -> Self {
        let [op, bar, _, _, s0, s1, s2, s3, a0, a1, a2, a3, a4, a5, a6, a7] = bytes;
        let size = u32::from_ne_bytes([s0, s1, s2, s3]);
        Self { op, bar, size, addr: u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]) }
    }

    /// The bytes of the header.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let [s0, s1, s2, s3] = self.size.to_ne_bytes();
        let [a0, a1, a2, a3, a4, a5, a6, a7] = self.addr.to_ne_bytes();
        [self.op, self.bar, 0, 0, s0, s1, s2, s3, a0, a1, a2, a3, a4, a5, a6, a7]
    }
}
