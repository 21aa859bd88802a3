//! pci-demo: one trapped register behind a PCI BAR
