//! Feature bits that a vhost-user connection has for itself, and those that it cannot carry.

use vioduct_spec::Features;

/// A bit that no virtio device offers, reused: the protocol has features of its own.
pub(crate) const PROTOCOL_FEATURES: Features = Features::bit(30);

/// Another such bit: what devices write is logged.
pub(crate) const LOG_ALL: Features = Features::bit(26);

/// What is the protocol's own.
pub(crate) const PROTOCOL: Features = PROTOCOL_FEATURES.with(LOG_ALL);

/// What a vhost-user ring cannot carry, whatever the queues could: notifications are eventfds and bring no data with them, and
/// addresses are not translated.
pub(crate) const NOT_CARRIED: Features = Features::NOTIFICATION_DATA
    .with(Features::NOTIF_CONFIG_DATA)
    .with(Features::SR_IOV)
    .with(Features::ACCESS_PLATFORM);

/// What some servers offer to drivers of legacy devices, and virtio 1.3 has no meaning for: notification although a queue is
/// empty, and any layout of buffers.
pub(crate) const LEGACY: Features = Features::bit(24).with(Features::bit(27));

/// What is between driver and transport, and the front-end's to offer whatever the server does: it stops and starts single rings
/// anyway, and passes notifications on without what they carry.
pub(crate) const OF_THE_TRANSPORT: Features =
    Features::NOTIFICATION_DATA.with(Features::NOTIF_CONFIG_DATA).with(Features::RING_RESET);
