//! What one run adds to the host's file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::command::{self, Command};
use super::machine::SCRIPT;
use crate::guest::{Archive, Permissions};

/// Folders that programs expect. The root file system is in memory, so these need none of their own.
const FOLDERS: [&str; 3] = ["tmp", "run", "root"];

/// Files by their paths on the host, without the leading `/`.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<PathBuf, (Permissions, Vec<u8>)>,
}

impl Files {
    /// What is to be run, and every file of this machine that it names.
    pub(super) fn for_commands(commands: &[Command]) -> Result<Self> {
        let mut files = Self::default();
        let script = command::script(commands)?;
        files.files.insert(below_root(SCRIPT.as_ref()), (Permissions(0o644), script.into_bytes()));
        let arguments = commands.iter().flat_map(Command::arguments);
        for path in arguments.flat_map(paths_in).filter(|path| path.is_file()) {
            files.put(path, path)?;
        }
        Ok(files)
    }

    /// Has a file of this machine there, at `to` as seen from the root.
    pub(super) fn put(&mut self, from: &Path, to: &Path) -> Result<()> {
        let cannot_read = || format!("cannot read {}", from.display());
        let content = std::fs::read(from).with_context(cannot_read)?;
        let mode = std::fs::metadata(from).with_context(cannot_read)?.permissions().mode();
        self.files.insert(below_root(to), (Permissions(mode & 0o777), content));
        Ok(())
    }

    /// Writes `first` with these files behind it: the kernel unpacks one archive after the other.
    pub(super) fn append_to(self, first: &Path, path: &Path) -> Result<()> {
        let cannot_write = || format!("cannot write {}", path.display());
        let start = std::fs::read(first).with_context(|| format!("cannot read {}", first.display()))?;
        let mut out = File::create(path).with_context(cannot_write)?;
        out.write_all(&start).and_then(|()| out.write_all(&self.archive())).with_context(cannot_write)
    }

    fn archive(self) -> Vec<u8> {
        let mut archive = Archive::default();
        let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
        // From the root down, for a folder must be there before what is in it.
        folders.extend(self.files.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_path_buf));
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| !folder.as_os_str().is_empty()) {
            archive.folder(&folder.to_string_lossy());
        }
        for (path, (permissions, content)) in self.files {
            archive.file(&path.to_string_lossy(), permissions, &content);
        }
        archive.finish()
    }
}

/// What may be a path in an argument: all of it, or a value in `name,key=value`.
fn paths_in(argument: &str) -> impl Iterator<Item = &Path> {
    std::iter::once(argument).chain(argument.split([',', '='])).map(Path::new)
}

/// A path as it reads from the root, which is where the program runs: `../a/./b` there is `a/b`.
fn below_root(path: &Path) -> PathBuf {
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => drop(place.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> [Command; 1] {
        [Command::of(line.split_whitespace().map(String::from).collect())]
    }

    #[test]
    fn files_that_arguments_name_are_there_with_their_folders_first() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.img");
        std::fs::write(&disk, "SECTORS").unwrap();
        let line = format!("run --device blk,path={} --kernel /nonexistent/vmlinuz", disk.display());
        let bytes = Files::for_commands(&command(&line)).unwrap().archive();
        let text = String::from_utf8_lossy(&bytes);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
        let name = disk.display().to_string();
        let name = name.trim_start_matches('/');
        assert!(at("tmp\0") < at(&format!("{name}\0")) && text.contains("SECTORS"), "{text}");
        assert!(text.contains(" --kernel\n /nonexistent/vmlinuz\n") && !text.contains("vmlinuz\0"), "{text}");
    }

    #[test]
    fn paths_are_seen_from_the_root() {
        for (path, place) in [("/a/b", "a/b"), ("./a", "a"), ("../../a/../b", "b"), ("/", "")] {
            assert_eq!(below_root(path.as_ref()), Path::new(place), "{path}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Files::default().put("/nonexistent".as_ref(), "/x".as_ref()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }

    #[test]
    fn both_archives_are_in_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (first, path) = (folder.path().join("first"), folder.path().join("both"));
        std::fs::write(&first, "FIRST").unwrap();
        Files::for_commands(&command("doctor")).unwrap().append_to(&first, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"FIRST070701") && String::from_utf8_lossy(&bytes).contains("doctor\n"));
    }
}
