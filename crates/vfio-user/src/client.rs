//! [`RemoteFunction`]: a PCI function that a server in another process has, for a machine of this one.
//!
//! | module | part |
//! |---|---|
//! | `peer` | the server, by what it can be asked for |
//! | `identity` | what the function is, by its configuration space |
//! | `doorbells` | [`RemoteDoorbell`]: what is signalled without a message |
//! | `lines` | interrupts, from the server's eventfds |
//! | `memory` | the guest's memory: shown to the server, and read and written for it |

mod doorbells;
mod identity;
mod lines;
mod memory;
mod peer;

use crate::device::{BARS, CONFIG};
use crate::error::ConnectError;
use crate::link::{Link, Patience, STOPPED};
use crate::wire::DeviceInfo;
pub use doorbells::RemoteDoorbell;
use identity::{Description, Identity, Reset};
use lines::{IrqType, Lines};
use memory::GuestMemory;
use peer::{Peer, Posting, Trouble};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vioduct_pci::registers::{COMMAND, CONFIG_LEN, MSIX_ENABLE};
use vioduct_pci::{
    CapabilityAction, CapabilityTouch, Controls, FunctionHost, FunctionSpec, InterruptPin, PciFunction,
};
use vioduct_spec::pci::VENDOR_ID;
use vioduct_virtio_device::{EventFd, MemoryMap, Signal};
use vioduct_virtio_pci::configuration_action;

/// A PCI function that a vfio-user server has.
///
/// Registers are read and written by messages. The host of this function keeps the MSI-X table that the guest programs; the server is
/// told whether MSI-X is on, and signals vectors by the eventfds that the host has for them
/// ([`InterruptSink::eventfd`](vioduct_pci::InterruptSink::eventfd)), or by some that are listened to here. A pin is
/// asserted when the server signals it, and deasserted when the guest touches a register; the server says so if it still is asserted.
///
/// It is no [`DmaFunction`](vioduct_pci::DmaFunction), for the server has to be shown files:
/// [`replace_memory`](Self::replace_memory) is its own.
///
/// # A server that goes away
/// That one does not answer in time, or answers what no server should, is as good as its going away. From then on reads give all
/// ones and writes are dropped; the log says so once.
///
/// ```no_run
/// use std::sync::Arc;
/// use std::time::Duration;
/// use vioduct_pci::{Hosted, NoInterrupts};
/// use vioduct_vfio_user::RemoteFunction;
/// use vioduct_virtio_device::MemoryMap;
///
/// let memory = Arc::new(MemoryMap::shared(64 << 20)?);
/// let function = RemoteFunction::connect("/run/demo.sock", &memory, Duration::from_secs(5))?;
/// let hosted = Hosted::new(function, Arc::new(NoInterrupts))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RemoteFunction {
    peer: Arc<Peer>,
    spec: FunctionSpec,
    bar_lens: [u64; BARS as usize],
    msix_control: Option<u64>,
    reset: Reset,
    doorbells: Vec<RemoteDoorbell>,
    memory: Arc<GuestMemory>,
    /// Once it is attached.
    lines: Option<Arc<Lines>>,
    /// What the server was told last.
    controls: Controls,
    threads: Threads,
}

