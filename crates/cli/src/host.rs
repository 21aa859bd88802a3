//! What commands need of the host before they begin.

use crate::Failure;
use vioduct_machine::probe::{Verdict, probe};

/// KVM that runs guests, not one that merely opens.
pub(crate) fn usable_kvm() -> Result<(), Failure> {
    match probe() {
        Verdict::Usable(_) => Ok(()),
        verdict @ (Verdict::OnlyOpens(_) | Verdict::Unavailable(_)) => Err(Failure::Failed(format!(
            "this host's KVM runs no guests ({verdict}): labs run --on qemu, --on uml or --on loopback, and \
             `cargo xtask rig kvm -- …` runs any command on an emulated host that has KVM"
        ))),
    }
}
