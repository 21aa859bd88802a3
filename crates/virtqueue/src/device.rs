//! The device end: [`Queue`].

mod burst;

use crate::area::{Areas, Mapped, Remote, check_alignment};
use crate::buffers::Buffers;
use crate::chain::{Body, Chain};
use crate::error::{QueueError, SetupError};
use crate::inflight::{self, InFlightArea};
use crate::layout::{AreaSizes, QueuePosition, RingFormat, RingLayout, is_valid_size};
use crate::memory::{Access, IoAddr, Memory, MemoryFault};
use crate::order::Order;
use crate::{packed, split};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use vioduct_spec::Features;
use vioduct_spec::ring::DESCRIPTOR_AREA_ALIGN;

/// Whether the driver is to be notified of what was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a notification that is needed and not sent leaves the driver waiting"]
pub enum Notify {
    /// Send a used-buffer notification.
    Needed,
    /// Nothing was published, or the driver does not want to know.
    Suppressed,
}

impl Notify {
    pub(crate) const fn from_needed(needed: bool) -> Self {
        if needed { Self::Needed } else { Self::Suppressed }
    }
}

/// What looking again found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "work that is pending when a side goes to sleep waits for ever"]
pub enum MoreWork {
    /// There is something to do, whether or not a notification comes.
    Pending,
    /// There is nothing; a notification will come when there is.
    None,
}

impl MoreWork {
    pub(crate) const fn from_pending(pending: bool) -> Self {
        if pending { Self::Pending } else { Self::None }
    }
}

/// The negotiated features that concern a ring.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) indirect: bool,
    pub(crate) event_index: bool,
    pub(crate) in_order: bool,
}

impl Options {
    pub(crate) const fn of(negotiated: Features) -> Self {
        Self {
            indirect: negotiated.contains(Features::INDIRECT_DESC),
            event_index: negotiated.contains(Features::EVENT_IDX),
            in_order: negotiated.contains(Features::IN_ORDER),
        }
    }
}

/// One used entry: the last of `buffers` buffers, which together take `descriptors` descriptors in the ring.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) id: u16,
    pub(crate) written: u32,
    pub(crate) buffers: u16,
    pub(crate) descriptors: u16,
}

impl Used {
    #[inline(always)]
    fn of(body: &Body, written: u32) -> Self {
        Self { id: body.id, written, buffers: 1, descriptors: body.descriptors }
    }
}

// A tag of its own: one that hides in a field of the rings apart takes three instructions more to tell.
#[repr(u8)]
enum Ring {
    Split(split::device::Ring<Mapped>),
    Packed(packed::device::Ring<Mapped>),
    Apart(ApartRing),
}

/// Rings that take longer anyway. Kept apart: a fourth variant beside the mapped ones would turn two cheap comparisons into a
/// jump through a table (docs/decisions/0003).
enum ApartRing {
    RemoteSplit(split::device::Ring<Remote>),
    RemotePacked(packed::device::Ring<Remote>),
    RecordedSplit(Box<inflight::split::Ring>),
    RecordedPacked(Box<inflight::packed::Ring>),
}

/// Calls the same method on whichever ring there is: a comparison or two per call, no virtual call per descriptor.
macro_rules! on_ring {
    ($ring:expr, $name:ident => $call:expr) => {
        match $ring {
            Ring::Split($name) => $call,
            Ring::Packed($name) => $call,
            Ring::Apart(apart) => out_of_line(apart, move |apart| match apart {
                ApartRing::RemoteSplit($name) => $call,
                ApartRing::RemotePacked($name) => $call,
                ApartRing::RecordedSplit($name) => $call,
                ApartRing::RecordedPacked($name) => $call,
            }),
        }
    };
}

/// What the rings apart do does not lengthen the code of the others.
#[cold]
#[inline(never)]
fn out_of_line<A, R>(ring: A, operation: impl FnOnce(A) -> R) -> R {
    operation(ring)
}

/// The device end of a virtqueue: lends the driver's buffers as [`Chain`]s and takes them back.
///
/// A fault of the driver is remembered: from then on every operation returns it, and the memory is not touched again.
///
/// ```no_run
/// # use vioduct_virtqueue::{MoreWork, Notify, Queue, QueueError};
/// # fn signal() {}
/// # fn serve(queue: &mut Queue) -> Result<(), QueueError> {
/// while queue.arm()? == MoreWork::Pending {
///     queue.disarm()?;
///     while let Some(chain) = queue.pop()? {
///         let reply = chain.reader().read_u32().unwrap_or(0) + 1;
///         let written = if chain.writer().write_u32(reply).is_ok() { 4 } else { 0 };
///         queue.complete(chain, written)?;
///     }
///     if queue.publish()? == Notify::Needed {
///         signal();
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Queue {
    ring: Ring,
    buffers: Buffers,
    order: Option<Order>,
    layout: RingLayout,
    format: RingFormat,
    logs_writes: bool,
    fault: Option<QueueError>,
}

