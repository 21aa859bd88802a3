// SPDX-License-Identifier: GPL-2.0

//! Drivers on the virtio bus.
//!
//! Unsafe code is called by the bus with pointers to devices, and keeps the driver's data in the device's `priv`.
#![allow(unsafe_code)]

use super::bindings as c;
use super::device::{Device, Resources, Setup};
use super::message::Message;
use super::queue::Queue;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::{Arc, Mutex};
use kernel::types::Opaque;

/// A driver: its value is the data of one device, shared with whoever still uses it when the device is gone.
pub(crate) trait Driver: Send + Sync + Sized + 'static {
    /// What a message of this driver carries beside its bytes.
    type Context: Send + 'static;
    /// What exists only while the device does, such as a device node; dropped before the device is taken away.
    type Live: Send + Unpin;

    /// The driver's name in sysfs.
    const NAME: &'static CStr;
    /// Feature bits of the device type that the driver knows; those of the ring are Linux's own business.
    const FEATURES: &'static [u32];

    /// Features are negotiated: finds queues and makes the driver's data. An error leaves the device unbound.
    fn probe(setup: &mut Setup<'_, Self::Context>) -> Result<Arc<Self>>;

    /// The device may be used: it is ready, and callbacks come. An error leaves the device unbound.
    fn start(this: &Arc<Self>, device: &Device<'_>) -> Result<Self::Live>;

    /// The device has used messages. Called in interrupt context.
    fn used(&self, queue: &Queue<Self::Context>);

    /// The device is gone, and this message with it, unanswered.
    fn lost(message: KBox<Message<Self::Context>>);

    /// The configuration space has changed. Called in interrupt context, where it cannot be read.
    fn config_changed(&self) {}
}

/// Device types as modpost reads them, ended by an entry of zeros.
pub(crate) type DeviceTable = [c::virtio_device_id; 2];

/// One device type, of any vendor.
pub(crate) const fn device_table(device_type: u32) -> DeviceTable {
    [
        c::virtio_device_id { device: device_type, vendor: c::VIRTIO_DEV_ANY_ID },
        c::virtio_device_id { device: 0, vendor: 0 },
    ]
}

/// What a bound device's `priv` points to.
#[pin_data]
struct Bound<D: Driver> {
    driver: Arc<D>,
    resources: Resources<D::Context>,
    #[pin]
    live: Mutex<Option<D::Live>>,
}

/// A driver's place on the virtio bus; dropped, it leaves all its devices first.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<D: Driver> {
    ids: DeviceTable,
    #[pin]
    driver: Opaque<c::virtio_driver>,
    _of: PhantomData<D>,
}

// SAFETY: once registered, it is the driver core's to read, under its own locks.
unsafe impl<D: Driver> Send for Registration<D> {}
// SAFETY: as above; nothing of it can be reached by reference.
unsafe impl<D: Driver> Sync for Registration<D> {}

impl<D: Driver> Registration<D> {
    /// Registers the driver for one device type, of any vendor.
    pub(crate) fn new(module: &'static ThisModule, device_type: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            ids: device_table(device_type),
            driver <- Opaque::try_ffi_init(move |slot: *mut c::virtio_driver| {
                // SAFETY: `this` is where the registration is being made, and stays; its ids are written.
                let ids = unsafe { &raw const (*this.as_ptr()).ids }.cast();
                // SAFETY: the slot is ours to write, and pinned until `drop` unregisters it.
                unsafe { slot.write(Self::describe(ids)) };
                // SAFETY: the slot holds a complete driver, and the module outlives it.
                to_result(unsafe { c::__register_virtio_driver(slot, module.as_ptr()) })
            }),
            _of: PhantomData,
        })
    }

    fn describe(ids: *const c::virtio_device_id) -> c::virtio_driver {
        let mut driver: c::virtio_driver = pin_init::zeroed();
        driver.driver.name = D::NAME.as_char_ptr();
        driver.id_table = ids;
        driver.feature_table = D::FEATURES.as_ptr();
        driver.feature_table_size = D::FEATURES.len() as u32;
        driver.probe = Some(probe::<D>);
        driver.remove = Some(remove::<D>);
        driver.config_changed = Some(config_changed::<D>);
        driver
    }
}

#[pinned_drop]
impl<D: Driver> PinnedDrop for Registration<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: it was registered, or there would be no value to drop.
        unsafe { c::unregister_virtio_driver(self.driver.get()) };
    }
}

/// The device's pointer to its driver's data: interrupts may read it at any time.
///
/// # Safety
///
/// `device` is live for the chosen lifetime.
unsafe fn data_of<'a>(device: *mut c::virtio_device) -> &'a AtomicPtr<kernel::ffi::c_void> {
    // SAFETY: the device is live, and the field is the driver's, which uses it by this function only.
    unsafe { AtomicPtr::from_ptr(&raw mut (*device).priv_) }
}

