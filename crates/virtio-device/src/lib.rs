//! Write a virtio device once, attach it every way: the device-side traits and their runners
