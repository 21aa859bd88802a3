// SPDX-License-Identifier: GPL-2.0

//! `virtio-demo`: the value behind `/dev/virtio_demo` is kept by the device; each read and write is one request.
//!
//! A request sleeps until its completion interrupt. A signal ends the wait with `EINTR`: the request's memory stays
//! the queue's until the device returns it. Any number of programs may have the node open; their requests are in
//! flight side by side. When the device goes, those that wait get `ENODEV`, and so do all that come later.
//!
//! The device's type is 63 unless `device_type=` says otherwise.
//!
//! Unsafe code places the device table where modpost looks for it.

mod node;
mod spec;
mod virtio;
mod word_device;

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, ordering::Relaxed};
use kernel::sync::{Arc, CondVar};
use spec::{Features, demo, device_type};
use virtio::{Device, Driver, IrqLock, Message, Queue, Registration, Setup};
use word_device::{Word, WordNode};

module! {
    type: Module,
    name: "vioduct_virtio_demo",
    authors: ["The Vioduct project"],
    description: "virtio-demo: one value, read and written over a virtqueue",
    license: "GPL",
    params: {
        device_type: u32 {
            default: 63,
            description: "Virtio device type to drive",
        },
    },
}

/// For modpost, which makes the module's alias of it.
#[export_name = "__mod_device_table__kmod_vioduct_virtio_demo__virtio__ALIASES"]
static ALIASES: virtio::DeviceTable = virtio::device_table(device_type::DEMO);

#[pin_data]
struct Module {
    #[pin]
    _driver: Registration<Demo>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _driver <- Registration::new(module, *module_parameters::device_type.value()),
        })
    }
}

struct Demo {
    requests: Arc<Queue<Arc<Call>>>,
    config_changes: Atomic<u32>,
}

impl Driver for Demo {
    type Context = Arc<Call>;
    type Live = Pin<KBox<WordNode<Self>>>;

    const NAME: &'static CStr = c"vioduct_virtio_demo";
    const FEATURES: &'static [u32] = &[];

    fn probe(setup: &mut Setup<'_, Arc<Call>>) -> Result<Arc<Self>> {
        let [requests] = setup.find_queues([c"requests"])?;
        Ok(Arc::new(Self { requests, config_changes: Atomic::new(0) }, GFP_KERNEL)?)
    }

    fn start(this: &Arc<Self>, device: &Device<'_>) -> Result<Self::Live> {
        pr_info!("features {:#x}, value {:#x}\n", device.features(), device.config_u32(0));
        word_device::register(this.clone())
    }

    fn used(&self, queue: &Queue<Arc<Call>>) {
        queue.drain(|message, len| message.context.finish(Outcome::Reply(Reply::read(message.written(len)))));
    }

    fn lost(message: KBox<Message<Arc<Call>>>) {
        message.context.finish(Outcome::Lost);
    }

    fn config_changed(&self) {
        // The device says so after every write of a new value: the first is news, the others are counted.
        if self.config_changes.fetch_add(1, Relaxed) == 0 {
            pr_info!("configuration changed\n");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        pr_info!("gone after {} changes of configuration\n", self.config_changes.load(Relaxed));
    }
}

impl Word for Demo {
    const NAME: &'static CStr = c"virtio_demo";

    fn load(&self) -> Result<u32> {
        self.request(demo::OP_READ, 0)
    }

    fn store(&self, value: u32) -> Result {
        self.request(demo::OP_WRITE, value).map(drop)
    }

    fn doorbells(&self) -> Result<u32> {
        Ok(self.requests.doorbells())
    }
}

impl Demo {
    /// One request, from its bytes to the operand of its reply.
    fn request(&self, opcode: u32, operand: u32) -> Result<u32> {
        let call = Call::new()?;
        let mut readable = [0; demo::HALF_LEN];
        let (first, second) = readable.split_at_mut(4);
        first.copy_from_slice(&opcode.to_le_bytes());
        second.copy_from_slice(&operand.to_le_bytes());
        self.requests.send(Message::new(&readable, demo::HALF_LEN, call.clone())?)?;
        let reply = call.wait()?.ok_or(EIO)?;
        if reply.opcode == opcode { Ok(reply.operand) } else { Err(EIO) }
    }
}

#[derive(Clone, Copy)]
struct Reply {
    opcode: u32,
    operand: u32,
}

impl Reply {
    /// `None` for a reply that the device cut short.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (opcode, rest) = bytes.split_first_chunk()?;
        let operand = rest.first_chunk()?;
        Some(Self { opcode: u32::from_le_bytes(*opcode), operand: u32::from_le_bytes(*operand) })
    }
}

/// How a request ended.
#[derive(Clone, Copy)]
enum Outcome {
    Reply(Option<Reply>),
    Lost,
}

/// One request that somebody waits for, or no longer does.
#[pin_data]
struct Call {
    #[pin]
    outcome: IrqLock<Option<Outcome>>,
    #[pin]
    finished: CondVar,
}

impl Call {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                outcome <- IrqLock::new(None, c"virtio_demo_call", kernel::static_lock_class!()),
                finished <- CondVar::new(c"virtio_demo_call", kernel::static_lock_class!()),
            }),
            GFP_KERNEL,
        )
    }

    fn finish(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.finished.notify_all();
    }

    fn wait(&self) -> Result<Option<Reply>> {
        let mut outcome = self.outcome.lock();
        let mut interrupted = false;
        loop {
            match (*outcome, interrupted) {
                // What came together with a signal is still taken.
                (Some(Outcome::Reply(reply)), _) => return Ok(reply),
                (Some(Outcome::Lost), _) => return Err(ENODEV),
                (None, true) => return Err(EINTR),
                (None, false) => interrupted = self.finished.wait_interruptible(&mut outcome),
            }
        }
    }
}