impl Queue {
    /// A queue of the layout and options that `negotiated` selects, starting or resuming at `position`.
    ///
    /// # Errors
    /// [`SetupError`] if the size, an alignment, an area's memory or the position does not fit; nothing was written then.
    pub fn new(
        memory: Arc<dyn Memory>,
        layout: RingLayout,
        negotiated: Features,
        position: QueuePosition,
    ) -> Result<Self, SetupError> {
        let format = RingFormat::of(negotiated);
        let options = Options::of(negotiated);
        if !is_valid_size(format, layout.size) {
            return Err(SetupError::Size(layout.size));
        }
        let ring = match (find_areas(&memory, layout, format, Mapped::find), format) {
            (Ok(areas), RingFormat::Split) => {
                Ring::Split(split::device::Ring::new(areas, layout.size, options, position)?)
            }
            (Ok(areas), RingFormat::Packed) => {
                Ring::Packed(packed::device::Ring::new(areas, layout.size, options, position)?)
            }
            (Err(SetupError::Memory(_)), _) => Self::remote(&memory, layout, format, options, position)?,
            (Err(error), _) => return Err(error),
        };
        Ok(Self::over(ring, memory, layout, negotiated))
    }

    /// A queue as [`new`](Self::new) makes it, which records what it has in flight. It resumes from what an earlier queue has
    /// recorded at `area`, and gives out again, in the order in which they were made available, the buffers that were in flight; if
    /// nothing is recorded there, it starts at `position`.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`SetupError::Record`] if what is recorded cannot be of this queue. Rings reached by messages
    /// only cannot be recorded: [`SetupError::Memory`].
    pub fn recorded(
        memory: Arc<dyn Memory>,
        layout: RingLayout,
        negotiated: Features,
        position: QueuePosition,
        area: &InFlightArea,
    ) -> Result<Self, SetupError> {
        let format = RingFormat::of(negotiated);
        let (size, options) = (layout.size, Options::of(negotiated));
        if !is_valid_size(format, size) {
            return Err(SetupError::Size(size));
        }
        let areas = find_areas(&memory, layout, format, Mapped::find)?;
        let words = area.map(format, size)?;
        let ring = match format {
            RingFormat::Split => {
                let ring = inflight::split::Ring::new(areas, size, options, position, words)?;
                ApartRing::RecordedSplit(Box::new(ring))
            }
            RingFormat::Packed => {
                let ring = inflight::packed::Ring::new(areas, size, options, position, words)?;
                ApartRing::RecordedPacked(Box::new(ring))
            }
        };
        Ok(Self::over(Ring::Apart(ring), memory, layout, negotiated))
    }

    fn over(ring: Ring, memory: Arc<dyn Memory>, layout: RingLayout, negotiated: Features) -> Self {
        Self {
            ring,
            logs_writes: memory.logs_writes(),
            buffers: Buffers::new(memory, layout.size),
            order: Options::of(negotiated).in_order.then(|| Order::new(layout.size)),
            layout,
            format: RingFormat::of(negotiated),
            fault: None,
        }
    }

    fn remote(
        memory: &Arc<dyn Memory>,
        layout: RingLayout,
        format: RingFormat,
        options: Options,
        position: QueuePosition,
    ) -> Result<Ring, SetupError> {
        let areas = find_areas(memory, layout, format, Remote::find)?;
        let ring = match format {
            RingFormat::Split => {
                ApartRing::RemoteSplit(split::device::Ring::new(areas, layout.size, options, position)?)
            }
            RingFormat::Packed => {
                ApartRing::RemotePacked(packed::device::Ring::new(areas, layout.size, options, position)?)
            }
        };
        Ok(Ring::Apart(ring))
    }

