//! [`Processor`]: one virtual CPU, and the thread that runs it.
//!
//! This module holds `unsafe` because what KVM says of its own errors is in a union.
#![allow(unsafe_code)]

use crate::control::{Control, Outcome};
use crate::legacy::MachineEvent;
use crate::sandbox::Confinement;
use crate::space::Space;
use kvm_bindings::KVM_INTERNAL_ERROR_DELIVERY_EV;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::os::raw::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// Why processors have left the guest, all of them together.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    pub(crate) memory: AtomicU64,
    pub(crate) ports: AtomicU64,
}

/// A processor before it runs.
pub(crate) struct Processor {
    pub(crate) fd: VcpuFd,
    pub(crate) space: Arc<Space>,
    pub(crate) control: Control,
    pub(crate) exits: Arc<Exits>,
    /// Times in a row that an interrupt could not be delivered.
    pub(crate) undelivered: u8,
    /// What its thread is confined by.
    pub(crate) confinement: Option<Confinement>,
}

/// A processor's thread.
pub(crate) struct Running(JoinHandle<()>);

/// Times in a row that a guest is entered again with an interrupt that could not be delivered.
const DELIVERIES: u8 = 8;
/// How long to wait between two signals to a processor that has not noticed one.
const PAUSE: Duration = Duration::from_millis(1);

impl Processor {
    /// Lets it run in a thread of its own, until the machine's end.
    pub(crate) fn start(self, index: u8) -> std::io::Result<Running> {
        let body = move || self.run();
        Ok(Running(thread::Builder::new().name(format!("cpu{index}")).spawn(body)?))
    }

    fn run(mut self) {
        if let Some(Err(error)) = self.confinement.as_ref().map(Confinement::face_the_guest) {
            self.control.end(crashed(&format!("a processor's thread cannot be confined: {error}")));
        }
        while !self.control.is_over() {
            if let Some(outcome) = self.enter() {
                self.control.end(outcome);
            }
        }
    }

    /// Runs the guest to its next exit, and serves that; how it ended, if it has.
    fn enter(&mut self) -> Option<Outcome> {
        let Self { fd, space, control: _, exits, undelivered: _, confinement: _ } = self;
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let event = match fd.run() {
            Ok(VcpuExit::MmioRead(address, out)) => {
                count(&exits.memory);
                space.read(address, out);
                None
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                count(&exits.memory);
                space.write(address, data)
            }
            Ok(VcpuExit::IoIn(port, out)) => {
                count(&exits.ports);
                space.port_read(port, out);
                None
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                count(&exits.ports);
                space.port_write(port, data)
            }
            Ok(VcpuExit::Shutdown) => {
                return Some(crashed("the guest met a fault while it handled a fault (triple fault)"));
            }
            Ok(VcpuExit::FailEntry(reason, _)) => {
                return Some(crashed(&format!("KVM cannot enter the guest (hardware reason {reason:#x})")));
            }
            Ok(VcpuExit::InternalError) => return self.internal_error(),
            Ok(exit) => return Some(crashed(&format!("the guest stopped by {exit:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => None,
            Err(error) => return Some(crashed(&format!("KVM cannot run the guest: {error}"))),
        };
        self.undelivered = 0;
        event.map(|event| match event {
            MachineEvent::PowerOff => Outcome::PowerOff,
            MachineEvent::Reset => Outcome::Reset,
        })
    }

    /// KVM met what it cannot go on from; how the machine ends, if there is no more to try.
    fn internal_error(&mut self) -> Option<Outcome> {
        // SAFETY: KVM fills this part of the union for the exit that has just been.
        let internal = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        // Emulated processors say of an interrupt that was delivered that it was not, at an access that then traps. Entered again, the
        // guest gets the interrupt, and then the access is seen for what it is.
        if internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV && self.undelivered < DELIVERIES {
            self.undelivered += 1;
            return None;
        }
        let at = self.fd.get_regs().map_or(0, |registers| registers.rip);
        let data = internal.data.iter().take(internal.ndata as usize).map(|word| format!("{word:#x}"));
        let data = data.collect::<Vec<_>>().join(" ");
        Some(crashed(&format!("KVM cannot go on at {at:#x} (internal error {}, {data})", internal.suberror)))
    }
}

fn crashed(how: &str) -> Outcome {
    Outcome::Crashed(how.to_owned())
}

impl Running {
    /// Waits for a processor whose machine has ended; it may be in the guest, which a signal makes it leave.
    pub(crate) fn join(self) {
        while !self.0.is_finished() {
            // A signal that comes just before the guest is entered is not noticed there: so another one follows.
            let _ = self.0.kill(SIGRTMIN());
            thread::sleep(PAUSE);
        }
        // Its panic has been printed.
        let _ = self.0.join();
    }
}

/// Has the signal to processors end their stay in the guest, and do nothing else.
pub(crate) fn take_signals() -> std::io::Result<()> {
    extern "C" fn nothing(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
    register_signal_handler(SIGRTMIN(), nothing)
        .map_err(|error| std::io::Error::from_raw_os_error(error.errno()))
}
