// SPDX-License-Identifier: GPL-2.0

//! `virtio-test`: what is written to `/dev/virtio_misc` is sent to the device, and its reply is logged.
//!
//! A write of n submits the factorial of n and a text; with `echo=1` n as the type, n+1, n+2, n+3 and the text. A device
//! speaks one of the two. The write does not wait for the reply. Without the feature CAN_PRINT no queue is used, and a
//! write is `EOPNOTSUPP`.
//!
//! The device's type is 45 unless `device_type=` says otherwise.
//!
//! Unsafe code places the device table where modpost looks for it.

mod node;
mod spec;
mod virtio;
mod word_device;

use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::Arc;
use spec::{Features, device_type, test};
use virtio::{Device, Driver, Message, Queue, Registration, Setup};
use word_device::{Word, WordNode};

module! {
    type: Module,
    name: "vioduct_virtio_test",
    authors: ["The Vioduct project"],
    description: "virtio-test: two request formats on one virtqueue",
    license: "GPL",
    params: {
        device_type: u32 {
            default: 45,
            description: "Virtio device type to drive",
        },
        echo: u32 {
            default: 0,
            description: "Request format: 0 factorials, 1 echoes plus 100",
        },
    },
}

/// For modpost, which makes the module's alias of it.
#[export_name = "__mod_device_table__kmod_vioduct_virtio_test__virtio__ALIASES"]
static ALIASES: virtio::DeviceTable = virtio::device_table(device_type::TEST);

#[pin_data]
struct Module {
    #[pin]
    _driver: Registration<Test>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _driver <- Registration::new(module, *module_parameters::device_type.value()),
        })
    }
}

struct Test {
    /// Present when CAN_PRINT was negotiated.
    requests: Option<Arc<Queue<Request>>>,
}

/// What a message asks for.
enum Request {
    Echo,
    Factorial(u32),
}

/// Where the configuration space has its fields.
const CONFIG_NUM_PAGES: usize = 0;
const CONFIG_ACTUAL: usize = 4;

impl Driver for Test {
    type Context = Request;
    type Live = Pin<KBox<WordNode<Self>>>;

    const NAME: &'static CStr = c"vioduct_virtio_test";
    const FEATURES: &'static [u32] = &[test::F_CAN_PRINT.0.trailing_zeros()];

    fn probe(setup: &mut Setup<'_, Request>) -> Result<Arc<Self>> {
        let can_print = Features(setup.device().features()).contains(test::F_CAN_PRINT);
        let requests = if can_print {
            let [requests] = setup.find_queues([c"requests"])?;
            Some(requests)
        } else {
            None
        };
        Ok(Arc::new(Self { requests }, GFP_KERNEL)?)
    }

    fn start(this: &Arc<Self>, device: &Device<'_>) -> Result<Self::Live> {
        let pages = device.config_u32(CONFIG_NUM_PAGES);
        device.set_config_u32(CONFIG_ACTUAL, pages);
        pr_info!("features {:#x}, {pages} pages\n", device.features());
        word_device::register(this.clone())
    }

    fn used(&self, queue: &Queue<Request>) {
        queue.drain(|message, len| log_reply(&message.context, message.written(len)));
    }

    fn lost(_message: KBox<Message<Request>>) {
        pr_info!("the device went with a request\n");
    }
}

impl Word for Test {
    const NAME: &'static CStr = c"virtio_misc";

    fn load(&self) -> Result<u32> {
        // There is nothing to read: replies are logged.
        Err(EINVAL)
    }

    fn store(&self, value: u32) -> Result {
        let requests = self.requests.as_ref().ok_or_else(unsupported)?;
        requests.send(match *module_parameters::echo.value() {
            0 => Message::new(&factorial(value), test::FACTORIAL_WRITABLE_LEN, Request::Factorial(value))?,
            _ => Message::new(&echo(value), test::ECHO_WRITABLE_LEN, Request::Echo)?,
        })
    }
}

/// The device cannot print, and prints are all that it is asked for.
fn unsupported() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}

/// Writes numbers and then the text into bytes that are zero.
fn encode(out: &mut [u8], numbers: &[u32], text: &str) {
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    for (byte, value) in out.iter_mut().zip(Iterator::chain(numbers, text.bytes())) {
        *byte = value;
    }
}

fn echo(n: u32) -> [u8; test::ECHO_READABLE_LEN] {
    let mut bytes = [0; test::ECHO_READABLE_LEN];
    let numbers = [n, n.wrapping_add(1), n.wrapping_add(2), n.wrapping_add(3)];
    encode(&mut bytes, &numbers, test::ECHO_TEXT);
    bytes
}

fn factorial(n: u32) -> [u8; test::FACTORIAL_READABLE_LEN] {
    let mut bytes = [0; test::FACTORIAL_READABLE_LEN];
    encode(&mut bytes, &[n], test::ECHO_TEXT);
    bytes
}

fn log_reply(request: &Request, reply: &[u8]) {
    let number = |at: usize| {
        let bytes = reply.get(at * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    match (request, number(0), number(1), number(2)) {
        (Request::Echo, Some(ret), Some(arg1), Some(arg2)) => {
            pr_info!("echo: {ret}, {arg1}, {arg2}\n")
        }
        (Request::Factorial(n), Some(ret), _, _) => pr_info!("factorial of {n}: {ret}\n"),
        _ => pr_warn!("a reply of {} bytes is too short\n", reply.len()),
    }
}
