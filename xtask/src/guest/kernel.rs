//! The two kernels: User-Mode Linux, which is built, and Debian's stock cloud kernel, which is only prepared for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::fingerprint::Fingerprint;
use super::job::Log;
use super::kernel_source::SOURCE;
use super::packages::{Found, IMAGE, Kernel};
use super::place::Place;
use super::plan::Step;
use super::tree::{BUILD, CHECKOUT, Tree};

/// Our configuration of User-Mode Linux, below the checkout.
const UML_CONFIG: &str = "kernel/uml.config";

/// A kernel that modules can be built for.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Tells its modules from the other's.
    pub(super) rig: Rig,
    /// The program or the image that boots.
    pub(super) image: PathBuf,
    /// The step after which both are there.
    pub(super) step: Step,
}

/// What boots the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rig {
    Uml,
    Qemu,
}

impl Rig {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
        }
    }

    /// The step that builds our drivers for it.
    pub(super) fn modules_step(self) -> &'static str {
        match self {
            Self::Uml => "modules-uml",
            Self::Qemu => "modules-qemu",
        }
    }

    /// The step that writes its initramfs.
    pub(super) fn initramfs_step(self) -> &'static str {
        match self {
            Self::Uml => "initramfs-uml",
            Self::Qemu => "initramfs-qemu",
        }
    }

    /// The build folder in the tree.
    fn folder(self) -> String {
        format!("{BUILD}/{}", self.name())
    }

    /// What `make` is told for this kernel.
    pub(super) fn make_arguments(self, kernel: &Kernel) -> Vec<String> {
        let own = match self {
            Self::Uml => "ARCH=um".to_string(),
            // The modules' version must be the stock kernel's to the letter.
            Self::Qemu => format!("LOCALVERSION={}", kernel.local_version()),
        };
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        vec!["-C".into(), SOURCE.into(), format!("O={}", self.folder()), format!("-j{jobs}"), own]
    }
}

/// Builds User-Mode Linux.
pub(super) fn build_uml(
    place: &Place,
    tree: &Tree,
    found: &Found,
    checkout: &Path,
    before: Step,
) -> Result<Prepared> {
    let config = checkout.join(UML_CONFIG);
    let inputs = before.inputs.with("uml").with_path(&config)?;
    let step = Step { name: "uml", title: "User-Mode Linux, some minutes of compiling", inputs };
    let image = place.products(&found.key())?.join("linux-uml");
    step.run(place, |log| {
        let rig = Rig::Uml;
        continue_or_clear(tree, &rig.folder(), before.inputs)?;
        let arguments = rig.make_arguments(&found.kernel);
        let all_config = format!("KCONFIG_ALLCONFIG={CHECKOUT}/{UML_CONFIG}");
        log.run(tree.command("make").args(&arguments).args([&all_config, "allnoconfig"]))?;
        let wanted = std::fs::read_to_string(&config)?;
        let got = std::fs::read_to_string(tree.outside(&format!("{}/.config", rig.folder())))?;
        let lost = unmet(&wanted, &got);
        if !lost.is_empty() {
            bail!("this kernel does not take these lines of {UML_CONFIG}: {}", lost.join(", "));
        }
        log.run(tree.command("make").args(&arguments))?;
        let built = format!("{}/linux", rig.folder());
        let stripped = format!("{built}.stripped");
        log.run(tree.command("strip").args(["-o", &stripped, &built]))?;
        copy(&tree.outside(&stripped), &image)
    })?;
    Ok(Prepared { rig: Rig::Uml, image, step })
}

/// Prepares a build folder that is to the stock kernel as if it had been built there.
pub(super) fn prepare_stock(place: &Place, tree: &Tree, found: &Found, before: Step) -> Result<Prepared> {
    let step = Step {
        name: "stock",
        title: "what modules for the stock kernel need",
        inputs: before.inputs.with("stock"),
    };
    let image = place.products(&found.key())?.join("vmlinuz");
    step.run(place, |log| prepare(tree, &found.kernel, &image, log))?;
    Ok(Prepared { rig: Rig::Qemu, image, step })
}

