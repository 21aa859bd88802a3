//! Requests and replies over one virtqueue: what the drivers of most device types need.
//!
//! A slot holds a device-readable part (the request) and a device-writable part (the reply) in DMA memory of the queue's own,
//! so that a caller who loses interest takes no memory away from the device.

use crate::device::{Device, Negotiated, Running};
use crate::dma::{Dma, DmaBuffer};
use crate::error::{InitError, RequestError};
use crate::lent::Lent;
use crate::segmentation::{Part, Segmentation};
use crate::transport::Transport;
use crate::virtqueue::{QueueSetup, Virtqueue};
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::Waker;
use vioduct_spec::Features;
use vioduct_virtqueue::{AddError, Buffer, IoAddr, MoreWork};

/// Waits a little for the device, or gives up: `Break` ends the request's wait. In a test it steps the device; in a kernel it
/// sleeps until an interrupt.
pub type Wait<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// What a driver is told about how to use its device. The default is what suits a machine; tests vary it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Features of ring and transport to use where the device offers them.
    pub features: Features,
    /// Largest queue size to use, in descriptors.
    pub queue_size: u16,
    /// Pieces that fit into an indirect table, where those are negotiated; below 2, none is used.
    pub indirect_entries: u16,
    /// How requests are cut.
    pub segmentation: Segmentation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: Features::RING
                | Features::ACCESS_PLATFORM
                | Features::NOTIFICATION_DATA
                | Features::NOTIF_CONFIG_DATA
                | Features::RING_RESET,
            queue_size: 128,
            indirect_entries: 8,
            segmentation: Segmentation::Whole,
        }
    }
}

/// Sizes of a queue's slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotShape {
    /// Longest request, in bytes.
    pub readable_len: u32,
    /// Longest reply, in bytes.
    pub writable_len: u32,
}

impl SlotShape {
    /// Offset of the reply in its slot: in a cache line of its own, for it is the device's to write.
    const fn reply_offset(self) -> usize {
        (self.readable_len as usize).next_multiple_of(64)
    }

    const fn slot_len(self) -> usize {
        self.reply_offset() + (self.writable_len as usize).next_multiple_of(64)
    }
}

/// A request on its way. It is good for one answer; dropped, it keeps its slot until the queue is gone, so give it to
/// [`RequestQueue::abandon`] instead.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a request's slot is taken until its ticket is taken or abandoned"]
pub struct Ticket {
    queue: u32,
    slot: u16,
    turn: u32,
}

/// What has become of a request.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Taken<R> {
    /// The answer.
    Done(R),
    /// Not answered yet: the ticket back.
    Pending(Ticket),
}

/// What an interrupt brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// Requests that were answered.
    pub completed: u16,
    /// Whether the configuration may have changed.
    pub config_changed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Posted,
    /// Posted, and nobody wants the answer.
    Abandoned,
    Done {
        written: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    /// Counts the requests that the slot has served, so that an old ticket does not take a new answer.
    turn: u32,
}

/// Tells the tickets of different queues apart.
static NEXT_QUEUE: AtomicU32 = AtomicU32::new(0);

/// A virtqueue of requests with replies. Submit, kick, poll, take; or [`call`](Self::call), which does all and waits.
pub struct RequestQueue<D: Dma> {
    id: u32,
    queue: Virtqueue<D, u16>,
    memory: Lent<DmaBuffer<D>>,
    shape: SlotShape,
    segmentation: Segmentation,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Kept from one request to the next, so that none allocates.
    pieces: [Vec<Buffer>; 2],
    waker: Option<Waker>,
}

impl<D: Dma + Clone> RequestQueue<D> {
    /// Queue `index` of a device that is being set up, with as many slots as descriptors.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn set_up<T: Transport>(
        device: &mut Device<T, Negotiated>,
        index: u16,
        shape: SlotShape,
        options: &Options,
        dma: &D,
    ) -> Result<Self, InitError> {
        let Options { queue_size, indirect_entries, ref segmentation, .. } = *options;
        let queue = device.set_up_queue(index, QueueSetup { max_size: queue_size, indirect_entries }, dma)?;
        let slots = queue.ring().size();
        let memory = DmaBuffer::new(dma.clone(), shape.slot_len() * usize::from(slots))?;
        Ok(Self {
            id: NEXT_QUEUE.fetch_add(1, Ordering::Relaxed),
            memory: Lent::new(memory, queue.access()),
            queue,
            shape,
            segmentation: segmentation.clone(),
            slots: (0..slots).map(|_| Slot { state: State::Free, turn: 0 }).collect(),
            free: (0..slots).rev().collect(),
            pieces: [Vec::new(), Vec::new()],
            waker: None,
        })
    }
}

