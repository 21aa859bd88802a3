//! Queues of an endpoint: set-up, start and stop, reset of one, notifications.

use super::events::{Events, QueueInterrupt};
use super::{Activity, Endpoint};
use crate::backend::{Backend, EventFd, HostEvents, QueueSetup, Signal};
use std::sync::Arc;
use vioduct_spec::{Features, Status, ring};
use vioduct_virtqueue::{AreaSizes, IoAddr, QueuePosition, RingFormat, RingLayout, is_valid_size};

/// The three areas of a virtqueue (virtio 1.3 §2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// Descriptor area.
    Descriptor,
    /// Driver area.
    Driver,
    /// Device area.
    Device,
}

/// Which 32 bits of an address a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

impl Half {
    fn replace(self, address: u64, word: u32) -> u64 {
        match self {
            Self::Low => address & !0xffff_ffff | u64::from(word),
            Self::High => address & 0xffff_ffff | u64::from(word) << 32,
        }
    }
}

/// Where one queue stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    /// Being configured, or never used.
    Disabled,
    /// Enabled, and not with the back-end: before DRIVER_OK, or paused. It would begin at this position.
    Enabled(QueuePosition),
    /// The back-end serves it.
    Running,
    /// It was to be reset, and the back-end could not let go of it.
    Resetting,
}

impl Run {
    /// Whether the back-end may touch the queue's memory.
    pub(super) fn is_with_backend(self) -> bool {
        match self {
            Self::Running | Self::Resetting => true,
            Self::Disabled | Self::Enabled(_) => false,
        }
    }
}

/// What the driver writes of one queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registers {
    pub(super) size: u16,
    pub(super) descriptor_area: u64,
    pub(super) driver_area: u64,
    pub(super) device_area: u64,
}

impl Registers {
    pub(super) fn initial(max: u16) -> Self {
        Self { size: max, descriptor_area: 0, driver_area: 0, device_area: 0 }
    }

    fn layout(self) -> RingLayout {
        RingLayout {
            size: self.size,
            descriptor_area: IoAddr(self.descriptor_area),
            driver_area: IoAddr(self.driver_area),
            device_area: IoAddr(self.device_area),
        }
    }

    /// What can be said of a layout without the memory (virtio 1.3 §2.7, §2.8.10.1); the back-end checks the rest.
    pub(super) fn check(self, max: u16, format: RingFormat) -> Result<(), &'static str> {
        let areas = AreaSizes::of(format, self.size);
        let aligned = |address: u64, to: u64| address.is_multiple_of(to);
        if self.size > max || !is_valid_size(format, self.size) {
            return Err("its size is not valid");
        }
        if !aligned(self.descriptor_area, ring::DESCRIPTOR_AREA_ALIGN)
            || !aligned(self.driver_area, areas.driver_align)
            || !aligned(self.device_area, ring::split::DEVICE_AREA_ALIGN)
        {
            return Err("an area is not aligned");
        }
        Ok(())
    }
}

pub(super) struct EndpointQueue {
    pub(super) max: u16,
    pub(super) registers: Registers,
    pub(super) run: Run,
    /// Kick and call are of the machine, not of the driver: they outlive resets.
    kick: Option<Arc<EventFd>>,
    call: Arc<dyn Signal>,
}

impl EndpointQueue {
    pub(super) fn new(queue: u16, max: u16, events: &Arc<Events>) -> Self {
        let call = Arc::new(QueueInterrupt { events: events.clone(), queue });
        Self { max, registers: Registers::initial(max), run: Run::Disabled, kick: None, call }
    }

    pub(super) fn reset(&mut self) {
        let Self { max, registers, run, kick: _, call: _ } = self;
        *registers = Registers::initial(*max);
        *run = Run::Disabled;
    }

    fn setup(&self, position: QueuePosition) -> QueueSetup {
        QueueSetup {
            layout: self.registers.layout(),
            position,
            kick: self.kick.clone(),
            call: self.call.clone(),
            in_flight: None,
        }
    }
}

impl<B: Backend> Endpoint<B> {
    /// How many queues there are.
    pub fn queue_count(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(u16::MAX)
    }

