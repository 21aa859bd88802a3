//! What the doctor looks at.

use super::Finding;
use crate::guests::Kit;
use std::fs::{File, OpenOptions};
use std::io;
use std::process::Command;
use vioduct_machine::probe::{Verdict, probe};
use vioduct_machine::sandbox::{Files, Sandbox};
use vioduct_spec::vhost_demo;

/// The first QEMU with a vfio-user client.
const QEMU_WITH_VFIO_USER: (u32, u32) = (10, 1);

/// Every check, in the order in which they are printed.
pub(super) fn all() -> Vec<Finding> {
    vec![
        Finding::ok("loopback", "our drivers against our devices in this process, on every host"),
        kvm(),
        node("vhost-net", "/dev/vhost-net", "modprobe vhost_net"),
        node("vhost-vsock", "/dev/vhost-vsock", "modprobe vhost_vsock"),
        node("vhost-demo", vhost_demo::NODE, "build and load our module: kernel/README.md"),
        node("tun", "/dev/net/tun", "modprobe tun"),
        node("vduse", "/dev/vduse/control", "modprobe vduse (kernel option VDPA_USER)"),
        guest_kit(),
        qemu(),
        huge_pages(),
        sandbox(),
    ]
}

fn kvm() -> Finding {
    let verdict = probe();
    let detail = verdict.to_string();
    match verdict {
        Verdict::Usable(_) => Finding::ok("kvm", detail),
        Verdict::OnlyOpens(_) => {
            Finding::limited("kvm", detail, "use a host with hardware virtualization, or loopback")
        }
        Verdict::Unavailable(error) => Finding::missing("kvm", detail, kvm_remedy(&error)),
    }
}

fn kvm_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "add yourself to the group that owns /dev/kvm",
        _ => "modprobe kvm_intel or kvm_amd, and enable virtualization in the firmware; or use loopback",
    }
}

/// A device node that is of use if it opens for reading and writing.
fn node(name: &'static str, path: &'static str, load: &str) -> Finding {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            drop::<File>(file);
            Finding::ok(name, format!("{path} opens"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::missing(name, format!("there is no {path}"), load)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::limited(name, format!("{path} is not for this user"), "run as root, or change its mode")
        }
        Err(error) => Finding::limited(name, format!("{path}: {error}"), load),
    }
}

fn guest_kit() -> Finding {
    const NAME: &str = "guest-kit";
    match Kit::load() {
        Ok(kit) => Finding::ok(NAME, format!("Linux {} for --on uml and --on qemu", kit.release())),
        Err(failure) => Finding::missing(NAME, failure.into_message(), "labs run on loopback without it"),
    }
}

fn qemu() -> Finding {
    const PROGRAM: &str = "qemu-system-x86_64";
    let install = "apt-get install qemu-system-x86 (10.1 or later for vfio-user)";
    let Ok(output) = Command::new(PROGRAM).arg("--version").output() else {
        return match Kit::load() {
            Ok(kit) => Finding::ok("qemu", format!("the guest kit's: {}", kit.emulator.display())),
            Err(_) => Finding::missing("qemu", format!("{PROGRAM} is not installed"), install),
        };
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    match version(line) {
        Some(found) if found >= QEMU_WITH_VFIO_USER => Finding::ok("qemu", line),
        Some(_) => Finding::limited("qemu", format!("{line}: no vfio-user client"), install),
        None => Finding::limited("qemu", format!("{PROGRAM} --version said `{line}`"), install),
    }
}

/// Major and minor of `QEMU emulator version 10.0.2 (Debian …)`.
fn version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.split_once("version ")?.1.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn huge_pages() -> Finding {
    const REMEDY: &str = "as root: echo 512 > /proc/sys/vm/nr_hugepages";
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return Finding::missing("huge-pages", "cannot read /proc/meminfo", "mount /proc");
    };
    match (field(&text, "HugePages_Total"), field(&text, "HugePages_Free"), field(&text, "Hugepagesize")) {
        (Some(0), _, Some(kib)) => {
            Finding::missing("huge-pages", format!("none of {kib} KiB reserved"), REMEDY)
        }
        (Some(total), Some(free), Some(kib)) => {
            Finding::ok("huge-pages", format!("{free} of {total} free, {kib} KiB each"))
        }
        _ => Finding::missing("huge-pages", "this kernel has none", "a kernel with HUGETLBFS"),
    }
}

/// Whether `vioduct run` is confined as it is meant to be.
fn sandbox() -> Finding {
    const NAME: &str = "sandbox";
    match Sandbox::default().try_out() {
        Ok(Files::Confined) => Finding::ok(NAME, "system calls (seccomp) and files (Landlock) are confined"),
        Ok(Files::Free) => Finding::limited(
            NAME,
            "system calls are confined, and files are not: this kernel has no Landlock, or it is off",
            "Linux 5.13 or later with `landlock` in the boot option lsm=",
        ),
        Err(error) => {
            Finding::missing(NAME, error.to_string(), "`vioduct run --sandbox off` runs without it")
        }
    }
}

/// The number in a line `Name:   123 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{field, node, version};
    use crate::doctor::State;

    #[test]
    fn versions_and_fields_are_read() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"), Some((10, 0)));
        assert_eq!(version("nonsense"), None);
        assert_eq!(field("HugePages_Total:      12\nHugepagesize:  2048 kB\n", "Hugepagesize"), Some(2048));
        assert_eq!(field("HugePages_Total: 12\n", "HugePages_Free"), None);
    }

    #[test]
    fn a_node_that_is_not_there_is_missing_and_one_that_opens_is_not() {
        let missing = node("x", "/nonexistent", "modprobe x");
        assert_eq!((missing.state, missing.remedy.as_deref()), (State::Missing, Some("modprobe x")));
        assert_eq!(node("x", "/dev/null", "modprobe x").state, State::Ok);
    }
}
