// SPDX-License-Identifier: GPL-2.0

//! A vhost device: what one open file of a node is.
//!
//! Unsafe code owns the core's structures, which point at each other and so stay where they are, and is called by the
//! core's worker with a pointer to one of them.
#![allow(unsafe_code)]

use super::bindings as c;
use super::owned::Owned;
use super::queue::{Queue, RingLock, State};
use kernel::bindings;
use kernel::container_of;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;
use kernel::uaccess::{UserPtr, UserSlice};

/// A kind of vhost device: its value is what one open file of the node holds.
pub(crate) trait Backend: Send + Sync + Sized + 'static {
    /// An ioctl of this back-end's own.
    type Command;

    /// The node's name below `/dev`.
    const NAME: &'static CStr;
    /// How many virtqueues it has.
    const QUEUES: usize;
    /// The feature bits of the device type; those of the ring and of logging are the layer's.
    const FEATURES: u64;

    /// A file is opened.
    fn new() -> Self;

    /// The worker has a look at a queue that was kicked, or just started: see [`Queue::drain`].
    fn kicked(&self, queue: &mut Queue<'_>);

    /// The back-end's own ioctl with this number; others are the layer's and the core's.
    fn command(number: u32) -> Option<Self::Command>;

    /// The owner has asked for an ioctl of the back-end's own.
    fn run(&self, command: Self::Command, device: &mut Owned<'_, Self>, argument: UserPtr) -> Result;

    /// The device has lost its owner, and is as it was when it was opened.
    fn reset(&self);
}

/// The core's queue, which is too large for a stack.
type Ring = Pin<KVBox<Opaque<c::vhost_virtqueue>>>;

/// Chains, and bytes in them, after which a worker lets others have a turn.
const CHAINS_PER_TURN: i32 = 256;
const BYTES_PER_TURN: i32 = 512 << 10;

/// One device.
///
/// # Invariants
///
/// The core's device and its queues are initialized; `pointers` are those of `rings`, all live and with handlers of this
/// very type.
#[pin_data(PinnedDrop)]
pub(crate) struct Device<B: Backend> {
    backend: B,
    rings: KVec<Ring>,
    pointers: KVec<*mut c::vhost_virtqueue>,
    #[pin]
    raw: Opaque<c::vhost_dev>,
}

// SAFETY: the core's structures are locked by the core, or by this layer as the core prescribes, from any thread.
unsafe impl<B: Backend> Send for Device<B> {}
// SAFETY: as above.
unsafe impl<B: Backend> Sync for Device<B> {}

impl<B: Backend> Device<B> {
    /// What programs may choose from.
    pub(super) const OFFERED: u64 = B::FEATURES
        | 1 << c::VIRTIO_RING_F_INDIRECT_DESC
        | 1 << c::VIRTIO_RING_F_EVENT_IDX
        | 1 << c::VIRTIO_F_VERSION_1
        | 1 << c::VHOST_F_LOG_ALL;

    /// A device without an owner.
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        let mut rings = KVec::with_capacity(B::QUEUES, GFP_KERNEL)?;
        let mut pointers = KVec::with_capacity(B::QUEUES, GFP_KERNEL)?;
        for _ in 0..B::QUEUES {
            let ring: Ring = KVBox::pin_init(Opaque::ffi_init(describe::<B>), GFP_KERNEL)?;
            pointers.push(ring.get(), GFP_KERNEL)?;
            rings.push(ring, GFP_KERNEL)?;
        }
        // INVARIANT: the queues are what was just made, and `vhost_dev_init` makes the rest of them.
        KBox::pin_init(
            pin_init!(&this in Self {
                backend: B::new(),
                rings,
                pointers,
                raw <- Opaque::ffi_init(move |raw| {
                    // SAFETY: `pointers` is in place: it was written before this. Its elements do not move.
                    let queues = unsafe { (*this.as_ptr()).pointers.as_mut_ptr() };
                    let (count, parts) = (B::QUEUES as i32, bindings::UIO_MAXIOV as i32);
                    // SAFETY: the device stays where it is, and so do as many queues as is said.
                    unsafe {
                        c::vhost_dev_init(raw, queues, count, parts, CHAINS_PER_TURN, BYTES_PER_TURN, true, None);
                    }
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Does what an ioctl asks for.
    pub(super) fn ioctl(&self, number: u32, argument: usize) -> Result<isize> {
        let pointer = UserPtr::from_addr(argument);
        if let Some(command) = B::command(number) {
            return self.backend.run(command, &mut Owned::of(self)?, pointer).map(|()| 0);
        }
        match number {
            c::vioduct_vhost_get_features => write(pointer, Self::OFFERED),
            c::vioduct_vhost_set_features_of => Owned::of(self)?.set_features(read(pointer)?),
            c::vioduct_vhost_reset_owner => Owned::of(self)?.give_up(),
            c::vioduct_vhost_new_worker
            | c::vioduct_vhost_free_worker
            | c::vioduct_vhost_attach_vring_worker
            | c::vioduct_vhost_get_vring_worker => Owned::of(self)?.manage_workers(number, pointer),
            _ => self.core_ioctl(number, pointer),
        }
        .map(|()| 0)
    }

    /// What every vhost device has; the core looks who asks.
    fn core_ioctl(&self, number: u32, argument: UserPtr) -> Result {
        let raw = self.raw.get();
        let argument = argument.as_const_ptr().cast_mut();
        let _lock = DeviceLock::new(self);
        // SAFETY: the device is initialized, and its lock held. The core follows the argument by copying functions only.
        let result = unsafe { c::vhost_dev_ioctl(raw, number, argument) };
        if result != ENOIOCTLCMD.to_errno() as isize {
            // SAFETY: the device is initialized.
            unsafe { c::vhost_dev_flush(raw) };
            return to_result(result as i32);
        }
        // SAFETY: as above; no owner is no way to get here.
        to_result(unsafe { c::vhost_vring_ioctl(raw, number, argument) } as i32)
    }

    pub(super) fn raw(&self) -> *mut c::vhost_dev {
        self.raw.get()
    }

    pub(super) fn backend(&self) -> &B {
        &self.backend
    }

    pub(super) fn rings(&self) -> &[*mut c::vhost_virtqueue] {
        &self.pointers
    }

    /// No worker is in the device's queues when this returns, and none comes until they are started.
    pub(super) fn stop(&self) {
        for ring in &self.pointers {
            RingLock::new(self, *ring).set(State::Stopped);
        }
        // SAFETY: the device is initialized. No lock of a queue is held.
        unsafe { c::vhost_dev_flush(self.raw.get()) };
    }
}

#[pinned_drop]
impl<B: Backend> PinnedDrop for Device<B> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
        let raw = self.raw.get();
        // SAFETY: the device is initialized and nobody else's any more. Its queues are stopped, so that what is queued
        // after this ends their kicks does nothing, and is over when the core has freed the workers.
        unsafe {
            c::vhost_dev_stop(raw);
            c::vhost_dev_cleanup(raw);
        }
    }
}

/// The device's lock, without a look at who asks.
pub(super) struct DeviceLock<'a>(&'a Opaque<c::vhost_dev>);

impl<'a> DeviceLock<'a> {
    pub(super) fn new<B: Backend>(device: &'a Device<B>) -> Self {
        // SAFETY: the device is initialized, by its type's invariant.
        unsafe { c::vioduct_vhost_lock(&raw mut (*device.raw.get()).mutex) };
        Self(&device.raw)
    }
}

impl Drop for DeviceLock<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` took the lock, of a device that lives.
        unsafe { c::vioduct_vhost_unlock(&raw mut (*self.0.get()).mutex) };
    }
}

/// What the core expects of a queue before it initializes it: nothing but the handler.
fn describe<B: Backend>(ring: *mut c::vhost_virtqueue) {
    // SAFETY: the slot is ours to write, and zeros are valid for a C structure.
    unsafe {
        core::ptr::write_bytes(ring, 0, 1);
        (*ring).handle_kick = Some(kicked::<B>);
    }
}

/// # Safety
///
/// For the core's worker, with the work of a kick on a queue of a `Device<B>`, which lives until its workers are gone.
unsafe extern "C" fn kicked<B: Backend>(work: *mut c::vhost_work) {
    // SAFETY: the core calls this with the work of a queue, which knows its device, which lies in a `Device<B>`.
    let (ring, device) = unsafe {
        let ring = container_of!(work, c::vhost_virtqueue, poll.work);
        let raw: *mut Opaque<c::vhost_dev> = (*ring).dev.cast();
        (ring, &*container_of!(raw, Device<B>, raw))
    };
    let lock = RingLock::new(device, ring);
    let Some(index) = device.pointers.iter().position(|pointer| *pointer == ring) else { return };
    if let Some(mut queue) = Queue::running(lock, index) {
        device.backend.kicked(&mut queue);
    }
}

fn read(from: UserPtr) -> Result<u64> {
    UserSlice::new(from, size_of::<u64>()).reader().read()
}

fn write(to: UserPtr, value: u64) -> Result {
    UserSlice::new(to, size_of::<u64>()).writer().write(&value)
}
