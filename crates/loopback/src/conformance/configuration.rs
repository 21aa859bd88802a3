//! Bounds and generation of the configuration space (virtio 1.3 §2.5).

use vioduct_spec::Features;

use super::{Subject, Variant};
use crate::failure::{Outcome, same};
use crate::rig::Rig;

/// No access to the configuration space, of whatever offset and length, does harm; bytes beyond it read as zeros; and its
/// generation stays while nothing changes.
///
/// # Errors
/// If it does not.
pub fn configuration_is_bounded(subject: &Subject, variant: Variant) -> Outcome {
    let mut rig = variant.running(subject, Features::NONE, u16::MAX)?;
    let len = rig.device().with_endpoint(|endpoint| endpoint.info().config_len as u64);
    let before = contents(&rig, len);
    for offset in
        [len, len + 1, 1 << 8, 1 << 16, 1 << 32, u64::MAX - 3, u64::MAX].into_iter().filter(|at| *at >= len)
    {
        beyond(&mut rig, offset).map_err(|failure| failure.within(format!("at offset {offset:#x}")))?;
    }
    across_the_end(&rig, len, &before)?;
    same("the configuration after writes that are not within", contents(&rig, len), before)?;
    if len > 0 {
        steady_generation(&mut rig)?;
    }
    (subject.exercise)(&mut rig)?;
    rig.check_live()
}

fn contents(rig: &Rig, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    rig.device().with_endpoint(|endpoint| endpoint.read_config(0, &mut bytes));
    bytes
}

/// Through the transport and past it: zeros or an error, and nothing written.
fn beyond(rig: &mut Rig, offset: u64) -> Outcome {
    for width in [1, 2, 4, 8] {
        let mut out = vec![0xaa; width];
        rig.device().with_endpoint(|endpoint| {
            endpoint.read_config(offset, &mut out);
            endpoint.write_config(offset, &vec![0x55; width]);
        });
        same("a read beyond the end", out, vec![0; width])?;
        // The device may show more room than it has configuration (virtio 1.3 §4.1.4.6 pads it); then both read as zeros.
        let mut out = vec![0xaa; width];
        if rig.transport().read_config_field(offset, &mut out).is_ok() {
            same("a read beyond the end, by registers", out, vec![0; width])?;
        }
        let _ = rig.transport().write_config_field(offset, &vec![0x55; width]);
    }
    Ok(())
}

/// An access that begins within: what is there reads as it is, and nothing is written.
fn across_the_end(rig: &Rig, len: u64, contents: &[u8]) -> Outcome {
    let Some(last) = contents.last() else { return Ok(()) };
    let mut out = [0xaa; 4];
    rig.device().with_endpoint(|endpoint| {
        endpoint.read_config(len - 1, &mut out);
        endpoint.write_config(len - 1, &[0x55; 4]);
    });
    same("a read across the end", out, [*last, 0, 0, 0])
}

fn steady_generation(rig: &mut Rig) -> Outcome {
    let mut byte = [0];
    rig.transport().read_config_field(0, &mut byte)?;
    let before = rig.transport().config_generation();
    rig.transport().read_config_field(0, &mut byte)?;
    same("the generation while nothing changes", rig.transport().config_generation(), before)
}
