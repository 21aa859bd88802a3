//! What a guest's first process does around a lab.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::lab::End;
use crate::{hosted, status};

/// Where the initramfs has the drivers.
const MODULES: &str = "/lib/modules";
/// Names the drivers in that folder that depend on each other, a file in a line, in the order of loading.
const ORDER: &str = "order";
const FILE_SYSTEMS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// Names the lab on the kernel's command line, its arguments after commas: `vioduct.lab=virtio-test,10`.
///
/// Not words after `--`: User-Mode Linux appends words of its own.
const LAB: &str = "vioduct.lab=";
/// Names the file with the arguments of `vioduct` where that runs in place of a lab: `vioduct.run=/arguments`.
const RUN: &str = "vioduct.run=";

/// Everything, from the first mount to the end of the machine.
pub(crate) fn run() -> ! {
    for (kind, place) in FILE_SYSTEMS {
        complain(kind, mount(kind, place, kind, MountFlags::empty(), None));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("vioduct-guest: Linux {}, {processors} processors", release.trim());
    let command_line = command_line();
    load_modules(Path::new(MODULES), &command_line);
    let (status, end) = match arguments(&command_line) {
        Some(file) => (hosted::run(&file), End::PowerOff),
        None => status(&lab(&command_line)),
    };
    println!("vioduct-guest: exit status {status}");
    rustix::fs::sync();
    match end {
        End::PowerOff => complain("power off", reboot(RebootCommand::PowerOff)),
        End::Restart => complain("restart", reboot(RebootCommand::Restart)),
    }
    // The first process must not end: the kernel would panic over a machine that only failed to switch itself off.
    loop {
        std::thread::park();
    }
}

/// The first process goes on whatever fails: what it says is all that anybody sees of the guest.
pub(crate) fn complain(what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("vioduct-guest: {what}: {error}");
    }
}

fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

fn lab(command_line: &str) -> Vec<String> {
    value(command_line, LAB).map(|words| words.split(',').map(String::from).collect()).unwrap_or_default()
}

fn arguments(command_line: &str) -> Option<PathBuf> {
    value(command_line, RUN).map(PathBuf::from)
}

fn value<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

/// Loads a module that was unloaded, with the parameters that it had.
pub(crate) fn load_again(module: &str) -> std::io::Result<()> {
    let image = fs::File::open(Path::new(MODULES).join(format!("{module}.ko")))?;
    Ok(finit_module(image, &parameters(module, &command_line()), 0)?)
}

/// Loads every module of a folder, as its file of the order says or else by name.
fn load_modules(folder: &Path, command_line: &str) {
    for file in modules_in(folder) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match fs::File::open(&file) {
            Ok(image) => complain(&name, finit_module(image, &parameters(&name, command_line), 0)),
            Err(error) => eprintln!("vioduct-guest: {}: {error}", file.display()),
        }
    }
}

fn modules_in(folder: &Path) -> Vec<PathBuf> {
    if let Ok(order) = fs::read_to_string(folder.join(ORDER)) {
        return order.lines().map(|name| folder.join(name)).collect();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ko"));
    files.sort();
    files
}

/// What the kernel's command line says for a module: `module.name=value`.
///
/// A module's name has `_` where its file's may have `-`.
fn parameters(module: &str, command_line: &str) -> CString {
    let prefix = format!("{}.", module.replace('-', "_"));
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
        assert_eq!(parameters("kvm-amd", "quiet kvm_amd.npt=0").to_bytes(), b"npt=0");
    }

    #[test]
    fn a_program_in_place_of_a_lab_is_told_of_by_the_file_of_its_arguments() {
        assert_eq!(arguments("quiet vioduct.run=/arguments"), Some("/arguments".into()));
        assert_eq!(arguments("quiet vioduct.lab=entropy"), None);
    }

    #[test]
    fn modules_are_loaded_by_name_unless_an_order_is_given() {
        let names = |folder: &Path| -> Vec<String> {
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
            modules_in(folder).into_iter().map(name).collect()
        };
        let folder = std::env::temp_dir().join(format!("vioduct-guest-modules-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in ["b.ko", "a.ko", "notes"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let by_name = names(&folder);
        fs::write(folder.join(ORDER), "b.ko\na.ko\n").unwrap();
        let by_order = names(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            (by_name, by_order),
            (vec!["a.ko".into(), "b.ko".into()], vec!["b.ko".into(), "a.ko".into()])
        );
    }
}
