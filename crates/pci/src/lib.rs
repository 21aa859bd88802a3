//! PCI functions: configuration space, capabilities, BARs, MSI-X, INTx, and a bus with ECAM
