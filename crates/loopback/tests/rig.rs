//! The tests that devices are put through can fail: devices with faults are caught.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU8, Ordering};

use vioduct_loopback::conformance::{self, Subject, Variant};
use vioduct_loopback::failure::same;
use vioduct_loopback::rig::AnyModel;
use vioduct_loopback::{Depth, Failure, Machine, MachineError, Outcome, Rig, RingFormat};
use vioduct_spec::Features;
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Fault, Handlers, Io, QueueHandler, Wake};
use vioduct_virtio_driver::{DmaBuffer, DmaError};

/// What is wrong with a device that answers each byte by the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    WrongAnswer,
    RestlessConfig,
    LosesWakes,
    FaultsOnShort,
}

struct Flawed {
    flaw: Flaw,
    reads: AtomicU8,
}

impl DeviceModel for Flawed {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { config_len: 4, ..DeviceInfo::new(63, "flawed", vec![16]) }
    }
    fn read_config(&self, _offset: usize, out: &mut [u8]) {
        match self.flaw {
            Flaw::RestlessConfig => out.fill(self.reads.fetch_add(1, Ordering::Relaxed)),
            _ => out.fill(1),
        }
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..1, Box::new(Server(self.flaw)))]
    }
}

struct Server(Flaw);

impl QueueHandler for Server {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        if self.0 == Flaw::LosesWakes {
            return Ok(());
        }
        let mut short = false;
        io.serve(q, |chain| {
            let mut byte = [0];
            short |= chain.readable_len() < 8;
            chain.reader().read_exact(&mut byte)?;
            let added = if self.0 == Flaw::WrongAnswer { 2 } else { 1 };
            chain.writer().write_all(&[byte[0].wrapping_add(added)])?;
            Ok(1)
        })?;
        if short && self.0 == Flaw::FaultsOnShort {
            return Err(Fault::Device("short".into()));
        }
        Ok(())
    }
}

fn ask(rig: &mut Rig) -> Outcome {
    let reply = rig.request(0, &[&[7]], &[1])?;
    same("the reply", (reply.written, reply.bytes), (1, vec![8]))
}

fn model<const FLAW: u8>() -> AnyModel {
    const FLAWS: [Flaw; 5] =
        [Flaw::None, Flaw::WrongAnswer, Flaw::RestlessConfig, Flaw::LosesWakes, Flaw::FaultsOnShort];
    Box::new(Flawed { flaw: FLAWS[usize::from(FLAW)], reads: AtomicU8::new(0) })
}

const VARIANT: Variant = Variant { depth: Depth::Verbs, format: RingFormat::Split };

fn subject(model: fn() -> AnyModel) -> Subject {
    Subject { model, exercise: ask }
}

fn words(failure: Outcome) -> String {
    format!("{:?}", failure.unwrap_err())
}

#[test]
fn a_sound_device_passes() {
    conformance::requests_are_answered(&subject(model::<0>), VARIANT).unwrap();
    conformance::configuration_is_bounded(&subject(model::<0>), VARIANT).unwrap();
    conformance::positions_are_carried_over(&subject(model::<0>), VARIANT).unwrap();
}

#[test]
fn a_wrong_answer_is_caught() {
    let words = words(conformance::requests_are_answered(&subject(model::<1>), VARIANT));
    assert!(words.contains("the reply: found (1, [9]), wanted (1, [8])"), "{words}");
}

#[test]
fn a_configuration_that_is_never_the_same_is_caught() {
    let words = words(conformance::configuration_is_bounded(&subject(model::<2>), VARIANT));
    assert!(words.starts_with("a read across the end: found ["), "{words}");
}

#[test]
fn a_device_that_does_not_answer_is_caught() {
    let words = words(conformance::requests_are_answered(&subject(model::<3>), VARIANT));
    assert!(words.contains("has not used the buffer"), "{words}");
}

#[test]
fn a_device_that_fails_over_a_request_is_caught() {
    let words = words(conformance::requests_are_answered(&subject(model::<4>), VARIANT));
    assert!(words.contains("NEEDS_RESET"), "{words}");
}

#[test]
fn memory_is_given_out_zeroed_and_taken_back() {
    let machine = Machine::new(64 << 10).unwrap();
    let dma = machine.dma();
    let all = dma.free_bytes();
    let mut first = DmaBuffer::new(dma.clone(), 5000).unwrap();
    first.write(0, &[0xff; 5000]).unwrap();
    let second = DmaBuffer::new(dma.clone(), 1).unwrap();
    assert_ne!(first.io_addr().0 >> 32, second.io_addr().0 >> 32, "one below and one above 4 GiB");
    assert_eq!(all - dma.free_bytes(), 3 * 4096);
    drop((first, second));
    assert_eq!(dma.free_bytes(), all);
    for _ in 0..2 {
        let again = DmaBuffer::new(dma.clone(), 5000).unwrap();
        let mut bytes = [1; 5000];
        again.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 5000]);
    }
    assert_eq!(DmaBuffer::new(dma, 40 << 10).unwrap_err(), DmaError::Exhausted(40 << 10));
}

#[test]
fn a_machine_without_memory_says_what_to_do() {
    let error = Machine::new(0).err().map(|error: MachineError| error.to_string()).unwrap();
    assert_eq!(error, "0 bytes of memory: ask for at least one and at most 6 GiB");
    assert_eq!(format!("{:?}", Failure::new("x").within("y")), "y: x");
}
