// SPDX-License-Identifier: GPL-2.0

//! A vhost device in the hands of its owner.
//!
//! Unsafe code calls the core's functions that want the device's lock, which is held here.
#![allow(unsafe_code)]

use super::bindings as c;
use super::device::{Backend, Device, DeviceLock};
use super::queue::{RingLock, State};
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::uaccess::UserPtr;

/// A device whose lock is held, for the process that owns it.
pub(crate) struct Owned<'a, B: Backend> {
    device: &'a Device<B>,
    _lock: DeviceLock<'a>,
}

impl<'a, B: Backend> Owned<'a, B> {
    /// # Errors
    ///
    /// `EPERM` for all but the owner.
    pub(super) fn of(device: &'a Device<B>) -> Result<Self> {
        let lock = DeviceLock::new(device);
        // SAFETY: the device is initialized, and its lock held.
        to_result(unsafe { c::vhost_dev_check_owner(device.raw()) } as i32)?;
        Ok(Self { device, _lock: lock })
    }

    /// Starts every queue, or none. A device that runs goes on.
    ///
    /// # Errors
    ///
    /// `EFAULT` without a memory table, or where the ring or the table have addresses that no program has; `EINVAL` for a
    /// driver before version 1, whose byte order would depend on the machine.
    pub(crate) fn start(&mut self) -> Result {
        let rings = self.device.rings();
        if let Err(error) = rings.iter().try_for_each(|ring| self.start_ring(*ring)) {
            self.stop();
            return Err(error);
        }
        for ring in rings {
            // What was made available before the start has had its kick: the worker must look without one.
            // SAFETY: the queue is initialized, and its worker the core's to find.
            unsafe { c::vhost_poll_queue(&raw mut (**ring).poll) };
        }
        Ok(())
    }

    fn start_ring(&self, ring: *mut c::vhost_virtqueue) -> Result {
        let mut lock = RingLock::new(self.device, ring);
        if lock.is_running() {
            return Ok(());
        }
        if lock.features() & 1 << c::VIRTIO_F_VERSION_1 == 0 {
            return Err(EINVAL);
        }
        // SAFETY: the queue is initialized, its lock and the device's are held.
        if !unsafe { c::vhost_vq_is_setup(ring) } {
            return Err(EFAULT);
        }
        lock.set(State::Running);
        // SAFETY: as above.
        let ready = to_result(unsafe { c::vhost_vq_init_access(ring) });
        if ready.is_err() {
            lock.set(State::Stopped);
        }
        ready
    }

    /// Stops every queue: what is available stays so, and `VHOST_GET_VRING_BASE` says from where on.
    pub(crate) fn stop(&mut self) {
        self.device.stop();
    }

    /// # Errors
    ///
    /// `EOPNOTSUPP` for what was not offered, `EBUSY` for a queue that runs, unless it is only the logging that changes,
    /// and `EFAULT` where there is no log for all of the memory.
    pub(super) fn set_features(&mut self, features: u64) -> Result {
        if features & !Device::<B>::OFFERED != 0 {
            return Err(Error::from_errno(-(bindings::EOPNOTSUPP as i32)));
        }
        let logging = 1 << c::VHOST_F_LOG_ALL;
        let steady = |lock: RingLock<'_>| !lock.is_running() || (lock.features() ^ features) & !logging == 0;
        if !self.device.rings().iter().all(|ring| steady(RingLock::new(self.device, *ring))) {
            return Err(EBUSY);
        }
        // SAFETY: the device is initialized, its lock held, and none of its queues'.
        if features & logging != 0 && !unsafe { c::vhost_log_access_ok(self.device.raw()) } {
            return Err(EFAULT);
        }
        for ring in self.device.rings() {
            RingLock::new(self.device, *ring).set_features(features);
        }
        Ok(())
    }

    /// Makes a thread, ends one, gives one a queue, or says which one has a queue. A queue that runs goes on with the other thread once
    /// the one before is done with it.
    pub(super) fn manage_workers(&mut self, number: u32, argument: UserPtr) -> Result {
        let argument = argument.as_const_ptr().cast_mut();
        // SAFETY: the device is initialized, its lock held, and none of its queues'. The core follows the argument by copying
        // functions only.
        to_result(unsafe { c::vhost_worker_ioctl(self.device.raw(), number, argument) } as i32)
    }

    /// Leaves the device to whoever wants it next, as it was when it was opened.
    pub(super) fn give_up(&mut self) -> Result {
        let raw = self.device.raw();
        // SAFETY: it takes no argument.
        let table = unsafe { c::vhost_dev_reset_owner_prepare() };
        if table.is_null() {
            return Err(ENOMEM);
        }
        self.stop();
        // SAFETY: the device is initialized, its lock held, its queues stopped. The table is the core's again.
        unsafe {
            c::vhost_dev_stop(raw);
            c::vhost_dev_reset_owner(raw, table);
        }
        self.device.backend().reset();
        Ok(())
    }
}
