//! Memory that is not there, or goes away.

use std::ops::Range;
use std::sync::Arc;

use vioduct_spec::{Features, Status};
use vioduct_virtqueue::{AreaSizes, IoAddr, Memory, RingLayout};

use super::resets::fill;
use super::{Subject, Variant, recovers};
use crate::Faulty;
use crate::failure::{Outcome, same};
use crate::rig::Rig;

const QUEUE: u16 = 0;
/// Accesses of a device by copies, of which each in turn is the first to fail: two short requests take no more.
const ACCESSES: u64 = 48;

/// Whatever part of its memory is taken from a device, it needs a reset at worst, and works again when it is brought up with
/// the memory there. Memory that is there, but not mapped, will do.
///
/// # Errors
/// If it does not.
pub fn memory_faults_need_one_reset(subject: &Subject, variant: Variant) -> Outcome {
    for area in [Area::Descriptor, Area::Driver, Area::Device] {
        let outcome = area_vanishes(subject, variant, area);
        outcome.map_err(|failure| failure.within(format!("{area:?} area taken away")))?;
    }
    rings_nowhere(subject, variant).map_err(|failure| failure.within("rings where there is no memory"))?;
    copies_suffice(subject, variant).map_err(|failure| failure.within("memory that is not mapped"))?;
    for first in 0..ACCESSES {
        let outcome = access_fails(subject, variant, first);
        outcome.map_err(|failure| failure.within(format!("access {first} and later failing")))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Area {
    Descriptor,
    Driver,
    Device,
}

impl Area {
    fn span(self, layout: RingLayout, sizes: AreaSizes) -> Range<u64> {
        let (at, len) = match self {
            Self::Descriptor => (layout.descriptor_area, sizes.descriptor_len),
            Self::Driver => (layout.driver_area, sizes.driver_len),
            Self::Device => (layout.device_area, sizes.device_len),
        };
        let IoAddr(start) = at;
        start..start + len as u64
    }
}

/// Part of a ring is not in the memory that the device has from now on: it cannot start, and says so.
fn area_vanishes(subject: &Subject, variant: Variant, area: Area) -> Outcome {
    let mut rig = variant.running(subject, Features::NONE, u16::MAX)?;
    let layout = rig.layout(QUEUE)?;
    let hole = area.span(layout, AreaSizes::of(variant.format, layout.size));
    let before = rig.machine().traffic().interrupts;
    give(&rig, Faulty::new(rig.machine().memory()).with_hole(hole));
    same("NEEDS_RESET", rig.status().contains(Status::NEEDS_RESET), true)?;
    same("interrupts for it", rig.machine().traffic().interrupts - before, 1)?;
    give_back(&rig);
    recovers(subject, &mut rig)
}

/// The driver names addresses where there is nothing: the device cannot start at DRIVER_OK, and says so.
fn rings_nowhere(subject: &Subject, variant: Variant) -> Outcome {
    const NOWHERE: IoAddr = IoAddr(0x1000);
    let mut rig = variant.rig(subject, Features::NONE, variant.small())?;
    rig.negotiate()?;
    let size = variant.small();
    let layout = RingLayout { size, descriptor_area: NOWHERE, driver_area: NOWHERE, device_area: NOWHERE };
    rig.transport().enable_queue(QUEUE, layout)?;
    let before = rig.machine().traffic().interrupts;
    rig.raise(Status::DRIVER_OK);
    same("NEEDS_RESET", rig.status().contains(Status::NEEDS_RESET), true)?;
    same("interrupts for it", rig.machine().traffic().interrupts - before, 1)?;
    recovers(subject, &mut rig)
}

fn copies_suffice(subject: &Subject, variant: Variant) -> Outcome {
    variant.with_each_set(|features| {
        let mut rig = variant.running(subject, features, variant.small())?;
        give(&rig, Faulty::new(rig.machine().memory()).unmapped());
        recovers(subject, &mut rig)
    })
}

/// The device fails somewhere on its way through two requests, or not at all.
fn access_fails(subject: &Subject, variant: Variant, first: u64) -> Outcome {
    let mut rig = variant.running(subject, Features::NONE, variant.small())?;
    let before = rig.machine().traffic().interrupts;
    give(&rig, Faulty::new(rig.machine().memory()).unmapped().failing_from(first));
    fill(&mut rig)?;
    rig.run();
    let failed = rig.status().contains(Status::NEEDS_RESET);
    if failed {
        same("a configuration interrupt", rig.transport().take_interrupts().config, true)?;
        same("steps of a device that needs a reset", rig.run(), 0)?;
    }
    let most = if failed { 2 } else { 1 };
    let interrupts = rig.machine().traffic().interrupts - before;
    same("more interrupts than one batch and one failure", interrupts > most, false)?;
    give_back(&rig);
    recovers(subject, &mut rig)
}

fn give(rig: &Rig, memory: Faulty) {
    replace(rig, Arc::new(memory));
}

fn give_back(rig: &Rig) {
    replace(rig, rig.machine().memory());
}

fn replace(rig: &Rig, memory: Arc<dyn Memory>) {
    rig.device().with_endpoint(|endpoint| endpoint.replace_memory(memory));
}
