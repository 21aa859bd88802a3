//! The split layout (virtio 1.3 §2.7): a descriptor table, and a ring for each direction.

pub(crate) mod device;
pub(crate) mod driver;
