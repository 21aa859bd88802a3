//! How a request's bytes are cut into pieces, one descriptor each (virtio 1.3 §2.7.4: a device makes no assumption about that).

use alloc::vec::Vec;
use core::num::NonZeroU32;
use vioduct_virtqueue::{Buffer, IoAddr};

/// Where to cut.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Segmentation {
    /// One piece for either part.
    #[default]
    Whole,
    /// Pieces of this many bytes, and the rest.
    Every(NonZeroU32),
    /// At these offsets of the readable and of the writable part, in bytes, ascending; those beyond the part count for nothing.
    At {
        /// Cuts of the device-readable part.
        readable: Vec<u32>,
        /// Cuts of the device-writable part.
        writable: Vec<u32>,
    },
}

/// Which part of a request is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Readable,
    Writable,
}

impl Segmentation {
    /// Replaces what is in `pieces` by those of `len` bytes at `addr`; none for no bytes.
    pub(crate) fn cut(&self, part: Part, addr: IoAddr, len: u32, pieces: &mut Vec<Buffer>) {
        pieces.clear();
        let mut done = 0;
        while done < len {
            let end = self.next_cut(part, done).min(len);
            pieces.push(Buffer { addr: IoAddr(addr.0 + u64::from(done)), len: end - done });
            done = end;
        }
    }

    /// The first cut after `done`.
    fn next_cut(&self, part: Part, done: u32) -> u32 {
        let cuts = match (self, part) {
            (Self::Whole, _) => return u32::MAX,
            (Self::Every(bytes), _) => return done.saturating_add(bytes.get()),
            (Self::At { readable, .. }, Part::Readable) => readable,
            (Self::At { writable, .. }, Part::Writable) => writable,
        };
        cuts.iter().copied().find(|cut| *cut > done).unwrap_or(u32::MAX)
    }
}
