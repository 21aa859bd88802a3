//! Interrupts: from a function's pin and vectors to the eventfds of its client.
//!
//! The client keeps the MSI-X table that its guest programs, masks included; it gives an eventfd for each vector that is to
//! arrive. The pin is of VFIO's kind: it masks itself when it fires, and fires again when it is unmasked while it is asserted.

use crate::wire::{IrqAction, IrqData, Refusal, SetIrqs};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vioduct_pci::{FunctionSpec, InterruptPin, InterruptSink, Level, MsiMessage, TableOwner};
use vioduct_state::{LoadError, Reader, Writer};
use vioduct_virtio_device::{EventFd, Signal};

/// Interrupt types that a client can ask about: INTx, MSI and MSI-X. QEMU does not take fewer.
pub(crate) const TYPES: u32 = 3;

const EVENTFD: u32 = 1 << 0;
const MASKABLE: u32 = 1 << 1;
const AUTOMASKED: u32 = 1 << 2;

/// An interrupt type that functions have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Type {
    Intx,
    /// None has it: MSI-X is what there is.
    Msi,
    Msix,
}

impl Type {
    fn of(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Intx),
            1 => Some(Self::Msi),
            2 => Some(Self::Msix),
            _ => None,
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Intx => EVENTFD | MASKABLE | AUTOMASKED,
            Self::Msi | Self::Msix => EVENTFD,
        }
    }
}

/// Where interrupts of a function go; nowhere before a client says so.
#[derive(Debug)]
pub(crate) struct Irqs {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pin: Pin,
    has_pin: bool,
    vectors: Vec<Line>,
    delivery: Delivery,
}

/// Whether interrupts reach the client, or wait until they are released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Delivery {
    Direct,
    Held,
}

#[derive(Debug)]
struct Pin {
    trigger: Option<EventFd>,
    level: Level,
    mask: Mask,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mask {
    Open,
    Masked,
}

/// One vector.
#[derive(Default, Debug)]
struct Line {
    trigger: Option<EventFd>,
    /// It fired while it had no eventfd, between two clients or before the guest unmasked it, or while interrupts were held.
    pending: bool,
}

impl Pin {
    /// Fires if there is a reason to, and masks itself.
    fn drive(&mut self, delivery: Delivery) {
        if let (Some(trigger), Level::Asserted, Mask::Open, Delivery::Direct) =
            (&self.trigger, self.level, self.mask, delivery)
        {
            trigger.signal();
            self.mask = Mask::Masked;
        }
    }

    fn assign(&mut self, trigger: Option<EventFd>, delivery: Delivery) {
        self.trigger = trigger;
        self.mask = Mask::Open;
        self.drive(delivery);
    }
}

impl Line {
    fn fire(&mut self, delivery: Delivery) {
        self.pending = true;
        self.deliver(delivery);
    }

    fn assign(&mut self, trigger: Option<EventFd>, delivery: Delivery) {
        self.trigger = trigger;
        self.deliver(delivery);
    }

    fn deliver(&mut self, delivery: Delivery) {
        if let (Some(trigger), true, Delivery::Direct) = (&self.trigger, self.pending, delivery) {
            self.pending = false;
            trigger.signal();
        }
    }
}

impl State {
    fn count(&self, of: Type) -> u32 {
        match of {
            Type::Intx => u32::from(self.has_pin),
            Type::Msi => 0,
            Type::Msix => u32::try_from(self.vectors.len()).unwrap_or(u32::MAX),
        }
    }

    fn assign(&mut self, of: Type, interrupt: u32, trigger: Option<EventFd>) {
        match of {
            Type::Intx => self.pin.assign(trigger, self.delivery),
            Type::Msi => {}
            Type::Msix => {
                if let Some(line) = self.vectors.get_mut(interrupt as usize) {
                    line.assign(trigger, self.delivery);
                }
            }
        }
    }

    fn act(&mut self, of: Type, interrupt: u32, action: IrqAction) {
        match (of, action) {
            (Type::Intx, IrqAction::Mask) => self.pin.mask = Mask::Masked,
            (Type::Intx, IrqAction::Unmask) => {
                self.pin.mask = Mask::Open;
                self.pin.drive(self.delivery);
            }
            (Type::Intx, IrqAction::Trigger) => {
                self.pin.trigger.iter().for_each(EventFd::signal);
            }
            (Type::Msix, IrqAction::Trigger) => {
                self.fire(interrupt as usize);
            }
            (Type::Msi | Type::Msix, _) => {}
        }
    }

    fn fire(&mut self, vector: usize) {
        let delivery = self.delivery;
        self.vectors.get_mut(vector).into_iter().for_each(|line| line.fire(delivery));
    }

    fn disable(&mut self, of: Type) {
        match of {
            Type::Intx => self.pin.assign(None, self.delivery),
            Type::Msi => {}
            Type::Msix => self.vectors.iter_mut().for_each(|line| *line = Line::default()),
        }
    }
}

impl Irqs {
    pub(crate) fn new(function: &FunctionSpec) -> Self {
        let vectors = function.msix.as_ref().map_or(0, |msix| msix.vectors);
        let state = State {
            pin: Pin { trigger: None, level: Level::Deasserted, mask: Mask::Open },
            has_pin: function.interrupt_pin != InterruptPin::None,
            vectors: (0..vectors).map(|_| Line::default()).collect(),
            delivery: Delivery::Direct,
        };
        Self { state: Mutex::new(state) }
    }