    /// Size in descriptors.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.layout.size
    }

    /// Split or packed.
    #[must_use]
    pub const fn format(&self) -> RingFormat {
        self.format
    }

    /// Size and place.
    #[must_use]
    pub const fn layout(&self) -> RingLayout {
        self.layout
    }

    /// Chains popped and not yet completed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.buffers.in_flight()
    }

    /// Whether a chain was popped from this queue, and not from one that was set up before it.
    #[must_use]
    pub fn owns(&self, chain: &Chain) -> bool {
        chain.queue() == self.buffers.queue()
    }

    /// The fault that stopped the queue, if one did.
    #[must_use]
    pub const fn fault(&self) -> Option<QueueError> {
        self.fault
    }

    /// Where the device end stands. With no chain in flight and everything published, a new queue can resume from here.
    #[must_use]
    pub fn position(&self) -> QueuePosition {
        on_ring!(&self.ring, ring => ring.position())
    }

    /// The next available buffer, or `None` if there is none for now.
    ///
    /// # Errors
    /// [`QueueError`] if the driver broke the rules; the queue stays faulty.
    #[inline(always)]
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let popped = match &mut self.ring {
            Ring::Split(ring) => ring.pop(&mut self.buffers),
            Ring::Packed(ring) => ring.pop(&mut self.buffers),
            Ring::Apart(_) => {
                let chain = self.pop_apart();
                return match self.fault {
                    None => Ok(chain),
                    Some(fault) => Err(fault),
                };
            }
        };
        match popped {
            Ok(body) => Ok(body.map(|body| self.lend(body))),
            Err(fault) => self.latch(fault),
        }
    }

    #[inline(always)]
    fn lend(&mut self, mut body: Box<Body>) -> Chain {
        if let Some(order) = &mut self.order {
            body.sequence = order.stamp();
        }
        Chain::new(body)
    }

    /// Like other calls within what is inlined, this one returns what fits a register, and leaves a fault where it is remembered: a
    /// result of more words would lie in memory, and with it what the mapped rings return (docs/decisions/0003).
    #[cold]
    fn pop_apart(&mut self) -> Option<Chain> {
        let buffers = &mut self.buffers;
        match on_ring!(&mut self.ring, ring => ring.pop(buffers)) {
            Ok(body) => body.map(|body| self.lend(body)),
            Err(fault) => {
                self.remember(fault);
                None
            }
        }
    }

    /// Takes a chain back, with the number of bytes written from the start of its writable part. Chains may come back in any
    /// order (with `IN_ORDER` the queue holds back those that are early). The driver sees nothing of it before
    /// [`publish`](Self::publish).
    ///
    /// `written` is limited to what the chain's writers, or [`Chain::mark_written`], have accounted for, so that no driver is told
    /// of bytes that are not there (virtio 1.3 §2.7.8.2).
    ///
    /// # Errors
    /// [`QueueError::BufferId`] for a chain of another queue, or of this one before a reset, which does not stop the queue; the fault
    /// that has stopped it; or a fault of remote memory.
    #[inline(always)]
    pub fn complete(&mut self, chain: Chain, written: u32) -> Result<(), QueueError> {
        let body = chain.into_body();
        if let Some(fault) = self.fault {
            refuse(body);
            return Err(fault);
        }
        if let Err(fault) = self.buffers.give_back(&body) {
            // A bug of this process, perhaps a late answer of before a reset: no reason to stop a driver that did nothing wrong.
            refuse(body);
            return Err(fault);
        }
        let accounted = body.written.get();
        let written = u64::from(written).min(accounted) as u32;
        if self.logs_writes {
            self.log_buffer(&body.segments, body.readable, accounted);
        }
        let in_turn = self.order.as_mut().is_none_or(|order| order.pass(body.sequence));
        let pushed = match (&mut self.ring, in_turn) {
            (Ring::Split(ring), true) => ring.push_used(Used::of(&body, written)),
            (Ring::Packed(ring), true) => ring.push_used(Used::of(&body, written)),
            _ => {
                self.push_otherwise(body, written, in_turn);
                return self.fault.map_or(Ok(()), Err);
            }
        };
        if let Err(fault) = pushed {
            refuse(body);
            return self.latch(fault);
        }
        self.buffers.recycle(body);
        Ok(())
    }

    /// The end of [`complete`](Self::complete) for rings apart, and for a buffer whose turn (`IN_ORDER`) has not come.
    #[inline(never)]
    fn push_otherwise(&mut self, body: Box<Body>, written: u32, in_turn: bool) {
        let used = Used::of(&body, written);
        let pushed = match &mut self.order {
            Some(order) if !in_turn => {
                order.insert(body.sequence, used, u64::from(used.written) == body.writable_len);
                drain(order, &mut self.ring)
            }
            _ => on_ring!(&mut self.ring, ring => ring.push_used(used)),
        };
        self.buffers.recycle(body);
        if let Err(fault) = pushed {
            self.remember(fault);
        }
    }

    /// Shows the driver everything completed so far, and says whether it wants to be notified: once per batch.
    ///
    /// # Errors
    /// The fault that has stopped the queue, or a fault of remote memory.
    #[inline]
    pub fn publish(&mut self) -> Result<Notify, QueueError> {
        self.guarded(|ring| on_ring!(ring, ring => ring.publish()))
    }

    /// Asks the driver to notify of the next buffer, and looks whether one came meanwhile: call it before going to sleep, and do
    /// not sleep on [`MoreWork::Pending`].
    ///
    /// # Errors
    /// The fault that has stopped the queue, or one found on looking.
    pub fn arm(&mut self) -> Result<MoreWork, QueueError> {
        self.guarded(|ring| on_ring!(ring, ring => ring.arm()))
    }

    /// Tells the driver that no notifications are needed while the device is at work.
    ///
    /// # Errors
    /// The fault that has stopped the queue, or a fault of remote memory.
    pub fn disarm(&mut self) -> Result<(), QueueError> {
        self.guarded(|ring| on_ring!(ring, ring => ring.disarm()))
    }

    /// Looks whether a buffer is available, without popping it: for polling.
    ///
    /// # Errors
    /// The fault that has stopped the queue, or one found on looking.
    #[inline]
    pub fn poll(&mut self) -> Result<MoreWork, QueueError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        on_ring!(&mut self.ring, ring => ring.poll()).or_else(|fault| self.latch(fault))
    }

    /// Asks the memory again whether it logs writes: to be called, between batches, after logging was turned on or off.
    pub fn follow_log(&mut self) {
        self.logs_writes = self.buffers.memory().logs_writes();
    }

    /// Runs an operation that writes to the ring unless the queue is faulty, logs what it may have written, and remembers a fault.
    #[inline]
    fn guarded<R>(
        &mut self,
        operation: impl FnOnce(&mut Ring) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let result = operation(&mut self.ring);
        if self.logs_writes {
            self.log_ring();
        }
        result.or_else(|fault| self.latch(fault))
    }

    #[inline(always)]
    fn latch<R>(&mut self, fault: QueueError) -> Result<R, QueueError> {
        self.remember(fault);
        Err(fault)
    }

    #[cold]
    #[inline(never)]
    fn remember(&mut self, fault: QueueError) {
        self.fault = Some(fault);
    }

    /// Logs the areas that the device end writes, whole: a log has a bit per page, and a ring few pages.
    #[cold]
    fn log_ring(&self) {
        let sizes = AreaSizes::of(self.format, self.layout.size);
        let memory = self.buffers.memory();
        memory.written(self.layout.device_area, sizes.device_len as u64);
        if self.format == RingFormat::Packed {
            memory.written(self.layout.descriptor_area, sizes.descriptor_len as u64);
        }
    }

    #[cold]
    fn log_buffer(&self, segments: &[crate::Segment], readable: usize, mut written: u64) {
        for segment in segments.iter().skip(readable) {
            let here = written.min(u64::from(segment.len()));
            if here == 0 {
                return;
            }
            self.buffers.memory().written(segment.addr(), here);
            written -= here;
        }
    }
}

