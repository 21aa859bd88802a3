//! A virtio device over vhost-user, or a PCI function in a tunnel that is one: every client gets a device of its own.

use super::tunnel::tunnelled;
use super::{Door, Served, on_signals, say_ready, take};
use crate::Failure;
use crate::args::MemoryFiles;
use crate::registry::Make;
use std::fmt::Display;
use vioduct_vhost_user::{Limits, Server, ServerError, SharedFiles};
use vioduct_virtio_device::{Backend, Workers};

/// What a client's virtio device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// The device that is served.
    Itself,
    /// A tunnel with that device in it, as a PCI function.
    Tunnel,
}

pub(super) fn serve(
    served: &Served,
    shape: Shape,
    door: &Door,
    memory_files: MemoryFiles,
) -> Result<(), Failure> {
    let options = served.options.clone();
    match (served.device.make, shape) {
        (Make::Virtio(make), Shape::Itself) => {
            serve_each(served, door, memory_files, move || make(&options).map(Workers::new))
        }
        // A PCI function goes no other way.
        (make, Shape::Itself | Shape::Tunnel) => {
            serve_each(served, door, memory_files, move || tunnelled(make, &options))
        }
    }
}

fn serve_each<B, E>(
    served: &Served,
    door: &Door,
    memory_files: MemoryFiles,
    device: impl Fn() -> Result<B, E> + Send + Sync + 'static,
) -> Result<(), Failure>
where
    B: Backend + 'static,
    E: Display,
{
    // What is wrong with the options is wrong before the first client, too.
    device().map_err(|error| Failure::Usage(error.to_string()))?;
    let failed = |error: ServerError| Failure::Failed(error.to_string());
    let server = match door {
        Door::Path(path) => Server::listen(path).map_err(failed)?,
        Door::Descriptor(number) => Server::from_socket(take(*number)?).map_err(failed)?,
    };
    let server = server.with_limits(limits(memory_files));
    let stopper = server.stopper();
    on_signals(move || stopper.stop())?;
    say_ready(served, "vhost-user", door)?;
    server.run(device).map_err(failed)
}

fn limits(memory_files: MemoryFiles) -> Limits {
    let shared_files = match memory_files {
        MemoryFiles::Sealed => SharedFiles::Sealed,
        MemoryFiles::Any => SharedFiles::Any,
    };
    Limits { shared_files, ..Limits::default() }
}
