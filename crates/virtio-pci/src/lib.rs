//! The modern virtio-pci transport as a PCI function over an Endpoint