    /// The largest size of queue `q` in descriptors; 0 if there is no such queue.
    pub fn queue_size_max(&self, q: u16) -> u16 {
        self.queue(q).map_or(0, |queue| queue.max)
    }

    /// The size of queue `q` as the driver has set it: the largest, at first; 0 if there is no such queue.
    pub fn queue_size(&self, q: u16) -> u16 {
        self.queue(q).map_or(0, |queue| queue.registers.size)
    }

    /// The address of an area of queue `q`; 0 if there is no such queue.
    pub fn queue_address(&self, q: u16, area: Area) -> u64 {
        self.queue(q).map_or(0, |queue| match area {
            Area::Descriptor => queue.registers.descriptor_area,
            Area::Driver => queue.registers.driver_area,
            Area::Device => queue.registers.device_area,
        })
    }

    /// Whether queue `q` is enabled.
    pub fn queue_enabled(&self, q: u16) -> bool {
        self.queue(q).is_some_and(|queue| matches!(queue.run, Run::Enabled(_) | Run::Running))
    }

    /// Whether a reset of queue `q` has begun and not ended (virtio 1.3 §2.6.1).
    pub fn queue_resetting(&self, q: u16) -> bool {
        self.queue(q).is_some_and(|queue| queue.run == Run::Resetting)
    }

    /// Sets the size of queue `q` in descriptors; whether it is valid is judged when the queue is enabled.
    pub fn set_queue_size(&mut self, q: u16, size: u16) {
        self.configure(q, |registers| registers.size = size);
    }

    /// Sets half of the address of an area of queue `q`.
    pub fn set_queue_address(&mut self, q: u16, area: Area, half: Half, word: u32) {
        self.configure(q, |registers| {
            let address = match area {
                Area::Descriptor => &mut registers.descriptor_area,
                Area::Driver => &mut registers.driver_area,
                Area::Device => &mut registers.device_area,
            };
            *address = half.replace(*address, word);
        });
    }

    /// Enables queue `q` with the configuration it has, which is fixed from now on; it starts at DRIVER_OK, or at once if that
    /// is set. A configuration that cannot be right is refused: the queue then reads as not enabled.
    pub fn enable_queue(&mut self, q: u16) {
        let format = RingFormat::of(self.negotiated());
        let Some(queue) = self.configurable(q) else {
            return self.refuse(&"a queue enabled when or where it may not be");
        };
        match queue.registers.check(queue.max, format) {
            Ok(()) => queue.run = Run::Enabled(QueuePosition::START),
            Err(reason) => return self.refuse(&format_args!("queue {q} enabled, but {reason}")),
        }
        if self.status().contains(Status::DRIVER_OK) {
            self.start_queue(q);
        }
    }

    /// Disables queue `q` and stops it (virtio 1.3 §4.2.2.2, QueueReady written 0). It keeps its configuration, which may be
    /// changed now. On return the device does not touch it any more.
    pub fn disable_queue(&mut self, q: u16) {
        self.release_queue(q);
    }

    /// Resets queue `q` (virtio 1.3 §2.6.1): it stops, and its configuration and position return to their defaults. Ignored
    /// unless RING_RESET is negotiated and the queue is enabled.
    pub fn reset_queue(&mut self, q: u16) {
        if !self.negotiated().contains(Features::RING_RESET)
            || !(self.queue_enabled(q) || self.queue_resetting(q))
        {
            return self.refuse(&"a queue reset when or where it may not be");
        }
        if self.release_queue(q)
            && let Some(queue) = self.queue_mut(q)
        {
            queue.reset();
        }
    }

    /// An available-buffer notification reached the transport. `word` is what the driver wrote: the queue's number, or, with
    /// NOTIFICATION_DATA, the number in bits 0 to 15 and the driver's position above them (virtio 1.3 §2.9), which is not
    /// needed here. Ignored if that queue is not running.
    pub fn notify(&mut self, word: u32) {
        let number =
            if self.negotiated().contains(Features::NOTIFICATION_DATA) { word & 0xffff } else { word };
        // The full width counts: 0x1_0000 is not queue 0.
        let running = |q: &u16| self.queue(*q).is_some_and(|queue| queue.run == Run::Running);
        match u16::try_from(number).ok().filter(running) {
            Some(q) => self.backend.kick(q),
            None => self.refuse(&"a notification of a queue that is not running"),
        }
    }

