//! Console (virtio 1.3 §5.3): bytes in either direction, by a queue each. All fields are little-endian.

use crate::features::Features;

/// [`COLS`] and [`ROWS`] in the configuration space are valid.
pub const SIZE: Features = Features::bit(0);
/// The device has several ports, and queues to control them.
pub const MULTIPORT: Features = Features::bit(1);
/// The driver can write a character to [`EMERG_WR`].
pub const EMERG_WRITE: Features = Features::bit(2);

/// The queue whose buffers the device fills with input (virtio 1.3 §5.3.2).
pub const RECEIVE_QUEUE: u16 = 0;
/// The queue whose buffers are output.
pub const TRANSMIT_QUEUE: u16 = 1;

/// Offset of the width in characters in the configuration space, `u16` (virtio 1.3 §5.3.4).
pub const COLS: usize = 0;
/// Offset of the height in lines, `u16`.
pub const ROWS: usize = 2;
/// Offset of the greatest number of ports, `u32`; valid with [`MULTIPORT`].
pub const MAX_NR_PORTS: usize = 4;
/// Offset of the emergency write, `u32`, of which the lowest byte is output; valid with [`EMERG_WRITE`].
pub const EMERG_WR: usize = 8;
/// Length of the configuration space in bytes.
pub const CONFIG_LEN: usize = 12;
