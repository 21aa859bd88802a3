//! The one table of devices by name: `serve` and `device list` read it, and a new device is a line in it.

use crate::Failure;
use crate::nearest::unknown;
use serde::Serialize;
use std::sync::Arc;
use vioduct_block::Block;
use vioduct_console::Console;
use vioduct_entropy::Entropy;
use vioduct_net::{Net, Tap};
use vioduct_pci::PciFunction;
use vioduct_pci_demo::PciDemo;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{DeviceModel, OptionError, Options};
use vioduct_virtio_test::VirtioTest;
use vioduct_vsock::Vsock;

/// A device, for those who choose one.
#[derive(Serialize)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) is: &'static str,
    /// `key=value` and its meaning.
    pub(crate) options: &'static [(&'static str, &'static str)],
    #[serde(skip)]
    pub(crate) make: Make,
}

/// How a device is made from its options.
#[derive(Clone, Copy)]
pub(crate) enum Make {
    Virtio(fn(&Options) -> Result<Box<dyn DeviceModel>, OptionError>),
    /// A PCI function that is not virtio.
    Pci(fn(&Options) -> Result<Box<dyn PciFunction>, OptionError>),
}

/// Every device.
pub(crate) const DEVICES: &[Device] = &[
    Device {
        name: "block",
        is: "virtio block device (type 2): a raw file or block device",
        options: &[
            ("path=FILE", "a raw file or block device; its format is never guessed"),
            ("null=SIZE", "instead of a file: reads give zeroes, writes are forgotten"),
            ("readonly=on|off", "whether it can only be read (off)"),
            ("serial=TEXT", "its identification, at most 20 bytes (vioduct)"),
            ("queues=N", "how many queues, each served by a thread (1)"),
            ("io=uring|threads|auto", "what carries out operations (auto: io_uring where permitted)"),
            ("block-size=512|4096", "the block size shown to the driver (512)"),
        ],
        make: Make::Virtio(|options| Ok(Box::new(Block::from_options(options)?))),
    },
    Device {
        name: "console",
        is: "virtio console (type 3): output to standard output, a file or a terminal, and input",
        options: &[
            ("path=FILE", "output goes to the end of this file, device or FIFO; there is no input"),
            ("path=pty", "output and input are a new terminal's, which stderr names"),
            ("path=stdio", "input is stdin (not with `run`, whose serial line has it), output is stdout"),
            ("cols=N", "width shown to the driver, in characters (80)"),
            ("rows=N", "height (24)"),
        ],
        make: Make::Virtio(|options| {
            let console = Console::from_options(options)?;
            if let Some(terminal) = console.terminal() {
                eprintln!("vioduct: the console is {}", terminal.display());
            }
            Ok(Box::new(console))
        }),
    },
    Device {
        name: "entropy",
        is: "virtio entropy source (type 4): the system's random bytes",
        options: &[],
        make: Make::Virtio(|options| Ok(Box::new(Entropy::from_options(options)?))),
    },
    Device {
        name: "net",
        is: "virtio network card (type 1): a TAP interface of the host's",
        options: &[
            ("tap=NAME", "a TAP interface that is there"),
            ("tap=auto", "one of its own, which stderr names, up, and gone when the device is"),
            ("port=reflect", "instead: packets come back with their addresses exchanged"),
            ("mac=ADDRESS", "its Ethernet address (one of its own making)"),
            ("queues=PAIRS", "how many pairs of queues, each served by a thread (1)"),
            ("mtu=BYTES", "length of packets that the driver is to keep to, and the MTU of tap=auto"),
            (
                "vhost=on",
                "with `run`: the packets go through the host's kernel, and not through this process",
            ),
        ],
        make: Make::Virtio(|options| Ok(Box::new(network_card(options)?.0))),
    },
    Device {
        name: "pci-demo",
        is: "plain PCI function: one trapped register in a BAR",
        options: &[],
        make: Make::Pci(|options| {
            options.accept(&[])?;
            Ok(Box::new(PciDemo::default()))
        }),
    },
    Device {
        name: "virtio-demo",
        is: "virtio device (type 63): one stored value, read and written over a virtqueue",
        options: &[],
        make: Make::Virtio(|options| Ok(Box::new(VirtioDemo::from_options(options)?))),
    },
    Device {
        name: "virtio-test",
        is: "virtio device (type 45 unless told otherwise): two request formats",
        options: &[
            ("format=factorial|echo", "which requests it answers (factorial)"),
            ("id=1..63", "its device type (45)"),
        ],
        make: Make::Virtio(|options| Ok(Box::new(VirtioTest::from_options(options)?))),
    },
    Device {
        name: "vsock",
        is: "virtio socket device (type 19): connections of guest and host programs, by Unix sockets of the host's",
        options: &[
            ("cid=N", "the guest's context identifier, from 3 on"),
            ("path=PATH", "host programs reach the guest at this socket, and are reached at PATH_PORT"),
            ("vhost=on", "instead, with `run`: the host's kernel serves it, and host programs have AF_VSOCK"),
        ],
        make: Make::Virtio(|options| Ok(Box::new(Vsock::from_options(options)?))),
    },
];

/// A network card and its interface, if it has one; one of its own is named.
pub(crate) fn network_card(options: &Options) -> Result<(Net, Option<Arc<Tap>>), OptionError> {
    let (net, tap) = Net::with_tap(options)?;
    if let Some(tap) = tap.as_ref().filter(|_| options.text("tap") == Some("auto")) {
        eprintln!("vioduct: the network card's interface is {}", tap.name());
    }
    Ok((net, tap))
}

/// The device that `name,key=value…` names, and its options.
pub(crate) fn find(text: &str) -> Result<(&'static Device, Options), Failure> {
    let options = Options::parse(text).map_err(|error| Failure::Usage(error.to_string()))?;
    let device = DEVICES.iter().find(|device| device.name == options.name());
    let names = DEVICES.iter().map(|device| device.name);
    let device = device.ok_or_else(|| Failure::Usage(unknown("device", options.name(), names)))?;
    Ok((device, options))
}
