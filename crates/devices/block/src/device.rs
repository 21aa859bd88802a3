//! [`Block`]: identity, features and configuration space (virtio 1.3 §5.2.3 to §5.2.5).

use crate::disk::{Access, Disk, Store};
use crate::engine::{Durability, Engine, Method, io_uring_works};
use crate::handler::Server;
use crate::request::{MAX_RANGE_SECTORS, MAX_RANGES, Rules};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vioduct_spec::{blk, device_type};
use vioduct_virtio_device::{
    ConfigAccess, DeviceInfo, DeviceModel, Features, Handlers, QueueHandler, StateError,
};

/// Largest size of each virtqueue, in descriptors.
pub(crate) const QUEUE_SIZE: u16 = 256;
/// Longest segment that a driver is asked to use. It is advice: requests are limited by the disk only.
const SEGMENT_LEN: u32 = 4 << 20;
/// Segments of a request. With header and status they fit a queue of 128: drivers, Linux's among them, go by this alone, also
/// where a monitor has given them a smaller queue than ours, and no chain may be longer than the queue (virtio 1.3 §2.7.5.3.1).
const SEGMENTS: u32 = 126;
/// What storage under a file deals in, though it takes less.
const PHYSICAL_BLOCK_LEN: u32 = 4096;
/// Length of a saved state: capacity in sectors `u64`, cache mode `u8`.
const STATE_LEN: usize = 9;

/// When a wake of the device ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// While its operations go on; their ends wake it anew.
    Free,
    /// When all of its operations have ended: for machines that are stepped, where nothing happens between two steps.
    Stepped,
}

/// A virtio block device over a raw file, or over nothing.
pub struct Block {
    disk: Arc<Disk>,
    method: Method,
    queues: u16,
    block_len_bytes: u32,
    serial: [u8; blk::ID_LEN],
    cache: Arc<Cache>,
    pace: Pace,
}

/// How writes are cached (virtio 1.3 §5.2.4, `writeback`): the driver may change it at any time.
pub(crate) struct Cache(AtomicBool);

impl Cache {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(true))
    }

    fn mode(&self) -> u8 {
        if self.0.load(Ordering::Acquire) { blk::WRITEBACK_CACHE } else { blk::WRITETHROUGH_CACHE }
    }

    pub(crate) fn set_mode(&self, mode: u8) {
        self.0.store(mode != blk::WRITETHROUGH_CACHE, Ordering::Release);
    }

    /// virtio 1.3 §5.2.5: the cache mode is what `writeback` says, where that is negotiated. §5.2.6.2: otherwise a driver that can
    /// flush has a writeback cache, and one that cannot relies on each write.
    pub(crate) fn durability(&self, negotiated: Features) -> Durability {
        let cached = match negotiated.contains(blk::CONFIG_WCE) {
            true => self.mode() == blk::WRITEBACK_CACHE,
            false => negotiated.contains(blk::FLUSH),
        };
        if cached { Durability::Cached } else { Durability::Stable }
    }
}

/// What a device is made of.
pub(crate) struct Setup {
    pub(crate) disk: Disk,
    pub(crate) method: Method,
    pub(crate) queues: u16,
    pub(crate) block_len_bytes: u32,
    pub(crate) serial: [u8; blk::ID_LEN],
}

