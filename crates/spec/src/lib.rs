//! Constants and little-endian structures of the virtio specification
