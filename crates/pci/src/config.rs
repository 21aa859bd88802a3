//! Configuration space: a type 0 header and a capability list, as bytes with a mask of those that a guest may write.

use std::ops::Range;

use vioduct_state::{LoadError, Reader, Writer};

use crate::msix::Control;
use crate::registers::*;
use crate::validate::{self, capability_len, room};
use crate::{BarKind, BarSpec, BusMaster, Capability, Controls, FunctionSpec, MsixSpec, SetupError};

/// Bits of the header that every function lets a guest write, by offset.
const HEADER_WRITABLE: &[(u64, u16)] = &[
    (
        COMMAND,
        COMMAND_IO
            | COMMAND_MEMORY
            | COMMAND_BUS_MASTER
            | COMMAND_PARITY
            | COMMAND_SERR
            | COMMAND_INTX_DISABLE,
    ),
    (CACHE_LINE_SIZE, 0x00ff),
    (INTERRUPT_LINE, 0x00ff),
];

/// A vendor-specific capability in its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Its index in the declaration.
    pub(crate) index: usize,
    /// Its bytes in configuration space.
    pub(crate) at: Range<usize>,
}

/// What the header says about decoding and bus mastering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Where each declared BAR is, `None` while it is not decoded.
    pub(crate) bars: Vec<(u8, Option<u64>)>,
    pub(crate) bus_master: BusMaster,
    pub(crate) controls: Controls,
}

#[derive(Debug)]
pub(crate) struct ConfigSpace {
    spec: FunctionSpec,
    bytes: Vec<u8>,
    writable: Vec<u8>,
    after_reset: Vec<u8>,
    vendor: Vec<Placed>,
    msix_at: Option<u64>,
    express_at: Option<u64>,
}

impl ConfigSpace {
    pub(crate) fn new(spec: FunctionSpec) -> Result<Self, SetupError> {
        validate::check(&spec)?;
        let express = spec.capabilities.contains(&Capability::PciExpress);
        let len = if express { EXTENDED_CONFIG_LEN } else { CONFIG_LEN } as usize;
        let mut config = Self {
            bytes: vec![0; len],
            writable: vec![0; len],
            after_reset: Vec::new(),
            vendor: Vec::new(),
            msix_at: None,
            express_at: None,
            spec,
        };
        config.write_header();
        config.write_bars();
        config.write_capabilities();
        config.after_reset.clone_from(&config.bytes);
        Ok(config)
    }