impl RemoteFunction {
    /// Connects to the server that listens at `path`, which may take `patience` for each request. `memory` is the guest's: regions
    /// with files are mapped by the server, for others it asks by messages.
    ///
    /// # Errors
    /// If there is no server, it does not answer, or has something else than a PCI function.
    pub fn connect(
        path: impl AsRef<Path>,
        memory: &Arc<MemoryMap>,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let path = path.as_ref();
        let connected = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket)
        };
        let failed =
            |source: rustix::io::Errno| ConnectError::Connect { path: path.into(), source: source.into() };
        Self::over(connected().map_err(failed)?, memory, patience)
    }

    /// The same over a connection that someone else has made.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); and if the descriptor is not a Unix stream socket.
    pub fn over(socket: OwnedFd, memory: &Arc<MemoryMap>, patience: Duration) -> Result<Self, ConnectError> {
        if socket_type(&socket) != Ok(SocketType::STREAM) || socket_acceptconn(&socket) != Ok(false) {
            return Err(ConnectError::NotAStream);
        }
        let stop = EventFd::new().map(Arc::new).map_err(system("make an eventfd"))?;
        let patience = Patience { call: patience, send: patience };
        let link = Link::new(socket, patience, stop.clone());
        let peer = Arc::new(Peer::negotiate(link).map_err(failed("agree on a version"))?);
        let mut threads = Threads::new(stop);
        // From here on, for a server may ask for memory as soon as it is shown.
        let memory = Arc::new(GuestMemory::new(memory.clone()));
        let (serving, asking) = (memory.clone(), peer.clone());
        threads.spawn("vfio-user", move |_| report_end(serving.serve(&asking)))?;
        let description = describe(&peer)?;
        let Identity { spec, msix_control } = description.identity()?;
        memory.share(&peer).map_err(failed("take the guest's memory"))?;
        let Description { bar_lens, reset, .. } = description;
        let doorbells = doorbells::ask(&peer, &spec, &bar_lens)?;
        let controls = Controls::default();
        Ok(Self {
            peer,
            spec,
            bar_lens,
            msix_control,
            reset,
            doorbells,
            memory,
            lines: None,
            controls,
            threads,
        })
    }

    /// Places that the server has signalled by eventfds, for a host that can do that without an exit.
    #[must_use]
    pub fn doorbells(&self) -> &[RemoteDoorbell] {
        &self.doorbells
    }

    /// Has the server use this memory from now on. When this returns it uses nothing of the memory before.
    ///
    /// # Errors
    /// If the server does not let go of memory, or does not take this.
    pub fn replace_memory(&mut self, memory: &Arc<MemoryMap>) -> Result<(), ConnectError> {
        self.memory.replace(&self.peer, memory.clone()).map_err(failed("exchange the guest's memory"))
    }

    fn acknowledge(&self) {
        self.lines.iter().for_each(|lines| lines.acknowledge());
    }

    /// Whether the server has all of an access to a BAR; the BAR may be longer.
    fn has(&self, bar: u8, offset: u64, len: usize) -> bool {
        let whole = self.bar_lens.get(usize::from(bar));
        offset.checked_add(len as u64).is_some_and(|end| whole.is_some_and(|whole| end <= *whole))
    }

    fn write_config(&self, offset: u64, value: u16) {
        if let Err(trouble) = self.peer.write(CONFIG, offset, &value.to_le_bytes(), Posting::Waits) {
            self.peer.report("a write to configuration space", trouble);
        }
    }

    /// Has the server signal by the pin, or by vectors.
    fn use_lines(&self, msix: u16) {
        let Some(lines) = &self.lines else { return };
        let outcome = if msix & MSIX_ENABLE == 0 { lines.use_pin() } else { lines.use_vectors() };
        if let Err(trouble) = outcome {
            self.peer.report("to signal interrupts", trouble);
        }
    }
}

impl PciFunction for RemoteFunction {
    fn spec(&self) -> FunctionSpec {
        self.spec.clone()
    }

