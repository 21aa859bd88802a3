//! A virtio device over vhost-user: every client gets a device of its own.

use super::{Door, Served, on_signals, say_ready, take};
use crate::Failure;
use crate::args::MemoryFiles;
use crate::registry::Make;
use vioduct_vhost_user::{Limits, Server, ServerError, SharedFiles};
use vioduct_virtio_device::Workers;

pub(super) fn serve(served: Served, door: &Door, memory_files: MemoryFiles) -> Result<(), Failure> {
    let Make::Virtio(make) = served.device.make else {
        let name = served.device.name;
        return Err(Failure::Usage(format!("{name} is not a virtio device: serve it by --vfio-user")));
    };
    // What is wrong with the options is wrong before the first client, too.
    make(&served.options).map_err(|error| Failure::Usage(error.to_string()))?;
    let failed = |error: ServerError| Failure::Failed(error.to_string());
    let server = match door {
        Door::Path(path) => Server::listen(path).map_err(failed)?,
        Door::Descriptor(number) => Server::from_socket(take(*number)?).map_err(failed)?,
    };
    let server = server.with_limits(limits(memory_files));
    let stopper = server.stopper();
    on_signals(move || stopper.stop())?;
    say_ready(&served, "vhost-user", door)?;
    server.run(move || make(&served.options).map(Workers::new)).map_err(failed)
}

fn limits(memory_files: MemoryFiles) -> Limits {
    let shared_files = match memory_files {
        MemoryFiles::Sealed => SharedFiles::Sealed,
        MemoryFiles::Any => SharedFiles::Any,
    };
    Limits { shared_files, ..Limits::default() }
}
