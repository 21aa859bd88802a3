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
    /// Those of a process's machine.
    ///
    /// # Errors
    /// If it has none, or debugfs is not mounted.
    pub fn of(process: u32) -> Result<Self> {
        Self::among(Path::new(MACHINES), process)
    }

    /// Those of the machine which was left most often, should the process have had another one to try KVM out.
    fn among(machines: &Path, process: u32) -> Result<Self> {
        let folders = folders(machines, process)?;
        // One that is going has no counts any more.
        let counts = folders.iter().filter_map(|machine| Self::read(machine).ok());
        let most = counts.max_by_key(|exits| exits.all);
        most.with_context(|| format!("process {process} has no machine in {}", machines.display()))
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
    use std::path::Path;

    /// A machine's counts as KVM has them: all, for ports, for other addresses, for pages.
    fn write(machine: &Path, counts: [u64; 4]) {
        for (name, count) in ["exits", "io_exits", "mmio_exits", "pf_fixed"].iter().zip(counts) {
            std::fs::write(machine.join(name), format!("{count}\n")).unwrap();
        }
    }

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
        write(machine.path(), [70, 4, 3, 2]);
        let expected = Exits { all: 70, ports: 4, mmio: 3, pages: 2 };
        assert_eq!(Exits::read(machine.path()).unwrap(), expected);
        std::fs::write(machine.path().join("exits"), "many").unwrap();
        assert!(Exits::read(machine.path()).unwrap_err().to_string().contains("many"));
    }

    /// The one that KVM was tried out with may have the smaller number or the greater one, and be going.
    #[test]
    fn the_machine_that_was_left_most_often_counts() {
        let machines = tempfile::tempdir().unwrap();
        for (name, counts) in [
            ("17-4", Some([5, 9, 9, 9])),
            ("17-5", Some([70, 4, 3, 2])),
            ("17-6", Some([6, 8, 8, 8])),
            ("17-7", None),
            ("18-4", Some([900, 1, 1, 1])),
            ("19-4", None),
        ] {
            let machine = machines.path().join(name);
            std::fs::create_dir(&machine).unwrap();
            counts.into_iter().for_each(|counts| write(&machine, counts));
        }
        let expected = Exits { all: 70, ports: 4, mmio: 3, pages: 2 };
        assert_eq!(Exits::among(machines.path(), 17).unwrap(), expected);
        for none in [19, 20] {
            let error = Exits::among(machines.path(), none).unwrap_err().to_string();
            assert!(error.starts_with(&format!("process {none} has no machine in")), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_listed_says_what_to_mount() {
        let error = folders("/nonexistent".as_ref(), 1).unwrap_err().to_string();
        assert!(error.contains("mount -t debugfs"), "{error}");
    }
}
