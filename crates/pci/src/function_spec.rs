//! What a function declares about itself. The declaration is checked when the function is hosted, by
//! [`Hosted::new`](crate::Hosted::new).

/// Identity, BARs, capabilities and interrupts of a function.
///
/// ```
/// use vioduct_pci::{BarSpec, FunctionSpec, MsixSpec};
///
/// let spec = FunctionSpec::new(0x1234, 0x5678, 0xff_0000)
///     .with_bar(BarSpec::memory32(0, 0x1000))
///     .with_bar(BarSpec::memory64(2, 0x10_0000).prefetchable())
///     .with_msix(MsixSpec::in_bar(4, 0, 0x800));
/// assert_eq!(spec.bars.len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Vendor id; not `0xffff`.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// Revision id.
    pub revision: u8,
    /// Subsystem vendor id.
    pub subsystem_vendor_id: u16,
    /// Subsystem id.
    pub subsystem_id: u16,
    /// The pin that [`Interrupts::intx`](crate::Interrupts::intx) drives.
    pub interrupt_pin: InterruptPin,
    /// The BARs, in any order.
    pub bars: Vec<BarSpec>,
    /// Capabilities other than MSI-X, in the order of the list that the guest walks.
    pub capabilities: Vec<Capability>,
    /// MSI-X, if the function has it; its capability comes last in the list.
    pub msix: Option<MsixSpec>,
}

impl FunctionSpec {
    /// A function without BARs, capabilities and interrupts; its subsystem ids are zero. `class` has 24 bits.
    pub fn new(vendor_id: u16, device_id: u16, class: u32) -> Self {
        Self {
            vendor_id,
            device_id,
            class,
            revision: 0,
            subsystem_vendor_id: 0,
            subsystem_id: 0,
            interrupt_pin: InterruptPin::None,
            bars: Vec::new(),
            capabilities: Vec::new(),
            msix: None,
        }
    }

    /// With this revision id.
    pub fn with_revision(self, revision: u8) -> Self {
        Self { revision, ..self }
    }

    /// With these subsystem ids.
    pub fn with_subsystem(self, subsystem_vendor_id: u16, subsystem_id: u16) -> Self {
        Self { subsystem_vendor_id, subsystem_id, ..self }
    }

    /// With this interrupt pin.
    pub fn with_interrupt_pin(self, interrupt_pin: InterruptPin) -> Self {
        Self { interrupt_pin, ..self }
    }

    /// With one more BAR.
    pub fn with_bar(mut self, bar: BarSpec) -> Self {
        self.bars.push(bar);
        self
    }

    /// With one more capability, after those already there.
    pub fn with_capability(mut self, capability: Capability) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// With MSI-X.
    pub fn with_msix(self, msix: MsixSpec) -> Self {
        Self { msix: Some(msix), ..self }
    }

    /// The BAR declared with this index.
    pub fn bar(&self, index: u8) -> Option<&BarSpec> {
        self.bars.iter().find(|bar| bar.index == index)
    }
}

/// Interrupt pin, with its value in configuration space (PCI 3.0 §6.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptPin {
    /// The function has no pin.
    None = 0,
    /// INTA#, the pin of every single-function device.
    A = 1,
    /// INTB#.
    B = 2,
    /// INTC#.
    C = 3,
    /// INTD#.
    D = 4,
}

/// One BAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarSpec {
    /// 0 to 5; a 64-bit BAR takes this index and the next.
    pub index: u8,
    /// Where its addresses live.
    pub kind: BarKind,
    /// Whether reads are free of side effects and writes may be merged; for memory BARs.
    pub prefetchable: bool,
    /// Size in bytes: a power of two, at least 16 (I/O: at least 4, at most 256).
    pub len: u64,
}

impl BarSpec {
    /// A non-prefetchable memory BAR of `len` bytes with 32-bit addresses.
    pub fn memory32(index: u8, len: u64) -> Self {
        Self { index, kind: BarKind::Memory32, prefetchable: false, len }
    }

    /// A non-prefetchable memory BAR of `len` bytes with 64-bit addresses.
    pub fn memory64(index: u8, len: u64) -> Self {
        Self { index, kind: BarKind::Memory64, prefetchable: false, len }
    }

    /// A BAR of `len` I/O ports.
    pub fn io(index: u8, len: u64) -> Self {
        Self { index, kind: BarKind::Io, prefetchable: false, len }
    }

    /// The same BAR, prefetchable.
    pub fn prefetchable(self) -> Self {
        Self { prefetchable: true, ..self }
    }
}

/// Address space and address width of a BAR (PCI 3.0 §6.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
}

/// A capability in the list of configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Vendor-specific, id 0x09. Id, next pointer and length byte are filled in.
    Vendor {
        /// The bytes after the length byte: the first is at offset 3 of the capability.
        body: Vec<u8>,
        /// Which bits of `body` a guest may write, byte by byte; shorter than `body` means the rest is read-only.
        writable: Vec<u8>,
    },
    /// PCI Express endpoint, id 0x10, with function-level reset; gives the function 4 KiB of configuration space.
    PciExpress,
}

impl Capability {
    /// A vendor-specific capability that is read-only. `body` starts at offset 3, after the length byte.
    pub fn vendor(body: impl Into<Vec<u8>>) -> Self {
        Self::Vendor { body: body.into(), writable: Vec::new() }
    }
}

/// Where the MSI-X structures are (PCI 3.0 §6.8.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MsixSpec {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// Memory BAR that holds the vector table.
    pub table_bar: u8,
    /// Offset of the table in its BAR, in bytes; a multiple of 8.
    pub table_offset: u32,
    /// Memory BAR that holds the pending bits.
    pub pba_bar: u8,
    /// Offset of the pending bits in their BAR, in bytes; a multiple of 8.
    pub pba_offset: u32,
}

impl MsixSpec {
    /// Table at `offset` bytes into BAR `bar`, pending bits right behind it.
    pub fn in_bar(vectors: u16, bar: u8, offset: u32) -> Self {
        let pba_offset = offset.saturating_add(16 * u32::from(vectors));
        Self { vectors, table_bar: bar, table_offset: offset, pba_bar: bar, pba_offset }
    }

    /// Size of the table in bytes: 16 per vector.
    pub fn table_len(&self) -> u64 {
        16 * u64::from(self.vectors)
    }

    /// Size of the pending bits in bytes: one bit per vector, in whole 8-byte words.
    pub fn pba_len(&self) -> u64 {
        8 * u64::from(self.vectors).div_ceil(64)
    }
}
