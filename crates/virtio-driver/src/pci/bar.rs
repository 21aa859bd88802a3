//! Base address registers: their sizes, their addresses, and windows onto them (PCI 3.0 §6.2.5).

use super::config_access::{ConfigAccess, FunctionAddress};
use super::error::PciError;
use super::registers::*;
use crate::register_window::RegisterWindow;

/// Number of base address registers of a type 0 header.
pub(crate) const BARS: usize = 6;

/// Which address space a BAR is in, and how wide its register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64,
}

/// A base address register that the function implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Its number, 0 to 5.
    pub index: u8,
    /// Address space.
    pub kind: BarKind,
    /// First address; 0 if none was assigned.
    pub address: u64,
    /// Length in bytes, a power of two.
    pub len: u64,
}

/// Gives addresses to BARs that have none.
pub trait BarAllocator {
    /// A free address for `len` bytes, aligned to `len` (a power of two), or `None`.
    fn allocate(&mut self, kind: BarKind, len: u64) -> Option<u64>;
}

/// A range of memory addresses that are given to BARs in turn, and never taken back.
#[derive(Clone, Debug)]
pub struct Aperture {
    next: u64,
    end: u64,
}

impl Aperture {
    /// The addresses from `start` to before `end`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self { next: start, end }
    }
}

impl BarAllocator for Aperture {
    fn allocate(&mut self, kind: BarKind, len: u64) -> Option<u64> {
        let start = self.next.checked_next_multiple_of(len)?;
        let end = start.checked_add(len).filter(|end| *end <= self.end)?;
        let reachable = match kind {
            BarKind::Memory32 => end <= 1 << 32,
            BarKind::Memory64 => true,
            BarKind::Io => false,
        };
        if !reachable {
            return None;
        }
        self.next = end;
        Some(start)
    }
}

/// Makes windows onto parts of BARs: maps physical memory, or finds the model. Closures of this form do too.
pub trait BarAccess {
    /// What it makes.
    type Window: RegisterWindow;

    /// A window onto exactly `len` bytes at `offset` of a BAR, which are within it; `None` if that cannot be.
    fn map(&mut self, bar: &Bar, offset: u64, len: u64) -> Option<Self::Window>;
}

impl<W: RegisterWindow, F: FnMut(&Bar, u64, u64) -> Option<W>> BarAccess for F {
    type Window = W;

    fn map(&mut self, bar: &Bar, offset: u64, len: u64) -> Option<W> {
        self(bar, offset, len)
    }
}

/// A window onto a part of a BAR, which must be as long as asked for: accesses are checked against its length.
pub(crate) fn map_part<A: BarAccess + ?Sized>(
    access: &mut A,
    bar: &Bar,
    offset: u64,
    len: u64,
) -> Result<A::Window, PciError> {
    let window = access.map(bar, offset, len).filter(|window| window.window_len() == len);
    window.ok_or(PciError::Unmapped(bar.index))
}

const fn register(index: u8) -> u16 {
    BAR0 + 4 * index as u16
}

/// Reads the BARs of a function and their sizes. Decoding must be off: the registers hold other addresses meanwhile.
pub(crate) fn read_bars<C: ConfigAccess + ?Sized>(
    config: &C,
    at: FunctionAddress,
) -> Result<[Option<Bar>; BARS], PciError> {
    let mut bars = [None; BARS];
    let mut slots = (0u8..).zip(&mut bars);
    while let Some((index, slot)) = slots.next() {
        *slot = read_bar(config, at, index)?;
        if slot.is_some_and(|bar| bar.kind == BarKind::Memory64) {
            slots.next().ok_or(PciError::BarPair(index))?;
        }
    }
    Ok(bars)
}

fn read_bar<C: ConfigAccess + ?Sized>(
    config: &C,
    at: FunctionAddress,
    index: u8,
) -> Result<Option<Bar>, PciError> {
    let (low, low_mask) = probe(config, at, register(index));
    let kind = match (low & BAR_IO, low & BAR_MEMORY_TYPE) {
        (BAR_IO, _) => BarKind::Io,
        (_, BAR_MEMORY64) => BarKind::Memory64,
        _ => BarKind::Memory32,
    };
    let (address, mask) = match kind {
        _ if low_mask == 0 => return Ok(None),
        // A function may leave out the upper half of an I/O BAR's bits.
        BarKind::Io => (u64::from(low), u64::from(low_mask) | 0xffff_ffff_ffff_0000),
        BarKind::Memory32 => (u64::from(low), u64::from(low_mask) | 0xffff_ffff_0000_0000),
        BarKind::Memory64 if usize::from(index) + 1 == BARS => return Err(PciError::BarPair(index)),
        BarKind::Memory64 => {
            let (high, high_mask) = probe(config, at, register(index + 1));
            (u64::from(low) | u64::from(high) << 32, u64::from(low_mask) | u64::from(high_mask) << 32)
        }
    };
    let flags = if kind == BarKind::Io { BAR_IO_FLAGS } else { BAR_MEMORY_FLAGS };
    // The bits that cannot be set are those below the size.
    let len = (!(mask & !flags)).wrapping_add(1);
    if !len.is_power_of_two() || len <= flags {
        return Err(PciError::BarSize { bar: index, mask });
    }
    Ok(Some(Bar { index, kind, address: address & !flags, len }))
}

/// What a register holds, and what it holds after all ones were written; the former is put back.
fn probe<C: ConfigAccess + ?Sized>(config: &C, at: FunctionAddress, register: u16) -> (u32, u32) {
    let held = config.read_u32(at, register);
    config.write_u32(at, register, !0);
    let mask = config.read_u32(at, register);
    config.write_u32(at, register, held);
    (held, mask)
}

/// Gives a BAR an address. Decoding must be off.
pub(crate) fn assign<C: ConfigAccess + ?Sized>(
    config: &C,
    at: FunctionAddress,
    bar: &mut Bar,
    allocator: &mut dyn BarAllocator,
) -> Result<(), PciError> {
    let none = PciError::NoAddresses { bar: bar.index, len: bar.len };
    let address = allocator.allocate(bar.kind, bar.len).ok_or(none)?;
    config.write_u32(at, register(bar.index), address as u32);
    if bar.kind == BarKind::Memory64 {
        config.write_u32(at, register(bar.index + 1), (address >> 32) as u32);
    }
    bar.address = address;
    Ok(())
}