impl Block {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { disk, method, queues, block_len_bytes, serial } = setup;
        let method = match (&disk.store, method) {
            (Store::File(_), Method::Auto) if io_uring_works().is_err() => Method::Threads,
            _ => method,
        };
        let cache = Arc::new(Cache::new());
        Self { disk: Arc::new(disk), method, queues, block_len_bytes, serial, cache, pace: Pace::Free }
    }

    /// Has each wake end as told; by default it is [`Pace::Free`].
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    fn offered(&self) -> Features {
        let always = blk::SIZE_MAX | blk::SEG_MAX | blk::BLK_SIZE | blk::FLUSH | blk::TOPOLOGY | blk::MQ;
        always
            | match self.disk.access {
                Access::ReadOnly => blk::RO,
                // virtio 1.3 §5.2.5.2: whoever offers CONFIG_WCE offers FLUSH.
                Access::ReadWrite => blk::CONFIG_WCE | blk::DISCARD | blk::WRITE_ZEROES,
            }
    }

    /// virtio 1.3 §5.2.4. Limits of requests that a read-only disk does not take are zero.
    fn config(&self) -> [u8; blk::CONFIG_LEN] {
        let block_sectors = self.block_len_bytes / blk::SECTOR_LEN as u32;
        let blocks_per_physical = (PHYSICAL_BLOCK_LEN / self.block_len_bytes).max(1);
        let writable = |value: u32| if self.disk.access == Access::ReadWrite { value } else { 0 };
        let fields: [(usize, &[u8]); 16] = [
            (blk::CAPACITY, &self.disk.sectors.to_le_bytes()),
            (blk::SIZE_MAX_LEN, &SEGMENT_LEN.to_le_bytes()),
            (blk::SEG_MAX_COUNT, &SEGMENTS.to_le_bytes()),
            (blk::BLOCK_SIZE, &self.block_len_bytes.to_le_bytes()),
            (blk::PHYSICAL_BLOCK_EXP, &[blocks_per_physical.ilog2() as u8]),
            (blk::ALIGNMENT_OFFSET, &[0]),
            (blk::MIN_IO_SIZE, &(blocks_per_physical as u16).to_le_bytes()),
            (blk::OPT_IO_SIZE, &0u32.to_le_bytes()),
            (blk::WRITEBACK, &[self.cache.mode()]),
            (blk::NUM_QUEUES, &self.queues.to_le_bytes()),
            (blk::MAX_DISCARD_SECTORS, &writable(MAX_RANGE_SECTORS).to_le_bytes()),
            (blk::MAX_DISCARD_SEG, &writable(MAX_RANGES).to_le_bytes()),
            (blk::DISCARD_SECTOR_ALIGNMENT, &writable(block_sectors).to_le_bytes()),
            (blk::MAX_WRITE_ZEROES_SECTORS, &writable(MAX_RANGE_SECTORS).to_le_bytes()),
            (blk::MAX_WRITE_ZEROES_SEG, &writable(MAX_RANGES).to_le_bytes()),
            (blk::WRITE_ZEROES_MAY_UNMAP, &[writable(1) as u8]),
        ];
        let mut config = [0; blk::CONFIG_LEN];
        for (offset, bytes) in fields {
            config.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
        }
        config
    }

    fn server(&self, negotiated: Features) -> Server {
        let rules = Rules { sectors: self.disk.sectors, offered: self.offered(), negotiated };
        let engine = Engine::new(&self.disk, self.method);
        Server::new(engine, rules, self.cache.clone(), self.serial, self.pace)
    }
}

impl DeviceModel for Block {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            features: self.offered(),
            config_len: blk::CONFIG_LEN,
            config_access: ConfigAccess::Writable,
            ..DeviceInfo::new(device_type::BLOCK, "block", vec![QUEUE_SIZE; self.queues.into()])
        }
    }

    fn read_config(&self, offset: usize, out: &mut [u8]) {
        out.iter_mut().zip(self.config().iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    /// `writeback` is the one field that a driver may write (virtio 1.3 §5.2.4), by an access of its own width; and only a
    /// disk that can be written to has use of it.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if let (blk::WRITEBACK, [mode], Access::ReadWrite) = (offset, data, self.disk.access) {
            self.cache.set_mode(*mode);
        }
    }

    /// virtio 1.3 §5.2.2: without `MQ` there is one queue.
    fn handlers(&mut self, negotiated: Features) -> Handlers {
        // virtio 1.3 §5.2.5.2: without FLUSH, `writeback` is 0 at first.
        if negotiated.contains(blk::CONFIG_WCE) && !negotiated.contains(blk::FLUSH) {
            self.cache.set_mode(blk::WRITETHROUGH_CACHE);
        }
        let count = if negotiated.contains(blk::MQ) { self.queues } else { 1 };
        let serve = |q| (q..q + 1, Box::new(self.server(negotiated)) as Box<dyn QueueHandler>);
        (0..count).map(serve).collect()
    }

    fn reset(&mut self) {
        let Self { disk: _, method: _, queues: _, block_len_bytes: _, serial: _, cache, pace: _ } = self;
        cache.set_mode(blk::WRITEBACK_CACHE);
    }

    /// The cache mode, and the capacity: another disk would not do.
    fn save(&self) -> Vec<u8> {
        let Self { disk, method: _, queues: _, block_len_bytes: _, serial: _, cache, pace: _ } = self;
        let mut state = disk.sectors.to_le_bytes().to_vec();
        state.push(cache.mode());
        state
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let wrong =
            || StateError(format!("it is {} bytes, not {STATE_LEN}: use one of a block", state.len()).into());
        let (sectors, mode) = match state.split_first_chunk::<8>() {
            Some((sectors, &[mode])) => (u64::from_le_bytes(*sectors), mode),
            _ => return Err(wrong()),
        };
        if sectors != self.disk.sectors {
            let here = self.disk.sectors;
            return Err(StateError(
                format!(
                    "it is of a disk of {sectors} sectors, and this one has {here}: give it the same disk"
                )
                .into(),
            ));
        }
        if mode > blk::WRITEBACK_CACHE {
            return Err(StateError(format!("{mode} is no cache mode").into()));
        }
        self.cache.set_mode(mode);
        Ok(())
    }
}
