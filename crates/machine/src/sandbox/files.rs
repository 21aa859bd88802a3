//! Files, by Landlock.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use std::path::{Path, PathBuf};

/// What may be done with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It can be read.
    ReadOnly,
    /// It can be read and written, and stays as long as it is.
    ReadWrite,
    /// It is a device, which can be asked for all that it does (`ioctl`).
    Device,
    /// It is a folder, in which sockets can be made, and files and sockets taken away.
    Sockets,
}

/// Whether files are out of reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// All but those that were named.
    Confined,
    /// This system has no Landlock, or it is off: all that this user can open can be opened.
    Free,
}

/// What is asked of Landlock; older systems do as much of it as they know.
const KNOWN: ABI = ABI::V6;

impl Access {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::ReadOnly => AccessFs::ReadFile.into(),
            Self::ReadWrite => make_bitflags!(AccessFs::{ReadFile | WriteFile}),
            Self::Device => make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev}),
            Self::Sockets => make_bitflags!(AccessFs::{MakeSock | RemoveFile}),
        }
    }
}

/// Leaves this thread, and those that it starts, `files` and what every machine opens; and no network, no other process.
pub(super) fn confine(files: &[(PathBuf, Access)]) -> Result<Files, RulesetError> {
    // The last is what io_uring is tried with.
    let always = [(Path::new("/dev/kvm"), Access::Device), (Path::new("/dev/null"), Access::ReadOnly)];
    let named = files.iter().map(|(path, access)| (path.as_path(), *access));
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for (path, access) in always.into_iter().chain(named) {
        // Rights to a folder would be rights to all that is in it. What is not there is missed by whoever opens it.
        if path.is_dir() != (access == Access::Sockets) {
            continue;
        }
        if let Ok(file) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(file, access.rights()))?;
        }
    }
    let files = match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Files::Confined,
        RulesetStatus::NotEnforced => Files::Free,
    };
    Ok(files)
}
