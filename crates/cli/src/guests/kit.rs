//! The guest kit: kernels, drivers and programs that `cargo xtask guest` provides.

use crate::Failure;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the kit has and where, as its manifest says.
#[derive(Deserialize)]
pub(crate) struct Kit {
    pub(crate) uml: Guest,
    pub(crate) qemu: Guest,
    /// With programs of networks, and Linux's own drivers.
    pub(crate) network: Guest,
    /// A program that runs QEMU.
    pub(crate) emulator: PathBuf,
    kernel: Kernel,
}

/// One kernel with what belongs to it.
#[derive(Deserialize)]
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

#[derive(Deserialize)]
struct Kernel {
    release: String,
}

/// How to get what is missing.
pub(crate) const REMEDY: &str = "run `cargo xtask guest` in a checkout of Vioduct, as root";

impl Kit {
    /// This user's kit.
    pub(crate) fn load() -> Result<Self, Failure> {
        Self::read(&manifest()?)
    }

    fn read(manifest: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(manifest).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::Failed(format!(
                "there is no guest kit ({} is missing): {REMEDY}",
                manifest.display()
            )),
            _ => Failure::Failed(format!("cannot read {}: {error}", manifest.display())),
        })?;
        let kit: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::Failed(format!("{} is not of this version ({error}): {REMEDY}", manifest.display()))
        })?;
        let guests = [&kit.uml, &kit.qemu, &kit.network].map(|guest| [&guest.kernel, &guest.initramfs]);
        for file in guests.into_iter().flatten().chain([&kit.emulator]) {
            if !file.is_file() {
                let file = file.display();
                return Err(Failure::Failed(format!(
                    "the guest kit is damaged ({file} is missing): {REMEDY}"
                )));
            }
        }
        Ok(kit)
    }

    /// The version of the kernels, as `uname -r` has it for the stock one.
    pub(crate) fn release(&self) -> &str {
        &self.kernel.release
    }
}

/// `kit.json` in `$VIODUCT_CACHE/guest`, or in `~/.cache/vioduct/guest`.
fn manifest() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("VIODUCT_CACHE").or_else(|| Some(set("HOME")?.join(".cache/vioduct")));
    let cache = cache.ok_or_else(|| {
        Failure::Failed("set HOME, or VIODUCT_CACHE to the folder that holds the guest kit".to_owned())
    })?;
    Ok(cache.join("guest/kit.json"))
}

#[cfg(test)]
mod tests {
    use super::{Failure, Kit};

    fn refusal(manifest: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kit.json");
        if let Some(text) = manifest {
            std::fs::write(&path, text).unwrap();
        }
        match Kit::read(&path) {
            Err(Failure::Failed(message)) => message,
            _ => panic!("a kit that is not there was found"),
        }
    }

    #[test]
    fn a_kit_that_is_missing_or_damaged_says_how_to_get_it() {
        let guest = r#"{"kernel": "/nonexistent/linux", "initramfs": "/nonexistent/cpio"}"#;
        let whole = format!(
            r#"{{"kernel": {{"release": "7"}}, "uml": {guest}, "qemu": {guest}, "network": {guest}, "emulator": "/nonexistent/qemu"}}"#
        );
        for (manifest, why) in [
            (None, "there is no guest kit"),
            (Some("{}"), "is not of this version"),
            (Some(whole.as_str()), "/nonexistent/linux is missing"),
        ] {
            let message = refusal(manifest);
            assert!(message.contains(why) && message.contains("cargo xtask guest"), "{message}");
        }
    }
}
