//! [`Failure`]: what a test on the rig found wrong, in words.

use std::error::Error;
use std::fmt;

/// Why a device does not conform, or could not be tested.
pub struct Failure(String);

/// What a test on the rig says.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure in these words.
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }

    /// The same, saying in what circumstances.
    #[must_use]
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self(format!("{context}: {}", self.0))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Passes if `found` is what was `wanted`.
///
/// # Errors
/// If it is not.
pub fn same<V: PartialEq + fmt::Debug>(what: impl fmt::Display, found: V, wanted: V) -> Outcome {
    if found == wanted {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: found {found:?}, wanted {wanted:?}")))
}
