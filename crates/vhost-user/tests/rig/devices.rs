//! Devices for tests.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vioduct_virtio_device::{
    Chain, ConfigAccess, DeviceInfo, DeviceModel, Fault, Features, Handlers, Io, QueueHandler, StateError,
    Wake,
};

/// Adds the numbers that it is sent to a sum, which it answers, which its configuration space shows, and which is its state.
/// Each queue has a handler of its own.
#[derive(Clone)]
pub(crate) struct Adder {
    sum: Arc<AtomicU64>,
    queues: u16,
}

impl Adder {
    pub(crate) fn new(queues: u16) -> Self {
        Self { sum: Arc::new(AtomicU64::new(0)), queues }
    }
}

impl DeviceModel for Adder {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            config_len: 16,
            config_access: ConfigAccess::Writable,
            features: Features::bit(5),
            ..DeviceInfo::new(63, "adder", vec![64; usize::from(self.queues)])
        }
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        let sum = self.sum.load(Ordering::SeqCst);
        let bytes = [sum.to_le_bytes(), (!sum).to_le_bytes()].concat();
        out.copy_from_slice(&bytes[offset..offset + out.len()]);
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let mut bytes = self.sum.load(Ordering::SeqCst).to_le_bytes();
        for (place, byte) in bytes.iter_mut().skip(offset).zip(data) {
            *place = *byte;
        }
        self.sum.store(u64::from_le_bytes(bytes), Ordering::SeqCst);
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let handler = |queue: u16| -> (Range<u16>, Box<dyn QueueHandler>) {
            (queue..queue + 1, Box::new(self.clone()))
        };
        (0..self.queues).map(handler).collect()
    }

    fn reset(&mut self) {
        self.sum.store(0, Ordering::SeqCst);
    }

    fn save(&self) -> Vec<u8> {
        // Longer than a pipe is deep.
        self.sum.load(Ordering::SeqCst).to_le_bytes().repeat(20_000)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let (first, rest) = state.split_first_chunk().ok_or(StateError("too short".into()))?;
        if rest.len() + first.len() != 160_000 {
            return Err(StateError("of a wrong length".into()));
        }
        self.sum.store(u64::from_le_bytes(*first), Ordering::SeqCst);
        Ok(())
    }
}

impl QueueHandler for Adder {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(queue) = why else { return Ok(()) };
        let mut changed = false;
        io.serve(queue, |chain: &Chain| {
            let more = chain.reader().read_u64()?;
            let before = self.sum.fetch_add(more, Ordering::SeqCst);
            changed |= more != 0;
            chain.writer().write_u64(before.wrapping_add(more))?;
            Ok(8)
        })?;
        if changed {
            io.config_changed();
        }
        Ok(())
    }
}
