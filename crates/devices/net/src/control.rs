//! [`Control`]: serves the control queue (virtio 1.3 §5.1.6.5).

use crate::cable::Link;
use crate::filter::{Address, Mode};
use crate::handler::{CABLE, tell_of};
use crate::port::{Port, Presence, Shared, Tells};
use std::fmt;
use std::io;
use std::sync::Arc;
use vioduct_spec::net::*;
use vioduct_virtio_device::{
    BufferError, Chain, Fault, Features, Interest, Io, QueueHandler, SourceId, Wake,
};

/// The port may be gone.
const NEWS: SourceId = SourceId(2);
/// Longest command, in bytes: two tables of a thousand addresses. It is copied once, and the copy is used (row 34 of the hostile
/// peers).
const MAX_COMMAND_BYTES: usize = 16 << 10;

pub(crate) struct Control {
    pub(crate) port: Arc<dyn Port>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) negotiated: Features,
    pub(crate) tells: Tells,
    /// Pairs of queues that the driver may use.
    pub(crate) max_pairs: u16,
}

/// What the driver wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command<'c> {
    SwitchOn(Mode),
    SwitchOff(Mode),
    Tables { unicast: &'c [[u8; ADDRESS_LEN]], multicast: &'c [[u8; ADDRESS_LEN]] },
    Address(Address),
    AddVlan(u16),
    RemoveVlan(u16),
    Acknowledge,
    Pairs(u16),
    Offloads(Features),
}

/// Why a command is answered by an error.
#[derive(Debug)]
enum Refused {
    Unknown { class: u8, command: u8 },
    Malformed { class: u8, command: u8 },
    OutOfRange(u64),
    Port(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { class, command } => {
                write!(f, "command {class}.{command} is unknown, or was not negotiated")
            }
            Self::Malformed { class, command } => {
                write!(f, "command {class}.{command} has data of a wrong length")
            }
            Self::OutOfRange(value) => write!(f, "a command's {value} is out of range"),
            Self::Port(error) => write!(f, "the port refuses: {error}"),
        }
    }
}

impl<'c> Command<'c> {
    /// Decodes what was negotiated (row 31 of the hostile peers).
    fn parse(bytes: &'c [u8], negotiated: Features) -> Result<Self, Refused> {
        let Some((&[class, command], data)) = bytes.split_first_chunk::<COMMAND_LEN>() else {
            return Err(Refused::Malformed { class: 0, command: 0 });
        };
        let needs = match (class, command) {
            (CTRL_RX, CTRL_RX_PROMISC | CTRL_RX_ALLMULTI) | (CTRL_MAC, CTRL_MAC_TABLE_SET) => CTRL_RX_MODE,
            (CTRL_RX, CTRL_RX_ALLUNI..=CTRL_RX_NOBCAST) => CTRL_RX_EXTRA,
            (CTRL_MAC, CTRL_MAC_ADDRESS_SET) => CTRL_MAC_ADDR,
            (CTRL_VLAN, CTRL_VLAN_ADD | CTRL_VLAN_DEL) => CTRL_VLAN_FILTER,
            (CTRL_ANNOUNCE, CTRL_ANNOUNCE_ACK) => GUEST_ANNOUNCE,
            (CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET) => MQ,
            (CTRL_OFFLOADS, CTRL_GUEST_OFFLOADS_SET) => CTRL_GUEST_OFFLOADS,
            _ => return Err(Refused::Unknown { class, command }),
        };
        if !negotiated.contains(needs) {
            return Err(Refused::Unknown { class, command });
        }
        Self::decode(class, command, data).unwrap_or(Err(Refused::Malformed { class, command }))
    }

    /// `None` for data of a wrong length.
    fn decode(class: u8, command: u8, data: &'c [u8]) -> Option<Result<Self, Refused>> {
        let word = || data.try_into().map(u16::from_le_bytes).ok();
        let address = || data.try_into().map(Address).ok();
        Some(match (class, command) {
            (CTRL_RX, _) => switched(command, data.try_into().ok()?),
            (CTRL_MAC, CTRL_MAC_TABLE_SET) => Ok(tables(data)?),
            (CTRL_MAC, _) => Ok(Self::Address(address()?)),
            (CTRL_VLAN, CTRL_VLAN_ADD) => vlan(word()?).map(Self::AddVlan),
            (CTRL_VLAN, _) => vlan(word()?).map(Self::RemoveVlan),
            (CTRL_ANNOUNCE, _) => Ok(Self::Acknowledge),
            (CTRL_MQ, _) => Ok(Self::Pairs(word()?)),
            _ => Ok(Self::Offloads(Features(u64::from_le_bytes(data.try_into().ok()?)))),
        })
    }
}

fn switched<'c>(command: u8, [on]: [u8; 1]) -> Result<Command<'c>, Refused> {
    let mode = match command {
        CTRL_RX_PROMISC => Mode::Promiscuous,
        CTRL_RX_ALLMULTI => Mode::AllMulticast,
        CTRL_RX_ALLUNI => Mode::AllUnicast,
        CTRL_RX_NOMULTI => Mode::NoMulticast,
        CTRL_RX_NOUNI => Mode::NoUnicast,
        _ => Mode::NoBroadcast,
    };
    match on {
        0 => Ok(Command::SwitchOff(mode)),
        1 => Ok(Command::SwitchOn(mode)),
        other => Err(Refused::OutOfRange(other.into())),
    }
}

