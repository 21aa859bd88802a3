//! The form in which devices are saved, to go on in another process or on another host.
//!
//! | module | what is in it |
//! |---|---|
//! | [`sealed`] | [`seal`] and [`open`]: a whole state with its length and checksum; [`claimed_len`] for those who receive one |
//! | [`writer`] | [`Writer`]: numbers, bytes and blocks, one after the other |
//! | [`reader`] | [`Reader`]: the same in the same order, checked |
//! | [`error`] | [`LoadError`]: why a state is refused |
//!
//! Numbers are little-endian. A block has a kind of four letters, a version and a length, so a state can be taken apart by who
//! does not know what is in it, and what is not understood is refused by name. Blocks lie in blocks: a transport's holds its
//! device's.
//!
//! ```
//! use vioduct_state::{Kind, LoadError, Reader, Writer, open, seal};
//!
//! const LAMP: Kind = Kind(*b"LAMP");
//!
//! let mut writer = Writer::default();
//! writer.block(LAMP, 1, |lamp| lamp.u8(7));
//! let sealed = seal(&writer.into_bytes());
//!
//! let mut reader = Reader::new(open(&sealed)?);
//! let mut lamp = reader.block(LAMP, 1)?;
//! assert_eq!(lamp.u8()?, 7);
//! lamp.finish()?;
//! reader.finish()?;
//! assert_eq!(open(&sealed[1..]), Err(LoadError::Magic));
//! # Ok::<(), LoadError>(())
//! ```
//!
//! A state comes from a file or from another host. The checksum tells damage, not malice: whoever reads a state checks every
//! value as what a peer says. Nothing here allocates by a length that it has read.
#![deny(clippy::indexing_slicing, clippy::panic)]

pub mod error;
pub mod reader;
pub mod sealed;
#[cfg(test)]
mod tests;
pub mod writer;

pub use error::{Kind, LoadError};
pub use reader::Reader;
pub use sealed::{MAX_LEN, claimed_len, open, seal};
pub use writer::Writer;
