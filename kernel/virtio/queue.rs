// SPDX-License-Identifier: GPL-2.0

//! Virtqueues: messages in flight belong to the queue, and come back once.
//!
//! Unsafe code calls Linux's ring functions, each under the queue's lock, and turns tokens into the boxes that they
//! were made from.
#![allow(unsafe_code)]

use super::bindings as c;
use super::irq_lock::{InterruptsOff, IrqLock};
use super::message::Message;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, ordering::Relaxed};
use kernel::sync::lock::Guard;
use kernel::sync::{Arc, CondVar};

/// One virtqueue, which may outlive its device.
///
/// # Invariants
///
/// The ring, while there is one, is live, and its tokens are pointers that [`KBox::into_raw`] gave for a
/// `KBox<Message<C>>`, each owned by the ring.
#[pin_data]
pub(crate) struct Queue<C: Send + 'static> {
    #[pin]
    ring: IrqLock<Ring>,
    /// Senders that wait for free descriptors.
    #[pin]
    room: CondVar,
    doorbells: Atomic<u32>,
    _in_flight: PhantomData<KBox<Message<C>>>,
}

/// Linux's queue.
enum Ring {
    Live(NonNull<c::virtqueue>),
    /// The device is going: nothing is added or taken any more.
    Closed(NonNull<c::virtqueue>),
    Gone,
}

impl Ring {
    fn live(&self) -> Option<NonNull<c::virtqueue>> {
        match self {
            Self::Live(vq) => Some(*vq),
            Self::Closed(_) | Self::Gone => None,
        }
    }
}

// SAFETY: any thread may call the ring's functions, one at a time, which the lock sees to.
unsafe impl Send for Ring {}

/// Whether messages came back while callbacks were off.
#[derive(PartialEq, Eq)]
pub(crate) enum Armed {
    /// None: the next one makes a callback.
    Quiet,
    /// Some: look again.
    MoreUsed,
}

impl<C: Send + 'static> Queue<C> {
    /// # Safety
    ///
    /// `ring` is a queue that was just found, to which nobody else adds; [`Self::close`] is called before it goes.
    pub(super) unsafe fn new(ring: NonNull<c::virtqueue>) -> Result<Arc<Self>> {
        // INVARIANT: the ring has no token yet, and only `send` adds any.
        Arc::pin_init(
            pin_init!(Self {
                ring <- IrqLock::new(Ring::Live(ring), c"virtio_queue", kernel::static_lock_class!()),
                room <- CondVar::new(c"virtio_queue_room", kernel::static_lock_class!()),
                doorbells: Atomic::new(0),
                _in_flight: PhantomData,
            }),
            GFP_KERNEL,
        )
    }

    /// Gives a message to the device; while the queue is full, sleeps.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the device is gone, `EINTR` when a signal came before there was room, `EIO` when the queue is
    /// broken. The message was then not sent, and is freed.
    pub(crate) fn send(&self, message: KBox<Message<C>>) -> Result {
        let mut unsent = message;
        let mut ring = self.ring.lock();
        loop {
            let vq = ring.live().ok_or(ENODEV)?;
            match add(&ring, vq, unsent) {
                Ok(()) => {
                    self.kick(&ring, vq);
                    return Ok(());
                }
                Err((message, error)) if error == ENOSPC => unsent = message,
                Err((message, error)) => {
                    drop(ring);
                    drop(message);
                    return Err(error);
                }
            }
            if self.room.wait_interruptible(&mut ring) {
                drop(ring);
                return Err(EINTR);
            }
        }
    }

    /// Notifies the device, if it wants to be.
    fn kick(&self, _held: &Guard<'_, Ring, InterruptsOff>, vq: NonNull<c::virtqueue>) {
        // SAFETY: the ring is live and its lock held, so that a callback cannot come in between.
        if unsafe { c::virtqueue_kick_prepare(vq.as_ptr()) && c::virtqueue_notify(vq.as_ptr()) } {
            self.doorbells.fetch_add(1, Relaxed);
        }
    }

    /// How often the device was notified.
    pub(crate) fn doorbells(&self) -> u32 {
        self.doorbells.load(Relaxed)
    }

    /// Takes back every message that the device has used, and leaves callbacks on.
    ///
    /// Callbacks are off while messages are taken; those that arrive before they are on again are taken too.
    pub(crate) fn drain(&self, mut each: impl FnMut(KBox<Message<C>>, u32)) {
        loop {
            self.disable_callbacks();
            while let Some((message, len)) = self.take() {
                each(message, len);
            }
            if self.enable_callbacks() == Armed::Quiet {
                return;
            }
        }
    }

    /// The next message that the device has used, and how many bytes it says it wrote, whatever the order.
    pub(crate) fn take(&self) -> Option<(KBox<Message<C>>, u32)> {
        let mut len = 0;
        let token = {
            let ring = self.ring.lock();
            // SAFETY: the ring is live, and its lock held.
            unsafe { c::virtqueue_get_buf(ring.live()?.as_ptr(), &mut len) }
        };
        // SAFETY: by the queue's invariant this is a token of ours, and the ring gives each back once.
        let message = unsafe { message_of(token) }?;
        self.room.notify_all();
        Some((message, len))
    }

    /// Asks the device for no more callbacks; it may still make some.
    pub(crate) fn disable_callbacks(&self) {
        if let Some(vq) = self.ring.lock().live() {
            // SAFETY: the ring is live, and its lock held until the statement's end.
            unsafe { c::virtqueue_disable_cb(vq.as_ptr()) };
        }
    }

    /// Asks for callbacks again.
    pub(crate) fn enable_callbacks(&self) -> Armed {
        let ring = self.ring.lock();
        let Some(vq) = ring.live() else { return Armed::Quiet };
        // SAFETY: the ring is live, and its lock held.
        if unsafe { c::virtqueue_enable_cb(vq.as_ptr()) } { Armed::Quiet } else { Armed::MoreUsed }
    }

    /// From here on the queue answers `ENODEV`; those who wait for room are woken.
    pub(super) fn close(&self) {
        {
            let mut ring = self.ring.lock();
            if let Some(vq) = ring.live() {
                *ring = Ring::Closed(vq);
            }
        }
        self.room.notify_all();
    }

    /// Takes the messages that the device will never return.
    ///
    /// # Safety
    ///
    /// The device was reset after [`Self::close`], and its queues are not deleted yet.
    pub(super) unsafe fn detach(&self, mut each: impl FnMut(KBox<Message<C>>)) {
        let closed = core::mem::replace(&mut *self.ring.lock(), Ring::Gone);
        let Ring::Closed(vq) = closed else { return };
        // SAFETY: the ring is live, by the caller's promise, and nobody else uses it since it was closed. Its tokens
        // are ours.
        while let Some(message) = unsafe { message_of(c::virtqueue_detach_unused_buf(vq.as_ptr())) } {
            each(message);
        }
    }
}

