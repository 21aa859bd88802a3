//! What the kit holds, for programs and for people.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use super::packages::Found;
use super::place::Place;

/// One kernel with what belongs to it.
#[derive(Debug, Serialize)]
pub(crate) struct Guest {
    /// The program (User-Mode Linux) or the image (stock) that boots.
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// The drivers' folder; the initramfs has them too.
    pub(super) modules: PathBuf,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Kit {
    #[serde(flatten)]
    pub(super) found: Found,
    pub(crate) uml: Guest,
    pub(crate) qemu: Guest,
    /// What stands for a host: its initramfs lacks the program that runs there, and the kit.
    pub(crate) host: Guest,
    /// The stock kernel with fio, iperf3, ping and mkfs.ext4, and Linux's own drivers alone.
    pub(crate) tools: Guest,
    /// The same with ip, ethtool, iperf3 and ping.
    pub(crate) network: Guest,
    /// The program that runs QEMU.
    pub(crate) emulator: PathBuf,
}

impl Kit {
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Writes the manifest at one stroke: who reads it sees the old one or the new one.
    pub(super) fn save(&self, place: &Place) -> Result<()> {
        let path = place.manifest();
        let new = path.with_extension("new");
        std::fs::write(&new, self.to_json()?)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { kernel, versions } = &self.found;
        writeln!(f, "kernel    {}", kernel.release)?;
        for version in versions {
            writeln!(f, "          {} {}", version.package, version.version)?;
        }
        for (name, guest) in [
            ("uml", &self.uml),
            ("qemu", &self.qemu),
            ("host", &self.host),
            ("tools", &self.tools),
            ("network", &self.network),
        ] {
            writeln!(f, "{name:<9} {}\n          {}", guest.kernel.display(), guest.initramfs.display())?;
        }
        write!(f, "emulator  {}", self.emulator.display())
    }
}

#[cfg(test)]
mod tests {
    use super::super::packages::Kernel;
    use super::*;

    fn kit() -> Kit {
        let guest = |name: &str| Guest {
            kernel: format!("/k/{name}").into(),
            initramfs: format!("/k/{name}.cpio").into(),
            modules: "/k/modules".into(),
        };
        let kernel = Kernel { release: "7.2.13-cloud".into(), upstream: "7.2.13".into() };
        Kit {
            found: Found { kernel, versions: Vec::new() },
            uml: guest("uml"),
            qemu: guest("qemu"),
            host: guest("host"),
            tools: guest("tools"),
            network: guest("network"),
            emulator: "/k/q".into(),
        }
    }

    #[test]
    fn programs_find_paths_and_versions_by_name() {
        let json: serde_json::Value = serde_json::from_str(&kit().to_json().unwrap()).unwrap();
        assert_eq!(json["uml"]["kernel"], "/k/uml");
        assert_eq!(json["qemu"]["initramfs"], "/k/qemu.cpio");
        assert_eq!(json["host"]["initramfs"], "/k/host.cpio");
        assert_eq!(json["tools"]["initramfs"], "/k/tools.cpio");
        assert_eq!(json["kernel"]["release"], "7.2.13-cloud");
        assert_eq!(json["network"]["initramfs"], "/k/network.cpio");
        assert_eq!(json["emulator"], "/k/q");
    }

    #[test]
    fn people_read_what_is_where() {
        assert!(kit().to_string().ends_with("emulator  /k/q"));
    }
}
