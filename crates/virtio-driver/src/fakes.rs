//! What the tests put in the place of a device: a transport, registers and configuration spaces that do as they are scripted,
//! and memory.

mod memory;
mod registers;
mod transport;

pub(crate) use memory::TestMemory;
pub(crate) use registers::{Access, Log, Registers};
pub(crate) use transport::{Call, FakeTransport};