/// Adds a message; one that could not be added comes back.
fn add<C>(
    _held: &Guard<'_, Ring, InterruptsOff>,
    vq: NonNull<c::virtqueue>,
    mut message: KBox<Message<C>>,
) -> Result<(), (KBox<Message<C>>, Error)> {
    let (readable, writable) = message.halves();
    let (outputs, inputs) = (u32::from(!readable.is_empty()), u32::from(!writable.is_empty()));
    let mut lists = [bindings::scatterlist::default(), bindings::scatterlist::default()];
    let mut pointers = [null_mut(); 2];
    let halves = [readable, writable].into_iter().filter(|half| !half.is_empty());
    for ((half, list), pointer) in halves.zip(&mut lists).zip(&mut pointers) {
        // SAFETY: the bytes are kmalloc's, and live as long as the message.
        unsafe { bindings::sg_init_one(list, half.as_mut_ptr().cast(), half.len() as u32) };
        *pointer = list;
    }
    let (lists, token) = (pointers.as_mut_ptr(), KBox::into_raw(message));
    // SAFETY: the ring is live, and its lock held. The lists are read during the call only, there are as many as the
    // two counts say, and the bytes that they name live until the token comes back. No allocation may sleep here.
    let added = unsafe {
        c::virtqueue_add_sgs(vq.as_ptr(), lists, outputs, inputs, token.cast(), bindings::GFP_ATOMIC)
    };
    // SAFETY: what was not added is still ours, and the token was made from it just above.
    to_result(added).map_err(|error| (unsafe { KBox::from_raw(token) }, error))
}

/// # Safety
///
/// `token` is null, or a pointer that [`add`] gave to a ring of the same `C` and that has just left it.
unsafe fn message_of<C>(token: *mut kernel::ffi::c_void) -> Option<KBox<Message<C>>> {
    if token.is_null() {
        return None;
    }
    // SAFETY: it was made by `KBox::into_raw`, and has one owner again.
    Some(unsafe { KBox::from_raw(token.cast()) })
}
