//! A small front-end: memory in a sealed file, a driver end per queue, kicks and calls.
//!
//! `unsafe` because a driver end is made over raw memory.
#![allow(unsafe_code)]

use crate::rig::peer::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use vioduct_virtio_device::{Backing, EventFd, Features, MemoryMap, RegionSetup, Signal};
use vioduct_virtqueue::{
    Access, Buffer, DriverQueue, IoAddr, Kick, Memory, RingFormat, RingLayout, RingMemory,
};

/// Where guest memory starts, and by how much the front-end's own addresses differ: no two kinds of address are alike.
pub(crate) const GUEST_START: u64 = 0x4000_0000;
pub(crate) const USER_SHIFT: u64 = 0x7f00_0000_0000;
pub(crate) const MEMORY_LEN: u64 = 8 << 20;
const RING_SPACE: u64 = 0x2_0000;

pub(crate) const PROTOCOL_FEATURES: Features = Features::bit(30);

/// How a front-end sets its device up.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) features: Features,
    pub(crate) protocol: u64,
    pub(crate) queues: u16,
    pub(crate) size: u16,
}

impl Plan {
    pub(crate) fn new(features: Features) -> Self {
        let protocol = REPLY_ACK | MQ | CONFIG | RESET_DEVICE_FEATURE | MEM_SLOTS | STATUS | DEVICE_STATE;
        Self { features: features | Features::VERSION_1 | PROTOCOL_FEATURES, protocol, queues: 1, size: 16 }
    }
}

pub(crate) struct Ring {
    pub(crate) driver: DriverQueue<Buffer>,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    pub(crate) error: EventFd,
}

pub(crate) struct Front {
    pub(crate) peer: Peer,
    pub(crate) plan: Plan,
    pub(crate) memory: Arc<MemoryMap>,
    pub(crate) rings: Vec<Ring>,
    pub(crate) next: u64,
}

pub(crate) fn guest_memory() -> MemoryMap {
    let setup = RegionSetup {
        at: IoAddr(GUEST_START),
        len: MEMORY_LEN,
        access: Access::ReadWrite,
        backing: Backing::Shared,
    };
    MemoryMap::new(vec![setup]).unwrap()
}

/// The file that a map of one shared region is in.
pub(crate) fn file_of(memory: &MemoryMap) -> OwnedFd {
    let (_, file) = memory.regions().next().unwrap();
    file.unwrap().0.try_clone_to_owned().unwrap()
}

/// Waits for an eventfd. Whether it was signalled in time.
pub(crate) fn wait(event: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    poll(&mut fds, Some(&limit)).unwrap() == 1
}

impl Front {
    /// Negotiates, shares memory, and starts every ring.
    pub(crate) fn start(path: &Path, plan: Plan) -> Self {
        let front = Self::in_reset(Peer::connect(path), plan, Arc::new(guest_memory()));
        front.negotiate();
        front.share();
        (0..plan.queues).for_each(|q| front.start_ring(q, 0));
        front
    }

    /// Rings in place, and nothing said yet.
    pub(crate) fn in_reset(peer: Peer, plan: Plan, memory: Arc<MemoryMap>) -> Self {
        let format = RingFormat::of(plan.features);
        let event = || EventFd::new().unwrap();
        let ring = |q: u16| {
            let at = IoAddr(GUEST_START + u64::from(q) * RING_SPACE);
            let len = RingMemory::len_for(format, plan.size);
            assert!(len as u64 <= RING_SPACE);
            memory.write(at, &vec![0; len]).unwrap();
            let host = memory.region(at).unwrap().translate(at, len as u64).unwrap();
            // SAFETY: zeroed just now, for this ring only, and mapped as long as the front-end, which keeps the map.
            let ring = unsafe { RingMemory::new(host, at, format, plan.size) }.unwrap();
            let driver = DriverQueue::new(ring, None, plan.features).unwrap();
            Ring { driver, kick: event(), call: event(), error: event() }
        };
        let rings = (0..plan.queues).map(ring).collect();
        let next = GUEST_START + u64::from(plan.queues) * RING_SPACE;
        Self { peer, plan, memory, rings, next }
    }

    pub(crate) fn negotiate(&self) {
        self.peer.send(SET_OWNER, &[], &[]);
        let offered = Features(self.peer.ask_long(GET_FEATURES));
        assert!(offered.contains(self.plan.features), "{offered}");
        if self.plan.features.contains(PROTOCOL_FEATURES) {
            let protocol = self.peer.ask_long(GET_PROTOCOL_FEATURES);
            assert_eq!(protocol & self.plan.protocol, self.plan.protocol);
            self.peer.send(SET_PROTOCOL_FEATURES, &longs(&[self.plan.protocol]), &[]);
        }
        self.do_(SET_FEATURES, &longs(&[self.plan.features.0]), &[]);
    }

