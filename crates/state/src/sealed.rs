//! A whole state: its length and a checksum around it, so that what is cut short, extended or damaged is told before anything
//! of it is believed.

use crate::{Kind, LoadError, Reader};

/// Bytes that a sealed state has at most. A device that needs more is one whose contents are elsewhere.
pub const MAX_LEN: u64 = 64 << 20;

const MAGIC: [u8; 8] = *b"Vioduct\0";
/// The form of the seal; blocks have versions of their own.
const VERSION: u16 = 1;
const SEAL: Kind = Kind(*b"SEAL");
/// Magic, version and length of what is sealed; the checksum follows it.
const HEAD_LEN: usize = 18;
const CHECKSUM_LEN: usize = 4;

/// Seals `state`.
#[must_use]
pub fn seal(state: &[u8]) -> Vec<u8> {
    let len = (state.len() as u64).to_le_bytes();
    let mut sealed = [&MAGIC[..], &VERSION.to_le_bytes(), &len, state].concat();
    let checksum = crc32(&sealed);
    sealed.extend(checksum.to_le_bytes());
    sealed
}

/// What was sealed.
///
/// # Errors
/// If `sealed` is not the whole of what [`seal`] has made, or made by a program of another version.
pub fn open(sealed: &[u8]) -> Result<&[u8], LoadError> {
    let len = claimed_len(sealed)?.ok_or(LoadError::Truncated)?;
    let have = sealed.len() as u64;
    if have < len {
        return Err(LoadError::Truncated);
    }
    if have > len {
        return Err(LoadError::Trailing(have - len));
    }
    let (checked, checksum) = sealed.split_last_chunk::<CHECKSUM_LEN>().ok_or(LoadError::Truncated)?;
    if crc32(checked) != u32::from_le_bytes(*checksum) {
        return Err(LoadError::Checksum);
    }
    checked.get(HEAD_LEN..).ok_or(LoadError::Truncated)
}

/// How many bytes the sealed state has that begins with `sealed`; `None` before enough of it is there. Who receives a state
/// asks after each piece, and so keeps nothing of what cannot become one.
///
/// # Errors
/// If it can be told already that it is no state, or none of a known version, or longer than [`MAX_LEN`].
pub fn claimed_len(sealed: &[u8]) -> Result<Option<u64>, LoadError> {
    let begun = sealed.len().min(MAGIC.len());
    if sealed.get(..begun) != MAGIC.get(..begun) {
        return Err(LoadError::Magic);
    }
    let Some(head) = sealed.first_chunk::<HEAD_LEN>() else { return Ok(None) };
    let mut head = Reader::new(head.get(MAGIC.len()..).unwrap_or_default());
    let found = head.u16()?;
    if found != VERSION {
        return Err(LoadError::Version { kind: SEAL, found, known: VERSION });
    }
    let state_len = head.u64()?;
    let len = state_len.saturating_add((HEAD_LEN + CHECKSUM_LEN) as u64);
    if len > MAX_LEN { Err(LoadError::TooLong(len)) } else { Ok(Some(len)) }
}

/// The checksum of Ethernet and zlib, a bit at a time: states are short.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ POLYNOMIAL };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
