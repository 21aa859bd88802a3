//! Interrupts of a function: INTx by level, MSI-X by vector.
//!
//! The function holds [`Interrupts`] and raises; the host implements [`InterruptSink`] and delivers. Between them is
//! the state that the guest programs: enable and mask bits, messages, pending bits.

use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vioduct_state::{LoadError, Reader, Writer};

use crate::InterruptPin;
use crate::msix::{Control, Msix};

/// The host's side: where interrupts of one function go.
///
/// All methods are called with the function's interrupt state locked, which is what makes "after masking, no message"
/// true. So they must not block, and must call neither [`Interrupts`] nor the function.
pub trait InterruptSink: Send + Sync {
    /// Delivers the message of `vector`, as a memory write of `message.data` to `message.address`.
    fn msi(&self, vector: u16, message: MsiMessage);

    /// The function's interrupt pin changed.
    fn intx(&self, level: Level);

    /// The guest changed what `vector` is: a host that lets others raise it directly (irqfd) sets up or removes the
    /// route here. While it is not [`VectorState::Unmasked`], such a host passes interrupts to
    /// [`Interrupts::msix`], which sets the pending bit; a pending interrupt is delivered by [`msi`](Self::msi)
    /// after the call that unmasks.
    fn vector_changed(&self, _vector: u16, _state: VectorState) {}

    /// An eventfd whose increment raises `vector`, for those who raise it from another process. It works in every state of the
    /// vector: while that is not [`VectorState::Unmasked`], the host listens to it and calls [`Interrupts::msix`].
    fn eventfd(&self, _vector: u16) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Who keeps the vector table. Asked for every interrupt.
    fn table_owner(&self) -> TableOwner {
        TableOwner::Function
    }
}

/// A sink that drops everything: for functions without interrupts and hosts that poll.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInterrupts;

impl InterruptSink for NoInterrupts {
    fn msi(&self, _vector: u16, _message: MsiMessage) {}

    fn intx(&self, _level: Level) {}
}

/// A message-signalled interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where to write; a multiple of 4.
    pub address: u64,
    /// What to write.
    pub data: u32,
}

/// Level of an interrupt pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// No interrupt.
    Deasserted,
    /// The function wants attention.
    Asserted,
}

/// What the guest made of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorState {
    /// MSI-X is off.
    Disabled,
    /// Masked by itself or by the function mask: an interrupt becomes pending.
    Masked,
    /// An interrupt sends this message.
    Unmasked(MsiMessage),
}

/// Who keeps the MSI-X table that the guest programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableOwner {
    /// The function's BAR: masks, pending bits and messages there are obeyed.
    Function,
    /// The host keeps a table of its own and the one in the BAR is never programmed (vfio-user clients do so): every
    /// interrupt goes to the sink by its vector, and the message means nothing.
    Host,
}

/// The function's side: raises interrupts. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Interrupts {
    shared: Arc<Shared>,
}

struct Shared {
    sink: Arc<dyn InterruptSink>,
    vectors: u16,
    pin: InterruptPin,
    state: Mutex<State>,
}

struct State {
    msix: Msix,
    /// What the function asks for; the interrupt status bit shows it whether or not the pin follows.
    level: Level,
    /// What the sink was told last.
    pin: Level,
    intx_disabled: bool,
}

impl Interrupts {
    pub(crate) fn new(vectors: u16, pin: InterruptPin, sink: Arc<dyn InterruptSink>) -> Self {
        let state = State {
            msix: Msix::new(vectors),
            level: Level::Deasserted,
            pin: Level::Deasserted,
            intx_disabled: false,
        };
        Self { shared: Arc::new(Shared { sink, vectors, pin, state: Mutex::new(state) }) }
    }

    /// Raises an MSI-X vector: sends its message, or sets its pending bit while it is masked. Nothing happens while
    /// MSI-X is off, or for a vector that the function does not have.
    pub fn msix(&self, vector: u16) {
        if vector >= self.shared.vectors {
            return;
        }
        let mut state = self.lock();
        match self.shared.sink.table_owner() {
            TableOwner::Host => self.shared.sink.msi(vector, state.msix.message(vector)),
            TableOwner::Function => match state.msix.state(vector) {
                VectorState::Disabled => {}
                VectorState::Masked => state.msix.set_pending(vector),
                VectorState::Unmasked(message) => self.shared.sink.msi(vector, message),
            },
        }
    }

