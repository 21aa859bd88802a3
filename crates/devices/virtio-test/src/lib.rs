//! virtio-test: factorial and echo+100 over a virtqueue
