//! What is said on a connection: other bytes on each, and in each direction.

use std::io::{self, Read, Write};

use crate::verdict::must_hold;

/// Bytes after which content begins anew: a prime, with which no packet, page or ring goes even.
const PERIOD: usize = 65_521;
/// Bytes that are said or heard in one call, at most.
const PIECE: usize = 32 << 10;
/// How far apart two contents begin.
const STEP: usize = 163;

/// Who is speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    Caller,
    Called,
}

/// What one side says on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// The connection's.
    pub(super) number: u32,
    pub(super) speaker: Speaker,
    pub(super) len_bytes: u64,
}

impl Content {
    /// What the other side says.
    pub(super) fn answer(self) -> Self {
        let speaker = match self.speaker {
            Speaker::Caller => Speaker::Called,
            Speaker::Called => Speaker::Caller,
        };
        Self { speaker, ..self }
    }
}

/// Where all contents are taken from.
#[derive(Debug)]
pub(super) struct Table(Vec<u8>);

impl Table {
    pub(super) fn new() -> Self {
        let word = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        Self((0..PERIOD + PIECE).map(|at| word(at % PERIOD) as u8).collect())
    }

    /// So many bytes of a content from one place on, or as many as there are in one piece.
    fn piece(&self, content: Content, at: u64, len: usize) -> &[u8] {
        let start = (content.number as usize * 2 + content.speaker as usize) * STEP;
        let start = (start + (at % PERIOD as u64) as usize) % PERIOD;
        let left = usize::try_from(content.len_bytes.saturating_sub(at)).unwrap_or(PIECE);
        self.0.get(start..start + len.min(PIECE).min(left)).unwrap_or_default()
    }

    pub(super) fn say(&self, mut stream: impl Write, content: Content) -> io::Result<()> {
        let mut said = 0;
        while said < content.len_bytes {
            let piece = self.piece(content, said, PIECE);
            stream.write_all(piece)?;
            said += piece.len() as u64;
        }
        Ok(())
    }

    /// Hears to the end.
    pub(super) fn hear(&self, mut stream: impl Read, content: Content) -> io::Result<()> {
        let (mut heard, mut buffer) = (0, vec![0; PIECE]);
        loop {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                let why = format!("the end came after {heard} of {} bytes", content.len_bytes);
                return must_hold(heard == content.len_bytes, &why);
            }
            let right = buffer.get(..len) == Some(self.piece(content, heard, len));
            must_hold(right, &format!("other bytes came than were said, from {heard} on"))?;
            heard += len as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content = Content { number: 3, speaker: Speaker::Called, len_bytes: 200_000 };

    fn said(content: Content) -> Vec<u8> {
        let mut said = Vec::new();
        Table::new().say(&mut said, content).unwrap();
        said
    }

    #[test]
    fn what_was_said_is_heard() {
        let said = said(CONTENT);
        assert_eq!(said.len(), 200_000);
        Table::new().hear(&said[..], CONTENT).unwrap();
    }

    #[test]
    fn what_was_not_said_is_not_heard() {
        let hear = |said: &[u8]| Table::new().hear(said, CONTENT).map_err(|error| error.to_string());
        let mut changed = said(CONTENT);
        assert_eq!(hear(&changed[1..]).unwrap_err(), "other bytes came than were said, from 0 on");
        assert_eq!(hear(&changed[..199_999]).unwrap_err(), "the end came after 199999 of 200000 bytes");
        changed[199_999] ^= 1;
        assert!(hear(&changed).unwrap_err().starts_with("other bytes came"));
        changed[199_999] ^= 1;
        changed.push(0);
        assert!(hear(&changed).unwrap_err().starts_with("other bytes came"));
        let another = |content| hear(&said(content)).unwrap_err();
        another(CONTENT.answer());
        another(Content { number: 4, ..CONTENT });
    }
}
