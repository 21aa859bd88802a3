//! What a function is, by its configuration space and the lengths of its regions.
//!
//! The guest sees a configuration space that is built here, of the parts that are known: identity, BARs, MSI-X, vendor-specific
//! capabilities, and PCI Express where the server can reset the function. Others, as of MSI or power management, are left out.

use crate::device::BARS;
use crate::error::ConnectError;
use std::collections::BTreeSet;
use vioduct_pci::registers::{
    BAR_IO, BAR_MEMORY64, BAR_PREFETCHABLE, BAR0, CAP_MSIX, CAP_PCI_EXPRESS, CAP_VENDOR, CAPABILITIES,
    CONFIG_LEN, DEVICE_ID, FIRST_CAPABILITY, INTERRUPT_PIN, MSIX_CONTROL, MSIX_PBA, MSIX_TABLE, REVISION,
    STATUS, STATUS_CAPABILITIES, SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use vioduct_pci::{BarKind, BarSpec, Capability, FunctionSpec, InterruptPin, MsixSpec};

/// What a server says of its function.
pub(super) struct Description {
    /// The first 256 bytes of configuration space.
    pub(super) config: [u8; CONFIG_LEN as usize],
    /// Lengths of the BARs' regions, in bytes.
    pub(super) bar_lens: [u64; BARS as usize],
    pub(super) has_pin: bool,
    /// How many vectors it can signal.
    pub(super) vectors: u32,
    pub(super) reset: Reset,
}

/// Whether the server can reset the function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reset {
    Offered,
    Absent,
}

/// What follows from a description.
pub(super) struct Identity {
    pub(super) spec: FunctionSpec,
    /// Where the server has the message control of MSI-X.
    pub(super) msix_control: Option<u64>,
}

impl Description {
    pub(super) fn identity(&self) -> Result<Identity, ConnectError> {
        let class = self.u32(REVISION) >> 8;
        let mut spec = FunctionSpec::new(self.u16(VENDOR_ID), self.u16(DEVICE_ID), class)
            .with_revision(self.u8(REVISION))
            .with_subsystem(self.u16(SUBSYSTEM_VENDOR_ID), self.u16(SUBSYSTEM_ID))
            .with_interrupt_pin(self.pin());
        spec.bars = self.bars()?;
        let mut identity = Identity { spec, msix_control: None };
        for at in self.capabilities()? {
            self.add_capability(at, &mut identity)?;
        }
        Ok(identity)
    }

    fn pin(&self) -> InterruptPin {
        match self.u8(INTERRUPT_PIN) {
            _ if !self.has_pin => InterruptPin::None,
            1 => InterruptPin::A,
            2 => InterruptPin::B,
            3 => InterruptPin::C,
            4 => InterruptPin::D,
            _ => InterruptPin::None,
        }
    }

    /// A region may be of any length; the BAR that holds it has the next that BARs can have (PCI 3.0 §6.2.5.1).
    fn bars(&self) -> Result<Vec<BarSpec>, ConnectError> {
        let mut bars = Vec::new();
        for (index, len) in (0u8..).zip(self.bar_lens).filter(|(_, len)| *len > 0) {
            let register = self.u32(BAR0 + 4 * u64::from(index));
            let (kind, least) = match register {
                register if register & BAR_IO != 0 => (BarKind::Io, 4),
                register if register & BAR_MEMORY64 != 0 => (BarKind::Memory64, 16),
                _ => (BarKind::Memory32, 16),
            };
            let len = len.checked_next_power_of_two().map(|len| len.max(least));
            let len = len.ok_or_else(|| unsuitable(format!("its BAR{index} has no end")))?;
            let prefetchable = kind != BarKind::Io && register & BAR_PREFETCHABLE != 0;
            bars.push(BarSpec { index, kind, prefetchable, len });
        }
        Ok(bars)
    }

    /// Where capabilities are, in the order of their list (PCI 3.0 §6.7).
    fn capabilities(&self) -> Result<Vec<u64>, ConnectError> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let listed = self.u16(STATUS) & STATUS_CAPABILITIES != 0;
        let mut at = if listed { u64::from(self.u8(CAPABILITIES) & !3) } else { 0 };
        while at != 0 {
            if at < FIRST_CAPABILITY || !seen.insert(at) {
                return Err(unsuitable(format!("its list of capabilities goes to {at:#x}")));
            }
            found.push(at);
            at = u64::from(self.u8(at + 1) & !3);
        }
        Ok(found)
    }

    fn add_capability(&self, at: u64, identity: &mut Identity) -> Result<(), ConnectError> {
        match self.u8(at) {
            CAP_VENDOR => identity.spec.capabilities.push(self.vendor(at)?),
            CAP_PCI_EXPRESS if self.reset == Reset::Offered => {
                identity.spec.capabilities.push(Capability::PciExpress);
            }
            CAP_MSIX => {
                let msix = self.msix(at);
                if u32::from(msix.vectors) > self.vectors {
                    let (vectors, signalled) = (msix.vectors, self.vectors);
                    return Err(unsuitable(format!(
                        "it has {vectors} MSI-X vectors and signals {signalled}"
                    )));
                }
                identity.spec.msix = Some(msix);
                identity.msix_control = Some(at + MSIX_CONTROL);
            }
            _ => {}
        }
        Ok(())
    }

    /// As it is; virtio's access to BARs by configuration space can be written, and is carried out here (virtio 1.3 §4.1.4.9).
    fn vendor(&self, at: u64) -> Result<Capability, ConnectError> {
        let len = u64::from(self.u8(at + 2));
        let body = self.config.get(at as usize + 3..(at + len) as usize);
        let body = body.ok_or_else(|| unsuitable(format!("its capability at {at:#x} has {len} bytes")))?;
        if let Capability::Vendor { body: own, writable } = vioduct_virtio_pci::configuration_capability()
            && self.u16(VENDOR_ID) == vioduct_spec::pci::VENDOR_ID
            && (own.first(), own.len()) == (body.first(), body.len())
        {
            return Ok(Capability::Vendor { body: body.to_vec(), writable });
        }
        Ok(Capability::vendor(body))
    }

    fn msix(&self, at: u64) -> MsixSpec {
        let place = |at: u64| (self.u8(at) & 7, self.u32(at) & !7);
        let ((table_bar, table_offset), (pba_bar, pba_offset)) =
            (place(at + MSIX_TABLE), place(at + MSIX_PBA));
        let vectors = (self.u16(at + MSIX_CONTROL) & 0x7ff) + 1;
        MsixSpec { vectors, table_bar, table_offset, pba_bar, pba_offset }
    }

    /// What is beyond the end reads as all ones, as everywhere in PCI.
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let bytes = usize::try_from(at).ok().and_then(|at| self.config.get(at..)?.first_chunk());
        bytes.copied().unwrap_or([0xff; N])
    }

    fn u8(&self, at: u64) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }

    fn u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
}

fn unsuitable(why: String) -> ConnectError {
    ConnectError::Unsuitable(why)
}
