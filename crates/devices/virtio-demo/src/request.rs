//! The request format: `u32` opcode, `u32` operand, in either direction.

use vioduct_spec::demo;
use vioduct_virtio_device::{BufferError, Chain};

/// What a driver asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Read,
    Write(u32),
    /// Of an opcode that there is not.
    Unknown(u32),
}

impl Request {
    /// Decodes the readable half; a buffer that is too short in either half is refused here, before anything is stored.
    pub(crate) fn parse(chain: &Chain) -> Result<Self, BufferError> {
        let mut reader = chain.reader();
        let (opcode, operand) = (reader.read_u32()?, reader.read_u32()?);
        if chain.writable_len() < demo::HALF_LEN as u64 {
            return Err(BufferError::Short { wanted: demo::HALF_LEN, remaining: chain.writable_len() });
        }
        Ok(match opcode {
            demo::OP_READ => Self::Read,
            demo::OP_WRITE => Self::Write(operand),
            _ => Self::Unknown(operand),
        })
    }
}

/// Encodes the writable half; returns its length in bytes.
pub(crate) fn reply(chain: &Chain, opcode: u32, operand: u32) -> Result<u32, BufferError> {
    let mut writer = chain.writer();
    writer.write_u32(opcode)?;
    writer.write_u32(operand)?;
    Ok(demo::HALF_LEN as u32)
}
