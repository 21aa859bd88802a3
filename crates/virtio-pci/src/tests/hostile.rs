//! Any access at all: nothing panics, and what is in no structure reads as zeros.

use proptest::prelude::*;
use vioduct_pci::PciFunction;
use vioduct_spec::pci::{cap, common_config};
use vioduct_spec::{Features, Status};

use super::rig::{PLAIN, Rig};

const BAR_LEN: u64 = 0x8000;

#[derive(Debug, Clone)]
enum Op {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<u8> },
    ConfigRead { offset: u64, len: usize },
    ConfigWrite { offset: u64, data: Vec<u8> },
    Offer,
    ChangeConfig,
    Reset,
}

/// Offsets near what exists, and anywhere.
fn offset() -> impl Strategy<Value = u64> {
    let near = (0u64..8, 0..0x48u64).prop_map(|(page, offset)| page * 0x1000 + offset);
    prop_oneof![4 => near, 1 => 0..BAR_LEN, 1 => any::<u64>()]
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let width = prop_oneof![Just(1usize), Just(2), Just(4), Just(8), 0..20usize];
    let byte = prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()];
    width.prop_flat_map(move |width| proptest::collection::vec(byte.clone(), width))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (offset(), 0..20usize).prop_map(|(offset, len)| Op::Read { offset, len }),
        8 => (offset(), data()).prop_map(|(offset, data)| Op::Write { offset, data }),
        2 => (0..0x110u64, 0..20usize).prop_map(|(offset, len)| Op::ConfigRead { offset, len }),
        4 => (0..0x110u64, data()).prop_map(|(offset, data)| Op::ConfigWrite { offset, data }),
        1 => Just(Op::Offer),
        1 => Just(Op::ChangeConfig),
        1 => Just(Op::Reset),
    ]
}

/// Whether any of an access is in a structure that reads as other than zeros.
fn holds_something(offset: u64, len: u64) -> bool {
    let structures = [(0, common_config::LEN), (0x1000, 1), (0x2000, 8), (0x4000, 0x48)];
    structures.iter().any(|(start, size)| offset < start + size && *start < offset.saturating_add(len))
}

fn perform(rig: &mut Rig, op: Op) {
    match op {
        Op::Read { offset, len } => {
            let mut out = vec![0xaa; len];
            rig.hosted.function_mut().bar_read(0, offset, &mut out);
            if !holds_something(offset, len as u64) {
                assert_eq!(out, vec![0; len], "{len} bytes at {offset:#x}");
            }
            rig.hosted.bar_read(0, offset, &mut out);
        }
        Op::Write { offset, data } => rig.hosted.bar_write(0, offset, &data),
        Op::ConfigRead { offset, len } => rig.hosted.config_read(offset, &mut vec![0; len]),
        Op::ConfigWrite { offset, data } => drop(rig.hosted.config_write(offset, &data)),
        Op::Offer => rig.offer(0),
        Op::ChangeConfig => rig.change_config(3),
        Op::Reset => drop(rig.hosted.reset()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_accesses_is_survived(ops in proptest::collection::vec(op(), 1..60), packed: bool) {
        let extra = if packed { Features::RING_PACKED } else { Features::NONE };
        let mut rig = Rig::live(PLAIN | extra | Features::RING_RESET);
        for op in ops {
            perform(&mut rig, op);
        }
        rig.hosted.reset();
        assert_eq!(rig.status(), Status::RESET);
        rig.negotiate(PLAIN);
    }

    /// Other BARs than the one declared do not exist.
    #[test]
    fn other_bars_read_zeros(bar in 1u8.., offset in offset(), data in data()) {
        let mut rig = Rig::new();
        let function = rig.hosted.function_mut();
        function.bar_write(bar, offset, &data);
        let mut out = data;
        function.bar_read(bar, offset, &mut out);
        assert!(out.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn registers_are_in_the_declared_bar_only() {
    let mut rig = Rig::new();
    let (bar, start) = rig.structure(cap::TYPE_COMMON);
    rig.hosted.function_mut().bar_write(bar + 1, start + common_config::DEVICE_STATUS, &[1]);
    assert_eq!(rig.status(), Status::RESET);
    rig.hosted.function_mut().bar_write(bar, start + common_config::DEVICE_STATUS, &[1]);
    assert_eq!(rig.status(), Status::ACKNOWLEDGE);
}

#[test]
fn an_isr_read_of_no_bytes_or_too_many_clears_nothing() {
    let mut rig = Rig::live(PLAIN);
    rig.change_config(1);
    let (bar, start) = rig.structure(cap::TYPE_ISR);
    for len in [0, 2, 4, 8] {
        let mut out = vec![0xaa; len];
        rig.hosted.function_mut().bar_read(bar, start, &mut out);
        assert_eq!(out, vec![0; len]);
    }
    assert_eq!(rig.isr(), 2);
}
