//! The trait a function author implements, what the function is given, and what it may be asked.

use std::ops::Range;

use crate::{FunctionSpec, Interrupts, StateError};

/// A PCI function: anything with BARs, addressed by (BAR, offset).
///
/// [`Hosted`](crate::Hosted) has checked that an access lies within a BAR that the function declared. Its width and
/// alignment are the guest's choice: usually 1, 2, 4 or 8 bytes, but a host may pass on a copy of any length. What the
/// function does not implement reads as all ones and ignores writes; no access may panic or block.
pub trait PciFunction: Send {
    /// What the function is. Asked once, when it is hosted; it must not change after that.
    fn spec(&self) -> FunctionSpec;

    /// Gives the function what its host provides. Called once, before any other access.
    fn attach(&mut self, host: FunctionHost);

    /// Reads `out.len()` bytes at `offset` bytes into BAR `bar`. `out` comes filled with ones.
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]);

    /// Writes `data` at `offset` bytes into BAR `bar`.
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]);

    /// Returns the function to its state after [`attach`](Self::attach); configuration space and interrupts are reset
    /// by the host.
    fn reset(&mut self);

    /// The guest allowed or forbade the function to access memory (PCI 3.0 §6.2.2, command bit 2). Forbidden at first
    /// and after a reset.
    fn bus_master_changed(&mut self, _to: BusMaster) {}

    /// The guest has changed what turns parts of the function on and off, or a reset has; for functions that have
    /// configuration space of their own elsewhere. [`bus_master_changed`](Self::bus_master_changed) tells those that
    /// need no more.
    fn controls_changed(&mut self, _to: Controls) {}

    /// The guest is about to read a vendor-specific capability. With [`CapabilityAction::Bar`], the BAR is read first
    /// and what it holds is put into the capability, where the guest's read then finds it.
    fn capability_read(&mut self, _touch: CapabilityTouch<'_>) -> CapabilityAction {
        CapabilityAction::None
    }

    /// The guest has written to a vendor-specific capability; `touch.bytes` already has the new contents. With
    /// [`CapabilityAction::Bar`], the named bytes of the capability are then written to the BAR.
    fn capability_write(&mut self, _touch: CapabilityTouch<'_>) -> CapabilityAction {
        CapabilityAction::None
    }

    /// Whether [`save`](Self::save) and [`restore`](Self::restore) are there. It does not change.
    fn is_saveable(&self) -> bool {
        false
    }

    /// What another function of the same declaration needs to go on where this one stands, in a form of its own.
    /// Configuration space and MSI-X are the host's to save.
    ///
    /// # Errors
    /// If the function cannot be saved, or not now.
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        Err(StateError::NotSaveable)
    }

    /// Goes on where the function stood that has saved `state`. This one is as it was created or reset, and may not access
    /// memory; configuration space and MSI-X are already those saved, and [`bus_master_changed`](Self::bus_master_changed)
    /// follows. A function that drives its pin drives it here. `state` may come from another host: it is to be checked as what
    /// a guest writes is.
    ///
    /// # Errors
    /// If `state` is damaged, or of another function. This one is then as after a reset, or will be reset.
    fn restore(&mut self, _state: &[u8]) -> Result<(), StateError> {
        Err(StateError::NotSaveable)
    }
}

impl<F: PciFunction + ?Sized> PciFunction for Box<F> {
    fn spec(&self) -> FunctionSpec {
        (**self).spec()
    }

    fn attach(&mut self, host: FunctionHost) {
        (**self).attach(host);
    }

    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        (**self).bar_read(bar, offset, out);
    }

    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        (**self).bar_write(bar, offset, data);
    }

    fn reset(&mut self) {
        (**self).reset();
    }

    fn bus_master_changed(&mut self, to: BusMaster) {
        (**self).bus_master_changed(to);
    }

    fn controls_changed(&mut self, to: Controls) {
        (**self).controls_changed(to);
    }

    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        (**self).capability_read(touch)
    }

    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        (**self).capability_write(touch)
    }

    fn is_saveable(&self) -> bool {
        (**self).is_saveable()
    }

    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        (**self).save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        (**self).restore(state)
    }
}

/// What a host provides to a function. Memory for DMA is not part of it: a function has that from whoever built it, and
/// from hosts that change it as a [`DmaFunction`](crate::DmaFunction).
#[derive(Debug, Clone)]
pub struct FunctionHost {
    interrupts: Interrupts,
}

impl FunctionHost {
    pub(crate) fn new(interrupts: Interrupts) -> Self {
        Self { interrupts }
    }

    /// The function's interrupts; clone the handle to keep it.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }
}

/// Whether the function may access memory on its own (PCI 3.0 §6.2.2, command bit 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusMaster {
    /// It may not; this is so after a reset.
    Disabled,
    /// It may.
    Enabled,
}

/// Registers of configuration space by which a guest turns parts of a function on and off; all 0 after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controls {
    /// The command register (PCI 3.0 §6.2.2).
    pub command: u16,
    /// The bits of MSI-X's message control that a guest may write (PCI 3.0 §6.8.2.3); 0 without MSI-X.
    pub msix: u16,
}

/// A guest's access to a capability of [`FunctionSpec::capabilities`].
#[derive(Debug, Clone, Copy)]
pub struct CapabilityTouch<'a> {
    /// Which capability: its index in [`FunctionSpec::capabilities`].
    pub index: usize,
    /// First byte touched, in bytes from the capability's id byte.
    pub offset: usize,
    /// Number of bytes of the capability touched; at least 1.
    pub len: usize,
    /// All bytes of the capability, from its id byte.
    pub bytes: &'a [u8],
}

impl CapabilityTouch<'_> {
    /// Whether any byte of `range`, counted from the capability's id byte, is touched.
    pub fn touches(&self, range: Range<usize>) -> bool {
        self.offset < range.end && range.start < self.offset.saturating_add(self.len)
    }
}

/// What a function wants done about a [`CapabilityTouch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityAction {
    /// Nothing: the capability is plain bytes.
    None,
    /// Move bytes between the capability and a BAR. Values that the guest chose can be passed on unchecked: a window
    /// of no or too many bytes is ignored, and one outside its BAR reads as all ones and writes nothing.
    Bar(BarWindow),
}

/// Bytes of a capability that stand for bytes of a BAR, as in virtio 1.3 §4.1.4.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarWindow {
    /// The BAR.
    pub bar: u8,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Length in bytes, 1 to 8.
    pub len: usize,
    /// Where the bytes are in the capability, counted from its id byte.
    pub data_at: usize,
}