/// Row 35 of the hostile peers.
fn vlan(id: u16) -> Result<u16, Refused> {
    if id < VLAN_IDS { Ok(id) } else { Err(Refused::OutOfRange(id.into())) }
}

/// virtio 1.3 §5.1.6.5.2: the counts are the driver's, and must be those of what is there.
fn tables(data: &[u8]) -> Option<Command<'_>> {
    let (unicast, rest) = table(data)?;
    let (multicast, rest) = table(rest)?;
    rest.is_empty().then_some(Command::Tables { unicast, multicast })
}

fn table(data: &[u8]) -> Option<(&[[u8; ADDRESS_LEN]], &[u8])> {
    let (count, rest) = data.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(ADDRESS_LEN)?;
    let (addresses, rest) = rest.split_at_checked(len)?;
    Some((addresses.as_chunks().0, rest))
}

fn addresses(table: &[[u8; ADDRESS_LEN]]) -> impl Iterator<Item = Address> + '_ {
    table.iter().map(|bytes| Address(*bytes))
}

impl Control {
    fn answer(&self, chain: &Chain) -> Result<u32, BufferError> {
        let status = match self.carry_out(chain)? {
            Ok(()) => CTRL_OK,
            Err(refused) => {
                self.shared.say(format_args!("{refused}"));
                CTRL_ERR
            }
        };
        chain.writer().write_all(&[status])?;
        Ok(1)
    }

    fn carry_out(&self, chain: &Chain) -> Result<Result<(), Refused>, BufferError> {
        let mut bytes = [0; MAX_COMMAND_BYTES];
        if chain.readable_len() > MAX_COMMAND_BYTES as u64 {
            return Ok(Err(Refused::OutOfRange(chain.readable_len())));
        }
        let len = chain.reader().read(&mut bytes)?;
        let command = Command::parse(bytes.get(..len).unwrap_or_default(), self.negotiated);
        Ok(command.and_then(|command| self.execute(command)))
    }

    fn execute(&self, command: Command<'_>) -> Result<(), Refused> {
        let mut filter = self.shared.filter();
        match command {
            Command::SwitchOn(mode) => filter.switch_on(mode),
            Command::SwitchOff(mode) => filter.switch_off(mode),
            Command::Tables { unicast, multicast } => {
                filter.set_tables(addresses(unicast), addresses(multicast));
            }
            Command::Address(address) => filter.set_address(address),
            Command::AddVlan(id) => filter.add_vlan(id),
            Command::RemoveVlan(id) => filter.remove_vlan(id),
            Command::Acknowledge => self.shared.cable.acknowledge(),
            Command::Pairs(count) => return self.set_pairs(count),
            Command::Offloads(taken) => return self.set_offloads(taken),
        }
        Ok(())
    }

    /// virtio 1.3 §5.1.6.5.5: from 1 to as many as there are.
    fn set_pairs(&self, count: u16) -> Result<(), Refused> {
        if count == 0 || count > self.max_pairs {
            return Err(Refused::OutOfRange(count.into()));
        }
        self.port.set_pairs(count).map_err(Refused::Port)?;
        self.shared.set_pairs(count);
        Ok(())
    }

    /// virtio 1.3 §5.1.6.5.6.1: none that was not negotiated.
    fn set_offloads(&self, taken: Features) -> Result<(), Refused> {
        if !taken.without(self.negotiated & GUEST_OFFLOADS).is_empty() {
            return Err(Refused::OutOfRange(taken.0));
        }
        self.port.set_offloads(taken).map_err(Refused::Port)?;
        self.shared.set_offloads(taken);
        Ok(())
    }
}

impl Control {
    /// Where the queues of packets are served elsewhere, nobody but this notices that the port is gone.
    fn listen(&self, io: &mut Io<'_>) -> Result<(), Fault> {
        let Some(news) = self.port.news() else { return Ok(()) };
        io.watch(news, NEWS, Interest::Readable)
            .map_err(|error| Fault::Device(format!("cannot wait for the system's news: {error}").into()))?;
        self.hear(io);
        Ok(())
    }

    /// A port that was taken away is a cable that is out.
    fn hear(&self, io: &mut Io<'_>) {
        let Presence::Gone = self.port.hear() else { return };
        self.port.news().map(|news| io.unwatch(news));
        self.shared.say(format_args!("what the card was plugged into is gone"));
        self.shared.cable.set_link(Link::Down);
    }
}

impl QueueHandler for Control {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => {
                tell_of(self.tells, &self.shared, io)?;
                self.listen(io)
            }
            Wake::Kick(q) => io.serve(q, |chain| self.answer(chain)),
            Wake::Source(CABLE) => {
                self.shared.cable.tell(|| io.config_changed());
                Ok(())
            }
            Wake::Source(NEWS) => {
                self.hear(io);
                Ok(())
            }
            Wake::Source(_) => Ok(()),
            Wake::Stopping(_) => {
                let _ = io.unwatch(self.shared.cable.changed());
                self.port.news().map(|news| io.unwatch(news));
                Ok(())
            }
        }
    }
}
