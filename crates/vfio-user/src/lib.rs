//! vfio-user, both ends: any PCI function to a client of another process, such as QEMU's `vfio-user-pci`, and the function of a server
//! in another process to a machine of this one.
//!
//! [`Server`] serves a [`Device`], which is any [`PciFunction`](vioduct_pci::PciFunction): one of registers only, a virtio
//! device of any type over virtio-pci, or another that uses memory and is [`Served`]. Several devices are several servers.
//!
//! | module | what is in it |
//! |---|---|
//! | [`server`] | [`Server`]: the socket, one client after the other, [`Stopper`] |
//! | [`client`] | [`RemoteFunction`]: a function that a server has |
//! | [`device`] | [`Device`]: a function with its regions and interrupts |
//! | [`function`] | [`Served`]: what is asked of a function that uses memory |
//! | [`error`] | [`ServeError`], [`ConnectError`] |
//! | `session` | one client's time: what each command does |
//! | `link` | commands in, replies out, calls to the client |
//! | `assembly` | messages from the pieces in which they come |
//! | `wire` | headers, commands and their payloads |
//! | `dma` | the client's memory, by mappings and by messages |
//! | `feature` | device features: migration, the log of dirty pages |
//! | `migration` | the states of a device that moves to another host, and what is read and written of it |
//! | `irqs` | INTx and MSI-X by eventfds |
//!
//! # Threads
//!
//! [`Server::run`] serves on the thread that calls it. The threads of a device reach mapped memory by themselves; memory that
//! the client did not share, they ask the client for, and whoever waits for an answer receives for all (`link`). A client must
//! answer such calls while it waits for replies of its own: in particular for that of DMA_UNMAP, which comes once the device
//! has let go of the memory. One that does not finds the device in need of a reset. A client that knows twin sockets is given one,
//! and finds all calls there.
//!
//! At the client's end, [`RemoteFunction`] has a thread that answers the server's calls, and one for interrupts where there are any to
//! listen to; any thread may touch its registers.
//!
//! # Clients that go and come back
//!
//! When a client goes, at whatever byte, its memory and eventfds go with it; queues stop and keep their positions. The next one
//! finds the registers as they were. The queues go on, and an interrupt that fired in between arrives, once it has mapped its
//! memory and touches a region. Access to memory that a client does not share ends with it, so a request that was under way by
//! messages leaves the device in need of a reset.
//!
//! # Migration
//!
//! A function that can be saved ([`is_saveable`](vioduct_pci::PciFunction::is_saveable)), as every virtio device and `pci-demo` can,
//! offers VFIO's states RUNNING, STOP, STOP_COPY, RESUMING and ERROR. In all but RUNNING its queues stand still, it reaches for no
//! memory, and what interrupts waits; registers answer, so that a client can set up the device that it restores. The data are a
//! sealed state ([`vioduct_state`]) of all that a guest can have changed, and of the vectors that wait for an eventfd. One that is
//! damaged, or of another device, leads to ERROR with the device in reset, and VFIO_USER_DEVICE_RESET out of it. A migration ends
//! with its client: the next one finds the device RUNNING.
//!
//! # QEMU
//!
//! `vfio-user-pci` of QEMU 11.1.3 was tried under TCG with Linux 7.2: a function of registers, and `virtio_rng` over virtio-pci
//! with MSI-X, with the pin, with memory by descriptor, and without, by messages; through reboots of the guest, and killed and
//! started again over the same server. Memory for descriptors must be `share=on`: of a
//! file that it maps privately QEMU sends the descriptor all the same, and the device then sees none of the guest's writes.
//!
//! # What is not here
//!
//! Mappable regions, eventfds to unmask INTx, and of migration the optional states (RUNNING_P2P, PRE_COPY). A client that shrinks a file which it shared kills this process, as with every protocol that shares memory so; and one
//! that gives a pipe to be signalled and goes, unless the program ignores SIGPIPE, as Rust has it.
#![deny(clippy::indexing_slicing, clippy::panic)]

mod assembly;
pub mod client;
pub mod device;
mod dma;
pub mod error;
mod feature;
pub mod function;
mod irqs;
mod link;
mod migration;
pub mod server;
mod session;
mod wire;

pub use client::{RemoteDoorbell, RemoteFunction};
pub use device::Device;
pub use error::{ConnectError, ServeError};
pub use function::{Doorbell, Served};
pub use server::{Server, Stopper};
