//! Socket device (virtio 1.3 §5.10): stream connections between programs of a guest and of its host. All fields are little-endian.

use crate::features::Features;

/// Stream sockets; the device has them whether or not this is negotiated.
pub const STREAM: Features = Features::bit(0);
/// Sockets that keep the bounds of messages.
pub const SEQPACKET: Features = Features::bit(1);
/// There are stream sockets only if [`STREAM`] is negotiated.
pub const NO_IMPLIED_STREAM: Features = Features::bit(2);

/// The queue whose buffers the device fills with packets (virtio 1.3 §5.10.2).
pub const RECEIVE_QUEUE: u16 = 0;
/// The queue whose buffers are packets of the driver's.
pub const TRANSMIT_QUEUE: u16 = 1;
/// The queue whose buffers the device fills with events.
pub const EVENT_QUEUE: u16 = 2;
/// How many queues there are.
pub const QUEUES: u16 = 3;

/// Offset of the guest's context identifier in the configuration space, `u64`, whose upper half is zeros (virtio 1.3 §5.10.4).
pub const GUEST_CID: usize = 0;
/// Length of the configuration space in bytes.
pub const CONFIG_LEN: usize = 8;

/// The host's context identifier.
pub const HOST_CID: u64 = 2;
/// The least context identifier that a guest can have.
pub const FIRST_GUEST_CID: u32 = 3;
/// The greatest: the one above means any.
pub const LAST_GUEST_CID: u32 = u32::MAX - 1;

/// Socket type: a stream (virtio 1.3 §5.10.6).
pub const TYPE_STREAM: u16 = 1;
/// Socket type: messages.
pub const TYPE_SEQPACKET: u16 = 2;

/// Operation: make a connection.
pub const OP_REQUEST: u16 = 1;
/// Operation: the connection is made.
pub const OP_RESPONSE: u16 = 2;
/// Operation: there is no such connection, or no more.
pub const OP_RST: u16 = 3;
/// Operation: the sender will not send, or receive, any more: see [`SHUTDOWN_RECEIVE`] and [`SHUTDOWN_SEND`].
pub const OP_SHUTDOWN: u16 = 4;
/// Operation: data follows.
pub const OP_RW: u16 = 5;
/// Operation: the sender's credit is this.
pub const OP_CREDIT_UPDATE: u16 = 6;
/// Operation: the sender asks for credit.
pub const OP_CREDIT_REQUEST: u16 = 7;

/// Flag of [`OP_SHUTDOWN`]: the sender receives no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// Flag of [`OP_SHUTDOWN`]: the sender sends no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// Length of a packet's header in bytes.
pub const HEADER_LEN: usize = 44;

/// What precedes the data of a packet (virtio 1.3 §5.10.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Context identifier of the sender.
    pub src_cid: u64,
    /// Context identifier of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    /// Socket type: [`TYPE_STREAM`].
    pub socket_type: u16,
    /// Operation: one of [`OP_REQUEST`] to [`OP_CREDIT_REQUEST`].
    pub op: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// Bytes that the sender keeps for what it receives on this connection (virtio 1.3 §5.10.6.3).
    pub buf_alloc: u32,
    /// Bytes that it has received and keeps no more, counted around.
    pub fwd_cnt: u32,
}

impl Header {
    /// A header as it is in memory.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(fields.take()),
            dst_cid: u64::from_le_bytes(fields.take()),
            src_port: u32::from_le_bytes(fields.take()),
            dst_port: u32::from_le_bytes(fields.take()),
            len: u32::from_le_bytes(fields.take()),
            socket_type: u16::from_le_bytes(fields.take()),
            op: u16::from_le_bytes(fields.take()),
            flags: u32::from_le_bytes(fields.take()),
            buf_alloc: u32::from_le_bytes(fields.take()),
            fwd_cnt: u32::from_le_bytes(fields.take()),
        }
    }

    /// The header as it is in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let Self { src_cid, dst_cid, src_port, dst_port, len, socket_type, op, flags, buf_alloc, fwd_cnt } =
            self;
        let fields: [&[u8]; 10] = [
            &src_cid.to_le_bytes(),
            &dst_cid.to_le_bytes(),
            &src_port.to_le_bytes(),
            &dst_port.to_le_bytes(),
            &len.to_le_bytes(),
            &socket_type.to_le_bytes(),
            &op.to_le_bytes(),
            &flags.to_le_bytes(),
            &buf_alloc.to_le_bytes(),
            &fwd_cnt.to_le_bytes(),
        ];
        let mut bytes = [0; HEADER_LEN];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// What is left of a header.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.iter_mut().zip(self.0).for_each(|(to, from)| *to = *from);
        self.0 = self.0.get(N..).unwrap_or_default();
        field
    }
}

/// Length of an event in bytes: its number, `u32` (virtio 1.3 §5.10.6.7).
pub const EVENT_LEN: usize = 4;
/// Event: every connection is lost, and the guest's context identifier may be another.
pub const EVENT_TRANSPORT_RESET: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_10_6_a_header_is_44_bytes_in_this_order() {
        let bytes: [u8; HEADER_LEN] = core::array::from_fn(|at| at as u8);
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.src_cid, 0x0706_0504_0302_0100);
        assert_eq!(header.dst_cid, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!((header.src_port, header.dst_port), (0x1312_1110, 0x1716_1514));
        assert_eq!((header.len, header.socket_type, header.op), (0x1b1a_1918, 0x1d1c, 0x1f1e));
        assert_eq!((header.flags, header.buf_alloc, header.fwd_cnt), (0x2322_2120, 0x2726_2524, 0x2b2a_2928));
        assert_eq!(header.to_bytes(), bytes);
    }
}
