//! A function and an interrupt sink that record what happens to them.

use std::sync::{Arc, Mutex};

use vioduct_pci::{
    BarWindow, BusMaster, CapabilityAction, CapabilityTouch, Controls, FunctionHost, FunctionSpec, Hosted,
    InterruptSink, Interrupts, Level, MsiMessage, PciFunction, TableOwner, VectorState,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Read { bar: u8, offset: u64, len: usize },
    Write { bar: u8, offset: u64, data: Vec<u8> },
    BusMaster(BusMaster),
    Reset,
}

/// Reads as 0x5a in every byte. Any vendor-specific capability of 20 bytes is a window as in virtio 1.3 §4.1.4.9.
#[derive(Default)]
pub(crate) struct Probe {
    spec: Option<FunctionSpec>,
    pub(crate) events: Vec<Event>,
    pub(crate) controls: Vec<Controls>,
}

impl Probe {
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn window(touch: CapabilityTouch<'_>) -> CapabilityAction {
        if touch.bytes.len() != 20 || !touch.touches(16..20) {
            return CapabilityAction::None;
        }
        let long = |at: usize| u32::from_le_bytes(touch.bytes[at..at + 4].try_into().unwrap());
        let window = BarWindow {
            bar: touch.bytes[4],
            offset: u64::from(long(8)),
            len: long(12) as usize,
            data_at: 16,
        };
        CapabilityAction::Bar(window)
    }
}

impl PciFunction for Probe {
    fn spec(&self) -> FunctionSpec {
        self.spec.clone().unwrap()
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        assert!(out.iter().all(|byte| *byte == 0xff), "out comes filled with ones");
        self.events.push(Event::Read { bar, offset, len: out.len() });
        out.fill(0x5a);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        self.events.push(Event::Write { bar, offset, data: data.to_vec() });
    }
    fn reset(&mut self) {
        self.events.push(Event::Reset);
    }
    fn bus_master_changed(&mut self, to: BusMaster) {
        self.events.push(Event::BusMaster(to));
    }
    fn controls_changed(&mut self, to: Controls) {
        self.controls.push(to);
    }
    fn capability_read(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        Self::window(touch)
    }
    fn capability_write(&mut self, touch: CapabilityTouch<'_>) -> CapabilityAction {
        Self::window(touch)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    Msi(u16, MsiMessage),
    Intx(Level),
    Changed(u16, VectorState),
}

pub(crate) struct Recorder {
    owner: TableOwner,
    delivered: Mutex<Vec<Delivered>>,
}

impl Recorder {
    pub(crate) fn new(owner: TableOwner) -> Arc<Self> {
        Arc::new(Self { owner, delivered: Mutex::default() })
    }

    pub(crate) fn take(&self) -> Vec<Delivered> {
        std::mem::take(&mut *self.delivered.lock().unwrap())
    }

    fn push(&self, delivered: Delivered) {
        self.delivered.lock().unwrap().push(delivered);
    }
}

impl InterruptSink for Recorder {
    fn msi(&self, vector: u16, message: MsiMessage) {
        self.push(Delivered::Msi(vector, message));
    }
    fn intx(&self, level: Level) {
        self.push(Delivered::Intx(level));
    }
    fn vector_changed(&self, vector: u16, state: VectorState) {
        self.push(Delivered::Changed(vector, state));
    }
    fn table_owner(&self) -> TableOwner {
        self.owner
    }
}

/// A hosted probe with what a test needs to drive it.
pub(crate) struct Rig {
    pub(crate) hosted: Hosted<Probe>,
    pub(crate) interrupts: Interrupts,
    pub(crate) sink: Arc<Recorder>,
}

impl Rig {
    pub(crate) fn new(spec: FunctionSpec) -> Self {
        Self::with_owner(spec, TableOwner::Function)
    }

    pub(crate) fn with_owner(spec: FunctionSpec, owner: TableOwner) -> Self {
        let sink = Recorder::new(owner);
        let probe = Probe { spec: Some(spec), events: Vec::new(), controls: Vec::new() };
        let hosted = Hosted::new(probe, sink.clone()).unwrap();
        let interrupts = hosted.interrupts().clone();
        Self { hosted, interrupts, sink }
    }

    pub(crate) fn config(&mut self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xa5; len];
        self.hosted.config_read(offset, &mut out);
        out
    }

    pub(crate) fn config_u8(&mut self, offset: u64) -> u8 {
        self.config(offset, 1)[0]
    }

    pub(crate) fn config_u16(&mut self, offset: u64) -> u16 {
        u16::from_le_bytes(self.config(offset, 2).try_into().unwrap())
    }

    pub(crate) fn config_u32(&mut self, offset: u64) -> u32 {
        u32::from_le_bytes(self.config(offset, 4).try_into().unwrap())
    }

    pub(crate) fn bar(&mut self, bar: u8, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xa5; len];
        self.hosted.bar_read(bar, offset, &mut out);
        out
    }
}