    /// An eventfd whose increment is as good as [`msix`](Self::msix), if the host has one for each vector.
    pub fn eventfd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.shared.sink.eventfd(vector)
    }

    /// Sets the level of the interrupt pin. It reaches the host unless the guest disabled INTx or turned MSI-X on.
    /// Nothing happens for a function that declared no pin.
    pub fn intx(&self, level: Level) {
        if self.shared.pin == InterruptPin::None {
            return;
        }
        let mut state = self.lock();
        state.level = level;
        self.drive_pin(&mut state);
    }

    /// Whether the guest turned MSI-X on; if so, INTx reaches nobody.
    pub fn msix_enabled(&self) -> bool {
        self.lock().msix.control().enabled
    }

    /// Number of MSI-X vectors, 0 for a function without MSI-X.
    pub fn vectors(&self) -> u16 {
        self.shared.vectors
    }

    /// One vector as an object of its own, to hand to whoever raises just that.
    pub fn vector(&self, index: u16) -> Vector {
        Vector { interrupts: self.clone(), index }
    }

    /// What the guest made of `vector`; [`VectorState::Disabled`] for one the function does not have.
    pub fn vector_state(&self, vector: u16) -> VectorState {
        self.lock().msix.state(vector)
    }

    pub(crate) fn level(&self) -> Level {
        self.lock().level
    }

    pub(crate) fn set_intx_disabled(&self, disabled: bool) {
        let mut state = self.lock();
        state.intx_disabled = disabled;
        self.drive_pin(&mut state);
    }

    pub(crate) fn set_msix_control(&self, control: Control) {
        if self.lock().msix.control() == control {
            return;
        }
        self.change_msix(0..self.shared.vectors, |msix| msix.set_control(control));
        self.drive_pin(&mut self.lock());
    }

    pub(crate) fn table_read(&self, offset: u64, out: &mut [u8]) {
        self.lock().msix.table_read(offset, out);
    }

    pub(crate) fn table_write(&self, offset: u64, data: &[u8]) {
        let Some(vector) = Msix::vector_at(offset) else { return };
        self.change_msix(vector..vector.saturating_add(1), |msix| msix.table_write(offset, data));
    }

    pub(crate) fn pba_read(&self, offset: u64, out: &mut [u8]) {
        self.lock().msix.pba_read(offset, out);
    }

    pub(crate) fn reset(&self) {
        self.change_msix(0..self.shared.vectors, Msix::reset);
        let mut state = self.lock();
        state.level = Level::Deasserted;
        state.intx_disabled = false;
        self.drive_pin(&mut state);
    }

    /// MSI-X. The level of the pin is what the function says when it is restored.
    pub(crate) fn save(&self, writer: &mut Writer) {
        self.lock().msix.save(writer);
    }

    pub(crate) fn read_saved(&self, reader: &mut Reader<'_>) -> Result<Msix, LoadError> {
        Msix::read(self.shared.vectors, reader)
    }

    pub(crate) fn restore(&self, saved: Msix, control: Control, intx_disabled: bool) {
        self.set_intx_disabled(intx_disabled);
        self.change_msix(0..self.shared.vectors, |msix| msix.restore(saved, control));
        self.drive_pin(&mut self.lock());
    }

    /// Makes a change and tells the host about each vector that became something else, then delivers what was pending
    /// on those that are unmasked now (PCI 3.0 §6.8.3.2: a pending message is sent when its mask is cleared).
    fn change_msix(&self, affected: Range<u16>, change: impl FnOnce(&mut Msix)) {
        let mut state = self.lock();
        let before: Vec<_> = affected.clone().map(|vector| state.msix.state(vector)).collect();
        change(&mut state.msix);
        for (vector, before) in affected.zip(before) {
            let after = state.msix.state(vector);
            if after == before {
                continue;
            }
            self.shared.sink.vector_changed(vector, after);
            if let VectorState::Unmasked(message) = after
                && state.msix.take_pending(vector)
            {
                self.shared.sink.msi(vector, message);
            }
        }
    }

    /// PCI 3.0 §6.8.2.3: a function with MSI-X enabled must not use its pin; §6.2.2: nor one with INTx disabled.
    fn drive_pin(&self, state: &mut State) {
        let silent = state.intx_disabled || state.msix.control().enabled;
        let pin = if silent { Level::Deasserted } else { state.level };
        if pin != state.pin {
            state.pin = pin;
            self.shared.sink.intx(pin);
        }
    }

    /// A sink that panicked on another thread left the state consistent: it is called after each change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts").field("vectors", &self.shared.vectors).finish_non_exhaustive()
    }
}

/// One MSI-X vector of a function. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Vector {
    interrupts: Interrupts,
    index: u16,
}

impl Vector {
    /// As [`Interrupts::msix`].
    pub fn raise(&self) {
        self.interrupts.msix(self.index);
    }

    /// Which vector this is.
    pub fn index(&self) -> u16 {
        self.index
    }
}
