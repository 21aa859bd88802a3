//! A function with its configuration space, BAR decoding and interrupts, as a host sees it.

mod saved;

use std::sync::{Arc, Mutex};

use tracing::debug;

use crate::config::{ConfigSpace, Decoded, Placed};
use crate::registers::{COMMAND_INTX_DISABLE, STATUS_INTERRUPT};
use crate::{
    BarWindow, BusMaster, CapabilityAction, CapabilityTouch, FunctionHost, FunctionSpec, InterruptSink,
    Interrupts, Level, PciFunction, SetupError,
};

/// A hosted function that several threads may reach: each function has a lock of its own, so that virtual CPUs using
/// different functions do not wait for each other.
pub type SharedFunction = Arc<Mutex<Hosted<dyn PciFunction>>>;

/// What a write to configuration space, or a reset, changed beyond bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigEffect {
    /// A BAR is decoded elsewhere: moved, or turned on or off by the command register.
    BarMoved {
        /// The BAR.
        bar: u8,
        /// Where it was decoded.
        from: Option<u64>,
        /// Where it is decoded now.
        to: Option<u64>,
    },
    /// The function may access memory now, or may not any more. It was told.
    BusMaster(BusMaster),
    /// The function was reset by the guest.
    Reset,
}

/// Joins a function with all that PCI puts around it. Every host goes through this.
///
/// Accesses may be of any width, alignment and offset. What they may not touch reads as all ones and writes nothing.
/// BARs are served whether or not the command register enables them: who passes on a (BAR, offset) has decoded the
/// address already, as [`Bus`](crate::Bus) does with [`bar_address`](Self::bar_address).
pub struct Hosted<F: PciFunction + ?Sized> {
    config: ConfigSpace,
    interrupts: Interrupts,
    function: F,
}

/// What an access to a BAR reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Function,
    /// Offset in the MSI-X table, in bytes.
    Table(u64),
    /// Offset in the MSI-X pending bits, in bytes.
    PendingBits(u64),
    Nothing,
}

impl<F: PciFunction> Hosted<F> {
    /// Checks the function's declaration, builds its configuration space and attaches it. Interrupts go to `sink`.
    pub fn new(mut function: F, sink: Arc<dyn InterruptSink>) -> Result<Self, SetupError> {
        let spec = function.spec();
        let vectors = spec.msix.as_ref().map_or(0, |msix| msix.vectors);
        let interrupts = Interrupts::new(vectors, spec.interrupt_pin, sink);
        let config = ConfigSpace::new(spec)?;
        function.attach(FunctionHost::new(interrupts.clone()));
        Ok(Self { config, interrupts, function })
    }

    /// Behind a lock, as a [`Bus`](crate::Bus) takes it; the result converts to [`SharedFunction`].
    pub fn shared(self) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(self))
    }
}

impl<F: PciFunction + ?Sized> Hosted<F> {
    /// The function's declaration.
    pub fn spec(&self) -> &FunctionSpec {
        self.config.spec()
    }

    /// The function itself.
    pub fn function(&self) -> &F {
        &self.function
    }

    /// The function itself, to change it.
    pub fn function_mut(&mut self) -> &mut F {
        &mut self.function
    }

    /// The function's interrupts: a host passes interrupts here that reached it in the function's stead.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Length of configuration space in bytes: 256, or 4096 for a PCI Express function.
    pub fn config_len(&self) -> u64 {
        self.config.len()
    }

    /// Where a BAR is decoded; `None` while its address is unassigned or its kind is turned off, and for a BAR that
    /// the function does not have.
    pub fn bar_address(&self, bar: u8) -> Option<u64> {
        self.config.address(self.spec().bar(bar)?)
    }

