//! The two request formats.

use std::fmt;
use vioduct_spec::test;
use vioduct_virtio_device::{BufferError, Chain};

/// Which requests a device understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `u32 arg1`, text; the reply is a `u32`: its factorial modulo 2^32.
    Factorial,
    /// `u32 type, arg1, arg2, arg3`, text; the reply is three `u32`: each argument and 100.
    Echo,
}

/// What a driver sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The numbers before the text, in order: one (factorial) or four (echo).
    numbers: [u32; 4],
    count: usize,
    text: [u8; test::TEXT_LEN],
}

impl Request {
    /// Reads a request. The chain is used as it is now: a driver that changes it later changes nothing.
    pub(crate) fn parse(format: Format, chain: &Chain) -> Result<Self, BufferError> {
        let count = match format {
            Format::Factorial => 1,
            Format::Echo => 4,
        };
        let mut reader = chain.reader();
        let mut request = Self { numbers: [0; 4], count, text: [0; test::TEXT_LEN] };
        for number in request.numbers.iter_mut().take(count) {
            *number = reader.read_u32()?;
        }
        reader.read_exact(&mut request.text)?;
        Ok(request)
    }

    /// Writes the reply; returns its length in bytes. A buffer that cannot hold all of it gets nothing.
    pub(crate) fn answer(&self, format: Format, chain: &Chain) -> Result<u32, BufferError> {
        let [first, second, third, fourth] = self.numbers;
        match format {
            Format::Factorial => {
                chain.writer().write_u32(factorial(first))?;
                Ok(test::FACTORIAL_WRITABLE_LEN as u32)
            }
            Format::Echo => {
                let mut reply = [0; test::ECHO_WRITABLE_LEN];
                for (word, number) in reply.chunks_exact_mut(4).zip([second, third, fourth]) {
                    word.copy_from_slice(&number.wrapping_add(test::ECHO_INCREMENT).to_le_bytes());
                }
                chain.writer().write_all(&reply)?;
                Ok(test::ECHO_WRITABLE_LEN as u32)
            }
        }
    }

    /// The numbers before the text, in order: `arg1` (factorial), or `type`, `arg1`, `arg2`, `arg3` (echo).
    pub fn numbers(&self) -> &[u32] {
        self.numbers.get(..self.count).unwrap_or_default()
    }

    /// The text up to its first NUL, as the driver sent it.
    pub fn text(&self) -> &[u8] {
        self.text.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for Request {
    /// The numbers, and the text with everything escaped that is not printable ASCII: it goes to terminals and logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in self.numbers() {
            write!(f, "{number} ")?;
        }
        write!(f, "\"{}\"", self.text().escape_ascii())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({self})")
    }
}

/// `number`! modulo 2^32. 34! has 32 factors of two, so from there on it is 0: a driver cannot have the device count to 2^32.
pub(crate) fn factorial(number: u32) -> u32 {
    const FIRST_ZERO: u32 = 34;
    if number >= FIRST_ZERO {
        return 0;
    }
    (1..=number).fold(1, u32::wrapping_mul)
}
