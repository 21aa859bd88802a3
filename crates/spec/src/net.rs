//! Network card (virtio 1.3 §5.1): pairs of queues that carry packets, and one for control. All fields are little-endian.

use crate::features::Features;

/// The device takes packets whose checksum is to be completed.
pub const CSUM: Features = Features::bit(0);
/// The driver takes packets whose checksum is not complete.
pub const GUEST_CSUM: Features = Features::bit(1);
/// The driver can change which offloads it takes, by [`CTRL_GUEST_OFFLOADS_SET`].
pub const CTRL_GUEST_OFFLOADS: Features = Features::bit(2);
/// [`MTU_BYTES`] in the configuration space is valid.
pub const MTU: Features = Features::bit(3);
/// [`MAC_ADDRESS`] in the configuration space is valid.
pub const MAC: Features = Features::bit(5);
/// The driver takes TCP over IPv4 that is to be segmented, or has been put together.
pub const GUEST_TSO4: Features = Features::bit(7);
/// The same over IPv6.
pub const GUEST_TSO6: Features = Features::bit(8);
/// The same with congestion notification.
pub const GUEST_ECN: Features = Features::bit(9);
/// The driver takes UDP that is to be fragmented.
pub const GUEST_UFO: Features = Features::bit(10);
/// The device takes TCP over IPv4 that is to be segmented.
pub const HOST_TSO4: Features = Features::bit(11);
/// The same over IPv6.
pub const HOST_TSO6: Features = Features::bit(12);
/// The same with congestion notification.
pub const HOST_ECN: Features = Features::bit(13);
/// The device takes UDP that is to be fragmented.
pub const HOST_UFO: Features = Features::bit(14);
/// A received packet may be in several buffers.
pub const MRG_RXBUF: Features = Features::bit(15);
/// [`STATUS`] in the configuration space is valid.
pub const STATUS_FIELD: Features = Features::bit(16);
/// There is a control queue.
pub const CTRL_VQ: Features = Features::bit(17);
/// The driver says which packets it wants, by [`CTRL_RX`].
pub const CTRL_RX_MODE: Features = Features::bit(18);
/// The driver says which VLANs it wants, by [`CTRL_VLAN`].
pub const CTRL_VLAN_FILTER: Features = Features::bit(19);
/// The driver has more to say of which packets it wants.
pub const CTRL_RX_EXTRA: Features = Features::bit(20);
/// The device can ask the driver to announce itself to the network.
pub const GUEST_ANNOUNCE: Features = Features::bit(21);
/// There may be several pairs of queues, and [`MAX_QUEUE_PAIRS`] in the configuration space is valid.
pub const MQ: Features = Features::bit(22);
/// The driver sets the address by [`CTRL_MAC_ADDRESS_SET`].
pub const CTRL_MAC_ADDR: Features = Features::bit(23);
/// The driver takes UDP over IPv4 that is to be segmented.
pub const GUEST_USO4: Features = Features::bit(54);
/// The same over IPv6.
pub const GUEST_USO6: Features = Features::bit(55);
/// The device takes UDP that is to be segmented.
pub const HOST_USO: Features = Features::bit(56);
/// The device reports a hash of each packet, in a longer header.
pub const HASH_REPORT: Features = Features::bit(57);
/// The device distributes packets by hash.
pub const RSS: Features = Features::bit(60);

/// What the driver can take off and put on by [`CTRL_GUEST_OFFLOADS_SET`] (virtio 1.3 §5.1.6.5.6.1).
pub const GUEST_OFFLOADS: Features = GUEST_CSUM
    .with(GUEST_TSO4)
    .with(GUEST_TSO6)
    .with(GUEST_ECN)
    .with(GUEST_UFO)
    .with(GUEST_USO4)
    .with(GUEST_USO6);

/// Offset of the address in the configuration space, 6 bytes (virtio 1.3 §5.1.4).
pub const MAC_ADDRESS: usize = 0;
/// Offset of the status, `u16`: [`STATUS_LINK_UP`], [`STATUS_ANNOUNCE`].
pub const STATUS: usize = 6;
/// Offset of the greatest number of pairs of queues, `u16`.
pub const MAX_QUEUE_PAIRS: usize = 8;
/// Offset of the greatest length of a packet that the driver should use, without its Ethernet header, `u16`.
pub const MTU_BYTES: usize = 10;
/// Length of the configuration space up to the last of these fields, in bytes.
pub const CONFIG_LEN: usize = 12;

/// Length of an Ethernet address.
pub const ADDRESS_LEN: usize = 6;
/// Least MTU that a device may show (virtio 1.3 §5.1.4.1).
pub const MTU_MIN: u16 = 68;
/// Greatest number of pairs of queues (virtio 1.3 §5.1.6.5.5).
pub const QUEUE_PAIRS_MAX: u16 = 0x8000;

/// Bit of the status: there is a link.
pub const STATUS_LINK_UP: u16 = 1;
/// Bit of the status: the driver is to announce itself.
pub const STATUS_ANNOUNCE: u16 = 2;

/// The queue whose buffers the device fills with packets (virtio 1.3 §5.1.2), of a pair counted from 0.
#[must_use]
pub const fn receive_queue(pair: u16) -> u16 {
    2 * pair
}

