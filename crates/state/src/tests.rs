#![allow(clippy::unwrap_used)]

use crate::{Kind, LoadError, MAX_LEN, Reader, Writer, claimed_len, open, seal};

const OUTER: Kind = Kind(*b"OUTR");
const INNER: Kind = Kind(*b"INNR");

fn state() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.block(OUTER, 3, |outer| {
        outer.u16(0x1234);
        outer.block(INNER, 1, |inner| inner.bytes(b"hello"));
        outer.u64(u64::MAX);
    });
    writer.into_bytes()
}

fn read(state: &[u8]) -> Result<(u16, Vec<u8>, u64), LoadError> {
    let mut reader = Reader::new(state);
    let mut outer = reader.block(OUTER, 3)?;
    let first = outer.u16()?;
    let mut inner = outer.block(INNER, 1)?;
    let bytes = inner.bytes()?.to_vec();
    inner.finish()?;
    let last = outer.u64()?;
    outer.finish()?;
    reader.finish()?;
    Ok((first, bytes, last))
}

#[test]
fn what_was_written_is_read() {
    let sealed = seal(&state());
    assert_eq!(read(open(&sealed).unwrap()), Ok((0x1234, b"hello".to_vec(), u64::MAX)));
    assert_eq!(claimed_len(&sealed), Ok(Some(sealed.len() as u64)));
}

/// Every length but the right one, with and without the seal.
#[test]
fn a_state_of_another_length_is_refused() {
    let (state, sealed) = (state(), seal(&state()));
    for len in 0..sealed.len() {
        assert_eq!(open(&sealed[..len]), Err(LoadError::Truncated), "{len}");
    }
    for len in 0..state.len() {
        assert_eq!(read(&state[..len]), Err(LoadError::Truncated), "{len}");
    }
    for more in [1, 2, 4096] {
        assert_eq!(open(&[&sealed[..], &vec![0; more]].concat()), Err(LoadError::Trailing(more as u64)));
        assert_eq!(read(&[&state[..], &vec![0; more]].concat()), Err(LoadError::Trailing(more as u64)));
    }
}

#[test]
fn no_bit_of_a_sealed_state_can_be_another() {
    let sealed = seal(&state());
    for bit in 0..8 * sealed.len() {
        let mut other = sealed.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&other).is_err(), "bit {bit}");
    }
}

#[test]
fn other_blocks_are_refused_by_name() {
    let mut reader = Reader::new(&[]);
    assert_eq!(reader.block(OUTER, 3).unwrap_err(), LoadError::Truncated);
    let state = state();
    let error = Reader::new(&state).block(INNER, 3).unwrap_err();
    assert_eq!(error, LoadError::Kind { expected: INNER, found: OUTER });
    assert!(error.to_string().contains("a part OUTR where INNR should be"), "{error}");
    let error = Reader::new(&state).block(OUTER, 2).unwrap_err();
    assert_eq!(error, LoadError::Version { kind: OUTER, found: 3, known: 2 });
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_kept() {
    let mut claims = Writer::default();
    claims.u64(u64::MAX);
    assert_eq!(Reader::new(&claims.into_bytes()).bytes(), Err(LoadError::Truncated));
    let with_len = |len: u64| [b"Vioduct\0\x01\0", &len.to_le_bytes()[..]].concat();
    assert_eq!(claimed_len(&with_len(MAX_LEN)), Err(LoadError::TooLong(MAX_LEN + 22)));
    assert_eq!(claimed_len(&with_len(u64::MAX)), Err(LoadError::TooLong(u64::MAX)));
    assert_eq!(claimed_len(&with_len(MAX_LEN - 22)), Ok(Some(MAX_LEN)));
    for begun in 0..18 {
        assert_eq!(claimed_len(&with_len(5)[..begun]), Ok(None), "{begun}");
    }
    assert_eq!(claimed_len(b"Viodukt"), Err(LoadError::Magic));
    let error = claimed_len(b"Vioduct\0\x02\0\0\0\0\0\0\0\0\0").unwrap_err().to_string();
    assert!(error.contains("SEAL of the saved state has version 2, and 1 is known"), "{error}");
}
