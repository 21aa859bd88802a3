//! Configuration space (virtio 1.3 §2.5) by fields, and several fields of one generation.

use crate::transport::{Transport, TransportError};

/// Tries at reading a configuration that keeps changing, before the device is taken to be broken.
pub const GENERATION_TRIES: u32 = 32;

/// Reads what `read` reads, as often as it takes until the configuration did not change meanwhile.
///
/// virtio 1.3 §2.5.1 and §4.1.4.3.2: fields beyond 32 bits, and fields that belong together, are read between two reads of one
/// generation; a device that changes it without end must not hold the driver for ever.
///
/// # Errors
/// What `read` says, or [`TransportError::ConfigUnstable`].
pub fn stable<T: Transport + ?Sized, R>(
    transport: &mut T,
    mut read: impl FnMut(&mut T) -> Result<R, TransportError>,
) -> Result<R, TransportError> {
    let mut before = transport.config_generation();
    for _ in 0..GENERATION_TRIES {
        let value = read(transport)?;
        let after = transport.config_generation();
        if after == before {
            return Ok(value);
        }
        before = after;
    }
    Err(TransportError::ConfigUnstable)
}

/// Reads one field of `N` bytes at `offset`, of one generation.
///
/// # Errors
/// [`TransportError::ConfigRange`], [`TransportError::ConfigUnstable`].
pub fn read_bytes<const N: usize, T: Transport + ?Sized>(
    transport: &mut T,
    offset: u64,
) -> Result<[u8; N], TransportError> {
    stable(transport, |transport| {
        let mut bytes = [0; N];
        transport.read_config_field(offset, &mut bytes)?;
        Ok(bytes)
    })
}

/// Reads a little-endian `u32` at `offset`.
///
/// # Errors
/// [`TransportError::ConfigRange`], [`TransportError::ConfigUnstable`].
pub fn read_u32<T: Transport + ?Sized>(transport: &mut T, offset: u64) -> Result<u32, TransportError> {
    read_bytes(transport, offset).map(u32::from_le_bytes)
}

/// Reads a little-endian `u64` at `offset`.
///
/// # Errors
/// [`TransportError::ConfigRange`], [`TransportError::ConfigUnstable`].
pub fn read_u64<T: Transport + ?Sized>(transport: &mut T, offset: u64) -> Result<u64, TransportError> {
    read_bytes(transport, offset).map(u64::from_le_bytes)
}

/// Reads `N` neighbouring little-endian `u32` from `offset`, all of one generation.
///
/// # Errors
/// [`TransportError::ConfigRange`], [`TransportError::ConfigUnstable`].
pub fn read_u32_fields<const N: usize, T: Transport + ?Sized>(
    transport: &mut T,
    offset: u64,
) -> Result<[u32; N], TransportError> {
    stable(transport, |transport| {
        let mut fields = [0; N];
        for (number, field) in (0u64..).zip(&mut fields) {
            let mut bytes = [0; 4];
            transport.read_config_field(offset + 4 * number, &mut bytes)?;
            *field = u32::from_le_bytes(bytes);
        }
        Ok(fields)
    })
}

/// Writes neighbouring little-endian `u32` from `offset`, one after the other.
///
/// # Errors
/// [`TransportError::ConfigRange`].
pub fn write_u32_fields<T: Transport + ?Sized>(
    transport: &mut T,
    offset: u64,
    fields: &[u32],
) -> Result<(), TransportError> {
    for (number, field) in (0u64..).zip(fields) {
        transport.write_config_field(offset + 4 * number, &field.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