/// # Safety
///
/// `device` is live, and bound or being bound to `D`, for the chosen lifetime.
unsafe fn bound_to<'a, D: Driver>(device: *mut c::virtio_device) -> Option<&'a Bound<D>> {
    // SAFETY: the device is live. Its data is null, or was made by `bind` for the same `D` and goes when no
    // callback runs any more.
    unsafe { data_of(device).load(Ordering::Acquire).cast::<Bound<D>>().as_ref() }
}

/// # Safety
///
/// Called by the bus, with a live device that no driver has.
/// # Safety
///
/// For the virtio bus, with a live device whose driver is being bound to it.
unsafe extern "C" fn probe<D: Driver>(raw: *mut c::virtio_device) -> kernel::ffi::c_int {
    kernel::error::from_result(|| {
        // SAFETY: the bus lends a live device whose driver is being bound.
        let device = unsafe { Device::new(NonNull::new(raw).ok_or(EINVAL)?) };
        bind::<D>(raw, device)?;
        Ok(0)
    })
}

fn bind<D: Driver>(raw: *mut c::virtio_device, device: Device<'_>) -> Result {
    // Memory first: from the moment that queues are found, every way out must give them back.
    let slot = KBox::<Bound<D>>::new_uninit(GFP_KERNEL)?;
    let mut setup = Setup::new(device, used::<D>);
    let made = D::probe(&mut setup);
    let (device, resources) = setup.into_parts();
    let driver = match made {
        Ok(driver) => driver,
        Err(error) => {
            resources.release(&device, D::lost);
            return Err(error);
        }
    };
    let shared = driver.clone();
    let init = pin_init!(Bound {
        driver: shared,
        resources,
        live <- Mutex::new(None, c"virtio_live", kernel::static_lock_class!()),
    });
    let Ok(bound): Result<_, core::convert::Infallible> = slot.write_pin_init(init);
    // SAFETY: what is pinned is not moved, only known by its address, until `unbind` makes the box again.
    let data = KBox::into_raw(unsafe { Pin::into_inner_unchecked(bound) });
    // SAFETY: the device is live; its driver is being bound.
    unsafe { data_of(raw) }.store(data.cast(), Ordering::Release);
    // SAFETY: the device is live, its queues are set up, and it is not ready yet.
    unsafe { c::vioduct_device_ready(raw) };
    match D::start(&driver, &device) {
        Ok(live) => {
            // SAFETY: the data is what was made above.
            let bound = unsafe { bound_to::<D>(raw) }.ok_or(ENODEV)?;
            *bound.live.lock() = Some(live);
            Ok(())
        }
        Err(error) => {
            // SAFETY: the data is what was made above, and the driver is given up.
            unsafe { unbind::<D>(raw, &device) };
            Err(error)
        }
    }
}

/// # Safety
///
/// `raw` is `device`; it is live, was bound to `D`, and no more requests come from the bus.
unsafe fn unbind<D: Driver>(raw: *mut c::virtio_device, device: &Device<'_>) {
    // SAFETY: by the caller's promise.
    let Some(bound) = (unsafe { bound_to::<D>(raw) }) else { return };
    let live = bound.live.lock().take();
    drop(live);
    bound.resources.release(device, D::lost);
    // SAFETY: by the caller's promise. After `release` no callback runs, so nobody else reads the data.
    let data = unsafe { data_of(raw) }.swap(null_mut(), Ordering::AcqRel);
    // SAFETY: `bind` made the pointer from a box, and it is taken once: null is there now.
    drop(unsafe { Pin::new_unchecked(KBox::<Bound<D>>::from_raw(data.cast())) });
}

/// # Safety
///
/// Called by the bus, once for each device that `probe` took, which is live.
/// # Safety
///
/// For the virtio bus, once for each device that [`probe`] took.
unsafe extern "C" fn remove<D: Driver>(raw: *mut c::virtio_device) {
    let Some(pointer) = NonNull::new(raw) else { return };
    // SAFETY: the bus lends a live device whose driver is bound.
    let device = unsafe { Device::new(pointer) };
    // SAFETY: the bus calls this once for each device that `probe` took.
    unsafe { unbind::<D>(raw, &device) };
}

/// # Safety
///
/// Called by the transport, with a live queue of a device that `probe` took or is taking.
/// # Safety
///
/// For the transport, with a live queue that was found for a driver `D`.
unsafe extern "C" fn used<D: Driver>(vq: *mut c::virtqueue) {
    // SAFETY: the transport lends a live queue of a device that is bound to this driver, or just being bound.
    let (bound, index) = unsafe { (bound_to::<D>((*vq).vdev), (*vq).index) };
    let Some(bound) = bound else { return };
    if let Some(queue) = bound.resources.queue(index) {
        bound.driver.used(queue);
    }
}

/// # Safety
///
/// Called by the bus, with a live device, between the end of `probe` and `remove`.
/// # Safety
///
/// For the virtio bus, with a live device that is bound to `D`.
unsafe extern "C" fn config_changed<D: Driver>(raw: *mut c::virtio_device) {
    // SAFETY: the bus calls this for a live device between the end of `probe` and `remove`.
    if let Some(bound) = unsafe { bound_to::<D>(raw) } {
        bound.driver.config_changed();
    }
}
