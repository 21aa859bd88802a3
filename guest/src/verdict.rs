//! What a check comes to, and the words for it.

use std::io::Error;

use rustix::io::Errno;

use crate::Failure;

/// A line for a check that went well; a check's error is the lab's.
pub(crate) fn verdict(what: &str, outcome: Result<(), Error>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => {
            println!("ok: {what}");
            Ok(())
        }
        Err(error) => Err(Failure::Lab(format!("{what}: {error}"))),
    }
}

/// A call must have ended like this.
pub(crate) fn must_be<T>(outcome: Result<T, Error>, expected: Errno) -> Result<(), Error> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(expected.raw_os_error()) => Ok(()),
        Err(error) => Err(Error::other(format!("{error} instead of {}", Error::from(expected)))),
        Ok(_) => Err(Error::other(format!("no error instead of {}", Error::from(expected)))),
    }
}

pub(crate) fn must_hold(holds: bool, otherwise: &str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::other(otherwise.to_owned())) }
}
