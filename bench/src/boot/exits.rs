//! KVM's counts of how often a guest was left, from debugfs.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where KVM has a folder for each machine, named by the process that made it: `PID-DESCRIPTOR`.
const MACHINES: &str = "/sys/kernel/debug/kvm";

/// How often a guest was left so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exits {
    /// For whatever reason; KVM handles most of them itself.
    pub all: u64,
    /// For an access to a port.
    pub ports: u64,
    /// For an access to an address without memory that the monitor handles.
    pub mmio: u64,
    /// For a page of the guest's memory that it had not touched before.
    pub pages: u64,
}

impl Exits {
    /// Those of a process's machine: of that which was left most often, should it have had another one to try KVM out.
    ///
    /// # Errors
    /// If it has none, or debugfs is not mounted.
    pub fn of(process: u32) -> Result<Self> {
        let machines = folders(Path::new(MACHINES), process)?;
        // One that is going has no counts any more.
        let counts = machines.iter().filter_map(|machine| Self::read(machine).ok());
        let most = counts.max_by_key(|exits| exits.all);
        most.with_context(|| format!("process {process} has no machine in {MACHINES}"))
    }

    fn read(machine: &Path) -> Result<Self> {
        let read = |name: &str| -> Result<u64> {
            let path = machine.join(name);
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            text.trim().parse().with_context(|| format!("{} says {text:?}", path.display()))
        };
        Ok(Self {
            // First: the guest goes on meanwhile.
            all: read("exits")?,
            ports: read("io_exits")?,
            mmio: read("mmio_exits")?,
            pages: read("pf_fixed")?,
        })
    }
}

/// The folders of the machines that a process has.
fn folders(machines: &Path, process: u32) -> Result<Vec<PathBuf>> {
    let cannot_list =
        || format!("cannot list {} (mount -t debugfs debugfs /sys/kernel/debug)", machines.display());
    let prefix = format!("{process}-");
    let all = std::fs::read_dir(machines).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.with_context(cannot_list)?.into_iter();
    Ok(all
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{Exits, folders};

    #[test]
    fn machines_belong_to_one_process() {
        let machines = tempfile::tempdir().unwrap();
        for name in ["17-9", "17-12", "171-4"] {
            std::fs::create_dir(machines.path().join(name)).unwrap();
        }
        std::fs::write(machines.path().join("exits"), "1").unwrap();
        let mut found = folders(machines.path(), 17).unwrap();
        found.sort();
        assert_eq!(found, ["17-12", "17-9"].map(|name| machines.path().join(name)));
        assert!(folders(machines.path(), 1).unwrap().is_empty());
    }

    #[test]
    fn counts_are_read_by_their_names() {
        let machine = tempfile::tempdir().unwrap();
        for (name, count) in
            [("exits", "70\n"), ("io_exits", "4\n"), ("mmio_exits", "3\n"), ("pf_fixed", "2\n")]
        {
            std::fs::write(machine.path().join(name), count).unwrap();
        }
        let expected = Exits { all: 70, ports: 4, mmio: 3, pages: 2 };
        assert_eq!(Exits::read(machine.path()).unwrap(), expected);
        std::fs::write(machine.path().join("exits"), "many").unwrap();
        assert!(Exits::read(machine.path()).unwrap_err().to_string().contains("many"));
    }

    #[test]
    fn what_cannot_be_listed_says_what_to_mount() {
        let error = folders("/nonexistent".as_ref(), 1).unwrap_err().to_string();
        assert!(error.contains("mount -t debugfs"), "{error}");
    }
}
