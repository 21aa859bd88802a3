//! Virtio over PCI, the modern interface (virtio 1.3 §4.1).

use super::bar::{BarAccess, map_part};
use super::capability::{self, Place, virtio_places};
use super::config_access::ConfigAccess;
use super::error::PciError;
use super::function::{Function, Identity};
use super::msix::{self, MsixMessage};
use crate::register_window::RegisterWindow;
use crate::transport::config_access::{read_fields, write_fields};
use crate::transport::{Interrupts, RESET_POLLS, Transport, TransportError, notification_word};
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::mem;
use vioduct_spec::pci::common_config::*;
use vioduct_spec::pci::{
    LAST_DEVICE_ID, LAST_TRANSITIONAL_DEVICE_ID, MODERN_DEVICE_ID, TRANSITIONAL_DEVICE_ID, VENDOR_ID,
};
use vioduct_spec::ring::MAX_QUEUE_SIZE;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{IoAddr, RingLayout};

/// The vector of configuration changes; with one vector only, also that of every queue.
const CONFIG_VECTOR: u16 = 0;

/// Where a queue is notified, and as which number.
#[derive(Clone, Copy, Debug)]
struct Doorbell {
    offset: u64,
    id: u16,
}

/// How interrupts come.
#[derive(Debug)]
enum InterruptMode {
    /// By the line; the ISR says why, and reading it acknowledges (virtio 1.3 §4.1.4.5).
    Line,
    /// By messages; whoever gets them says which vector it was.
    Messages { vectors: u16, fired: Interrupts },
}

/// A virtio function.
#[derive(Debug)]
pub struct PciTransport<W: RegisterWindow> {
    device_type: u32,
    common_config: W,
    notify: W,
    notify_multiplier: u32,
    isr: W,
    device_config: Option<W>,
    doorbells: Vec<Option<Doorbell>>,
    mode: InterruptMode,
    negotiated: Features,
}

impl<W: RegisterWindow> PciTransport<W> {
    /// A function whose BARs have addresses. Its memory and DMA are enabled, and its structures mapped by `access`. With
    /// `messages`, MSI-X is set up with as many of them as the function takes: the first for configuration changes, one for each
    /// queue after that, the last one for all queues that are left. Without any, the interrupt line is used.
    ///
    /// # Errors
    /// [`PciError`]: not a modern virtio function, or one whose capabilities cannot be used.
    pub fn new<C: ConfigAccess + ?Sized>(
        function: &Function<'_, C>,
        access: &mut dyn BarAccess<Window = W>,
        messages: &[MsixMessage],
    ) -> Result<Self, PciError> {
        let device_type = modern_device_type(function.identity())?;
        let capabilities = capability::list(function)?;
        let places = virtio_places(function, &capabilities)?;
        function.enable_memory();
        let mut map = |place: Place| map_part(access, &place.bar, place.offset, place.len);
        let common_config = map(places.common_config)?;
        let notify = map(places.notify)?;
        let isr = map(places.isr)?;
        let device_config = places.device_config.map(map).transpose()?;
        let mode = if messages.is_empty() {
            InterruptMode::Line
        } else {
            let vectors = msix::set_up(function, &capabilities, access, messages)?;
            InterruptMode::Messages { vectors, fired: Interrupts::default() }
        };
        function.enable_bus_master();
        Ok(Self {
            device_type,
            common_config,
            notify,
            notify_multiplier: places.notify_multiplier,
            isr,
            device_config,
            doorbells: Vec::new(),
            mode,
            negotiated: Features::NONE,
        })
    }

    /// Number of MSI-X vectors in use; 0 if the interrupt line is.
    pub const fn vectors(&self) -> u16 {
        match self.mode {
            InterruptMode::Line => 0,
            InterruptMode::Messages { vectors, .. } => vectors,
        }
    }

    /// Features whose registers this device leaves out, though it may offer them, and what needs more than this transport.
    fn unsupported(&self) -> Features {
        let len = self.common_config.window_len();
        let missing = |features, register: u64| if len < register + 2 { features } else { Features::NONE };
        Features::SR_IOV
            | missing(Features::NOTIF_CONFIG_DATA, QUEUE_NOTIF_CONFIG_DATA)
            | missing(Features::RING_RESET, QUEUE_RESET)
    }

    fn select(&self, queue: u16) {
        self.common_config.write_u16(QUEUE_SELECT, queue);
    }