/// Frees a chain that the queue does not take back.
#[cold]
#[inline(never)]
fn refuse(body: Box<Body>) {
    drop(body);
}

/// Passes on what is next in order.
fn drain(order: &mut Order, ring: &mut Ring) -> Result<(), QueueError> {
    while let Some(used) = order.next() {
        on_ring!(&mut *ring, ring => ring.push_used(used))?;
    }
    Ok(())
}

type Find<A> = fn(&Arc<dyn Memory>, IoAddr, usize, Access) -> Option<A>;

/// Finds the three areas with the access that each needs: the device end writes descriptors in packed rings only.
fn find_areas<A>(
    memory: &Arc<dyn Memory>,
    layout: RingLayout,
    format: RingFormat,
    find: Find<A>,
) -> Result<Areas<A>, SetupError> {
    let sizes = AreaSizes::of(format, layout.size);
    check_alignment(layout.descriptor_area, DESCRIPTOR_AREA_ALIGN)?;
    check_alignment(layout.driver_area, sizes.driver_align)?;
    check_alignment(layout.device_area, 4)?;
    let descriptor_access = match format {
        RingFormat::Split => Access::Read,
        RingFormat::Packed => Access::ReadWrite,
    };
    let area = |at: IoAddr, len: usize, access| {
        find(memory, at, len, access).ok_or(SetupError::Memory(MemoryFault { at, len: len as u64 }))
    };
    Ok(Areas {
        descriptors: area(layout.descriptor_area, sizes.descriptor_len, descriptor_access)?,
        driver: area(layout.driver_area, sizes.driver_len, Access::Read)?,
        device: area(layout.device_area, sizes.device_len, Access::Write)?,
    })
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("format", &self.format)
            .field("layout", &self.layout)
            .field("position", &self.position())
            .field("in_flight", &self.in_flight())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