    fn attach(&mut self, host: FunctionHost) {
        let has_pin = self.spec.interrupt_pin != InterruptPin::None;
        let lines = match Lines::new(self.peer.clone(), host.interrupts().clone(), has_pin) {
            Ok(lines) => Arc::new(lines),
            Err(error) => {
                tracing::error!("a vfio-user function has no interrupts: cannot make an eventfd: {error}");
                return;
            }
        };
        self.lines = Some(lines.clone());
        if lines.need_listener() {
            let spawned = self.threads.spawn("vfio-user-irqs", move |stop| lines.listen(&stop));
            if let Err(error) = spawned {
                tracing::error!("a vfio-user function has no interrupts: {error}");
            }
        }
        self.use_lines(0);
    }

    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        if !self.has(bar, offset, out.len()) {
            return;
        }
        if let Err(trouble) = self.peer.read(bar.into(), offset, out) {
            out.fill(0xff);
            self.peer.report("a read of a BAR", trouble);
        }
        self.acknowledge();
    }

    /// A write to memory is posted on a bus, too.
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if !self.has(bar, offset, data.len()) {
            return;
        }
        if let Err(trouble) = self.peer.write(bar.into(), offset, data, Posting::Allowed) {
            self.peer.report("a write to a BAR", trouble);
        }
        self.acknowledge();
    }

    /// What the pin was is over; the server may have it masked, which the acknowledgement undoes.
    fn reset(&mut self) {
        if self.reset == Reset::Absent {
            tracing::warn!("the vfio-user server cannot reset its function");
        } else if let Err(trouble) = self.peer.reset() {
            self.peer.report("a reset", trouble);
        }
        self.acknowledge();
    }

    /// Vectors are told before MSI-X is on and until it is off. That the guest masks all of them is the host's matter, as is the
    /// table.
    fn controls_changed(&mut self, to: Controls) {
        let from = std::mem::replace(&mut self.controls, to);
        if from.command != to.command {
            self.write_config(COMMAND, to.command);
        }
        let (was, is) = (from.msix & MSIX_ENABLE, to.msix & MSIX_ENABLE);
        let Some(control) = self.msix_control.filter(|_| was != is) else { return };
        if is != 0 {
            self.use_lines(is);
        }
        self.write_config(control, is);
        if is == 0 {
            self.use_lines(is);
        }
    }

    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        self.capability_write(touch)
    }

    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        if self.spec.vendor_id == VENDOR_ID { configuration_action(touch) } else { CapabilityAction::None }
    }
}

impl Drop for RemoteFunction {
    fn drop(&mut self) {
        self.peer.close(STOPPED);
    }
}

/// Threads that end when this is dropped.
struct Threads {
    stop: Arc<EventFd>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    fn new(stop: Arc<EventFd>) -> Self {
        Self { stop, running: Vec::new() }
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce(Arc<EventFd>) + Send + 'static,
    ) -> Result<(), ConnectError> {
        let stop = self.stop.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(stop));
        self.running.push(thread.map_err(system("start a thread"))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.signal();
        for thread in self.running.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn describe(peer: &Peer) -> Result<Description, ConnectError> {
    let say = || failed("say what it has");
    let info = peer.device_info().map_err(say())?;
    if info.flags & DeviceInfo::PCI == 0 || info.regions <= CONFIG {
        return Err(ConnectError::Unsuitable("it is not a PCI function".into()));
    }
    let mut bar_lens = [0; BARS as usize];
    for (region, len) in (0..).zip(&mut bar_lens) {
        *len = peer.region_info(region).map_err(say())?.len;
    }
    let config_len = peer.region_info(CONFIG).map_err(say())?.len;
    if config_len < CONFIG_LEN {
        return Err(ConnectError::Unsuitable(format!("its configuration space has {config_len} bytes")));
    }
    let mut config = [0; CONFIG_LEN as usize];
    // Every server has registers of 4 bytes there.
    for (register, at) in config.chunks_mut(4).zip((0..).step_by(4)) {
        peer.read(CONFIG, at, register).map_err(failed("show its configuration space"))?;
    }
    let count = |of: IrqType| match of as u32 {
        index if index < info.irqs => Ok(peer.irq_info(of).map_err(say())?.count),
        _ => Ok(0),
    };
    let (has_pin, vectors) = (count(IrqType::Intx)? > 0, count(IrqType::Msix)?);
    let reset = if info.flags & DeviceInfo::RESET == 0 { Reset::Absent } else { Reset::Offered };
    Ok(Description { config, bar_lens, has_pin, vectors, reset })
}

/// Said once for a server, by the thread that listens to it.
fn report_end(why: &'static str) {
    if why != STOPPED {
        tracing::error!(
            "a vfio-user server is lost ({why}): its function reads as all ones until it is plugged again"
        );
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> ConnectError {
    move |source| ConnectError::System { action, source }
}

fn failed(action: &'static str) -> impl FnOnce(Trouble) -> ConnectError {
    move |trouble| match trouble {
        Trouble::Gone(why) => ConnectError::Lost { action, why },
        Trouble::Refused(errno) => {
            let source = io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or_default());
            ConnectError::Refused { action, source }
        }
    }
}
