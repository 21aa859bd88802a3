//! The no-VM machine: our drivers against our devices in one process
