//! The virtio-mmio (version 2) register window as a decoder over an Endpoint
