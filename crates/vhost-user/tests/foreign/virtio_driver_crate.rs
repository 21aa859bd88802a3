//! The crate `virtio-driver`, of libblkio: its messages and its rings. It knows block devices, but its queues are generic.
//!
//! `unsafe` because the queue's memory is its transport's, and both are used at once, as in the crate itself.
#![allow(unsafe_code)]

use crate::{REQUESTS, demo_server, half};
use std::slice;
use std::time::Instant;
use vioduct_spec::demo;
use virtio_driver::virtqueue::{Virtqueue, VirtqueueLayout};
use virtio_driver::{Le32, VhostUser, VirtioFeatureFlags as Flags, VirtioTransport, iovec};

const SIZE: u16 = 128;

/// What a request shares with the device.
#[derive(Clone, Copy)]
#[repr(C)]
struct Halves {
    request: [u8; demo::HALF_LEN],
    reply: [u8; demo::HALF_LEN],
}

struct Driver {
    queue: Virtqueue<'static, Halves>,
    /// Outlives the queue, whose memory it maps.
    transport: VhostUser<Le32, Halves>,
}

impl Driver {
    fn new(path: &str, features: Flags) -> Self {
        let mut transport = VhostUser::<Le32, Halves>::new(path, features.bits()).unwrap();
        let agreed = Flags::from_bits_truncate(transport.get_features());
        assert_eq!(agreed, features, "the server offers all that is asked for");
        assert_eq!(transport.max_queues(), Some(1));
        let layout = VirtqueueLayout::new::<Halves>(1, usize::from(SIZE), agreed).unwrap();
        let translator = transport.iova_translator();
        let memory = transport.alloc_queue_mem(&layout).unwrap();
        // SAFETY: the transport maps it as long as it lives, and touches it no more.
        let memory = unsafe { slice::from_raw_parts_mut(memory.as_mut_ptr(), memory.len()) };
        let queues = vec![Virtqueue::new(translator, memory, SIZE, agreed).unwrap()];
        transport.setup_queues(&queues).unwrap();
        let mut queue = queues.into_iter().next().unwrap();
        queue.set_used_notif_enabled(true);
        Self { queue, transport }
    }

    fn submit(&mut self, opcode: u32, operand: u32) {
        let prepare = |halves: &mut Halves, add: &mut dyn FnMut(iovec, bool) -> std::io::Result<()>| {
            *halves = Halves { request: half(opcode, operand), reply: [0xff; demo::HALF_LEN] };
            let part = |bytes: &mut [u8]| iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            // Cut where nobody would: the device must not mind.
            let (first, rest) = halves.request.split_at_mut(3);
            add(part(first), false)?;
            add(part(rest), false)?;
            add(part(&mut halves.reply), true)
        };
        self.queue.add_request(prepare).unwrap();
    }

    fn kick(&mut self) {
        if self.queue.avail_notif_needed() {
            self.transport.get_submission_notifier(0).notify().unwrap();
        }
    }

    /// As many replies as there are requests, in the order in which they come.
    fn collect(&mut self, count: usize) -> Vec<[u8; demo::HALF_LEN]> {
        let mut replies = Vec::new();
        let began = Instant::now();
        while replies.len() < count {
            assert!(began.elapsed() < crate::rig::peer::PATIENCE, "{} of {count} replies", replies.len());
            replies.extend(self.queue.completions().map(|done| done.req.reply));
            std::thread::yield_now();
        }
        replies
    }
}

fn drive(features: Flags) {
    let running = demo_server();
    let mut driver = Driver::new(running.path.to_str().unwrap(), features | Flags::VERSION_1);
    assert_eq!(u32::from(driver.transport.get_config().unwrap()), demo::INITIAL_VALUE);
    for value in 0..REQUESTS {
        driver.submit(demo::OP_WRITE, value);
        driver.submit(demo::OP_READ, 0);
        driver.kick();
        let replies = driver.collect(2);
        assert_eq!(replies, [half(demo::OP_WRITE, value), half(demo::OP_READ, value)]);
    }
    // As many at once as there is room for.
    for turn in 0..20 {
        let values: Vec<u32> = (0..32).map(|value| turn * 100 + value).collect();
        values.iter().for_each(|value| driver.submit(demo::OP_WRITE, *value));
        driver.kick();
        let replies = driver.collect(values.len());
        assert!(values.iter().all(|value| replies.contains(&half(demo::OP_WRITE, *value))), "{replies:?}");
    }
    assert_eq!(u32::from(driver.transport.get_config().unwrap()), 19 * 100 + 31);
    let calls = driver.transport.get_completion_fd(0);
    assert!(calls.read().unwrap() > 0, "nobody was notified");
}

#[test]
fn virtio_driver_drives_split_rings() {
    drive(Flags::empty());
    drive(Flags::RING_EVENT_IDX);
}

#[test]
fn virtio_driver_drives_packed_rings() {
    drive(Flags::RING_PACKED);
    drive(Flags::RING_PACKED | Flags::RING_EVENT_IDX);
}
