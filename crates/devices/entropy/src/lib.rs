//! The virtio entropy device
