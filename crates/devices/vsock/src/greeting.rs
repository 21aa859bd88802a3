//! What a host program says before it is connected: `CONNECT PORT` and a line feed.

use crate::host::{Got, Stream};

/// Host programs that have connected and not said yet with which port; a further one takes the place of the first.
pub const MAX_GREETINGS: usize = 256;
/// Longer than any greeting.
const MAX_LINE_BYTES: usize = 32;

/// A host program that has not said yet what it wants.
#[derive(Debug)]
pub(crate) struct Greeting {
    stream: Stream,
    said: Vec<u8>,
}

/// What has come of it.
#[derive(Debug)]
pub(crate) enum Greeted {
    /// It goes on.
    NotYet(Greeting),
    /// The guest's port, and what was said after the line.
    Port(Stream, u32, Vec<u8>),
    /// It is no greeting, or will be none.
    Nothing,
}

impl Greeting {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, said: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Listens on.
    pub(crate) fn read(mut self) -> Greeted {
        let mut piece = [0; MAX_LINE_BYTES];
        while self.said.len() < MAX_LINE_BYTES {
            let room = piece.get_mut(self.said.len()..).unwrap_or_default();
            let count = match self.stream.read(room) {
                Got::Bytes(count) => count,
                Got::Nothing => return Greeted::NotYet(self),
                Got::End => return Greeted::Nothing,
            };
            self.said.extend(room.iter().take(count));
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let rest = self.said.split_off(end + 1);
                return match port(&self.said) {
                    Some(port) => Greeted::Port(self.stream, port, rest),
                    None => Greeted::Nothing,
                };
            }
        }
        Greeted::Nothing
    }
}

/// The port in a whole line.
fn port(line: &[u8]) -> Option<u32> {
    let port = std::str::from_utf8(line).ok()?.strip_prefix("CONNECT ")?.strip_suffix('\n')?;
    // `parse` would take a sign.
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

/// What the host program is told when the guest's program has accepted.
pub(crate) fn accepted(host_port: u32) -> String {
    format!("OK {host_port}\n")
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn a_greeting_names_a_port_and_nothing_else() {
        assert_eq!(port(b"CONNECT 0\n"), Some(0));
        assert_eq!(port(b"CONNECT 4294967295\n"), Some(u32::MAX));
        for other in
            ["CONNECT 4294967296\n", "CONNECT \n", "CONNECT +1\n", "CONNECT 1 \n", "1\n", "\n", "CONNECT 1"]
        {
            assert_eq!(port(other.as_bytes()), None, "{other}");
        }
    }
}
