//! Declarations that cannot be are refused, each with its own reason.

use std::sync::Arc;

use vioduct_pci::{
    BarSpec, Capability, FunctionHost, FunctionSpec, Hosted, MsixSpec, NoInterrupts, PciFunction, SetupError,
    Slot,
};

struct Declared(FunctionSpec);

impl PciFunction for Declared {
    fn spec(&self) -> FunctionSpec {
        self.0.clone()
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, _bar: u8, _offset: u64, _out: &mut [u8]) {}
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
    fn reset(&mut self) {}
}

fn hosted(spec: FunctionSpec) -> Result<(), SetupError> {
    Hosted::new(Declared(spec), Arc::new(NoInterrupts)).map(drop)
}

fn spec() -> FunctionSpec {
    FunctionSpec::new(1, 2, 3)
}

#[test]
fn ids_that_mean_something_else() {
    assert_eq!(hosted(FunctionSpec::new(0xffff, 0, 0)), Err(SetupError::VendorId));
    assert_eq!(hosted(FunctionSpec::new(1, 0, 1 << 24)), Err(SetupError::Class { class: 1 << 24 }));
}

#[test]
fn bars_out_of_place() {
    let bars = |bars: &[BarSpec]| hosted(FunctionSpec { bars: bars.to_vec(), ..spec() });
    assert_eq!(bars(&[BarSpec::memory32(6, 16)]), Err(SetupError::BarIndex { bar: 6 }));
    assert_eq!(bars(&[BarSpec::memory64(5, 16)]), Err(SetupError::BarIndex { bar: 5 }));
    assert_eq!(bars(&[BarSpec::memory32(255, 16)]), Err(SetupError::BarIndex { bar: 255 }));
    let twice = [BarSpec::memory64(0, 16), BarSpec::memory32(1, 16)];
    assert_eq!(bars(&twice), Err(SetupError::BarTaken { bar: 1 }));
    assert_eq!(bars(&[BarSpec::io(0, 4), BarSpec::io(0, 4)]), Err(SetupError::BarTaken { bar: 0 }));
    assert_eq!(bars(&[BarSpec::io(0, 4).prefetchable()]), Err(SetupError::BarPrefetchable { bar: 0 }));
}

#[test]
fn bars_of_a_wrong_size() {
    let refused = |bar: BarSpec, min, max| {
        let expected = Err(SetupError::BarLen { bar: 0, len: bar.len, min, max });
        assert_eq!(hosted(spec().with_bar(bar)), expected);
    };
    refused(BarSpec::memory32(0, 0), 16, 1 << 31);
    refused(BarSpec::memory32(0, 8), 16, 1 << 31);
    refused(BarSpec::memory32(0, 24), 16, 1 << 31);
    refused(BarSpec::memory32(0, 1 << 32), 16, 1 << 31);
    refused(BarSpec::memory64(0, 1 << 63), 16, 1 << 62);
    refused(BarSpec::io(0, 2), 4, 256);
    refused(BarSpec::io(0, 512), 4, 256);
}

#[test]
fn capabilities_that_do_not_fit() {
    let full = spec().with_capability(Capability::vendor([0; 189]));
    assert_eq!(hosted(full.clone()), Ok(()));
    let more = full.with_capability(Capability::vendor([0; 1]));
    assert_eq!(hosted(more), Err(SetupError::CapabilityRoom { needed: 196 }));
    let huge = spec().with_capability(Capability::vendor(vec![0; 1 << 20]));
    assert!(matches!(hosted(huge), Err(SetupError::CapabilityRoom { .. })));
    let mask = Capability::Vendor { body: vec![0], writable: vec![0, 0] };
    assert_eq!(hosted(spec().with_capability(mask)), Err(SetupError::CapabilityMask { index: 0 }));
    let twice = spec().with_capability(Capability::PciExpress).with_capability(Capability::PciExpress);
    assert_eq!(hosted(twice), Err(SetupError::ExpressTwice));
}

#[test]
fn msix_structures_out_of_place() {
    let base = spec().with_bar(BarSpec::memory32(0, 0x1000)).with_bar(BarSpec::io(1, 0x100));
    let msix = |msix| hosted(base.clone().with_msix(msix));
    let place = |structure, bar, offset, len| Err(SetupError::MsixPlace { structure, bar, offset, len });
    assert_eq!(msix(MsixSpec::in_bar(254, 0, 0)), Ok(()));
    assert_eq!(msix(MsixSpec::in_bar(255, 0, 0)), place("pending bits", 0, 0xff0, 32));
    assert_eq!(msix(MsixSpec::in_bar(256, 0, 0)), place("pending bits", 0, 0x1000, 32));
    assert_eq!(msix(MsixSpec::in_bar(1, 0, 0xff8)), place("table", 0, 0xff8, 16));
    assert_eq!(msix(MsixSpec::in_bar(1, 1, 0)), place("table", 1, 0, 16));
    assert_eq!(msix(MsixSpec::in_bar(1, 5, 0)), place("table", 5, 0, 16));
    assert_eq!(msix(MsixSpec::in_bar(0, 0, 0)), Err(SetupError::MsixVectors { vectors: 0 }));
    assert_eq!(msix(MsixSpec::in_bar(2049, 0, 0)), Err(SetupError::MsixVectors { vectors: 2049 }));
    let misaligned = SetupError::MsixAlignment { structure: "table", offset: 4 };
    assert_eq!(msix(MsixSpec::in_bar(1, 0, 4)), Err(misaligned));
    let overlap = MsixSpec { pba_offset: 0x18, ..MsixSpec::in_bar(2, 0, 0) };
    assert_eq!(msix(overlap), Err(SetupError::MsixOverlap));
}

#[test]
fn the_most_vectors_are_2048() {
    let spec = spec().with_bar(BarSpec::memory32(0, 0x1_0000)).with_msix(MsixSpec::in_bar(2048, 0, 0));
    assert_eq!(hosted(spec), Ok(()));
}

#[test]
fn slots_that_do_not_exist() {
    assert_eq!(Slot::new(32, 0), Err(SetupError::NoSuchSlot { device: 32, function: 0 }));
    assert_eq!(Slot::new(0, 8), Err(SetupError::NoSuchSlot { device: 0, function: 8 }));
}
