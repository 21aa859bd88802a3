//! Stream sockets between a guest and its host, a hundred connections each way at a time: every byte that comes is compared with the
//! one that it must be.
//!
//! The guest's program uses `AF_VSOCK`. The host's is this one, too: with `AF_VSOCK` where the kernel serves the device, and with Unix
//! sockets where `vioduct` does.

mod content;
mod way;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use vioduct_spec::Features;

use crate::verdict::must_hold;
use crate::{Failure, bus};
use content::{Content, Speaker, Table};
use way::Way;

/// What this process does of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    side: Side,
    /// How much goes through all connections together, at least, in MiB.
    amount_mib: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Guest,
    /// On a host, whose programs reach the guest so.
    Host(Way),
}

/// Linux's own, of socket devices.
const DRIVER: &str = "vmw_vsock_virtio_transport";
/// Connections that each side makes.
const PARALLEL: u32 = 100;
/// The host's port for the connection by which the sides begin and end together.
const MEETING: u32 = 1023;
/// The host's port that the guest calls, and the guest's that the host calls.
const HOST_PORT: u32 = 52;
const GUEST_PORT: u32 = 1234;

impl Part {
    /// `guest`, `host-unix` or `host-vsock`, and the amount; behind that of `host-unix` the device's socket, if it is not the usual one.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let (side, amount_mib) = match words {
            ["guest", amount_mib] => (Side::Guest, amount_mib),
            ["host-unix", amount_mib] => (Side::Host(Way::Unix(way::PATH.into())), amount_mib),
            ["host-unix", amount_mib, path] => (Side::Host(Way::Unix((*path).into())), amount_mib),
            ["host-vsock", amount_mib] => (Side::Host(Way::GUEST), amount_mib),
            _ => return None,
        };
        Some(Self { side, amount_mib: amount_mib.parse().ok()? })
    }

    /// Bytes that each end of a connection says, so that all together say the amount.
    fn share_bytes(&self) -> u64 {
        (self.amount_mib << 20).div_ceil(4 * u64::from(PARALLEL))
    }
}

pub(crate) fn run(part: &Part) -> Result<(), Failure> {
    if part.side == Side::Guest {
        print_addresses()?;
    }
    match &part.side {
        Side::Guest => guest(part.share_bytes()),
        Side::Host(way) => host(way, part.share_bytes()),
    }
    .map_err(|error| Failure::Lab(format!("sockets: {error}")))
}

fn print_addresses() -> Result<(), Failure> {
    let devices = bus::negotiated(DRIVER)?;
    if devices.iter().any(|features| features.contains(Features::ACCESS_PLATFORM)) {
        println!("the device has addresses of its platform's");
    }
    Ok(())
}

/// The host is there first, and begins once the guest has come.
fn host(way: &Way, share_bytes: u64) -> io::Result<()> {
    let (meeting, calls) = (way.listen(MEETING)?, way.listen(HOST_PORT)?);
    println!("ready for the guest");
    let mut meeting = accept(&meeting)?;
    converse(way, GUEST_PORT, &calls, PARALLEL, share_bytes)?;
    // The guest goes when it hears this, and the connections with it.
    meeting.write_all(b"done\n")
}

/// The guest can be called when it comes to the meeting.
fn guest(share_bytes: u64) -> io::Result<()> {
    let calls = Way::HOST.listen(GUEST_PORT)?;
    let mut meeting = BufReader::new(Way::HOST.connect(MEETING)?);
    converse(&Way::HOST, HOST_PORT, &calls, 0, share_bytes)?;
    let mut answer = String::new();
    meeting.read_line(&mut answer)?;
    must_hold(answer == "done\n", "the host has not heard all that was said")
}

fn accept(calls: &OwnedFd) -> io::Result<UnixStream> {
    // It reads, writes and shuts down, which all stream sockets do alike.
    Ok(rustix::net::accept(calls)?.into())
}

