//! The device's own state, out of the server and into it, through a pipe.

use super::Trouble;
use super::remote::Remote;
use crate::socket::wait;
use crate::wire::{Answer, Answered, Command, Direction, MAX_STATE_LEN, Request, WireError};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The one phase that there is: the guest and the device have stopped.
const STOPPED: u32 = 0;

impl Remote {
    pub(super) fn save_state(&mut self, limit: Duration) -> Result<Vec<u8>, Trouble> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Trouble::system("create a pipe"))?;
        let reader = self.begin_transfer(Direction::Save, writer)?.unwrap_or(reader);
        let state = read_all(&reader, limit)?;
        self.check_transfer()?;
        Ok(state)
    }

    pub(super) fn load_state(&mut self, state: &[u8], limit: Duration) -> Result<(), Trouble> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Trouble::system("create a pipe"))?;
        let writer = self.begin_transfer(Direction::Load, reader)?.unwrap_or(writer);
        write_all(&writer, state, limit)?;
        drop(writer);
        self.check_transfer()
    }

    /// The descriptor that the server wants to use instead, if it does.
    fn begin_transfer(&mut self, direction: Direction, file: OwnedFd) -> Result<Option<OwnedFd>, Trouble> {
        const ERROR: u64 = 0xff;
        let command = Command::SetDeviceStateFd { direction, phase: STOPPED, file };
        match self.link.ask(&command, Answer::Unwanted)? {
            Answered::Transfer(code, other) if code & ERROR == 0 => Ok(other),
            _ => Err(Trouble::Refused(Request::SetDeviceStateFd)),
        }
    }

    fn check_transfer(&mut self) -> Result<(), Trouble> {
        match self.number(&Command::CheckDeviceState)? {
            0 => Ok(()),
            _ => Err(Trouble::Refused(Request::CheckDeviceState)),
        }
    }
}

fn read_all(file: &OwnedFd, limit: Duration) -> Result<Vec<u8>, Trouble> {
    set_nonblocking(file)?;
    let deadline = Instant::now() + limit;
    let (mut state, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        match rustix::io::read(file, &mut piece) {
            Ok(0) => return Ok(state),
            Ok(count) if state.len() + count <= MAX_STATE_LEN => state.extend(piece.iter().take(count)),
            Ok(_) => return Err(WireError::from(io::Error::from(io::ErrorKind::FileTooLarge)).into()),
            Err(Errno::AGAIN) => wait_for(file, PollFlags::IN, deadline, limit)?,
            Err(error) => return Err(WireError::from(error).into()),
        }
    }
}

fn write_all(file: &OwnedFd, mut state: &[u8], limit: Duration) -> Result<(), Trouble> {
    set_nonblocking(file)?;
    let deadline = Instant::now() + limit;
    while !state.is_empty() {
        match rustix::io::write(file, state) {
            Ok(count) => state = state.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN) => wait_for(file, PollFlags::OUT, deadline, limit)?,
            // The server has read enough; whether it is content, it says by its answer.
            Err(Errno::PIPE) => return Ok(()),
            Err(error) => return Err(WireError::from(error).into()),
        }
    }
    Ok(())
}

fn set_nonblocking(file: &OwnedFd) -> Result<(), Trouble> {
    let failed = Trouble::system("use a pipe");
    let flags = fcntl_getfl(file).map_err(&failed)?;
    fcntl_setfl(file, flags | OFlags::NONBLOCK).map_err(&failed)
}

fn wait_for(file: &OwnedFd, interest: PollFlags, deadline: Instant, limit: Duration) -> Result<(), Trouble> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::late(limit));
    }
    Ok(wait(&mut [PollFd::new(file, interest)], Some(left))?)
}
