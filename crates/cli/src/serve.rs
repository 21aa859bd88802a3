//! `vioduct serve`: a device for virtual machine monitors in other processes.

mod inherited;
mod tunnel;
mod vfio_user;
mod vhost_user;

use crate::Failure;
use crate::args::ServeOptions;
use crate::registry::{self, Device};
use crate::report::print_text;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use vhost_user::Shape;
use vioduct_virtio_device::Options;

/// Where clients come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// A socket file to listen at.
    Path(PathBuf),
    /// A socket that this process was started with.
    Descriptor(i32),
}

impl Door {
    /// `fd=N`, or a path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("fd=") {
            None if text.is_empty() => Err("write a path, or fd=N for an open socket".to_owned()),
            None => Ok(Self::Path(text.into())),
            Some(number) => match number.parse() {
                Ok(number) if number > 2 => Ok(Self::Descriptor(number)),
                _ => {
                    Err(format!("`{number}` is no descriptor of an open socket: write fd=N with N from 3 on"))
                }
            },
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Descriptor(number) => write!(f, "fd={number}"),
        }
    }
}

/// What is to be served.
struct Served {
    device: &'static Device,
    options: Options,
}

/// Serves until the client of a connected socket has gone, or until SIGTERM or SIGINT, and then lets devices finish what they have.
pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let (device, device_options) = registry::find(&options.device)?;
    let served = Served { device, options: device_options };
    let shape = if options.pci_tunnel { Shape::Tunnel } else { Shape::Itself };
    match (&options.way.vhost_user, &options.way.vfio_user) {
        (Some(door), _) => vhost_user::serve(&served, shape, door, options.memory_files),
        (None, Some(door)) => vfio_user::serve(&served, door),
        (None, None) => Err(Failure::Usage("say how: --vhost-user PATH or --vfio-user PATH".to_owned())),
    }
}

/// Takes over the socket with this number.
fn take(number: i32) -> Result<OwnedFd, Failure> {
    inherited::take(number).map_err(|error| Failure::Usage(format!("fd={number} is not open: {error}")))
}

/// Tells whoever waits for it that clients may come.
fn say_ready(served: &Served, protocol: &str, door: &Door) -> Result<(), Failure> {
    print_text(&format!("ready {} {protocol} {door}\n", served.device.name))
}

/// Calls `stop` when this process is asked to end; the thread that waits for it ends with the process.
fn on_signals(stop: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")))?;
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stop();
        }
    });
    waiting.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}
