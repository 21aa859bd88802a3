//! Chains that break the rules, written straight into the ring.

use vioduct_spec::ring::*;
use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{IoAddr, RingFormat, RingLayout};

use super::{Subject, Variant, recovers};
use crate::failure::{Outcome, same};
use crate::rig::Rig;

const QUEUE: u16 = 0;
/// No memory is here.
const NOWHERE: u64 = 0x10;
/// More than any queue of a test has.
const OUT_OF_TABLE: u16 = 0x7ff0;
const ANY_LEN: u32 = 8;

/// A descriptor of either format: `flags` without those of the packed ring's wrap counter.
#[derive(Clone, Copy)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    /// Where a chain goes on, in a split ring; in a packed ring it is the next descriptor.
    next: u16,
}

/// What is put into a ring.
struct Attack {
    name: &'static str,
    format: Option<RingFormat>,
    features: Features,
    descriptors: Vec<Descriptor>,
    /// Split: the first available entry. Packed: the buffer id.
    head: u16,
    /// Split: how many entries are made available.
    available: u16,
}

impl Attack {
    fn chain(name: &'static str, descriptors: Vec<Descriptor>) -> Self {
        Self { name, format: None, features: Features::NONE, descriptors, head: 0, available: 1 }
    }

    fn on(mut self, format: RingFormat) -> Self {
        self.format = Some(format);
        self
    }

