//! What a virtual processor is made of before it runs: what CPUID tells it, and its registers.
//!
//! All of it is pure: structures of KVM in, structures of KVM out.

mod cpuid;
mod registers;
#[cfg(test)]
mod tests;

pub use self::cpuid::{TscDeadline, cpuid};
pub use self::registers::{floating_point, general, model_specific, special, write_tables};