impl<D: Dma> RequestQueue<D> {
    /// Adds a request with room for a reply of `reply_len` bytes. The device sees it at the next [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`RequestError::Full`], [`RequestError::TooLong`], or that the queue is broken.
    pub fn submit(&mut self, request: &[u8], reply_len: u32) -> Result<Ticket, RequestError> {
        let SlotShape { readable_len, writable_len } = self.shape;
        for (len, slot) in
            [(request.len(), readable_len as usize), (reply_len as usize, writable_len as usize)]
        {
            if len > slot {
                return Err(RequestError::TooLong { len, slot });
            }
        }
        let index = *self.free.last().ok_or(RequestError::Full)?;
        let slot = self.slots.get_mut(usize::from(index)).ok_or(RequestError::Full)?;
        let start = usize::from(index) * self.shape.slot_len();
        self.memory.write(start, request)?;
        let at = |offset: usize| IoAddr(self.memory.io_addr().0 + offset as u64);
        let [readable, writable] = &mut self.pieces;
        self.segmentation.cut(Part::Readable, at(start), request.len() as u32, readable);
        self.segmentation.cut(Part::Writable, at(start + self.shape.reply_offset()), reply_len, writable);
        self.queue.add(readable, writable, index).map_err(|(error, _)| refusal(error, request.len()))?;
        self.free.pop();
        *slot = Slot { state: State::Posted, turn: slot.turn.wrapping_add(1) };
        Ok(Ticket { queue: self.id, slot: index, turn: slot.turn })
    }

    /// Shows the device what was submitted: once per batch.
    ///
    /// # Errors
    /// Of the transport.
    pub fn kick<T: Transport>(&mut self, device: &mut Device<T, Running>) -> Result<(), RequestError> {
        Ok(self.queue.kick(device.transport())?)
    }

    /// Collects what the device has answered, and says how many requests that were. The waker is woken if there were any.
    ///
    /// # Errors
    /// [`RequestError::Queue`] if the device named a request that it does not have (row 78 of the hostile peers); the queue is
    /// broken then.
    pub fn poll(&mut self) -> Result<u16, RequestError> {
        let mut completed = 0;
        while let Some(completion) = self.queue.get()? {
            completed += 1;
            let Some(slot) = self.slots.get_mut(usize::from(completion.token)) else { continue };
            if slot.state == State::Abandoned {
                slot.state = State::Free;
                self.free.push(completion.token);
            } else {
                slot.state = State::Done { written: completion.written };
            }
        }
        if completed > 0
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        Ok(completed)
    }

    /// Collects answers as a completion interrupt's handler does: with notifications off, until there are none with
    /// notifications on again (virtio 1.3 §2.7.7.2).
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn drain(&mut self) -> Result<u16, RequestError> {
        let mut completed = 0;
        loop {
            self.queue.disable_callback();
            completed += self.poll()?;
            if self.queue.enable_callback() == MoreWork::None {
                return Ok(completed);
            }
        }
    }

    /// Takes the answer to a request: as much of it as fits into `reply`, and how many bytes the device wrote.
    ///
    /// # Errors
    /// [`RequestError::StaleTicket`].
    pub fn take(&mut self, ticket: Ticket, reply: &mut [u8]) -> Result<Taken<u32>, RequestError> {
        let slot = self.slot(&ticket)?;
        let State::Done { written } = slot.state else { return Ok(Taken::Pending(ticket)) };
        slot.state = State::Free;
        self.free.push(ticket.slot);
        let start = usize::from(ticket.slot) * self.shape.slot_len() + self.shape.reply_offset();
        let wrote = reply.len().min(written as usize);
        self.memory.read(start, reply.get_mut(..wrote).unwrap_or_default())?;
        Ok(Taken::Done(written))
    }

    /// Takes the answer to a request, of exactly `N` bytes.
    ///
    /// # Errors
    /// [`RequestError::ShortReply`] if the device wrote less: what lies in the rest of the buffer is from another time (row 76 of
    /// the hostile peers). [`RequestError::StaleTicket`].
    pub fn take_reply<const N: usize>(&mut self, ticket: Ticket) -> Result<Taken<[u8; N]>, RequestError> {
        let mut reply = [0; N];
        match self.take(ticket, &mut reply)? {
            Taken::Pending(ticket) => Ok(Taken::Pending(ticket)),
            Taken::Done(written) if (written as usize) < N => {
                Err(RequestError::ShortReply { written, wanted: N as u32 })
            }
            Taken::Done(_) => Ok(Taken::Done(reply)),
        }
    }

    /// Gives up on a request: its answer is dropped when it comes, and its slot is free then.
    pub fn abandon(&mut self, ticket: Ticket) {
        let Ok(slot) = self.slot(&ticket) else { return };
        if slot.state == State::Posted {
            slot.state = State::Abandoned;
        } else {
            slot.state = State::Free;
            self.free.push(ticket.slot);
        }
    }

