//! The terminal that a guest's serial line is connected to: every key goes to the guest, but for one that gets the user out.
//!
//! [`RawMode`] has the terminal pass every key on, and puts it back on every way out; [`EscapeFilter`] finds Ctrl-A X.

mod escape;
mod raw;
#[cfg(test)]
mod tests;

pub use self::escape::{EscapeFilter, Leave};
pub(crate) use self::raw::restore;
pub use self::raw::{FATAL_SIGNALS, RawMode};
