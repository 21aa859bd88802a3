//! The least of a block driver (virtio 1.3 §5.2.6) over the generic queue.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use vioduct_loopback::{Attached, GuestDma, Machine, Served};
use vioduct_spec::{blk, device_type};
use vioduct_vhost_user::Frontend;
use vioduct_virtio_driver::device::Running;
use vioduct_virtio_driver::{Device, Options, RequestQueue, SlotShape, Taken, Ticket, Transport, Wanted};

use crate::BLOCK_LEN;

type Attachment = Attached<Served<Frontend>>;

pub(crate) struct Disk<'m> {
    device: Device<Box<dyn Transport + Send>, Running>,
    queue: RequestQueue<GuestDma>,
    machine: &'m Machine,
    attached: &'m Attachment,
}

const SHAPE: SlotShape = SlotShape {
    readable_len: (blk::HEADER_LEN + BLOCK_LEN) as u32,
    writable_len: (BLOCK_LEN + blk::STATUS_LEN) as u32,
};

/// Gives up after ten seconds.
fn waiting(attached: &Attachment) -> impl FnMut() -> ControlFlow<()> + '_ {
    let began = Instant::now();
    move || {
        attached.wait_for_interrupt();
        match began.elapsed() < Duration::from_secs(10) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

fn request(kind: u32, sector: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = u64::from(kind).to_le_bytes().to_vec();
    bytes.extend(sector.to_le_bytes());
    bytes.extend(data);
    bytes
}

impl<'m> Disk<'m> {
    pub(crate) fn new(machine: &'m Machine, attached: &'m Attachment) -> Self {
        let options = Options::default();
        let wanted = Wanted { optional: options.features | blk::FLUSH, ..Wanted::default() };
        let device = Device::new(attached.transport().unwrap()).unwrap();
        let mut device = device.negotiate(device_type::BLOCK, wanted).unwrap();
        let queue = RequestQueue::set_up(&mut device, 0, SHAPE, &options, &machine.dma()).unwrap();
        Self { device: device.driver_ok().unwrap(), queue, machine, attached }
    }

    /// Resets the device, and begins anew.
    pub(crate) fn restart(self) -> Self {
        let Self { device, queue, machine, attached } = self;
        drop(device.reset().unwrap());
        drop(queue);
        Self::new(machine, attached)
    }

    pub(crate) fn capacity(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.device.transport().read_config_field(blk::CAPACITY as u64, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn call(&mut self, request: &[u8], data_len: usize) -> (u8, Vec<u8>) {
        let mut reply = vec![0xff; data_len + blk::STATUS_LEN];
        let wait = &mut waiting(self.attached);
        let written = self.queue.call(&mut self.device, request, &mut reply, wait).unwrap() as usize;
        assert!(written >= blk::STATUS_LEN && written <= reply.len(), "{written} bytes written");
        (reply.pop().unwrap(), reply)
    }

    pub(crate) fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.call(&request(blk::T_OUT, sector, data), 0).0
    }

    pub(crate) fn read(&mut self, sector: u64, len: usize) -> (u8, Vec<u8>) {
        self.call(&request(blk::T_IN, sector, &[]), len)
    }

    pub(crate) fn flush(&mut self) -> u8 {
        self.call(&request(blk::T_FLUSH, 0, &[]), 0).0
    }

    pub(crate) fn submit_write(&mut self, sector: u64, data: &[u8]) -> Ticket {
        let ticket = self.queue.submit(&request(blk::T_OUT, sector, data), blk::STATUS_LEN as u32).unwrap();
        self.queue.kick(&mut self.device).unwrap();
        ticket
    }

    /// The status of a request that was submitted.
    pub(crate) fn finish(&mut self, mut ticket: Ticket) -> u8 {
        let mut wait = waiting(self.attached);
        let mut status = [0xff];
        loop {
            self.queue.poll().unwrap();
            match self.queue.take(ticket, &mut status).unwrap() {
                Taken::Done(_) => return status[0],
                Taken::Pending(back) => ticket = back,
            }
            assert!(wait().is_continue(), "a request is not answered");
        }
    }

    /// Waits for the device to say that it needs a reset.
    pub(crate) fn await_failure(&mut self) {
        let mut wait = waiting(self.attached);
        while self.queue.service(&mut self.device).is_ok() {
            assert!(wait().is_continue(), "the device does not say that it needs a reset");
        }
    }
}