    /// Submits a request, notifies the device, and waits for the answer; then as [`take`](Self::take).
    ///
    /// # Errors
    /// [`RequestError::GaveUp`] if `wait` breaks off; [`RequestError::NeedsReset`] and the like if the device fails meanwhile.
    pub fn call<T: Transport>(
        &mut self,
        device: &mut Device<T, Running>,
        request: &[u8],
        reply: &mut [u8],
        wait: Wait<'_>,
    ) -> Result<u32, RequestError> {
        let ticket = self.submit(request, reply.len() as u32)?;
        self.kick(device)?;
        let ticket = self.wait_for(device, ticket, wait)?;
        match self.take(ticket, reply)? {
            Taken::Done(written) => Ok(written),
            Taken::Pending(_) => Err(RequestError::StaleTicket),
        }
    }

    /// The same for a reply of exactly `N` bytes.
    ///
    /// # Errors
    /// As [`call`](Self::call), and [`RequestError::ShortReply`].
    pub fn call_exact<const N: usize, T: Transport>(
        &mut self,
        device: &mut Device<T, Running>,
        request: &[u8],
        wait: Wait<'_>,
    ) -> Result<[u8; N], RequestError> {
        let mut reply = [0; N];
        let written = self.call(device, request, &mut reply, wait)?;
        if (written as usize) < N {
            return Err(RequestError::ShortReply { written, wanted: N as u32 });
        }
        Ok(reply)
    }

    /// Waits until a request has its answer; on failure the request is abandoned.
    fn wait_for<T: Transport>(
        &mut self,
        device: &mut Device<T, Running>,
        ticket: Ticket,
        wait: Wait<'_>,
    ) -> Result<Ticket, RequestError> {
        loop {
            let looked = self.poll().and_then(|_| self.is_done(&ticket));
            let outcome = match looked {
                Ok(true) => return Ok(ticket),
                Ok(false) => device.check(),
                Err(error) => Err(error),
            };
            let outcome = match outcome {
                Ok(()) if wait().is_break() => Err(RequestError::GaveUp),
                other => other,
            };
            if let Err(error) = outcome {
                self.abandon(ticket);
                return Err(error);
            }
        }
    }

    /// Handles an interrupt: collects answers, and looks after the device if its configuration, or its health, changed.
    ///
    /// # Errors
    /// As [`poll`](Self::poll) and [`Device::check`].
    pub fn service<T: Transport>(&mut self, device: &mut Device<T, Running>) -> Result<Events, RequestError> {
        let interrupts = device.interrupts()?;
        let completed = if interrupts.queue { self.drain()? } else { 0 };
        Ok(Events { completed, config_changed: interrupts.config })
    }

    /// Who is woken when requests have been answered: by [`poll`](Self::poll), so also by interrupts.
    pub fn set_waker(&mut self, waker: Option<Waker>) {
        self.waker = waker;
    }

    /// The queue, for its size, and for turning notifications off and on.
    pub const fn virtqueue(&mut self) -> &mut Virtqueue<D, u16> {
        &mut self.queue
    }

    /// Resets the queue alone (virtio 1.3 §2.6.1); requests that were with the device are lost, and their tickets are stale.
    ///
    /// # Errors
    /// As [`Virtqueue::restart`].
    pub fn restart<T: Transport>(&mut self, device: &mut Device<T, Running>) -> Result<(), RequestError> {
        for index in self.queue.restart(device.transport())? {
            let Some(slot) = self.slots.get_mut(usize::from(index)) else { continue };
            *slot = Slot { state: State::Free, turn: slot.turn.wrapping_add(1) };
            self.free.push(index);
        }
        Ok(())
    }

    fn is_done(&mut self, ticket: &Ticket) -> Result<bool, RequestError> {
        Ok(matches!(self.slot(ticket)?.state, State::Done { .. }))
    }

    fn slot(&mut self, ticket: &Ticket) -> Result<&mut Slot, RequestError> {
        let known = ticket.queue == self.id;
        let slot =
            self.slots.get_mut(usize::from(ticket.slot)).filter(|slot| known && slot.turn == ticket.turn);
        slot.ok_or(RequestError::StaleTicket)
    }
}

fn refusal(error: AddError, len: usize) -> RequestError {
    match error {
        AddError::Full => RequestError::Full,
        AddError::Empty | AddError::TooLong => RequestError::TooLong { len, slot: 0 },
        AddError::Broken => RequestError::Queue(vioduct_virtqueue::QueueError::Broken),
    }
}

impl<D: Dma> fmt::Debug for RequestQueue<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestQueue")
            .field("queue", &self.queue)
            .field("shape", &self.shape)
            .field("free", &self.free.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
