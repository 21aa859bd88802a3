//! no_std virtio front-end drivers and their transports