    /// virtio 1.3 §4.1.3.1: 64-bit fields by two accesses of 32 bits.
    fn write_area(&self, register: u64, at: IoAddr) {
        self.common_config.write_u32(register, at.0 as u32);
        self.common_config.write_u32(register + 4, (at.0 >> 32) as u32);
    }

    /// virtio 1.3 §4.1.5.1.2.2: a device that has no resources for the vector shows `NO_VECTOR` in its place.
    fn write_vector(&self, register: u64, vector: u16, queue: Option<u16>) -> Result<(), TransportError> {
        self.common_config.write_u16(register, vector);
        if self.common_config.read_u16(register) != vector {
            return Err(TransportError::NoVector(queue));
        }
        Ok(())
    }

    /// Where the selected queue is notified (virtio 1.3 §4.1.4.4), which must be inside the structure.
    fn find_doorbell(&self, queue: u16) -> Result<Doorbell, TransportError> {
        let offset =
            u64::from(self.common_config.read_u16(QUEUE_NOTIFY_OFF)) * u64::from(self.notify_multiplier);
        let width = if self.negotiated.contains(Features::NOTIFICATION_DATA) { 4 } else { 2 };
        if offset + width > self.notify.window_len() || !offset.is_multiple_of(width) {
            return Err(TransportError::NotifyOffset(queue));
        }
        // virtio 1.3 §4.1.5.2: with the feature, the device says what it wants to be notified with.
        let id = if self.negotiated.contains(Features::NOTIF_CONFIG_DATA) {
            self.common_config.read_u16(QUEUE_NOTIF_CONFIG_DATA)
        } else {
            queue
        };
        Ok(Doorbell { offset, id })
    }

    fn keep_doorbell(&mut self, queue: u16, doorbell: Doorbell) {
        let index = usize::from(queue);
        if self.doorbells.len() <= index {
            self.doorbells.resize(index + 1, None);
        }
        if let Some(slot) = self.doorbells.get_mut(index) {
            *slot = Some(doorbell);
        }
    }
}

/// virtio 1.3 §4.1.2: vendor and device id say that it is virtio, and of what type.
fn modern_device_type(identity: Identity) -> Result<u32, PciError> {
    let Identity { vendor, device, .. } = identity;
    match device {
        _ if vendor != VENDOR_ID => Err(PciError::Foreign { vendor, device }),
        TRANSITIONAL_DEVICE_ID..=LAST_TRANSITIONAL_DEVICE_ID => Err(PciError::Transitional(device)),
        MODERN_DEVICE_ID..=LAST_DEVICE_ID => Ok(u32::from(device - MODERN_DEVICE_ID)),
        _ => Err(PciError::Foreign { vendor, device }),
    }
}

impl<W: RegisterWindow> Transport for PciTransport<W> {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn device_features(&mut self) -> Features {
        let word = |features: Features, select: u32| {
            self.common_config.write_u32(DEVICE_FEATURE_SELECT, select);
            features.with_word(select, self.common_config.read_u32(DEVICE_FEATURE))
        };
        word(word(Features::NONE, 0), 1).without(self.unsupported())
    }

    fn set_driver_features(&mut self, features: Features) -> Result<(), TransportError> {
        let unsupported = features & self.unsupported();
        if !unsupported.is_empty() {
            return Err(TransportError::Unsupported(unsupported));
        }
        for select in [0, 1] {
            self.common_config.write_u32(DRIVER_FEATURE_SELECT, select);
            self.common_config.write_u32(DRIVER_FEATURE, features.word(select));
        }
        self.negotiated = features;
        self.doorbells.clear();
        Ok(())
    }

    fn status(&mut self) -> Status {
        Status(self.common_config.read_u8(DEVICE_STATUS))
    }

    fn set_status(&mut self, status: Status) {
        self.common_config.write_u8(DEVICE_STATUS, status.0);
    }

    fn queue_count(&mut self) -> u16 {
        self.common_config.read_u16(NUM_QUEUES)
    }

    fn queue_size_max(&mut self, queue: u16) -> u16 {
        if queue >= self.queue_count() {
            return 0;
        }
        self.select(queue);
        self.common_config.read_u16(QUEUE_SIZE).min(MAX_QUEUE_SIZE)
    }

