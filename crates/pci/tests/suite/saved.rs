//! A function that is saved here and goes on there.

use std::sync::Arc;

use vioduct_pci::registers::*;
use vioduct_pci::{
    BarSpec, BusMaster, Capability, ConfigEffect, FunctionHost, FunctionSpec, Hosted, InterruptPin,
    Interrupts, Level, MsiMessage, MsixSpec, PciFunction, StateError, TableOwner,
};

use crate::probe::{Delivered, Recorder, Rig};

/// Keeps a byte, which drives its pin.
struct Keeper {
    spec: FunctionSpec,
    kept: u8,
    bus_master: BusMaster,
    interrupts: Option<Interrupts>,
}

impl Keeper {
    fn drive(&self) {
        let level = if self.kept == 0 { Level::Deasserted } else { Level::Asserted };
        self.interrupts.iter().for_each(|interrupts| interrupts.intx(level));
    }
}

impl PciFunction for Keeper {
    fn spec(&self) -> FunctionSpec {
        self.spec.clone()
    }
    fn attach(&mut self, host: FunctionHost) {
        self.interrupts = Some(host.interrupts().clone());
    }
    fn bar_read(&mut self, _bar: u8, _offset: u64, out: &mut [u8]) {
        out.fill(self.kept);
    }
    fn bar_write(&mut self, _bar: u8, _offset: u64, data: &[u8]) {
        self.kept = data[0];
        self.drive();
    }
    fn reset(&mut self) {
        self.kept = 0;
        self.bus_master = BusMaster::Disabled;
    }
    fn bus_master_changed(&mut self, to: BusMaster) {
        self.bus_master = to;
    }
    fn is_saveable(&self) -> bool {
        true
    }
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        Ok(vec![self.kept])
    }
    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        assert_eq!(self.bus_master, BusMaster::Disabled, "it is told afterwards");
        let [kept @ 0..=99] = state else { return Err(StateError::Refused("not a keeper's".into())) };
        self.kept = *kept;
        self.drive();
        Ok(())
    }
}

fn spec() -> FunctionSpec {
    FunctionSpec::new(0x1234, 0x5678, 0xff_0000)
        .with_interrupt_pin(InterruptPin::A)
        .with_bar(BarSpec::memory32(0, 0x1000))
        .with_bar(BarSpec::memory64(2, 0x10_0000))
        .with_capability(Capability::vendor(vec![1, 2, 3]))
        .with_msix(MsixSpec::in_bar(70, 0, 0x800))
}

fn hosted(spec: FunctionSpec) -> (Hosted<Keeper>, Arc<Recorder>) {
    let sink = Recorder::new(TableOwner::Function);
    let keeper = Keeper { spec, kept: 0, bus_master: BusMaster::Disabled, interrupts: None };
    (Hosted::new(keeper, sink.clone()).unwrap(), sink)
}

fn msix_at(hosted: &mut Hosted<Keeper>) -> u64 {
    let mut at = [0x34];
    loop {
        hosted.config_read(u64::from(at[0]), &mut at);
        let mut id = [0];
        hosted.config_read(u64::from(at[0]), &mut id);
        if id == [CAP_MSIX] {
            return u64::from(at[0]);
        }
        at[0] += 1;
    }
}

/// Running: BARs placed, bus mastering and MSI-X on, vector 65 masked and pending.
fn busy() -> (Hosted<Keeper>, Arc<Recorder>) {
    let (mut hosted, sink) = hosted(spec());
    hosted.config_write(BAR0, &0xe000_0000_u32.to_le_bytes());
    hosted.config_write(BAR0 + 8, &0x1_c000_0000_u64.to_le_bytes());
    hosted.config_write(COMMAND, &(COMMAND_MEMORY | COMMAND_BUS_MASTER).to_le_bytes());
    hosted.config_write(INTERRUPT_LINE, &[11]);
    let at = msix_at(&mut hosted);
    hosted.config_write(at + MSIX_CONTROL, &MSIX_ENABLE.to_le_bytes());
    for vector in [1, 65] {
        hosted.bar_write(0, 0x800 + 16 * vector, &0xfee0_0000_u64.to_le_bytes());
        hosted.bar_write(0, 0x808 + 16 * vector, &u64::from(vector == 65).rotate_left(32).to_le_bytes());
    }
    hosted.bar_write(2, 0, &[42]);
    hosted.interrupts().msix(65);
    sink.take();
    (hosted, sink)
}

