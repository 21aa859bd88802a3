//! A guest's memory of every kind: mapped in two pieces that are neighbours for the guest only, read-only, write-only,
//! at the top of the address space, and reached by messages, where a hostile driver writes between any two reads.
//!
//! `unsafe` because it implements `Memory`. Each piece is an allocation of its own, so that the address sanitizer sees an
//! access beyond its end.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// Where mapped memory starts.
pub const MAPPED_START: u64 = 0x1_0000;
/// Length in bytes of the first mapped piece, and of the remote one.
pub const PIECE_LEN: usize = 0x2000;
/// Where remote memory starts.
pub const REMOTE_START: u64 = 0x4_0000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Mapped,
    Remote,
}

const PIECES: [(u64, usize, Access, Reach); 6] = [
    (MAPPED_START, PIECE_LEN, Access::ReadWrite, Reach::Mapped),
    (MAPPED_START + 0x2000, 0x400, Access::ReadWrite, Reach::Mapped),
    (MAPPED_START + 0x2400, 0x200, Access::Read, Reach::Mapped),
    (MAPPED_START + 0x2600, 0x200, Access::Write, Reach::Mapped),
    (REMOTE_START, PIECE_LEN, Access::ReadWrite, Reach::Remote),
    (u64::MAX - 0x1ff, 0x100, Access::ReadWrite, Reach::Mapped),
];

struct Piece {
    at: IoAddr,
    len: usize,
    access: Access,
    reach: Reach,
    host: NonNull<u8>,
}

impl Piece {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, 16).unwrap()
    }

    fn region(&self) -> Region {
        Region { at: self.at, len: self.len as u64, host: self.host, access: self.access }
    }
}

/// Part of a range: the piece it lies in, where that is mapped, and its length in bytes.
type Part<'a> = (&'a Piece, NonNull<u8>, usize);

/// One byte that the driver changes while the device end reads remote memory.
#[derive(Clone, Copy)]
pub struct Poke {
    /// Offset from [`REMOTE_START`], modulo [`PIECE_LEN`].
    pub at: u16,
    /// What is flipped there.
    pub flip: u8,
}

/// Memory for one run.
pub struct FuzzMemory {
    pieces: Vec<Piece>,
    pokes: Box<[Poke]>,
    reads: AtomicUsize,
    logs: AtomicBool,
}

// SAFETY: the memory is accessed by raw pointers only, as shared memory is.
unsafe impl Send for FuzzMemory {}
// SAFETY: as above.
unsafe impl Sync for FuzzMemory {}

impl FuzzMemory {
    /// Zeroed memory whose remote piece suffers one of `pokes` before each read, and the first again after the last.
    #[must_use]
    pub fn new(pokes: Box<[Poke]>) -> Arc<Self> {
        let piece = |(at, len, access, reach): (u64, usize, Access, Reach)| {
            // SAFETY: the layout is not empty.
            let host = NonNull::new(unsafe { alloc_zeroed(Piece::layout(len)) }).expect("out of memory");
            Piece { at: IoAddr(at), len, access, reach, host }
        };
        let pieces = PIECES.into_iter().map(piece).collect();
        Arc::new(Self { pieces, pokes, reads: AtomicUsize::new(0), logs: AtomicBool::new(false) })
    }

    /// Turns the log of writes on or off.
    pub fn log_writes(&self, on: bool) {
        self.logs.store(on, Ordering::Relaxed);
    }

    fn piece(&self, at: IoAddr) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.region().translate(at, 1).is_some())
    }

    /// Whether the device may access all of a range.
    #[must_use]
    pub fn allows(&self, at: IoAddr, len: u64, access: Access) -> bool {
        self.split(at, len).is_some_and(|parts| parts.iter().all(|(piece, _, _)| piece.access.allows(access)))
    }

    /// The parts of a range, if there is memory everywhere.
    fn split(&self, mut at: IoAddr, mut len: u64) -> Option<Vec<Part<'_>>> {
        let mut parts = Vec::new();
        while len > 0 {
            let piece = self.piece(at)?;
            let here = (piece.len as u64 - (at.0 - piece.at.0)).min(len);
            parts.push((piece, piece.region().translate(at, here)?, here as usize));
            len -= here;
            at = IoAddr(at.0.wrapping_add(here));
        }
        Some(parts)
    }

    fn check(&self, at: IoAddr, len: u64, access: Access) -> Result<(), MemoryFault> {
        if self.allows(at, len, access) { Ok(()) } else { Err(MemoryFault { at, len }) }
    }

    /// Writes as the guest does, wherever there is memory.
    pub fn put(&self, at: IoAddr, data: &[u8]) {
        let mut rest = data;
        for (_, host, len) in self.split(at, data.len() as u64).unwrap_or_default() {
            let (here, next) = rest.split_at(len);
            rest = next;
            // SAFETY: `len` bytes within one piece.
            unsafe { here.as_ptr().copy_to_nonoverlapping(host.as_ptr(), len) };
        }
    }

    /// Reads as the guest does.
    #[must_use]
    pub fn get(&self, at: IoAddr, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut rest = out.as_mut_slice();
        for (_, host, len) in self.split(at, len as u64).expect("guest memory") {
            let (here, next) = rest.split_at_mut(len);
            rest = next;
            // SAFETY: `len` bytes within one piece.
            unsafe { here.as_mut_ptr().copy_from_nonoverlapping(host.as_ptr(), len) };
        }
        out
    }

    /// Where the guest sees `len` bytes that lie in one piece.
    #[must_use]
    pub fn host(&self, at: IoAddr, len: usize) -> NonNull<u8> {
        self.piece(at).and_then(|piece| piece.region().translate(at, len as u64)).expect("guest memory")
    }

    fn poke(&self) {
        let turn = self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(poke) = self.pokes.get(turn % self.pokes.len().max(1)) {
            let at = IoAddr(REMOTE_START + u64::from(poke.at) % PIECE_LEN as u64);
            let old = self.get(at, 1)[0];
            self.put(at, &[old ^ poke.flip]);
        }
    }
}

impl Drop for FuzzMemory {
    fn drop(&mut self) {
        for piece in &self.pieces {
            // SAFETY: allocated with the same layout in `new`.
            unsafe { dealloc(piece.host.as_ptr(), Piece::layout(piece.len)) };
        }
    }
}

// SAFETY: the pieces live as long as the object, are 16-byte aligned at 16-byte aligned addresses, and no reference is made
// into them.
unsafe impl Memory for FuzzMemory {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        if self.piece(at).is_some_and(|piece| piece.reach == Reach::Remote) {
            self.poke();
        }
        self.check(at, out.len() as u64, Access::Read)?;
        out.copy_from_slice(&self.get(at, out.len()));
        Ok(())
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        self.check(at, data.len() as u64, Access::Write)?;
        self.put(at, data);
        Ok(())
    }

    fn region(&self, at: IoAddr) -> Option<Region> {
        self.piece(at).filter(|piece| piece.reach == Reach::Mapped).map(Piece::region)
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        let Some(piece) = self.piece(at) else { return false };
        piece.reach == Reach::Remote
            && piece.access.allows(access)
            && piece.region().translate(at, len).is_some()
    }

    fn logs_writes(&self) -> bool {
        self.logs.load(Ordering::Relaxed)
    }

    fn written(&self, at: IoAddr, len: u64) {
        assert!(self.allows(at, len, Access::Write), "{len} bytes at {at} logged, which cannot be written");
    }
}