    /// In the order of virtio 1.3 §4.1.5.1.3.
    fn enable_queue(&mut self, queue: u16, layout: RingLayout) -> Result<(), TransportError> {
        let max = self.queue_size_max(queue);
        if max == 0 {
            return Err(TransportError::NoQueue(queue));
        }
        if self.common_config.read_u16(QUEUE_ENABLE) != 0 {
            return Err(TransportError::QueueInUse(queue));
        }
        if layout.size == 0 || layout.size > max {
            return Err(TransportError::QueueSize { queue, wanted: layout.size, max });
        }
        self.common_config.write_u16(QUEUE_SIZE, layout.size);
        if let InterruptMode::Messages { vectors, .. } = self.mode {
            self.write_vector(QUEUE_MSIX_VECTOR, queue_vector(vectors, queue), Some(queue))?;
        }
        self.write_area(QUEUE_DESC, layout.descriptor_area);
        self.write_area(QUEUE_DRIVER, layout.driver_area);
        self.write_area(QUEUE_DEVICE, layout.device_area);
        let doorbell = self.find_doorbell(queue)?;
        self.common_config.write_u16(QUEUE_ENABLE, 1);
        if self.common_config.read_u16(QUEUE_ENABLE) != 1 {
            return Err(TransportError::QueueRefused(queue));
        }
        self.keep_doorbell(queue, doorbell);
        Ok(())
    }

    fn reset_queue(&mut self, queue: u16) -> Result<(), TransportError> {
        if !self.negotiated.contains(Features::RING_RESET) {
            return Err(TransportError::NotNegotiated(Features::RING_RESET));
        }
        self.select(queue);
        self.common_config.write_u16(QUEUE_RESET, 1);
        // virtio 1.3 §4.1.4.3.2: the reset is complete when queue_reset reads as 0; queue_enable does then too (§4.1.4.3.1).
        for _ in 0..RESET_POLLS {
            if self.common_config.read_u16(QUEUE_RESET) == 0 && self.common_config.read_u16(QUEUE_ENABLE) == 0
            {
                return Ok(());
            }
            spin_loop();
        }
        Err(TransportError::QueueResetTimeout(queue))
    }

    /// virtio 1.3 §4.1.5.2: 16 bits, or 32 with the position.
    fn notify(&mut self, queue: u16, next: u16) -> Result<(), TransportError> {
        let doorbell = self.doorbells.get(usize::from(queue)).copied().flatten();
        let Doorbell { offset, id } = doorbell.ok_or(TransportError::NoQueue(queue))?;
        if self.negotiated.contains(Features::NOTIFICATION_DATA) {
            self.notify.write_u32(offset, notification_word(self.negotiated, id, next));
        } else {
            self.notify.write_u16(offset, id);
        }
        Ok(())
    }

    fn config_generation(&mut self) -> u32 {
        u32::from(self.common_config.read_u8(CONFIG_GENERATION))
    }

    fn read_config_field(&mut self, offset: u64, out: &mut [u8]) -> Result<(), TransportError> {
        let missing = TransportError::ConfigRange { offset, len: out.len(), space: 0 };
        let window = self.device_config.as_ref().ok_or(missing)?;
        read_fields(window, (0, window.window_len()), offset, out)
    }

    fn write_config_field(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        let missing = TransportError::ConfigRange { offset, len: data.len(), space: 0 };
        let window = self.device_config.as_ref().ok_or(missing)?;
        write_fields(window, (0, window.window_len()), offset, data)
    }

    fn take_interrupts(&mut self) -> Interrupts {
        match &mut self.mode {
            InterruptMode::Line => Interrupts::from_reasons(self.isr.read_u8(0)),
            InterruptMode::Messages { fired, .. } => mem::take(fired),
        }
    }

    fn vector_fired(&mut self, vector: u16) {
        if let InterruptMode::Messages { vectors, fired } = &mut self.mode
            && vector < *vectors
        {
            let shared = *vectors == 1;
            fired.config |= vector == CONFIG_VECTOR;
            fired.queue |= vector != CONFIG_VECTOR || shared;
        }
    }

    fn enable_config_interrupt(&mut self) -> Result<(), TransportError> {
        match self.mode {
            InterruptMode::Line => Ok(()),
            InterruptMode::Messages { .. } => self.write_vector(CONFIG_MSIX_VECTOR, CONFIG_VECTOR, None),
        }
    }
}

/// One vector per queue as far as they go; the queues beyond share the last.
const fn queue_vector(vectors: u16, queue: u16) -> u16 {
    let last = vectors.saturating_sub(1);
    let own = queue.saturating_add(1);
    if own < last { own } else { last }
}
