//! [`Line`]: what a console is connected to.

use crate::wire::{Kind, Wire};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a console is connected to: where its output goes, and where input comes from, if it does.
#[derive(Debug)]
pub struct Line {
    pub(crate) input: Option<Wire>,
    pub(crate) output: Wire,
    pub(crate) terminal: Option<PathBuf>,
}

impl Line {
    /// Output to standard output. While that takes no more, the guest's output waits.
    ///
    /// # Errors
    /// If it is closed.
    pub fn stdout() -> io::Result<Self> {
        let output = Wire::new(io::stdout().as_fd().try_clone_to_owned()?, Kind::Shared);
        Ok(Self { input: None, output, terminal: None })
    }

    /// The same, and input from standard input, of which this is to be the one reader in the process.
    ///
    /// # Errors
    /// If one of them is closed.
    pub fn stdio() -> io::Result<Self> {
        let input = Wire::new(io::stdin().as_fd().try_clone_to_owned()?, Kind::Shared);
        Ok(Self { input: Some(input), ..Self::stdout()? })
    }

    /// Output to the end of a file, or to a device or FIFO.
    ///
    /// # Errors
    /// If it cannot be written to, or is a FIFO that nobody reads.
    pub fn file(path: &Path) -> io::Result<Self> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let fd = open(path, flags, Mode::from_raw_mode(0o666))?;
        Ok(Self { input: None, output: Wire::new(fd, Kind::Own), terminal: None })
    }

    /// A new terminal, in raw mode, for whoever opens [`Console::terminal`](crate::Console::terminal). Output while nobody has it open
    /// is lost.
    ///
    /// # Errors
    /// If the system has no terminal left.
    pub fn terminal() -> io::Result<Self> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        // Only after its first use does the near end tell whether anybody has the far one.
        drop(ioctl_tiocgptpeer(&near, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?);
        let mut attributes = tcgetattr(&near)?;
        attributes.make_raw();
        tcsetattr(&near, OptionalActions::Now, &attributes)?;
        let name = ptsname(&near, Vec::new())?.to_string_lossy().into_owned();
        set_nonblocking(&near)?;
        let input = Wire::new(near.try_clone()?, Kind::Terminal);
        let output = Wire::new(near, Kind::Terminal);
        Ok(Self { input: Some(input), output, terminal: Some(name.into()) })
    }

    /// Descriptors that this process has for itself, and which it makes non-blocking.
    ///
    /// # Errors
    /// If one cannot be made so.
    pub fn over(input: Option<OwnedFd>, output: OwnedFd) -> io::Result<Self> {
        input.iter().chain([&output]).try_for_each(set_nonblocking)?;
        let input = input.map(|fd| Wire::new(fd, Kind::Own));
        Ok(Self { input, output: Wire::new(output, Kind::Own), terminal: None })
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