/// Calls the other side as often as it calls; when all connections are there, all is said and heard at a time.
fn converse(way: &Way, port: u32, calls: &OwnedFd, first: u32, share_bytes: u64) -> io::Result<()> {
    let (start, table) = (Instant::now(), Table::new());
    let mut connections = connect_all(way, port, calls, first)?;
    connections.sort_unstable_by_key(|(number, ..)| *number);
    let numbers = connections.iter().map(|(number, ..)| *number);
    must_hold(numbers.eq(0..2 * PARALLEL), "a connection came twice, or not at all")?;
    thread::scope(|scope| {
        let talks = connections.iter().map(|(number, speaker, stream)| {
            let said = Content { number: *number, speaker: *speaker, len_bytes: share_bytes };
            let table = &table;
            scope.spawn(move || table.talk(stream, said))
        });
        let talks: Vec<_> = talks.collect();
        talks.into_iter().try_for_each(|talk| talk.join().unwrap_or_else(|_| Err(panicked())))
    })?;
    let (bytes, time) = (share_bytes * 2 * u64::from(PARALLEL), start.elapsed());
    println!("{} connections at a time: {bytes} bytes have come, and are right, in {time:.1?}", 2 * PARALLEL);
    Ok(())
}

type Connection = (u32, Speaker, UnixStream);

/// Every connection, those of either side; it begins with its number, which whoever calls gives it.
fn connect_all(way: &Way, port: u32, calls: &OwnedFd, first: u32) -> io::Result<Vec<Connection>> {
    thread::scope(|scope| {
        let calling = (first..first + PARALLEL).map(|number| {
            scope.spawn(move || {
                let mut stream = way.connect(port)?;
                stream.write_all(&number.to_le_bytes())?;
                Ok((number, Speaker::Caller, stream))
            })
        });
        let calling: Vec<_> = calling.collect();
        let called = (0..PARALLEL).map(|_| {
            let mut stream = accept(calls)?;
            let mut number = [0; 4];
            stream.read_exact(&mut number)?;
            Ok((u32::from_le_bytes(number), Speaker::Called, stream))
        });
        let mut connections = called.collect::<io::Result<Vec<Connection>>>()?;
        for call in calling {
            connections.push(call.join().unwrap_or_else(|_| Err(panicked()))?);
        }
        Ok(connections)
    })
}

fn panicked() -> io::Error {
    io::Error::other("a connection's thread has panicked")
}

impl Table {
    /// Says all, and hears all to its end.
    fn talk(&self, stream: &UnixStream, said: Content) -> io::Result<()> {
        let outcome = thread::scope(|scope| {
            let speaking = scope.spawn(|| {
                self.say(stream, said)?;
                stream.shutdown(Shutdown::Write)
            });
            // Whoever speaks to a side that hears no more would do so for ever.
            let heard =
                self.hear(stream, said.answer()).inspect_err(|_| drop(stream.shutdown(Shutdown::Both)));
            heard.and(speaking.join().unwrap_or_else(|_| Err(panicked())))
        });
        // Other connections may wait, and nobody would hear of this one.
        let failed = |error: &io::Error| eprintln!("vioduct-guest: connection {}: {error}", said.number);
        outcome.inspect_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_say_no_less_than_they_are_told() {
        let part = Part::parse(&["guest", "1024"]).unwrap();
        assert!(part.share_bytes() * 4 * u64::from(PARALLEL) >= 1 << 30);
    }

    #[test]
    fn a_part_is_named_with_what_it_needs() {
        let side = |words: &[&str]| Part::parse(words).map(|part| part.side);
        let by = |path: &str| Some(Side::Host(Way::Unix(path.into())));
        assert_eq!(side(&["host-unix", "1"]), by("/run/guest3/vsock"));
        assert_eq!(side(&["host-unix", "1", "a/v"]), by("a/v"));
        assert_eq!(side(&["host-vsock", "1"]), Some(Side::Host(Way::GUEST)));
        let wrong: [&[&str]; 5] =
            [&["host", "1"], &["guest", ""], &["guest", "-1"], &["guest", "1", "a/v"], &["guest"]];
        for words in wrong {
            assert_eq!(side(words), None, "{words:?}");
        }
    }

    #[test]
    fn talks_end_well_unless_other_bytes_come() {
        let table = Table::new();
        let ours = Content { number: 3, speaker: Speaker::Caller, len_bytes: 300_000 };
        let talk = |theirs: Content| {
            let (one, other) = UnixStream::pair().unwrap();
            thread::scope(|scope| {
                let other = scope.spawn(|| table.talk(&other, theirs));
                (table.talk(&one, ours), other.join().unwrap())
            })
        };
        let (one, other) = talk(ours.answer());
        assert!(one.is_ok() && other.is_ok(), "{one:?}, {other:?}");
        for theirs in
            [Content { number: 4, ..ours.answer() }, ours, Content { len_bytes: 299_999, ..ours.answer() }]
        {
            let (one, other) = talk(theirs);
            assert!(one.is_err() && other.is_err(), "{theirs:?}: {one:?}, {other:?}");
        }
    }
}
