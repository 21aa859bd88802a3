//! A device's own state on its way, to the front-end or from it, through a descriptor that the front-end chooses.
//!
//! The bytes flow while the session goes on: the front-end reads, or writes, only after it has its reply. It asks for the
//! outcome at the end, which is waited for then.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::wire::{Direction, MAX_STATE_LEN};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vioduct_virtio_device::Backend;

/// The one phase that there is: the guest and the device have stopped.
const STOPPED: u32 = 0;

/// A transfer of state.
#[derive(Debug, Default)]
pub(super) enum Transfer {
    /// None was asked for.
    #[default]
    None,
    /// What is left to be written.
    Saving(OwnedFd, Vec<u8>),
    /// What has been read.
    Loading(OwnedFd, Vec<u8>),
    Done,
    Failed,
}

/// Whether a transfer goes on.
enum Step {
    /// When the descriptor is ready again.
    Later,
    /// At its end.
    End,
}

impl Transfer {
    /// What the transfer waits for.
    fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Saving(file, _) => Some((file.as_fd(), PollFlags::OUT)),
            Self::Loading(file, _) => Some((file.as_fd(), PollFlags::IN)),
            Self::None | Self::Done | Self::Failed => None,
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        match self {
            Self::Saving(file, rest) => write_some(file, rest),
            Self::Loading(file, state) => read_some(file, state),
            Self::None | Self::Done | Self::Failed => Ok(Step::Later),
        }
    }
}

fn write_some(file: &OwnedFd, rest: &mut Vec<u8>) -> io::Result<Step> {
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => drop(rest.drain(..count)),
            Err(Errno::AGAIN) => return Ok(Step::Later),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Step::End)
}

/// Bounded, so that a front-end which never ends keeps its session no longer than a step.
fn read_some(file: &OwnedFd, state: &mut Vec<u8>) -> io::Result<Step> {
    let mut piece = [0; 16 << 10];
    match rustix::io::read(file, &mut piece) {
        Ok(0) => Ok(Step::End),
        Ok(count) if state.len() + count <= MAX_STATE_LEN => {
            state.extend(piece.iter().take(count));
            Ok(Step::Later)
        }
        Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
        Err(Errno::AGAIN) => Ok(Step::Later),
        Err(error) => Err(error.into()),
    }
}

impl<B: Backend> Session<B> {
    pub(super) fn begin_transfer(
        &mut self,
        direction: Direction,
        phase: u32,
        file: OwnedFd,
    ) -> Result<Outcome, Refusal> {
        /// Bits 0 to 7 are an error; bit 8 says that no descriptor comes back.
        const NO_FD: u64 = 1 << 8;
        const ERROR: u64 = 1;
        if phase != STOPPED || !self.is_suspended() {
            return Ok(Outcome::number(NO_FD | ERROR));
        }
        let flags = fcntl_getfl(&file).map_err(Refusal::system("look at a descriptor"))?;
        fcntl_setfl(&file, flags | OFlags::NONBLOCK).map_err(Refusal::system("use a descriptor"))?;
        self.transfer = match direction {
            Direction::Save => Transfer::Saving(file, self.device.save_state()?),
            Direction::Load => Transfer::Loading(file, Vec::new()),
        };
        Ok(Outcome::number(NO_FD))
    }

    /// What a transfer that is under way waits for.
    pub(super) fn transfer_interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.transfer.interest()
    }

    /// Goes on with a transfer whose descriptor may be ready.
    pub(super) fn advance_transfer(&mut self) {
        match self.transfer.step() {
            Ok(Step::Later) => {}
            Ok(Step::End) => self.end_transfer(),
            Err(error) => self.fail_transfer(&error),
        }
    }

    /// The descriptor is closed here, by which the front-end knows the end of what is saved.
    fn end_transfer(&mut self) {
        let transfer = std::mem::replace(&mut self.transfer, Transfer::Done);
        if let Transfer::Loading(_, state) = transfer
            && let Err(error) = self.device.restore_state(&state)
        {
            self.fail_transfer(&error);
        }
    }

    fn fail_transfer(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(device = self.device.info().name, "its state was not transferred: {error}");
        self.transfer = Transfer::Failed;
    }

    /// The outcome of the transfer, which has ended or never will.
    pub(super) fn check_transfer(&mut self) -> Outcome {
        match std::mem::take(&mut self.transfer) {
            Transfer::Done => Outcome::number(0),
            _ => Outcome::number(1),
        }
    }
}
