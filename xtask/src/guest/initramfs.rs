//! The guest's first root file system: the program as its first process, the drivers, and where to mount the rest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::{Archive, Permissions};
use super::kernel::Rig;
use super::modules::{Modules, modules_in};
use super::packages::Found;
use super::place::Place;
use super::plan::Step;
use super::stock::ORDER;

const FOLDERS: [&str; 5] = ["dev", "proc", "sys", "lib", "lib/modules"];
/// The kernel opens it for its first process before any file system is mounted.
const CONSOLE: (&str, u32, u32) = ("dev/console", 5, 1);

/// Writes the archive for one rig.
pub(super) fn write(
    place: &Place,
    found: &Found,
    rig: Rig,
    (program, made): (&Path, Step),
    modules: &Modules,
) -> Result<PathBuf> {
    let path = place.products(&found.key())?.join(format!("initramfs-{}.cpio", rig.name()));
    let inputs = made.inputs.with(modules.step.inputs.to_string());
    let step = Step { name: rig.initramfs_step(), title: "program and drivers as a file system", inputs };
    step.run(place, |_| {
        let bytes = archive(program, &modules.folder)?.finish();
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    })?;
    Ok(path)
}

/// The program as the first process, and a folder of modules with the order in which they are loaded.
pub(super) fn archive(program: &Path, modules: &Path) -> Result<Archive> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    FOLDERS.iter().for_each(|folder| archive.folder(folder));
    let (console, major, minor) = CONSOLE;
    archive.character_device(console, major, minor);
    archive.file("init", Permissions(0o755), &read(program)?);
    for module in modules_in(modules)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("lib/modules/{name}"), Permissions(0o644), &read(&module)?);
    }
    let order = modules.join(ORDER);
    if order.exists() {
        archive.file("lib/modules/order", Permissions(0o644), &read(&order)?);
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_the_program_and_the_modules_alone() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("init-program", "PROGRAM"), ("b.ko", "MODULE B"), ("notes.txt", "NOTES")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let bytes = archive(&folder.path().join("init-program"), folder.path()).unwrap().finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("init\0\0PROGRAM") && text.contains("lib/modules/b.ko\0"), "{text}");
        assert!(text.contains("MODULE B") && !text.contains("NOTES"), "{text}");
    }
}