fn contents(hosted: &mut Hosted<Keeper>) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (mut config, mut table, mut kept) = (vec![0; 256], vec![0; 16 * 70 + 16], vec![0; 4]);
    config.chunks_mut(4).zip((0..).step_by(4)).for_each(|(out, at)| hosted.config_read(at, out));
    table.chunks_mut(4).zip((0x800..).step_by(4)).for_each(|(out, at)| hosted.bar_read(0, at, out));
    hosted.bar_read(2, 0, &mut kept);
    (config, table, kept)
}

#[test]
fn a_function_goes_on_elsewhere_as_it_was() {
    let (mut here, _) = busy();
    let state = here.save().unwrap();
    let (mut there, sink) = hosted(spec());
    let effects = there.restore(&state).unwrap();
    assert_eq!(
        effects,
        [
            ConfigEffect::BarMoved { bar: 0, from: None, to: Some(0xe000_0000) },
            ConfigEffect::BarMoved { bar: 2, from: None, to: Some(0x1_c000_0000) },
            ConfigEffect::BusMaster(BusMaster::Enabled),
        ]
    );
    assert!(contents(&mut here) == contents(&mut there));
    assert_eq!(there.function().bus_master, BusMaster::Enabled);
    let message = MsiMessage { address: 0xfee0_0000, data: 0 };
    let told = sink.take();
    assert!(told.iter().all(|told| matches!(told, Delivered::Changed(..))), "{told:?}");
    there.bar_write(0, 0x80c + 16 * 65, &[0; 4]);
    assert!(sink.take().contains(&Delivered::Msi(65, message)), "it was pending");
    let again = there.save().unwrap();
    assert_ne!(again, state);
    assert_eq!(again.len(), state.len());
}

/// The pin is the function's to drive, and configuration space's to silence.
#[test]
fn the_pin_goes_on_as_it_was() {
    for (command, level) in [(0, Some(Level::Asserted)), (COMMAND_INTX_DISABLE, None)] {
        let (mut here, _) = hosted(spec());
        here.config_write(COMMAND, &command.to_le_bytes());
        here.bar_write(2, 0, &[1]);
        let (mut there, sink) = hosted(spec());
        there.restore(&here.save().unwrap()).unwrap();
        assert_eq!(sink.take(), level.map(Delivered::Intx).into_iter().collect::<Vec<_>>());
        assert_eq!(contents(&mut there).0[6] & 8, 8, "interrupt status");
    }
}

/// A place on a bus is no part of the function.
#[test]
fn a_function_may_move_to_a_device_of_several() {
    let bus = vioduct_pci::Bus::new();
    let (several, _) = hosted(spec());
    let several = several.shared();
    let slot = |function| vioduct_pci::Slot::new(3, function).unwrap();
    bus.plug(slot(0), several.clone()).unwrap();
    bus.plug(slot(1), hosted(spec()).0.shared()).unwrap();
    let mut several = several.lock().unwrap();
    several.restore(&busy().0.save().unwrap()).unwrap();
    let (config, ..) = contents(&mut several);
    assert_eq!(config[HEADER_TYPE as usize], HEADER_MULTIFUNCTION);
}

fn refusal(spec: FunctionSpec, state: &[u8]) -> String {
    let (mut there, _) = hosted(spec);
    let before = contents(&mut there);
    let error = there.restore(state).unwrap_err().to_string();
    assert!(contents(&mut there) == before, "{error}");
    error
}

