//! Keys that are not for the guest.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// Finds the keys that are meant for this program among those for the guest: Ctrl-A X leaves, and Ctrl-A Ctrl-A is one Ctrl-A for the
/// guest. After Ctrl-A any other key is the guest's, and the Ctrl-A too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EscapeFilter {
    escaped: bool,
}

/// The user wants to leave; what came after that key is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Leave;

impl EscapeFilter {
    /// A filter before the first key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what is the guest's of `keys` to `guest`. Keys may come in pieces of any length.
    pub fn filter(&mut self, keys: &[u8], guest: &mut Vec<u8>) -> Option<Leave> {
        for key in keys {
            match (self.escaped, *key) {
                (false, ESCAPE) => self.escaped = true,
                (false, key) => guest.push(key),
                (true, b'x' | b'X') => {
                    self.escaped = false;
                    return Some(Leave);
                }
                (true, ESCAPE) => {
                    self.escaped = false;
                    guest.push(ESCAPE);
                }
                (true, key) => {
                    self.escaped = false;
                    guest.extend([ESCAPE, key]);
                }
            }
        }
        None
    }
}
