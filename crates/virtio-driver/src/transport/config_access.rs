//! One field of a configuration space that lies in a register window.

use crate::register_window::RegisterWindow;
use crate::transport::TransportError;

/// Widest access that fits a field: virtio 1.3 §4.1.3.1 and §4.2.2.2 have fields of 8, 16 and 32 bits accessed in their own width,
/// those of 64 bits as two of 32, and arrays of bytes byte by byte.
fn access_len(offset: u64, len: usize) -> usize {
    let natural = match len {
        2 => 2,
        4 | 8 => 4,
        _ => 1,
    };
    if offset.is_multiple_of(natural as u64) { natural } else { 1 }
}

/// Where a field is in the window, whose `(start, len)` in bytes is the configuration's.
fn place((start, space): (u64, u64), offset: u64, len: usize) -> Result<u64, TransportError> {
    let end = offset.checked_add(len as u64);
    end.filter(|end| *end <= space)
        .and_then(|_| start.checked_add(offset))
        .ok_or(TransportError::ConfigRange { offset, len, space })
}

/// Reads a field as its little-endian bytes.
pub(crate) fn read_fields<W: RegisterWindow + ?Sized>(
    window: &W,
    space: (u64, u64),
    offset: u64,
    out: &mut [u8],
) -> Result<(), TransportError> {
    let at = place(space, offset, out.len())?;
    let step = access_len(offset, out.len());
    for (at, part) in (at..).step_by(step).zip(out.chunks_mut(step)) {
        let value = match step {
            1 => u32::from(window.read_u8(at)),
            2 => u32::from(window.read_u16(at)),
            _ => window.read_u32(at),
        };
        for (to, from) in part.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }
    Ok(())
}

/// Writes a field from its little-endian bytes.
pub(crate) fn write_fields<W: RegisterWindow + ?Sized>(
    window: &W,
    space: (u64, u64),
    offset: u64,
    data: &[u8],
) -> Result<(), TransportError> {
    let at = place(space, offset, data.len())?;
    let step = access_len(offset, data.len());
    for (at, part) in (at..).step_by(step).zip(data.chunks(step)) {
        let value = part.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        match step {
            1 => window.write_u8(at, value as u8),
            2 => window.write_u16(at, value as u16),
            _ => window.write_u32(at, value),
        }
    }
    Ok(())
}
