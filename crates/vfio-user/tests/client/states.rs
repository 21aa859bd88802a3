//! Migration as a client asks for it: states, and the data between them.

use super::{Client, FEATURE, MIG_READ, MIG_WRITE, longs, words};

pub(crate) const ERROR: u32 = 0;
pub(crate) const STOP: u32 = 1;
pub(crate) const RUNNING: u32 = 2;
pub(crate) const STOP_COPY: u32 = 3;
pub(crate) const RESUMING: u32 = 4;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const MIG_DEVICE_STATE: u32 = 2;
const LOGGING_START: u32 = 6;
const LOGGING_REPORT: u32 = 8;
const PAGE_LEN: u64 = 4096;

impl Client {
    pub(crate) fn state(&mut self) -> u32 {
        let reply = self.request(FEATURE, &words(&[16, GET | MIG_DEVICE_STATE])).unwrap();
        assert_eq!(reply[..8], words(&[16, GET | MIG_DEVICE_STATE]));
        assert_eq!(reply[12..], [0xff; 4], "there is no data_fd");
        u32::from_ne_bytes(reply[8..12].try_into().unwrap())
    }

    pub(crate) fn go_to(&mut self, state: u32) -> Result<(), u32> {
        let request = words(&[16, SET | MIG_DEVICE_STATE, state, 0]);
        self.request(FEATURE, &request).map(|reply| assert_eq!(reply, request))
    }

    /// All of the state of a device in STOP_COPY, in pieces.
    pub(crate) fn read_state(&mut self, piece_len: u32) -> Vec<u8> {
        let mut state = Vec::new();
        loop {
            let reply = self.request(MIG_READ, &words(&[8 + piece_len, piece_len])).unwrap();
            let piece = &reply[8..];
            assert_eq!(reply[..8], words(&[reply.len() as u32, piece.len() as u32]));
            state.extend(piece);
            if piece.len() < piece_len as usize {
                return state;
            }
        }
    }

    pub(crate) fn write_piece(&mut self, piece: &[u8]) -> Result<(), u32> {
        let len = piece.len() as u32;
        let reply = self.request(MIG_WRITE, &[&words(&[8 + len, len]), piece].concat())?;
        assert!(reply.is_empty());
        Ok(())
    }

    pub(crate) fn write_state(&mut self, state: &[u8], piece_len: usize) {
        state.chunks(piece_len).for_each(|piece| self.write_piece(piece).unwrap());
    }

    /// The state of a running device, which is in STOP after that.
    pub(crate) fn save(&mut self) -> Vec<u8> {
        self.go_to(STOP_COPY).unwrap();
        let state = self.read_state(1 << 20);
        self.go_to(STOP).unwrap();
        state
    }

    /// A device in STOP, gone on from this state.
    pub(crate) fn load(&mut self, state: &[u8]) -> Result<(), u32> {
        self.go_to(RESUMING)?;
        self.write_piece(state)?;
        self.go_to(STOP)
    }

    pub(crate) fn start_log(&mut self) {
        let request = [words(&[24, SET | LOGGING_START]), longs(&[PAGE_LEN]), words(&[0, 0])].concat();
        self.request(FEATURE, &request).unwrap();
    }

    /// The pages that the device has written, of those in this range of addresses, since this was last asked.
    pub(crate) fn take_dirty(&mut self, at: u64, len: u64) -> Vec<u64> {
        let head = [words(&[1 << 20, GET | LOGGING_REPORT]), longs(&[at, len, PAGE_LEN])].concat();
        let reply = self.request(FEATURE, &head).unwrap();
        let bit = |page: &u64| {
            let bit = ((page - at) / PAGE_LEN) as usize;
            reply[32 + bit / 8] & 1 << (bit % 8) != 0
        };
        (at..at + len).step_by(PAGE_LEN as usize).filter(bit).collect()
    }
}
