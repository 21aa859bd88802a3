//! What a guest's first process does around a lab.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::status;

/// Where the initramfs has the drivers.
const MODULES: &str = "/lib/modules";
const FILE_SYSTEMS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// Names the lab on the kernel's command line, its arguments after commas: `vioduct.lab=virtio-test,10`.
///
/// Not words after `--`: User-Mode Linux appends words of its own.
const LAB: &str = "vioduct.lab=";

/// Everything, from the first mount to the end of the machine.
pub(crate) fn run() -> ! {
    for (kind, place) in FILE_SYSTEMS {
        complain(kind, mount(kind, place, kind, MountFlags::empty(), None));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("vioduct-guest: Linux {}", release.trim());
    let command_line = command_line();
    load_modules(Path::new(MODULES), &command_line);
    println!("vioduct-guest: exit status {}", status(&lab(&command_line)));
    rustix::fs::sync();
    complain("power off", reboot(RebootCommand::PowerOff));
    // The first process must not end: the kernel would panic over a machine that only failed to switch itself off.
    loop {
        std::thread::park();
    }
}

/// The first process goes on whatever fails: what it says is all that anybody sees of the guest.
fn complain(what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("vioduct-guest: {what}: {error}");
    }
}

/// What the kernel's command line says for a module, for one that is loaded again.
pub(crate) fn parameters_of(module: &str) -> CString {
    parameters(module, &command_line())
}

fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

fn lab(command_line: &str) -> Vec<String> {
    let named = command_line.split_whitespace().find_map(|word| word.strip_prefix(LAB));
    named.map(|words| words.split(',').map(String::from).collect()).unwrap_or_default()
}

/// Loads every module of a folder, by name.
fn load_modules(folder: &Path, command_line: &str) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ko"));
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match fs::File::open(&file) {
            Ok(image) => complain(&name, finit_module(image, &parameters(&name, command_line), 0)),
            Err(error) => eprintln!("vioduct-guest: {}: {error}", file.display()),
        }
    }
}

/// What the kernel's command line says for a module: `module.name=value`.
fn parameters(module: &str, command_line: &str) -> CString {
    let prefix = format!("{module}.");
    let own: Vec<&str> =
        command_line.split_whitespace().filter_map(|word| word.strip_prefix(&prefix)).collect();
    CString::new(own.join(" ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_is_one_word_of_the_command_line() {
        assert_eq!(lab("mem=1G vioduct.lab=virtio-test,10 root=98:0\n"), ["virtio-test", "10"]);
        assert_eq!(lab("mem=1G\n"), [""; 0]);
    }

    #[test]
    fn a_module_gets_its_own_parameters() {
        let line = "quiet a.x=1 b.device_type=62 b.y=2\n";
        assert_eq!(parameters("b", line).to_bytes(), b"device_type=62 y=2");
        assert_eq!(parameters("c", line).to_bytes(), b"");
    }
}
