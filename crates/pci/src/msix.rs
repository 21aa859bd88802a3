//! The MSI-X table and its pending bits (PCI 3.0 §6.8.2), as the guest programs them.

use vioduct_state::{LoadError, Reader, Writer};

use crate::{MsiMessage, VectorState};

/// Bits of a table entry that a guest may write: message address (a multiple of 4), upper address, data, mask bit.
const WRITABLE: [u32; 4] = [0xffff_fffc, 0xffff_ffff, 0xffff_ffff, MASK_BIT];
const MASK_BIT: u32 = 1;
/// PCI 3.0 §6.8.2.9: the mask bit is set after a reset.
const RESET_ENTRY: [u32; 4] = [0, 0, 0, MASK_BIT];
const ENTRY_LEN: u64 = 16;

/// Enable bit and function mask, from the capability's message control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) enabled: bool,
    pub(crate) masked: bool,
}

#[derive(Debug)]
pub(crate) struct Msix {
    entries: Vec<[u32; 4]>,
    /// One bit per vector; set only while the vector is masked.
    pending: Vec<u64>,
    control: Control,
}

impl Msix {
    pub(crate) fn new(vectors: u16) -> Self {
        let words = usize::from(vectors).div_ceil(64);
        Self {
            entries: vec![RESET_ENTRY; usize::from(vectors)],
            pending: vec![0; words],
            control: Control { enabled: false, masked: false },
        }
    }

    pub(crate) fn reset(&mut self) {
        let Self { entries, pending, control } = self;
        entries.fill(RESET_ENTRY);
        pending.fill(0);
        *control = Control { enabled: false, masked: false };
    }

    /// The table and the pending bits; control is a register of configuration space.
    pub(crate) fn save(&self, writer: &mut Writer) {
        let Self { entries, pending, control: _ } = self;
        writer.u64(entries.len() as u64);
        entries.iter().flatten().for_each(|word| writer.u32(*word));
        pending.iter().for_each(|bits| writer.u64(*bits));
    }

    /// What [`save`](Self::save) has written of a table with as many vectors, turned off.
    pub(crate) fn read(vectors: u16, reader: &mut Reader<'_>) -> Result<Self, LoadError> {
        let saved = reader.u64()?;
        if saved != u64::from(vectors) {
            return Err(LoadError::OtherDevice(format!("it has {saved} MSI-X vectors, this one {vectors}")));
        }
        let mut msix = Self::new(vectors);
        let words = msix.entries.iter_mut().flat_map(|entry| entry.iter_mut().zip(WRITABLE));
        for (word, mask) in words {
            *word = reader.u32()?;
            if *word & !mask != 0 {
                return Err(LoadError::Value("the MSI-X table is written where it cannot be"));
            }
        }
        for (first, bits) in (0..).step_by(64).zip(&mut msix.pending) {
            *bits = reader.u64()?;
            let there = u32::from(vectors).saturating_sub(first).min(64);
            if *bits & !(u64::MAX >> (64 - there)) != 0 {
                return Err(LoadError::Value("vectors are pending that there are not"));
            }
        }
        Ok(msix)
    }

    /// Takes over a table that was read. Pending bits are kept only while MSI-X is on.
    pub(crate) fn restore(&mut self, saved: Self, control: Control) {
        *self = saved;
        self.set_control(control);
    }

    pub(crate) fn control(&self) -> Control {
        self.control
    }

    /// Pending bits mean nothing while MSI-X is off, and must not come back when it is turned on again.
    pub(crate) fn set_control(&mut self, control: Control) {
        self.control = control;
        if !control.enabled {
            self.pending.fill(0);
        }
    }

    pub(crate) fn state(&self, vector: u16) -> VectorState {
        match self.entries.get(usize::from(vector)) {
            Some(_) if !self.control.enabled => VectorState::Disabled,
            Some(_) if self.control.masked => VectorState::Masked,
            Some([_, _, _, control]) if control & MASK_BIT != 0 => VectorState::Masked,
            Some(_) => VectorState::Unmasked(self.message(vector)),
            None => VectorState::Disabled,
        }
    }

    pub(crate) fn message(&self, vector: u16) -> MsiMessage {
        let [low, high, data, _] = self.entries.get(usize::from(vector)).copied().unwrap_or(RESET_ENTRY);
        MsiMessage { address: u64::from(high) << 32 | u64::from(low), data }
    }

    pub(crate) fn set_pending(&mut self, vector: u16) {
        if let Some(word) = self.pending.get_mut(usize::from(vector / 64)) {
            *word |= 1 << (vector % 64);
        }
    }

    /// Clears the pending bit and says whether it was set.
    pub(crate) fn take_pending(&mut self, vector: u16) -> bool {
        let Some(word) = self.pending.get_mut(usize::from(vector / 64)) else { return false };
        let bit = 1 << (vector % 64);
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// The vector whose table entry is at `offset`.
    pub(crate) fn vector_at(offset: u64) -> Option<u16> {
        u16::try_from(offset / ENTRY_LEN).ok()
    }

    pub(crate) fn table_read(&self, offset: u64, out: &mut [u8]) {
        read_words(offset, out, |word| {
            let entry = self.entries.get(usize::try_from(word / 4).ok()?)?;
            entry.get(usize::try_from(word % 4).ok()?).copied()
        });
    }

    pub(crate) fn table_write(&mut self, offset: u64, data: &[u8]) {
        if !is_word_access(offset, data.len()) {
            return;
        }
        for (bytes, word) in data.chunks_exact(4).zip(offset / 4..) {
            let (Ok(value), Ok(entry), Ok(field)) =
                (<[u8; 4]>::try_from(bytes), usize::try_from(word / 4), usize::try_from(word % 4))
            else {
                return;
            };
            let slot = self.entries.get_mut(entry).and_then(|entry| entry.get_mut(field));
            if let (Some(slot), Some(mask)) = (slot, WRITABLE.get(field)) {
                *slot = u32::from_le_bytes(value) & mask;
            }
        }
    }

    pub(crate) fn pba_read(&self, offset: u64, out: &mut [u8]) {
        read_words(offset, out, |word| {
            let bits = self.pending.get(usize::try_from(word / 2).ok()?)?;
            u32::try_from(bits >> (32 * (word % 2)) & 0xffff_ffff).ok()
        });
    }
}

/// PCI 3.0 §6.8.2: software accesses these structures in aligned 4- and 8-byte words; anything else is undefined, and
/// here reads as all ones and writes nothing.
fn is_word_access(offset: u64, len: usize) -> bool {
    match len {
        4 => offset.is_multiple_of(4),
        8 => offset.is_multiple_of(8),
        _ => false,
    }
}

fn read_words(offset: u64, out: &mut [u8], word_at: impl Fn(u64) -> Option<u32>) {
    out.fill(0xff);
    if !is_word_access(offset, out.len()) {
        return;
    }
    for (bytes, word) in out.chunks_exact_mut(4).zip(offset / 4..) {
        bytes.copy_from_slice(&word_at(word).unwrap_or(u32::MAX).to_le_bytes());
    }
}
