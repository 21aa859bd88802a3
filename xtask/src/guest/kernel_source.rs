//! The kernel's source, unpacked once for every build: each has a folder of its own beside it.

use anyhow::{Context, Result};

use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::tree::{BUILD, Tree};

/// Where the source is in the tree.
pub(super) const SOURCE: &str = "/build/linux";

/// Unpacks the source unless it is there.
pub(super) fn provision(place: &Place, tree: &Tree, found: &Found, before: Step) -> Result<Step> {
    let name = format!("linux-source-{}", found.kernel.series());
    let inputs = before.inputs.with(&name);
    let step = Step { name: "source", title: "the kernel's source", inputs };
    step.run(place, |log| {
        let source = tree.clear(SOURCE)?;
        let archive = format!("/usr/src/{name}.tar.xz");
        log.run(tree.command("tar").args(["-C", BUILD, "-xf", &archive]))?;
        let unpacked = tree.outside(&format!("{BUILD}/{name}"));
        std::fs::remove_dir(&source)?;
        std::fs::rename(&unpacked, &source)
            .with_context(|| format!("{archive} did not unpack into {}", unpacked.display()))
    })?;
    Ok(step)
}