    /// Sets the eventfd that notifications of queue `q` arrive at without a trap, used from its next start.
    pub fn set_queue_kick(&mut self, q: u16, kick: Option<Arc<EventFd>>) {
        if let Some(queue) = self.queue_mut(q) {
            queue.kick = kick;
        }
    }

    /// Sets how used buffers of queue `q` are notified, from its next start; at first it is by
    /// [`TransportInterrupts::queue`](super::TransportInterrupts::queue).
    pub fn set_queue_call(&mut self, q: u16, call: Arc<dyn Signal>) {
        if let Some(queue) = self.queue_mut(q) {
            queue.call = call;
        }
    }

    pub(super) fn start_enabled_queues(&mut self) {
        for q in 0..self.queue_count() {
            self.start_queue(q);
        }
    }

    /// Starts queue `q` if it is enabled, the driver is ready, and the device has not failed. Failure to start is a fault of
    /// the set-up that the driver chose: the device needs a reset.
    fn start_queue(&mut self, q: u16) {
        let status = self.status();
        let live = status.contains(Status::DRIVER_OK)
            && !status.contains(Status::FAILED)
            && !status.contains(Status::NEEDS_RESET);
        if !live || self.activity == Activity::Paused {
            return;
        }
        let Self { queues, backend, events, .. } = self;
        let Some(queue) = queues.get_mut(usize::from(q)) else { return };
        let Run::Enabled(position) = queue.run else { return };
        match backend.start_queue(q, queue.setup(position)) {
            Ok(()) => queue.run = Run::Running,
            Err(error) => events.needs_reset(&format_args!("it cannot start: {error}")),
        }
    }

    /// Stops every running queue, keeping positions; a queue that cannot stop leaves the device needing a reset.
    pub(super) fn halt_queues(&mut self) {
        let Self { queues, backend, events, .. } = self;
        for (q, queue) in (0..=u16::MAX).zip(queues).filter(|(_, queue)| queue.run == Run::Running) {
            match backend.stop_queue(q) {
                Ok(position) => queue.run = Run::Enabled(position.unwrap_or(QueuePosition::START)),
                Err(error) => events.needs_reset(&format_args!("it cannot stop: {error}")),
            }
        }
    }

    /// Stops and disables queue `q`; whether that worked.
    fn release_queue(&mut self, q: u16) -> bool {
        let Self { queues, backend, events, .. } = self;
        let Some(queue) = queues.get_mut(usize::from(q)) else { return false };
        if let Run::Running | Run::Resetting = queue.run
            && let Err(error) = backend.stop_queue(q)
        {
            queue.run = Run::Resetting;
            events.needs_reset(&format_args!("queue {q} cannot be reset: {error}"));
            return false;
        }
        queue.run = Run::Disabled;
        true
    }

    /// Applies a change to the configuration of queue `q`, unless it is frozen.
    fn configure(&mut self, q: u16, change: impl FnOnce(&mut Registers)) {
        match self.configurable(q) {
            Some(queue) => change(&mut queue.registers),
            None => self.refuse(&"a queue configured when or where it may not be"),
        }
    }

    /// Queue `q` if its configuration may change: the device's queues are set up after FEATURES_OK (virtio 1.3 §3.1.1), which
    /// decides their format, and a queue's configuration is fixed while it is enabled (§4.1.4.3.2).
    fn configurable(&mut self, q: u16) -> Option<&mut EndpointQueue> {
        let status = self.status();
        let negotiated = status.contains(Status::FEATURES_OK) && !status.contains(Status::FAILED);
        self.queue_mut(q).filter(|queue| negotiated && queue.run == Run::Disabled)
    }

    fn queue(&self, q: u16) -> Option<&EndpointQueue> {
        self.queues.get(usize::from(q))
    }

    fn queue_mut(&mut self, q: u16) -> Option<&mut EndpointQueue> {
        self.queues.get_mut(usize::from(q))
    }
}
