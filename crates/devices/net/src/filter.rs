//! [`Filter`]: which packets the driver wants (virtio 1.3 §5.1.6.5.1 to §5.1.6.5.3).

use std::fmt;
use std::str::FromStr;
use vioduct_spec::net::{ADDRESS_LEN, CTRL_RX_MODE, CTRL_VLAN_FILTER, VLAN_IDS};
use vioduct_virtio_device::Features;

/// Addresses of either kind that are kept. A driver with more gets all packets of that kind, which it must be able to take
/// (virtio 1.3 §5.1.6.5.1.1: the device filters as well as it can).
pub(crate) const TABLE_LEN: usize = 64;
const VLAN_WORDS: usize = VLAN_IDS as usize / 64;
/// Length of a saved filter before its addresses: the card's address, modes, how many unicast and multicast addresses.
const SAVED_HEAD_LEN: usize = ADDRESS_LEN + 3;
/// Says that there are more addresses than are kept.
const OVERFLOW: u8 = u8::MAX;
const ETHERTYPE_AT: usize = 2 * ADDRESS_LEN;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0];

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address(pub [u8; ADDRESS_LEN]);

impl Address {
    const BROADCAST: Self = Self([0xff; ADDRESS_LEN]);

    /// Whether it is that of a group.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        let Self([first, ..]) = self;
        first & 1 != 0
    }
}

/// Six bytes in hexadecimal, with colons between them.
impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; ADDRESS_LEN];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the driver can switch on and off. The numbers are the commands of the control queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mode {
    Promiscuous = 0,
    AllMulticast = 1,
    AllUnicast = 2,
    NoMulticast = 3,
    NoUnicast = 4,
    NoBroadcast = 5,
}

impl Mode {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

const MODES: u8 = (1 << 6) - 1;

/// Addresses of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Table {
    Listed(Vec<Address>),
    /// More than are kept: every packet of this kind is wanted.
    Overflown,
}

impl Table {
    fn holds(&self, address: Address) -> bool {
        match self {
            Self::Listed(list) => list.contains(&address),
            Self::Overflown => true,
        }
    }

    fn saved_count(&self) -> u8 {
        match self {
            Self::Listed(list) => list.len() as u8,
            Self::Overflown => OVERFLOW,
        }
    }
}

impl FromIterator<Address> for Table {
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Self {
        let list: Vec<_> = addresses.into_iter().take(TABLE_LEN + 1).collect();
        if list.len() > TABLE_LEN { Self::Overflown } else { Self::Listed(list) }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter {
    address: Address,
    modes: u8,
    unicast: Table,
    multicast: Table,
    vlans: Box<[u64; VLAN_WORDS]>,
}

impl Filter {
    /// Until the driver says otherwise, all packets are wanted.
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            modes: Mode::Promiscuous.bit(),
            unicast: Table::Listed(Vec::new()),
            multicast: Table::Listed(Vec::new()),
            vlans: Box::new([0; VLAN_WORDS]),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn set_address(&mut self, address: Address) {
        self.address = address;
    }

    pub(crate) fn switch_on(&mut self, mode: Mode) {
        self.modes |= mode.bit();
    }

    pub(crate) fn switch_off(&mut self, mode: Mode) {
        self.modes &= !mode.bit();
    }

    pub(crate) fn set_tables(
        &mut self,
        unicast: impl Iterator<Item = Address>,
        multicast: impl Iterator<Item = Address>,
    ) {
        self.unicast = unicast.collect();
        self.multicast = multicast.collect();
    }

    /// Receives this VLAN's packets; `id` is below [`VLAN_IDS`], or there is no such VLAN.
    pub(crate) fn add_vlan(&mut self, id: u16) {
        if let Some(word) = self.vlans.get_mut(usize::from(id / 64)) {
            *word |= 1 << (id % 64);
        }
    }

    pub(crate) fn remove_vlan(&mut self, id: u16) {
        if let Some(word) = self.vlans.get_mut(usize::from(id / 64)) {
            *word &= !(1 << (id % 64));
        }
    }

    fn is(&self, mode: Mode) -> bool {
        self.modes & mode.bit() != 0
    }

    /// Whether the driver wants this packet, by what it has negotiated to say of that.
    pub(crate) fn wants(&self, frame: &[u8], negotiated: Features) -> bool {
        if self.is(Mode::Promiscuous) || !negotiated.contains(CTRL_RX_MODE) {
            return true;
        }
        let Some((destination, _)) = frame.split_first_chunk() else { return false };
        let destination = Address(*destination);
        if negotiated.contains(CTRL_VLAN_FILTER) && !self.wants_vlan(frame) {
            return false;
        }
        if destination == Address::BROADCAST {
            return !self.is(Mode::NoBroadcast);
        }
        if destination.is_multicast() {
            let all = self.is(Mode::AllMulticast);
            return !self.is(Mode::NoMulticast) && (all || self.multicast.holds(destination));
        }
        let known = || destination == self.address || self.unicast.holds(destination);
        !self.is(Mode::NoUnicast) && (self.is(Mode::AllUnicast) || known())
    }

    fn wants_vlan(&self, frame: &[u8]) -> bool {
        let Some((&[a, b, c, d], _)) = frame.get(ETHERTYPE_AT..).and_then(|rest| rest.split_first_chunk())
        else {
            return true;
        };
        if [a, b] != ETHERTYPE_VLAN {
            return true;
        }
        let id = u16::from_be_bytes([c, d]) % VLAN_IDS;
        self.vlans.get(usize::from(id / 64)).is_some_and(|word| word >> (id % 64) & 1 != 0)
    }

    pub(crate) fn save(&self) -> Vec<u8> {
        let Self { address, modes, unicast, multicast, vlans } = self;
        let mut state = address.0.to_vec();
        state.extend([*modes, unicast.saved_count(), multicast.saved_count()]);
        for table in [unicast, multicast] {
            if let Table::Listed(list) = table {
                list.iter().for_each(|address| state.extend(address.0));
            }
        }
        vlans.iter().for_each(|word| state.extend(word.to_le_bytes()));
        state
    }

    /// What was saved, unless it is nothing that [`save`](Self::save) gives.
    pub(crate) fn restored(state: &[u8]) -> Option<Self> {
        let (head, rest) = state.split_first_chunk::<SAVED_HEAD_LEN>()?;
        let (address, &[modes, unicast, multicast]) = head.split_first_chunk()? else { return None };
        if modes & !MODES != 0 {
            return None;
        }
        let (unicast, rest) = restored_table(unicast, rest)?;
        let (multicast, rest) = restored_table(multicast, rest)?;
        if rest.len() != VLAN_WORDS * 8 {
            return None;
        }
        let mut vlans = Box::new([0; VLAN_WORDS]);
        for (word, bytes) in vlans.iter_mut().zip(rest.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Self { address: Address(*address), modes, unicast, multicast, vlans })
    }
}

fn restored_table(count: u8, state: &[u8]) -> Option<(Table, &[u8])> {
    if count == OVERFLOW {
        return Some((Table::Overflown, state));
    }
    if usize::from(count) > TABLE_LEN {
        return None;
    }
    let (addresses, rest) = state.split_at_checked(usize::from(count) * ADDRESS_LEN)?;
    Some((addresses.as_chunks().0.iter().map(|bytes| Address(*bytes)).collect(), rest))
}