    /// Flags and number of the interrupts of a type.
    pub(crate) fn info(&self, index: u32) -> Result<(u32, u32), Refusal> {
        let of = Type::of(index).ok_or(Refusal::Invalid)?;
        Ok((of.flags(), self.lock().count(of)))
    }

    /// What a client asks for. Eventfds that are replaced are closed.
    pub(crate) fn set(&self, request: &SetIrqs, fds: Vec<OwnedFd>) -> Result<(), Refusal> {
        let SetIrqs { index, start, count, action, data } = request;
        let mut state = self.lock();
        let of = Type::of(*index).ok_or(Refusal::Invalid)?;
        if *data != IrqData::EventFds && !fds.is_empty() {
            return Err(Refusal::Invalid);
        }
        // The special case: none of none is all of them.
        if *data == IrqData::None && *action == IrqAction::Trigger && (*start, *count) == (0, 0) {
            state.disable(of);
            return Ok(());
        }
        let range = range(*start, *count, state.count(of)).ok_or(Refusal::Invalid)?;
        if *action != IrqAction::Trigger && of.flags() & MASKABLE == 0 {
            return Err(Refusal::Invalid);
        }
        match data {
            IrqData::None => range.for_each(|interrupt| state.act(of, interrupt, *action)),
            IrqData::Bool(wanted) => range
                .zip(wanted)
                .filter(|(_, wanted)| **wanted != 0)
                .for_each(|(interrupt, _)| state.act(of, interrupt, *action)),
            IrqData::EventFds => assign(&mut state, of, range, *action, fds)?,
        }
        Ok(())
    }

    /// The client has gone, and its eventfds with it. What fires now waits for the next client.
    pub(crate) fn disconnect(&self) {
        let mut state = self.lock();
        let State { pin, has_pin: _, vectors, delivery } = &mut *state;
        pin.assign(None, *delivery);
        vectors.iter_mut().for_each(|line| line.assign(None, *delivery));
    }

    /// The function was reset: what waited was of before.
    pub(crate) fn reset(&self) {
        self.lock().vectors.iter_mut().for_each(|line| line.pending = false);
    }

    /// Lets nothing reach the client any more: what fires waits.
    pub(crate) fn hold(&self) {
        self.lock().delivery = Delivery::Held;
    }

    /// Undoes [`hold`](Self::hold): what waited fires now.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        state.delivery = Delivery::Direct;
        state.pin.drive(Delivery::Direct);
        state.vectors.iter_mut().for_each(|line| line.deliver(Delivery::Direct));
    }

    /// Which vectors wait. Eventfds and the pin's mask are the client's, and the pin's level is the function's.
    pub(crate) fn save(&self, writer: &mut Writer) {
        let state = self.lock();
        let State { pin: _, has_pin: _, vectors, delivery: _ } = &*state;
        writer.bytes(&vectors.iter().map(|line| u8::from(line.pending)).collect::<Vec<_>>());
    }

    /// What [`save`](Self::save) has written of a function with as many vectors.
    pub(crate) fn read_saved(&self, reader: &mut Reader<'_>) -> Result<Vec<bool>, LoadError> {
        let (saved, own) = (reader.bytes()?, self.lock().vectors.len());
        if saved.len() != own {
            let saved = saved.len();
            return Err(LoadError::OtherDevice(format!("it has {saved} MSI-X vectors, this one {own}")));
        }
        let pending = |byte: &u8| match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LoadError::Value("a vector neither waits nor does not")),
        };
        saved.iter().map(pending).collect()
    }

    /// What waits is what was saved. Interrupts are held.
    pub(crate) fn restore(&self, pending: &[bool]) {
        for (line, pending) in self.lock().vectors.iter_mut().zip(pending) {
            line.pending = *pending;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `count` interrupts from `start` on, of those that there are.
fn range(start: u32, count: u32, of: u32) -> Option<Range<u32>> {
    let end = start.checked_add(count)?;
    (count > 0 && end <= of).then_some(start..end)
}

/// Gives each interrupt its descriptor, or takes it away where none came. An eventfd that says when to unmask would have to be
/// waited for; clients that are refused it unmask by message.
fn assign(
    state: &mut State,
    of: Type,
    range: Range<u32>,
    action: IrqAction,
    fds: Vec<OwnedFd>,
) -> Result<(), Refusal> {
    let fits = fds.is_empty() || fds.len() == range.len();
    if action != IrqAction::Trigger || !fits {
        return Err(Refusal::Invalid);
    }
    let triggers = fds.into_iter().map(|fd| Some(trigger(fd))).chain(std::iter::repeat_with(|| None));
    for (interrupt, trigger) in range.zip(triggers) {
        state.assign(of, interrupt, trigger);
    }
    Ok(())
}

/// A descriptor that can be signalled without waiting, whatever it is: a pipe could be full.
fn trigger(fd: OwnedFd) -> EventFd {
    // Where this fails, so does the write.
    let _ = fcntl_getfl(&fd).and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK));
    fd.into()
}

impl InterruptSink for Irqs {
    fn msi(&self, vector: u16, _message: MsiMessage) {
        self.lock().fire(vector.into());
    }

    fn intx(&self, level: Level) {
        let mut state = self.lock();
        let delivery = state.delivery;
        state.pin.level = level;
        state.pin.drive(delivery);
    }

    fn table_owner(&self) -> TableOwner {
        TableOwner::Host
    }
}