#[test]
fn row75_states_of_other_functions_are_refused() {
    let state = busy().0.save().unwrap();
    let other = FunctionSpec { device_id: 0x5679, ..spec() };
    assert!(refusal(other, &state).contains("1234:5678 was saved and this one is 1234:5679"));
    let other = FunctionSpec { revision: 1, ..spec() };
    assert!(refusal(other, &state).contains("1234:5678"));
    let mut other = spec();
    other.bars[0].len = 0x2000;
    assert!(refusal(other, &state).contains("its BARs or capabilities are others"));
    let other = FunctionSpec { capabilities: Vec::new(), ..spec() };
    assert!(refusal(other, &state).contains("of another device"));
    let other = spec().with_msix(MsixSpec::in_bar(71, 0, 0x800));
    assert!(refusal(other, &state).contains("of another device"));
}

#[test]
fn row75_states_that_a_function_refuses_reset_it() {
    let (mut here, _) = busy();
    here.bar_write(2, 0, &[100]);
    let state = here.save().unwrap();
    assert_eq!(refusal(spec(), &state), "not a keeper's");
}

#[test]
fn row75_states_of_another_length_are_refused() {
    let state = busy().0.save().unwrap();
    for len in 0..state.len() {
        assert!(refusal(spec(), &state[..len]).contains("ends too early"), "{len}");
    }
    assert!(refusal(spec(), &[&state[..], &[0]].concat()).contains("1 bytes more"));
}

/// Any byte may be another: refused, or taken over as something that a guest could have written.
#[test]
fn row75_no_byte_lets_a_guest_write_what_it_cannot() {
    let state = busy().0.save().unwrap();
    let (mut there, _) = hosted(spec());
    let mut taken = 0;
    for at in 0..state.len() {
        let mut damaged = state.clone();
        damaged[at] ^= 0xff;
        if there.restore(&damaged).is_err() {
            continue;
        }
        let restored = contents(&mut there);
        let (mut by_guest, _) = hosted(spec());
        for (bytes, at) in restored.0.chunks(2).zip((0..).step_by(2)) {
            if at != msix_at(&mut there) + MSIX_CONTROL {
                by_guest.config_write(at, bytes);
            }
        }
        let at_msix = msix_at(&mut there) as usize + 2;
        let (guest, ..) = contents(&mut by_guest);
        for (at, (restored, guest)) in restored.0.iter().zip(&guest).enumerate() {
            let own = at == at_msix || at == at_msix + 1 || at == STATUS as usize;
            assert!(own || restored == guest, "{at:#x}");
        }
        there.reset();
        taken += 1;
    }
    assert!(taken > 100, "{taken} were taken over");
}

/// The bit that asks for a reset is never set after an access, so nor is it after this one: the next access resets nothing.
#[test]
fn row75_a_state_does_not_ask_for_a_reset() {
    let express = || hosted(spec().with_capability(Capability::PciExpress)).0;
    let mut here = express();
    let mut at = [0x34];
    here.config_read(0x34, &mut at);
    here.config_read(u64::from(at[0]) + 1, &mut at);
    let control = u64::from(at[0]) + EXPRESS_DEVICE_CONTROL;
    let plain = here.save().unwrap();
    // What the guest has written comes last of three arrays as long as configuration space.
    let written = plain.windows(2).rposition(|bytes| bytes == EXPRESS_DEVICE_CONTROL_RESET.to_le_bytes());
    let mut asking = plain;
    asking[written.unwrap() + 1] |= 0x80;
    let mut there = express();
    there.restore(&asking).unwrap();
    let mut held = [0; 2];
    there.config_read(control, &mut held);
    assert_eq!(u16::from_le_bytes(held), EXPRESS_DEVICE_CONTROL_RESET);
    assert_eq!(there.config_write(INTERRUPT_LINE, &[1]), []);
}

#[test]
fn functions_that_cannot_be_saved_say_so() {
    let mut probe = Rig::new(spec());
    assert_eq!(probe.hosted.save(), Err(StateError::NotSaveable));
    let state = busy().0.save().unwrap();
    assert_eq!(probe.hosted.restore(&state), Err(StateError::NotSaveable));
}
