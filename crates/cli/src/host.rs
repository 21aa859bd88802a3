//! What commands need of the host before they begin.

use crate::Failure;
use vioduct_machine::probe::{Verdict, probe};

/// KVM that runs guests, not one that merely opens.
pub(crate) fn usable_kvm() -> Result<(), Failure> {
    match why_no_kvm() {
        None => Ok(()),
        Some(why) => Err(Failure::Failed(format!(
            "{why}: labs run --on qemu, --on uml or --on loopback, and `cargo xtask rig kvm -- …` runs any command on an \
             emulated host that has KVM"
        ))),
    }
}

/// Why KVM runs no guests here, if it does not.
pub(crate) fn why_no_kvm() -> Option<String> {
    match probe() {
        Verdict::Usable(_) => None,
        verdict @ (Verdict::OnlyOpens(_) | Verdict::Unavailable(_)) => {
            Some(format!("this host's KVM runs no guests ({verdict})"))
        }
    }
}
