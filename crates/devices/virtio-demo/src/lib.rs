//! virtio-demo: one stored value, read and written over a virtqueue
