//! Where a device stands in its migration, and the state on its way in or out.
//!
//! The states and arcs are those of Linux's `enum vfio_device_mig_state` that `VFIO_MIGRATION_STOP_COPY` stands for. A client asks
//! for a state; the device goes there by arcs, each of which it may refuse. Between any two of these states but STOP, the
//! shortest way is by STOP.

use crate::wire::Refusal;
use vioduct_state::claimed_len;

/// A state, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum MigrationState {
    /// The device has failed, and is to be reset. No client can ask for this.
    Error = 0,
    /// It does nothing, and keeps what it is.
    Stop = 1,
    Running = 2,
    /// As [`Stop`](Self::Stop), and its state can be read.
    StopCopy = 3,
    /// As [`Stop`](Self::Stop), and its state is being written.
    Resuming = 4,
}

impl MigrationState {
    /// A state that a client asks for. RUNNING_P2P and those of PRE_COPY are not offered.
    pub(crate) fn wanted(number: u32) -> Result<Self, Refusal> {
        match number {
            1 => Ok(Self::Stop),
            2 => Ok(Self::Running),
            3 => Ok(Self::StopCopy),
            4 => Ok(Self::Resuming),
            _ => Err(Refusal::Invalid),
        }
    }

    /// The state at the end of the first arc on the way to another one. From ERROR there is none: only a reset leads out of it.
    pub(crate) fn toward(self, wanted: Self) -> Result<Self, Refusal> {
        match (self, wanted) {
            (Self::Error, _) | (_, Self::Error) => Err(Refusal::Invalid),
            (Self::Stop, _) => Ok(wanted),
            (_, _) => Ok(Self::Stop),
        }
    }
}

/// A state, with what there is only in it.
#[derive(Debug)]
pub(crate) enum Phase {
    Error,
    Stop,
    Running,
    StopCopy(Outgoing),
    Resuming(Incoming),
}

impl Phase {
    pub(crate) fn state(&self) -> MigrationState {
        match self {
            Self::Error => MigrationState::Error,
            Self::Stop => MigrationState::Stop,
            Self::Running => MigrationState::Running,
            Self::StopCopy(_) => MigrationState::StopCopy,
            Self::Resuming(_) => MigrationState::Resuming,
        }
    }
}

/// A saved state that a client reads.
#[derive(Debug)]
pub(crate) struct Outgoing {
    state: Vec<u8>,
    read: usize,
}

impl Outgoing {
    pub(crate) fn new(state: Vec<u8>) -> Self {
        Self { state, read: 0 }
    }

    /// The next `count` bytes. Fewer are the last.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let left = self.state.get(self.read..).unwrap_or_default();
        let piece = left.get(..count).unwrap_or(left);
        self.read += piece.len();
        piece
    }
}

/// A saved state that a client writes.
#[derive(Default, Debug)]
pub(crate) struct Incoming(Vec<u8>);

impl Incoming {
    /// The next bytes, in pieces of any length. Refused, and nothing of the piece kept, as soon as what is there cannot become a
    /// state: so a client cannot have more kept here than a state has at most.
    pub(crate) fn put(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let before = self.0.len();
        self.0.extend(piece);
        let have = self.0.len() as u64;
        let refusal = match claimed_len(&self.0) {
            Ok(len) if len.is_none_or(|len| have <= len) => return Ok(()),
            Ok(_) => "more than the state has".into(),
            Err(error) => error.to_string(),
        };
        self.0.truncate(before);
        tracing::debug!("migration data refused: {refusal}");
        Err(Refusal::Invalid)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use MigrationState::{Error, Resuming, Running, Stop, StopCopy};

    /// Every pair of states, as `vfio_mig_get_next_state()` of Linux has them without the optional ones.
    #[test]
    fn arcs_are_those_of_vfio() {
        let rows = [
            (Stop, [Some(Stop), Some(Running), Some(StopCopy), Some(Resuming)]),
            (Running, [Some(Stop), Some(Stop), Some(Stop), Some(Stop)]),
            (StopCopy, [Some(Stop), Some(Stop), Some(Stop), Some(Stop)]),
            (Resuming, [Some(Stop), Some(Stop), Some(Stop), Some(Stop)]),
            (Error, [None, None, None, None]),
        ];
        for (from, next) in rows {
            for (wanted, next) in [Stop, Running, StopCopy, Resuming].into_iter().zip(next) {
                assert_eq!(from.toward(wanted).ok(), next, "{from:?} to {wanted:?}");
            }
            assert_eq!(from.toward(Error), Err(Refusal::Invalid), "{from:?}");
        }
        for number in [0, 5, 6, 7, 8, u32::MAX] {
            assert_eq!(MigrationState::wanted(number), Err(Refusal::Invalid), "{number}");
        }
    }

    #[test]
    fn a_state_is_read_to_its_end() {
        let mut outgoing = Outgoing::new(vec![1, 2, 3, 4, 5]);
        let pieces: Vec<_> = [2, 0, 3, 1].map(|count| outgoing.take(count).to_vec()).into();
        assert_eq!(pieces, [vec![1, 2], vec![], vec![3, 4, 5], vec![]]);
    }

    /// Sixteen exabytes announced: refused with the eighteenth byte, and nothing kept of it.
    #[test]
    fn what_cannot_become_a_state_is_not_kept() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.put(b"Viodukt"), Err(Refusal::Invalid));
        incoming.put(b"Vioduct\0\x01\0").unwrap();
        assert_eq!(incoming.put(&u64::MAX.to_le_bytes()), Err(Refusal::Invalid));
        assert_eq!(incoming.bytes().len(), 10);
        incoming.put(&3u64.to_le_bytes()).unwrap();
        assert_eq!(incoming.put(&[0; 8]), Err(Refusal::Invalid), "one more than three and a checksum");
        incoming.put(&[0; 7]).unwrap();
        assert_eq!(incoming.put(&[0]), Err(Refusal::Invalid));
    }
}
