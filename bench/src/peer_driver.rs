//! What `virtio-drivers` needs around it: memory that is its own bus address, and a transport that only learns where a queue is.
//!
//! `unsafe` because the peer's traits for memory are.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Descriptors of a queue in the driver-end contest.
pub const QUEUE_SIZE: u16 = 256;

/// A queue of the peer.
pub type Queue = VirtQueue<Identity, { QUEUE_SIZE as usize }>;

/// Where the areas of a queue are that a device needs for taking available buffers and marking them used.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The available ring.
    pub driver_area: NonNull<u8>,
    /// The used ring.
    pub device_area: NonNull<u8>,
}

/// A queue of the peer, without the event index, with indirect tables if `indirect`.
///
/// # Panics
/// If the peer refuses it.
pub(crate) fn queue(indirect: bool) -> (Queue, Places) {
    let mut transport = Learn { places: None };
    let queue =
        Queue::new(&mut transport, 0, indirect, false).expect("invariant: the transport takes any queue");
    (queue, transport.places.expect("invariant: a new queue is set"))
}

/// Memory whose bus address is its address in this process: nothing to share, nothing to copy.
#[derive(Debug)]
pub struct Identity;

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("invariant: a few pages")
}

// SAFETY: fresh zeroed pages, freed by the same layout; buffers are reached where they are.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty.
        let host = NonNull::new(unsafe { alloc_zeroed(layout(pages)) });
        let host = host.unwrap_or_else(|| handle_alloc_error(layout(pages)));
        (host.as_ptr() as PhysAddr, host)
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: allocated in `dma_alloc` with the same number of pages.
        unsafe { dealloc(vaddr.as_ptr(), layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::dangling()
    }

    #[inline]
    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>() as PhysAddr
    }

    #[inline]
    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// A transport with no device behind it.
struct Learn {
    places: Option<Places>,
}

impl Transport for Learn {
    fn device_type(&self) -> DeviceType {
        DeviceType::EntropySource
    }

    fn read_device_features(&mut self) -> u64 {
        0
    }

    fn write_driver_features(&mut self, _driver_features: u64) {}

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        QUEUE_SIZE.into()
    }

    fn notify(&mut self, _queue: u16) {}

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }

    fn set_status(&mut self, _status: DeviceStatus) {}

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        _queue: u16,
        _size: u32,
        _descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        let place = |at: PhysAddr| NonNull::new(at as *mut u8);
        self.places = place(driver_area)
            .zip(place(device_area))
            .map(|(driver_area, device_area)| Places { driver_area, device_area });
    }

    fn queue_unset(&mut self, _queue: u16) {}

    fn queue_used(&mut self, _queue: u16) -> bool {
        false
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, _offset: usize) -> Result<T> {
        Err(Error::ConfigSpaceMissing)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _offset: usize, _value: T) -> Result<()> {
        Err(Error::ConfigSpaceMissing)
    }
}
