//! What is in flight, recorded in shared memory that outlives this process: whoever serves the queue after a crash resumes from
//! it, so that no buffer is lost and none is completed twice.
//!
//! The records are those of the vhost-user protocol ("Inflight I/O tracking"). Whoever else holds the memory may write to it at
//! any moment. So a record is read only when a queue starts, every field is checked then, and what runs works with private
//! copies and only writes.
//!
//! A queue with a record goes its own way through [`Queue`](crate::Queue), so that one without pays nothing for it.
//!
//! | module | what is in it |
//! |---|---|
//! | `split` | heads in flight are popped again by their numbers |
//! | `packed` | chains in flight are put back into the ring, in order, and popped again from there |

pub(crate) mod packed;
pub(crate) mod split;
#[cfg(test)]
mod tests;

use crate::area::Mapped;
use crate::error::SetupError;
use crate::layout::RingFormat;
use crate::memory::{Access, IoAddr, Memory, MemoryFault};
use alloc::sync::Arc;

/// Where a queue records what it has in flight: zeroed at first, then whatever an earlier queue has left there.
#[derive(Clone)]
pub struct InFlightArea {
    /// What maps it.
    pub memory: Arc<dyn Memory>,
    /// Its address there, a multiple of 16. [`len_for`](Self::len_for) bytes from here on lie in one region.
    pub at: IoAddr,
}

impl InFlightArea {
    /// Bytes that the record of a queue of `size` descriptors takes.
    #[must_use]
    pub const fn len_for(format: RingFormat, size: u16) -> usize {
        match format {
            RingFormat::Split => (split::HEADER_WORDS + split::ENTRY_WORDS * size as usize) * WORD_LEN,
            RingFormat::Packed => (packed::HEADER_WORDS + packed::ENTRY_WORDS * size as usize) * WORD_LEN,
        }
    }

    pub(crate) fn map(&self, format: RingFormat, size: u16) -> Result<Words, SetupError> {
        let Self { memory, at } = self;
        let len = Self::len_for(format, size);
        if !at.0.is_multiple_of(16) {
            return Err(SetupError::Alignment(*at, 16));
        }
        let area = Mapped::find(memory, *at, len, Access::ReadWrite);
        area.map(Words).ok_or(SetupError::Memory(MemoryFault { at: *at, len: len as u64 }))
    }
}

const WORD_LEN: usize = 8;
/// The version of both records; 0 is one that was never used.
const VERSION: u16 = 1;
/// The lowest byte of an entry's first word, where its chain is in flight.
const IN_FLIGHT: u64 = 1;

/// A record as words of 64 bits: a process that dies has written each of them whole or not at all.
pub(crate) struct Words(Mapped);

impl Words {
    fn load(&self, word: usize) -> Result<u64, MemoryFault> {
        self.0.load_u64(word * WORD_LEN)
    }

    /// Stores are seen in the order in which they are made.
    fn store(&self, word: usize, value: u64) -> Result<(), MemoryFault> {
        #[cfg(test)]
        tests::spend_store()?;
        self.0.store_u64(word * WORD_LEN, value)
    }
}

/// Field `place` of the four of 16 bits in a word, lowest first.
const fn field(word: u64, place: u32) -> u16 {
    (word >> (16 * place)) as u16
}

/// A word of four fields of 16 bits, lowest first.
const fn word(fields: [u16; 4]) -> u64 {
    let [a, b, c, d] = fields;
    a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}