    /// A request that must succeed, by its answer if there are any.
    pub(crate) fn do_(&self, request: u32, payload: &[u8], fds: &[&dyn AsFd]) {
        let fds = crate::rig::peer::fds(fds);
        if self.plan.features.contains(PROTOCOL_FEATURES) && self.plan.protocol & REPLY_ACK != 0 {
            self.peer.must(request, payload, &fds);
        } else {
            self.peer.send(request, payload, &fds);
            self.peer.barrier();
        }
    }

    pub(crate) fn share(&self) {
        let region = [GUEST_START, MEMORY_LEN, GUEST_START + USER_SHIFT, 0];
        let payload = [words(&[1, 0]), longs(&region)].concat();
        self.do_(SET_MEM_TABLE, &payload, &[&file_of(&self.memory)]);
    }

    pub(crate) fn set_up_ring(&self, q: u16, base: u32) {
        let index = u32::from(q);
        let RingLayout { size, descriptor_area, driver_area, device_area } =
            self.rings[usize::from(q)].driver.layout();
        self.do_(SET_VRING_NUM, &words(&[index, size.into()]), &[]);
        self.do_(SET_VRING_BASE, &words(&[index, base]), &[]);
        let user = |at: IoAddr| at.0 + USER_SHIFT;
        let areas = longs(&[user(descriptor_area), user(device_area), user(driver_area), 0]);
        self.do_(SET_VRING_ADDR, &[words(&[index, 0]), areas].concat(), &[]);
    }

    /// Everything that a ring needs, in the usual order.
    pub(crate) fn start_ring(&self, q: u16, base: u32) {
        self.set_up_ring(q, base);
        let Ring { kick, call, error, .. } = &self.rings[usize::from(q)];
        self.do_(SET_VRING_ERR, &longs(&[q.into()]), &[error]);
        self.do_(SET_VRING_CALL, &longs(&[q.into()]), &[call]);
        self.do_(SET_VRING_KICK, &longs(&[q.into()]), &[kick]);
        if self.plan.features.contains(PROTOCOL_FEATURES) {
            self.do_(SET_VRING_ENABLE, &words(&[q.into(), 1]), &[]);
        }
    }

    /// Stops a ring; its base.
    pub(crate) fn stop_ring(&self, q: u16) -> u32 {
        let reply = self.peer.ask(GET_VRING_BASE, &words(&[q.into(), 0]), &[]);
        assert_eq!(reply[..4], words(&[q.into()]));
        u32::from_ne_bytes(reply[4..].try_into().unwrap())
    }

    /// Places a buffer, going round: fewer bytes are in flight than there are.
    pub(crate) fn place(&mut self, len: u32) -> Buffer {
        let first = GUEST_START + u64::from(self.plan.queues) * RING_SPACE;
        if self.next + u64::from(len) > GUEST_START + MEMORY_LEN {
            self.next = first;
        }
        let addr = IoAddr(self.next);
        self.next += u64::from(len);
        Buffer { addr, len }
    }

    /// Adds a number for queue `q` without notifying; whether a kick is needed.
    pub(crate) fn submit(&mut self, q: u16, number: u64) -> Kick {
        let (request, reply) = (self.place(8), self.place(8));
        self.memory.write(request.addr, &number.to_le_bytes()).unwrap();
        let driver = &mut self.rings[usize::from(q)].driver;
        driver.add(&[request], &[reply], reply).unwrap();
        driver.kick_prepare()
    }

    pub(crate) fn kick(&self, q: u16) {
        self.rings[usize::from(q)].kick.signal();
    }

    /// A used buffer's answer, if there is one.
    pub(crate) fn take(&mut self, q: u16) -> Option<u64> {
        let done = self.rings[usize::from(q)].driver.get().unwrap()?;
        assert_eq!(done.written, 8);
        let mut bytes = [0; 8];
        self.memory.read(done.token.addr, &mut bytes).unwrap();
        Some(u64::from_le_bytes(bytes))
    }

    /// The next used buffer's answer, waited for by call.
    pub(crate) fn await_reply(&mut self, q: u16) -> u64 {
        loop {
            if let Some(reply) = self.take(q) {
                return reply;
            }
            let Ring { driver, call, .. } = &mut self.rings[usize::from(q)];
            if driver.enable_callback() == vioduct_virtqueue::MoreWork::None {
                assert!(wait(call), "no call comes for queue {q}");
                let _ = call.take();
            }
        }
    }

    /// Sends a number; the sum that is answered.
    pub(crate) fn add(&mut self, q: u16, number: u64) -> u64 {
        if self.submit(q, number) == Kick::Needed {
            self.kick(q);
        }
        self.await_reply(q)
    }
}