/// The queue whose buffers are packets to be sent.
#[must_use]
pub const fn transmit_queue(pair: u16) -> u16 {
    2 * pair + 1
}

/// The queue of control, behind so many pairs: all that the device has with [`MQ`], and 1 without.
#[must_use]
pub const fn control_queue(pairs: u16) -> u16 {
    2 * pairs
}

/// What precedes each packet in its buffer (virtio 1.3 §5.1.6): flags `u8`, GSO type `u8`, then five `u16`: length of the packet's headers,
/// GSO size, start of the checksummed part, offset of the checksum in it, number of buffers.
pub const HEADER_LEN: usize = 12;
/// Longest packet with its Ethernet header, in bytes: what offloads make of 64 KiB (virtio 1.3 §5.1.6.3.1), and a VLAN tag.
pub const MAX_FRAME_BYTES: usize = (64 << 10) + 18;
/// Offset of the flags in the header.
pub const HEADER_FLAGS: usize = 0;
/// Offset of the kind of segmentation.
pub const HEADER_GSO_TYPE: usize = 1;
/// Offset of the length of the packet's own headers.
pub const HEADER_HDR_LEN: usize = 2;
/// Offset of the length of a segment's payload.
pub const HEADER_GSO_SIZE: usize = 4;
/// Offset of where the checksummed part of the packet starts.
pub const HEADER_CSUM_START: usize = 6;
/// Offset of where in that part the checksum is.
pub const HEADER_CSUM_OFFSET: usize = 8;
/// Offset of the number of buffers that a received packet is in.
pub const HEADER_NUM_BUFFERS: usize = 10;

/// Flag: the checksum is to be completed.
pub const HDR_F_NEEDS_CSUM: u8 = 1;
/// Flag: the checksum has been seen to be right.
pub const HDR_F_DATA_VALID: u8 = 2;

/// Kind of segmentation: none.
pub const GSO_NONE: u8 = 0;
/// Kind of segmentation: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// Kind of segmentation: fragments of UDP.
pub const GSO_UDP: u8 = 3;
/// Kind of segmentation: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// Kind of segmentation: datagrams of UDP.
pub const GSO_UDP_L4: u8 = 5;
/// Bit beside the kind: TCP with congestion notification.
pub const GSO_ECN: u8 = 0x80;

/// Length of what precedes the data of a command: class `u8`, command `u8` (virtio 1.3 §5.1.6.5).
pub const COMMAND_LEN: usize = 2;
/// Answer to a command: done.
pub const CTRL_OK: u8 = 0;
/// Answer to a command: refused.
pub const CTRL_ERR: u8 = 1;

/// Class: which packets are received (virtio 1.3 §5.1.6.5.1). Data is `u8`: on or off.
pub const CTRL_RX: u8 = 0;
/// Command of [`CTRL_RX`]: all.
pub const CTRL_RX_PROMISC: u8 = 0;
/// Command of [`CTRL_RX`]: all multicast.
pub const CTRL_RX_ALLMULTI: u8 = 1;
/// Command of [`CTRL_RX`]: all unicast.
pub const CTRL_RX_ALLUNI: u8 = 2;
/// Command of [`CTRL_RX`]: no multicast.
pub const CTRL_RX_NOMULTI: u8 = 3;
/// Command of [`CTRL_RX`]: no unicast.
pub const CTRL_RX_NOUNI: u8 = 4;
/// Command of [`CTRL_RX`]: no broadcast.
pub const CTRL_RX_NOBCAST: u8 = 5;

/// Class: addresses (virtio 1.3 §5.1.6.5.2).
pub const CTRL_MAC: u8 = 1;
/// Command of [`CTRL_MAC`]: the addresses that are received: unicast, then multicast, each a number `u32` and as many addresses.
pub const CTRL_MAC_TABLE_SET: u8 = 0;
/// Command of [`CTRL_MAC`]: the device's address.
pub const CTRL_MAC_ADDRESS_SET: u8 = 1;

/// Class: VLANs (virtio 1.3 §5.1.6.5.3). Data is the id, `u16`.
pub const CTRL_VLAN: u8 = 2;
/// Command of [`CTRL_VLAN`]: receive it.
pub const CTRL_VLAN_ADD: u8 = 0;
/// Command of [`CTRL_VLAN`]: receive it no more.
pub const CTRL_VLAN_DEL: u8 = 1;
/// VLAN ids are below this.
pub const VLAN_IDS: u16 = 4096;

/// Class: announcement (virtio 1.3 §5.1.6.5.4).
pub const CTRL_ANNOUNCE: u8 = 3;
/// Command of [`CTRL_ANNOUNCE`]: the driver has seen that it is to announce itself.
pub const CTRL_ANNOUNCE_ACK: u8 = 0;

/// Class: pairs of queues (virtio 1.3 §5.1.6.5.5).
pub const CTRL_MQ: u8 = 4;
/// Command of [`CTRL_MQ`]: how many pairs are used, `u16`.
pub const CTRL_MQ_VQ_PAIRS_SET: u8 = 0;

/// Class: offloads that the driver takes (virtio 1.3 §5.1.6.5.6).
pub const CTRL_OFFLOADS: u8 = 5;
/// Command of [`CTRL_OFFLOADS`]: the feature bits of these, `u64`.
pub const CTRL_GUEST_OFFLOADS_SET: u8 = 0;