    fn with(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    fn write(&self, rig: &mut Rig, variant: Variant) -> Outcome {
        let layout = rig.layout(QUEUE)?;
        match variant.format {
            RingFormat::Split => self.write_split(rig, layout),
            RingFormat::Packed => self.write_packed(rig, layout),
        }
    }

    fn write_split(&self, rig: &Rig, layout: RingLayout) -> Outcome {
        for (index, descriptor) in (0..).zip(&self.descriptors) {
            let at = IoAddr(layout.descriptor_area.0 + index * DESCRIPTOR_SIZE as u64);
            rig.poke(at, &bytes(*descriptor, descriptor.flags, descriptor.next))?;
        }
        let area = layout.driver_area.0;
        rig.poke(IoAddr(area + split::AVAIL_RING as u64), &self.head.to_le_bytes())?;
        rig.poke(IoAddr(area + split::AVAIL_IDX as u64), &self.available.to_le_bytes())
    }

    fn write_packed(&self, rig: &Rig, layout: RingLayout) -> Outcome {
        for (index, descriptor) in (0..).zip(&self.descriptors) {
            let at = IoAddr(layout.descriptor_area.0 + index * DESCRIPTOR_SIZE as u64);
            // virtio 1.3 §2.8.1: the driver's wrap counter is 1 at first, so AVAIL is set and USED is not.
            rig.poke(at, &bytes(*descriptor, self.head, descriptor.flags | DESC_F_AVAIL))?;
        }
        Ok(())
    }
}

/// Split: flags and next come last; packed: buffer id and flags.
fn bytes(descriptor: Descriptor, third: u16, fourth: u16) -> Vec<u8> {
    let mut bytes = descriptor.addr.to_le_bytes().to_vec();
    bytes.extend(descriptor.len.to_le_bytes());
    bytes.extend(third.to_le_bytes());
    bytes.extend(fourth.to_le_bytes());
    bytes
}

/// The chains that no device may accept, for a queue of `size` descriptors; `there` is memory for buffers.
fn attacks(there: u64, size: u16) -> Vec<Attack> {
    let plain = Descriptor { addr: there, len: ANY_LEN, flags: 0, next: 0 };
    let flagged = |flags| Descriptor { flags, ..plain };
    let nowhere = |addr, flags| Descriptor { addr, flags, ..plain };
    let table = |len, flags| Descriptor { len, flags, ..plain };
    let on_to = |next| Descriptor { flags: DESC_F_NEXT, next, ..plain };
    let indirect = Features::INDIRECT_DESC;
    let mut attacks = vec![
        Attack::chain("a readable buffer where there is no memory", vec![nowhere(NOWHERE, 0)]),
        Attack::chain("a writable buffer where there is no memory", vec![nowhere(NOWHERE, DESC_F_WRITE)]),
        Attack::chain("a buffer at the end of the address space", vec![nowhere(u64::MAX - 3, DESC_F_WRITE)]),
        Attack::chain(
            "a readable descriptor after a writable one",
            vec![Descriptor { next: 1, ..flagged(DESC_F_NEXT | DESC_F_WRITE) }, plain],
        ),
        Attack::chain("an indirect table that was not negotiated", vec![table(16, DESC_F_INDIRECT)]),
        Attack::chain("an indirect table of no bytes", vec![table(0, DESC_F_INDIRECT)]).with(indirect),
        Attack::chain("an indirect table of 17 bytes", vec![table(17, DESC_F_INDIRECT)]).with(indirect),
        Attack::chain("an indirect table nowhere", vec![nowhere(NOWHERE, DESC_F_INDIRECT)]).with(indirect),
        Attack::chain("a chain that does not end", vec![on_to(0); usize::from(size)]),
    ];
    attacks.extend(split_attacks(plain, on_to, size));
    attacks.push(
        Attack { head: OUT_OF_TABLE, ..Attack::chain("a buffer id out of range", vec![plain]) }
            .on(RingFormat::Packed),
    );
    attacks
}

fn split_attacks(plain: Descriptor, on_to: impl Fn(u16) -> Descriptor, size: u16) -> Vec<Attack> {
    let ahead =
        Attack { available: size + 1, ..Attack::chain("an available index too far ahead", vec![plain]) };
    let beyond = Attack { head: size, ..Attack::chain("a head out of the table", vec![plain]) };
    let attacks = vec![
        ahead,
        beyond,
        Attack { head: OUT_OF_TABLE, ..Attack::chain("a head far out of the table", vec![plain]) },
        Attack::chain("a next out of the table", vec![on_to(size)]),
        Attack::chain("a loop of two", vec![on_to(1), on_to(0)]),
        Attack::chain(
            "a table and a chain at once",
            vec![Descriptor { flags: DESC_F_INDIRECT | DESC_F_NEXT, len: 16, ..on_to(1) }, plain],
        )
        .with(Features::INDIRECT_DESC),
    ];
    attacks.into_iter().map(|attack| attack.on(RingFormat::Split)).collect()
}

/// A chain that breaks the rules makes the device need a reset, of which it notifies the driver once; it then does nothing more,
/// and works again when it is brought up.
///
/// # Errors
/// If it does not.
pub fn malformed_chains_need_one_reset(subject: &Subject, variant: Variant) -> Outcome {
    let size = variant.small();
    // Any memory of the driver's will do.
    let there = crate::guest_memory::HIGH_START;
    for attack in
        attacks(there, size).iter().filter(|attack| attack.format.is_none_or(|one| one == variant.format))
    {
        let context = |failure: crate::Failure| failure.within(attack.name);
        let mut rig = variant.running(subject, attack.features, size).map_err(context)?;
        attack.write(&mut rig, variant).and_then(|()| fails_once(&mut rig)).map_err(context)?;
        recovers(subject, &mut rig).map_err(context)?;
    }
    Ok(())
}

/// Notifies the device, which is to fail, and then again, which is to do nothing.
pub(super) fn fails_once(rig: &mut Rig) -> Outcome {
    let before = rig.machine().traffic().interrupts;
    rig.transport().notify(QUEUE, 0)?;
    rig.run();
    same("NEEDS_RESET", rig.status().contains(Status::NEEDS_RESET), true)?;
    same("interrupts for it", rig.machine().traffic().interrupts - before, 1)?;
    same("a configuration interrupt", rig.transport().take_interrupts().config, true)?;
    rig.transport().notify(QUEUE, 0)?;
    same("steps of a device that needs a reset", rig.run(), 0)?;
    same("interrupts after that", rig.machine().traffic().interrupts - before, 1)
}