    pub(crate) fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The part of an access that configuration space has, as indices.
    pub(crate) fn range(&self, offset: u64, len: usize) -> Range<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        start..start.saturating_add(len).min(self.bytes.len())
    }

    /// Fills `out`; bytes beyond the end are all ones.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) {
        out.fill(0xff);
        let held = self.bytes.get(self.range(offset, out.len())).unwrap_or_default();
        for (out, byte) in out.iter_mut().zip(held) {
            *out = *byte;
        }
    }

    /// Writes the bits that a guest may write.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let range = self.range(offset, data.len());
        let held = self.bytes.get_mut(range.clone()).unwrap_or_default();
        let masks = self.writable.get(range).unwrap_or_default();
        for ((byte, mask), data) in held.iter_mut().zip(masks).zip(data) {
            *byte = *byte & !mask | data & mask;
        }
    }

    /// Puts bytes in place whether or not a guest may write them.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        let range = self.range(offset, bytes.len());
        for (held, byte) in self.bytes.get_mut(range).unwrap_or_default().iter_mut().zip(bytes) {
            *held = *byte;
        }
    }

    pub(crate) fn reset(&mut self) {
        let Self { spec: _, bytes, writable: _, after_reset, vendor: _, msix_at: _, express_at: _ } = self;
        bytes.clone_from(after_reset);
    }

    /// What the function is, which bits a guest may write, and what it has written.
    pub(crate) fn save(&self, writer: &mut Writer) {
        let Self { spec: _, bytes, writable, after_reset, vendor: _, msix_at: _, express_at: _ } = self;
        writer.bytes(after_reset);
        writer.bytes(writable);
        let written: Vec<_> = bytes.iter().zip(writable).map(|(byte, mask)| byte & mask).collect();
        writer.bytes(&written);
    }

    /// The bytes that [`restore`](Self::restore) takes, from what [`save`](Self::save) has written of the same function.
    pub(crate) fn read_saved(&self, reader: &mut Reader<'_>) -> Result<Vec<u8>, LoadError> {
        let (identity, writable, written) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
        self.check_identity(identity)?;
        if writable != self.writable {
            return Err(LoadError::OtherDevice("its BARs or capabilities are others".into()));
        }
        if written.len() != writable.len() {
            return Err(LoadError::Value("configuration space is not as long as it says"));
        }
        let bits = || written.iter().zip(writable);
        if bits().any(|(byte, mask)| byte & !mask != 0) {
            return Err(LoadError::Value("configuration space is written where it cannot be"));
        }
        let restored = bits().zip(&self.after_reset).map(|((byte, mask), fixed)| fixed & !mask | byte);
        Ok(restored.collect())
    }

    /// The bit that tells of other functions is the place's, not the function's.
    fn check_identity(&self, saved: &[u8]) -> Result<(), LoadError> {
        let place = |at: usize| if at == HEADER_TYPE as usize { HEADER_MULTIFUNCTION } else { 0 };
        let same = |(at, (saved, own)): (usize, (&u8, &u8))| (saved ^ own) & !place(at) == 0;
        let others = self.after_reset.len() != saved.len()
            || !saved.iter().zip(&self.after_reset).enumerate().all(same);
        if !others {
            return Ok(());
        }
        let [a, b, c, d] = saved.first_chunk().copied().unwrap_or_default();
        let FunctionSpec { vendor_id, device_id, .. } = self.spec;
        Err(LoadError::OtherDevice(format!(
            "a PCI function {b:02x}{a:02x}:{d:02x}{c:02x} was saved and this one is {vendor_id:04x}:{device_id:04x}, or their \
             classes, BARs or capabilities differ"
        )))
    }

    /// Takes over bytes of [`read_saved`](Self::read_saved). A reset that a guest asks for is done at once and never saved.
    pub(crate) fn restore(&mut self, bytes: Vec<u8>) {
        let Self { spec: _, bytes: held, writable: _, after_reset: _, vendor: _, msix_at: _, express_at } =
            self;
        *held = bytes;
        if let Some(at) = express_at.map(|at| at + EXPRESS_DEVICE_CONTROL) {
            let control = self.word(at) & !EXPRESS_INITIATE_RESET;
            self.put(at, &control.to_le_bytes());
        }
    }

    pub(crate) fn set_multifunction(&mut self) {
        self.put(HEADER_TYPE, &[HEADER_MULTIFUNCTION]);
        if let Some(header_type) = self.after_reset.get_mut(HEADER_TYPE as usize) {
            *header_type = HEADER_MULTIFUNCTION;
        }
    }

    pub(crate) fn vendor_capabilities(&self) -> &[Placed] {
        &self.vendor
    }

    pub(crate) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.bytes.get(at).unwrap_or_default()
    }

    pub(crate) fn command(&self) -> u16 {
        self.word(COMMAND)
    }

    pub(crate) fn set_status_interrupt(&mut self, bit: u16) {
        let status = self.word(STATUS) & !STATUS_INTERRUPT | bit;
        self.put(STATUS, &status.to_le_bytes());
    }

    pub(crate) fn msix_control(&self) -> Control {
        let control = self.msix_word();
        Control { enabled: control & MSIX_ENABLE != 0, masked: control & MSIX_FUNCTION_MASK != 0 }
    }

    /// What a guest has written to the message control of MSI-X.
    fn msix_word(&self) -> u16 {
        let control = self.msix_at.map_or(0, |at| self.word(at + MSIX_CONTROL));
        control & (MSIX_ENABLE | MSIX_FUNCTION_MASK)
    }

    /// Whether the guest just asked for a function-level reset (PCI Express 5.0 §6.6.2).
    pub(crate) fn reset_requested(&self) -> bool {
        let at = self.express_at.map(|at| at + EXPRESS_DEVICE_CONTROL);
        at.is_some_and(|at| self.word(at) & EXPRESS_INITIATE_RESET != 0)
    }

    pub(crate) fn decoded(&self) -> Decoded {
        let bus_master = match self.command() & COMMAND_BUS_MASTER {
            0 => BusMaster::Disabled,
            _ => BusMaster::Enabled,
        };
        let bars = self.spec.bars.iter().map(|bar| (bar.index, self.address(bar))).collect();
        Decoded { bars, bus_master, controls: Controls { command: self.command(), msix: self.msix_word() } }
    }

    /// Where a BAR is decoded. An address of 0 is one that nobody assigned; one that ends at the top of its address
    /// space is what sizing leaves behind (all ones written), and decoding it would hide what lives there.
    pub(crate) fn address(&self, bar: &BarSpec) -> Option<u64> {
        let at = bar_at(bar.index);
        let low = u64::from(self.long(at));
        let (enable, address, top) = match bar.kind {
            BarKind::Io => (COMMAND_IO, low & !3, 1 << 16),
            BarKind::Memory32 => (COMMAND_MEMORY, low & !15, 1 << 32),
            BarKind::Memory64 => (COMMAND_MEMORY, u64::from(self.long(at + 4)) << 32 | low & !15, u64::MAX),
        };
        let fits = address.checked_add(bar.len).is_some_and(|end| end < top);
        (self.command() & enable != 0 && address != 0 && fits).then_some(address)
    }

    fn word(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn long(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn allow(&mut self, offset: u64, mask: &[u8]) {
        let range = self.range(offset, mask.len());
        for (held, mask) in self.writable.get_mut(range).unwrap_or_default().iter_mut().zip(mask) {
            *held = *mask;
        }
    }

    fn write_header(&mut self) {
        let spec = self.spec.clone();
        let [interface, sub_class, base_class, _] = spec.class.to_le_bytes();
        let fields: [(u64, &[u8]); 7] = [
            (VENDOR_ID, &spec.vendor_id.to_le_bytes()),
            (DEVICE_ID, &spec.device_id.to_le_bytes()),
            (REVISION, &[spec.revision]),
            (CLASS, &[interface, sub_class, base_class]),
            (SUBSYSTEM_VENDOR_ID, &spec.subsystem_vendor_id.to_le_bytes()),
            (SUBSYSTEM_ID, &spec.subsystem_id.to_le_bytes()),
            (INTERRUPT_PIN, &[spec.interrupt_pin as u8]),
        ];
        for (offset, bytes) in fields {
            self.put(offset, bytes);
        }
        for (offset, mask) in HEADER_WRITABLE {
            self.allow(*offset, &mask.to_le_bytes());
        }
    }

    /// PCI 3.0 §6.2.5.1: the address bits below a BAR's size are read-only zeros, which is how software sizes it.
    fn write_bars(&mut self) {
        for bar in self.spec.bars.clone() {
            let at = bar_at(bar.index);
            let mask = !(bar.len - 1);
            let kind = match bar.kind {
                BarKind::Io => BAR_IO,
                BarKind::Memory32 => 0,
                BarKind::Memory64 => BAR_MEMORY64,
            };
            let prefetchable = if bar.prefetchable { BAR_PREFETCHABLE } else { 0 };
            self.put(at, &(kind | prefetchable).to_le_bytes());
            match bar.kind {
                BarKind::Memory64 => self.allow(at, &mask.to_le_bytes()),
                BarKind::Io | BarKind::Memory32 => self.allow(at, &(mask as u32).to_le_bytes()),
            }
        }
    }

    fn write_capabilities(&mut self) {
        let mut link = CAPABILITIES;
        let mut at = FIRST_CAPABILITY;
        for (index, capability) in self.spec.capabilities.clone().iter().enumerate() {
            let len = capability_len(capability);
            match capability {
                Capability::Vendor { body, writable } => self.write_vendor(index, at, body, writable),
                Capability::PciExpress => self.write_express(at),
            }
            self.put(link, &[at as u8]);
            link = at + 1;
            at += room(len);
        }
        if let Some(msix) = self.spec.msix.clone() {
            self.write_msix(at, &msix);
            self.put(link, &[at as u8]);
        }
        if self.bytes(self.range(CAPABILITIES, 1)) != [0] {
            self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        }
    }

    fn write_vendor(&mut self, index: usize, at: u64, body: &[u8], writable: &[u8]) {
        let len = body.len() + 3;
        self.put(at, &[CAP_VENDOR, 0, len as u8]);
        self.put(at + 3, body);
        self.allow(at + 3, writable);
        self.vendor.push(Placed { index, at: self.range(at, len) });
    }

    fn write_express(&mut self, at: u64) {
        self.express_at = Some(at);
        self.put(at, &[CAP_PCI_EXPRESS]);
        self.put(at + EXPRESS_FLAGS, &EXPRESS_INTEGRATED_ENDPOINT.to_le_bytes());
        let device = EXPRESS_ROLE_BASED_ERRORS | EXPRESS_FUNCTION_RESET;
        self.put(at + EXPRESS_DEVICE_CAPABILITIES, &device.to_le_bytes());
        self.put(at + EXPRESS_DEVICE_CONTROL, &EXPRESS_DEVICE_CONTROL_RESET.to_le_bytes());
        self.allow(at + EXPRESS_DEVICE_CONTROL, &[0xff, 0xff]);
    }

    fn write_msix(&mut self, at: u64, msix: &MsixSpec) {
        self.msix_at = Some(at);
        self.put(at, &[CAP_MSIX]);
        self.put(at + MSIX_CONTROL, &(msix.vectors - 1).to_le_bytes());
        self.put(at + MSIX_TABLE, &(msix.table_offset | u32::from(msix.table_bar)).to_le_bytes());
        self.put(at + MSIX_PBA, &(msix.pba_offset | u32::from(msix.pba_bar)).to_le_bytes());
        self.allow(at + MSIX_CONTROL, &(MSIX_ENABLE | MSIX_FUNCTION_MASK).to_le_bytes());
    }
}

/// Offset of a BAR's register.
pub(crate) fn bar_at(bar: u8) -> u64 {
    BAR0 + 4 * u64::from(bar)
}
