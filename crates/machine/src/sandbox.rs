//! [`Sandbox`]: what is left to this process once it runs guests.
//!
//! A guest that takes over the code which serves it is still in a process that can open the files of its own command line, and no
//! others (Landlock), and that can make the system calls of a machine, and no others (seccomp). Threads that face the guest can do less:
//! they open nothing at all.
//!
//! | module | what is in it |
//! |---|---|
//! | `filters` | system calls: of the process, and of threads that face the guest |
//! | `files` | files, by Landlock |
//! | `violation` | the end of a process that tries another system call |

mod files;
mod filters;
#[cfg(test)]
mod tests;
mod violation;

pub use files::{Access, Files};

use seccompiler::BpfProgram;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// What the kernel gives access to, beside what every machine needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// io_uring. Its operations are system calls that seccomp does not see; Landlock does.
    IoUring,
    /// TAP interfaces, by a `/dev/net/tun` that is among the files: to make, open and describe them, and no others.
    Interfaces,
    /// New connections to sockets of this host: of vhost-user front-ends.
    UnixSockets,
    /// Requests to vhost in the kernel.
    Vhost,
    /// Connections with programs of this host while the guest runs, by Unix sockets: of socket devices.
    HostPrograms,
}

/// Describes the sandbox of a process that runs machines; `/dev/kvm` is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sandbox {
    /// What may be opened, as often as wanted: files, for folders are given for sockets alone.
    pub files: Vec<(PathBuf, Access)>,
    /// What is used beside files.
    pub needs: Vec<Need>,
}

/// Why a process is not in its sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// No seccomp on this system, or not for this process.
    #[error("the system filters no system calls (seccomp): {0}")]
    Seccomp(seccompiler::Error),
    /// A set of files that the kernel refuses.
    #[error("the system restricts no files (Landlock): {0}")]
    Landlock(landlock::RulesetError),
    /// There is no thread to try it in.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Violations cannot be reported.
    #[error("cannot handle a signal: {0}")]
    Signal(io::Error),
}

/// The sandbox that this process is in.
#[derive(Clone, Debug)]
pub struct Confinement {
    files: Files,
    /// For threads that face the guest.
    facing: Arc<[BpfProgram; 2]>,
}

impl Sandbox {
    /// Confines this process, for good. Landlock confines the calling thread and those that it starts later: so this comes first, before
    /// there are other threads.
    ///
    /// A system without Landlock leaves files as they are, which [`Confinement::files`] says.
    ///
    /// # Errors
    /// If the system does not filter system calls. What was confined before that stays so: the process should end.
    pub fn enter(&self) -> Result<Confinement, SandboxError> {
        let files = files::confine(&self.files).map_err(SandboxError::Landlock)?;
        violation::report().map_err(SandboxError::Signal)?;
        let facing = Arc::new(filters::facing_the_guest(&self.needs)?);
        for filter in filters::whole_process(&self.needs)? {
            seccompiler::apply_filter_all_threads(&filter)?;
        }
        Ok(Confinement { files, facing })
    }

    /// What becomes of a process that [`enter`](Self::enter)s: a thread of its own does so, and ends.
    ///
    /// # Errors
    /// As for `enter`.
    pub fn try_out(&self) -> Result<Files, SandboxError> {
        let enter = || {
            let files = files::confine(&self.files).map_err(SandboxError::Landlock)?;
            filters::whole_process(&self.needs)?
                .iter()
                .try_for_each(|filter| seccompiler::apply_filter(filter))?;
            Ok(files)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, enter).map_err(SandboxError::Thread)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Confinement {
    /// What has become of files.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files
    }

    /// Confines the calling thread, and those that it starts later, to what serves a guest that runs.
    pub(crate) fn face_the_guest(&self) -> Result<(), SandboxError> {
        Ok(self.facing.iter().try_for_each(|filter| seccompiler::apply_filter(filter))?)
    }
}

impl From<seccompiler::Error> for SandboxError {
    fn from(error: seccompiler::Error) -> Self {
        Self::Seccomp(error)
    }
}

impl From<seccompiler::BackendError> for SandboxError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Seccomp(error.into())
    }
}
