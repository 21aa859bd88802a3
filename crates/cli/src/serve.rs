//! `vioduct serve`: a device for virtual machine monitors in other processes.

mod inherited;

use crate::Failure;
use crate::args::{MemoryFiles, ServeOptions};
use crate::registry::{self, Device, Make};
use crate::report::print_text;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::thread;
use vioduct_vhost_user::{Limits, Server, ServerError, SharedFiles};
use vioduct_virtio_device::{DeviceModel, OptionError, Options, Workers};

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

/// Serves until the client of a connected socket has gone, or until SIGTERM or SIGINT, and then lets devices finish what they have.
pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let (device, device_options) = registry::find(&options.device)?;
    let make = match device.make {
        Make::Virtio(make) => make,
        Make::PlainPci => {
            let name = device.name;
            let message = format!("{name} is not a virtio device: vhost-user cannot carry it");
            return Err(Failure::Usage(message));
        }
    };
    // What is wrong with the options is wrong before the first client, too.
    make(&device_options).map_err(|error| Failure::Usage(error.to_string()))?;
    let server = open(&options.vhost_user)?.with_limits(limits(options));
    stop_on_signals(&server)?;
    print_text(&format!("ready {}\n", describe(device, &options.vhost_user)))?;
    server
        .run(move || model(make, &device_options).map(Workers::new))
        .map_err(|error| Failure::Failed(error.to_string()))
}

type MakeModel = fn(&Options) -> Result<Box<dyn DeviceModel>, OptionError>;

fn model(make: MakeModel, options: &Options) -> Result<Box<dyn DeviceModel>, OptionError> {
    make(options)
}

fn open(door: &Door) -> Result<Server, Failure> {
    let failed = |error: ServerError| Failure::Failed(error.to_string());
    match door {
        Door::Path(path) => Server::listen(path).map_err(failed),
        Door::Descriptor(number) => {
            let socket = inherited::take(*number)
                .map_err(|error| Failure::Usage(format!("fd={number} is not open: {error}")))?;
            Server::from_socket(socket).map_err(failed)
        }
    }
}

fn limits(options: &ServeOptions) -> Limits {
    let shared_files = match options.memory_files {
        MemoryFiles::Sealed => SharedFiles::Sealed,
        MemoryFiles::Any => SharedFiles::Any,
    };
    Limits { shared_files, ..Limits::default() }
}

fn describe(device: &Device, door: &Door) -> String {
    match door {
        Door::Path(path) => format!("{} vhost-user {}", device.name, path.display()),
        Door::Descriptor(number) => format!("{} vhost-user fd={number}", device.name),
    }
}

/// Stops the server when this process is asked to end; the thread that waits for it ends with the process.
fn stop_on_signals(server: &Server) -> Result<(), Failure> {
    let stopper = server.stopper();
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")))?;
    let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stopper.stop();
        }
    });
    waiting.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}