    /// Reads configuration space. Bytes beyond its end are all ones.
    pub fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        for (capability, at, len) in self.touched(offset, out.len()) {
            let touch = touch(&self.config, &capability, at, len);
            if let CapabilityAction::Bar(window) = self.function.capability_read(touch) {
                self.fill_window(&capability, window);
            }
        }
        let asserted = self.interrupts.level() == Level::Asserted;
        self.config.set_status_interrupt(if asserted { STATUS_INTERRUPT } else { 0 });
        self.config.read(offset, out);
    }

    /// Writes configuration space and says what that changed. Read-only bits and bytes beyond the end stay.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) -> Vec<ConfigEffect> {
        let before = self.config.decoded();
        self.config.write(offset, data);
        if self.config.reset_requested() {
            self.reset_all();
            let mut effects = self.effects_since(&before);
            effects.push(ConfigEffect::Reset);
            return effects;
        }
        self.interrupts.set_intx_disabled(self.config.command() & COMMAND_INTX_DISABLE != 0);
        self.interrupts.set_msix_control(self.config.msix_control());
        let effects = self.effects_since(&before);
        for (capability, at, len) in self.touched(offset, data.len()) {
            let touch = touch(&self.config, &capability, at, len);
            if let CapabilityAction::Bar(window) = self.function.capability_write(touch) {
                self.drain_window(&capability, window);
            }
        }
        effects
    }

    /// Reads a BAR: the function's own registers, or the MSI-X table or pending bits that lie there.
    pub fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        out.fill(0xff);
        match self.target(bar, offset, out.len()) {
            Target::Function => self.function.bar_read(bar, offset, out),
            Target::Table(offset) => self.interrupts.table_read(offset, out),
            Target::PendingBits(offset) => self.interrupts.pba_read(offset, out),
            Target::Nothing => debug!(bar, offset, len = out.len(), "read of nothing"),
        }
    }

    /// Writes a BAR. The pending bits are read-only.
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        match self.target(bar, offset, data.len()) {
            Target::Function => self.function.bar_write(bar, offset, data),
            Target::Table(offset) => self.interrupts.table_write(offset, data),
            Target::PendingBits(_) => {}
            Target::Nothing => debug!(bar, offset, len = data.len(), "write to nothing"),
        }
    }

    /// Resets the function, its interrupts and its configuration space; BARs lose their addresses.
    pub fn reset(&mut self) -> Vec<ConfigEffect> {
        let before = self.config.decoded();
        self.reset_all();
        self.effects_since(&before)
    }

    pub(crate) fn set_multifunction(&mut self) {
        self.config.set_multifunction();
    }

    fn reset_all(&mut self) {
        let Self { config, interrupts, function } = self;
        function.reset();
        interrupts.reset();
        config.reset();
    }

    /// Compares with what was decoded before, and tells the function what has been turned on and off.
    fn effects_since(&mut self, before: &Decoded) -> Vec<ConfigEffect> {
        let after = self.config.decoded();
        let bars = before.bars.iter().zip(&after.bars);
        let mut effects: Vec<_> = bars
            .filter(|((_, from), (_, to))| from != to)
            .map(|(&(bar, from), &(_, to))| ConfigEffect::BarMoved { bar, from, to })
            .collect();
        if before.bus_master != after.bus_master {
            self.function.bus_master_changed(after.bus_master);
            effects.push(ConfigEffect::BusMaster(after.bus_master));
        }
        if before.controls != after.controls {
            self.function.controls_changed(after.controls);
        }
        effects
    }

    /// The vendor-specific capabilities that an access touches, each with the first byte and the number of bytes.
    fn touched(&self, offset: u64, len: usize) -> Vec<(Placed, usize, usize)> {
        let access = self.config.range(offset, len);
        let overlap = |placed: &Placed| {
            let start = placed.at.start.max(access.start);
            let end = placed.at.end.min(access.end);
            (start < end).then(|| (placed.clone(), start - placed.at.start, end - start))
        };
        self.config.vendor_capabilities().iter().filter_map(overlap).collect()
    }

    fn fill_window(&mut self, capability: &Placed, window: BarWindow) {
        let mut data = [0; 8];
        if let Some((at, data)) = window_bytes(capability, window, &mut data) {
            self.bar_read(window.bar, window.offset, data);
            self.config.put(at, data);
        }
    }

    fn drain_window(&mut self, capability: &Placed, window: BarWindow) {
        let mut data = [0; 8];
        if let Some((at, data)) = window_bytes(capability, window, &mut data) {
            self.config.read(at, data);
            self.bar_write(window.bar, window.offset, data);
        }
    }

    fn target(&self, bar: u8, offset: u64, len: usize) -> Target {
        let spec = self.spec();
        let len = len as u64;
        let inside = |whole: u64| len > 0 && offset.checked_add(len).is_some_and(|end| end <= whole);
        if !spec.bar(bar).is_some_and(|bar| inside(bar.len)) {
            return Target::Nothing;
        }
        let Some(msix) = &spec.msix else { return Target::Function };
        let table = (msix.table_bar, u64::from(msix.table_offset), msix.table_len());
        let pending = (msix.pba_bar, u64::from(msix.pba_offset), msix.pba_len());
        let structures = [(table, Target::Table as fn(u64) -> Target), (pending, Target::PendingBits)];
        for ((place, start, size), target) in structures {
            let end = start + size;
            if place == bar && offset < end && start < offset + len {
                let whole = start <= offset && offset + len <= end;
                return if whole { target(offset - start) } else { Target::Nothing };
            }
        }
        Target::Function
    }
}

fn touch<'a>(config: &'a ConfigSpace, capability: &Placed, offset: usize, len: usize) -> CapabilityTouch<'a> {
    CapabilityTouch { index: capability.index, offset, len, bytes: config.bytes(capability.at.clone()) }
}

/// Where the bytes of a window are in configuration space, and a buffer for them; `None` for a window that is empty,
/// too long or not in its capability.
fn window_bytes<'a>(
    capability: &Placed,
    window: BarWindow,
    buffer: &'a mut [u8; 8],
) -> Option<(u64, &'a mut [u8])> {
    let start = capability.at.start.checked_add(window.data_at)?;
    let end = start.checked_add(window.len)?;
    let data = buffer.get_mut(..window.len)?;
    (window.len > 0 && end <= capability.at.end).then_some((start as u64, data))
}
