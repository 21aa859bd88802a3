//! Serves the requests.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use vioduct_virtio_device::{Fault, Io, QueueHandler, Wake};

/// A request gets at most this many bytes, in one wake: a driver may ask for gigabytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Bytes fetched from the system at a time.
pub(crate) const PIECE_BYTES: usize = 4096;

pub(crate) struct Filler {
    pub(crate) piece: [u8; PIECE_BYTES],
}

impl QueueHandler for Filler {
    /// virtio 1.3 §5.4.6.2: the device must place one or more random bytes into the buffer, and may use less than all of it.
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        let mut failure = None;
        io.serve(q, |chain| {
            let mut writer = chain.writer();
            let wanted = writer.remaining().min(MAX_REQUEST_BYTES as u64);
            for piece_len in
                (0..wanted).step_by(PIECE_BYTES).map(|done| (wanted - done).min(PIECE_BYTES as u64))
            {
                let piece = self.piece.get_mut(..piece_len as usize).unwrap_or_default();
                if let Err(error) = fill(piece) {
                    failure = Some(Fault::Device(format!("no random bytes: {error}").into()));
                    return Ok(0);
                }
                writer.write_all(piece)?;
            }
            Ok(wanted as u32)
        })?;
        failure.map_or(Ok(()), Err)
    }
}

/// Fetches random bytes by the system call, never from a file: in a sandbox none can be opened.
fn fill(mut piece: &mut [u8]) -> Result<(), Errno> {
    while !piece.is_empty() {
        match getrandom(&mut *piece, GetRandomFlags::empty()) {
            Ok(fetched) => piece = piece.get_mut(fetched..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