fn prepare(tree: &Tree, kernel: &Kernel, image: &Path, log: &Log) -> Result<()> {
    let rig = Rig::Qemu;
    let folder = tree.clear(&rig.folder())?;
    copy(&part_of_image(tree, kernel, "config")?, &folder.join(".config"))?;
    let arguments = rig.make_arguments(kernel);
    log.run(tree.command("make").args(&arguments).arg("olddefconfig"))?;
    let mut words = vec!["make", "-s"];
    words.extend(arguments.iter().map(String::as_str));
    words.push("kernelrelease");
    let release = tree.capture(&words)?;
    if release.trim() != kernel.release {
        bail!(
            "the source is of {}, the stock kernel {}: sid is between two versions",
            release.trim(),
            kernel.release
        );
    }
    log.run(tree.command("make").args(&arguments).args(["prepare", "modules_prepare"]))?;
    let symbols = format!("/usr/src/linux-headers-{}/Module.symvers", kernel.release);
    copy(&tree.outside(&symbols), &folder.join("Module.symvers"))?;
    copy(&part_of_image(tree, kernel, "vmlinuz")?, image)
}

/// A file of the stock kernel, which Debian has put into two places over time.
fn part_of_image(tree: &Tree, kernel: &Kernel, what: &str) -> Result<PathBuf> {
    let release = &kernel.release;
    let places = [format!("usr/lib/modules/{release}/{what}"), format!("boot/{what}-{release}")];
    let mut files = places.iter().map(|file| tree.outside(&format!("{IMAGE}/{file}")));
    files
        .find(|file| file.is_file())
        .with_context(|| format!("the packages of {release} hold no {what} at {}", places.join(" or ")))
}

/// Keeps what a killed build has made, unless that was of another source: `make` goes by time alone.
fn continue_or_clear(tree: &Tree, folder: &str, source: Fingerprint) -> Result<()> {
    let mark = tree.outside(&format!("{folder}/.made-from"));
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == source.to_string()) {
        return Ok(());
    }
    tree.clear(folder)?;
    std::fs::write(&mark, source.to_string()).with_context(|| format!("cannot write {}", mark.display()))
}

/// The lines of a wanted configuration that did not make it: kconfig drops in silence what it cannot have.
fn unmet<'a>(wanted: &'a str, got: &str) -> Vec<&'a str> {
    let has = |line: &str| match line.strip_suffix("=n") {
        Some(name) => !got.lines().any(|other| other.starts_with(&format!("{name}="))),
        None => got.lines().any(|other| other == line),
    };
    wanted.lines().filter(|line| line.starts_with("CONFIG_") && !has(line)).collect()
}

/// Copies a product out of the tree.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kconfig_dropped_is_found() {
        let wanted = "# a comment\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"fd:0\"\nCONFIG_D=y\n";
        assert_eq!(
            unmet(wanted, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"fd:0\"\nCONFIG_D=y\n"),
            [""; 0]
        );
        assert_eq!(
            unmet(wanted, "CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=\"fd:1\"\nCONFIG_DD=y\n"),
            ["CONFIG_A=y", "CONFIG_B=n", "CONFIG_C=\"fd:0\"", "CONFIG_D=y"]
        );
    }

    #[test]
    fn our_configuration_leaves_the_numbers_of_our_devices_alone() {
        let text = include_str!("../../../kernel/uml.config");
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let tunnel = number("CONFIG_UML_PCI_OVER_VIRTIO_DEVICE_ID=");
        assert!(!["63", "45"].contains(&tunnel), "{tunnel} is a device of ours");
        assert!(text.contains("CONFIG_RUST=y\n") && text.contains("CONFIG_BLK_DEV_INITRD=y\n"));
    }

    #[test]
    fn the_stock_kernels_local_version_is_carried_over() {
        let kernel = Kernel { release: "7.2.13+deb14-cloud-amd64".into(), upstream: "7.2.13".into() };
        assert!(Rig::Qemu.make_arguments(&kernel).contains(&"LOCALVERSION=+deb14-cloud-amd64".to_string()));
        assert!(Rig::Uml.make_arguments(&kernel).contains(&"ARCH=um".to_string()));
    }
}
