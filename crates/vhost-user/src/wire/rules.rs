//! Every request that a front-end may send, as a table: payload, descriptors, reply, and the protocol feature that it needs.

use super::payload::CONFIG_HEADER_LEN;
use super::{MAX_CONFIG_LEN, MAX_FDS};
use std::ops::RangeInclusive;

/// A set of protocol features, which concern the connection and not the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProtocolFeatures(pub(crate) u64);

impl ProtocolFeatures {
    pub(crate) const NONE: Self = Self(0);
    /// The number of queues can be asked for.
    pub(crate) const MQ: Self = Self(1 << 0);
    /// The dirty log is shared memory.
    pub(crate) const LOG_SHMFD: Self = Self(1 << 1);
    /// Any request can be answered.
    pub(crate) const REPLY_ACK: Self = Self(1 << 3);
    /// There is a channel for requests of the back-end.
    pub(crate) const BACKEND_REQ: Self = Self(1 << 5);
    /// The configuration space is the back-end's.
    pub(crate) const CONFIG: Self = Self(1 << 9);
    /// What is in flight is recorded in shared memory.
    pub(crate) const INFLIGHT_SHMFD: Self = Self(1 << 12);
    /// The device can be reset.
    pub(crate) const RESET_DEVICE: Self = Self(1 << 13);
    /// Notifications can be messages.
    pub(crate) const INBAND_NOTIFICATIONS: Self = Self(1 << 14);
    /// Memory regions come and go one by one.
    pub(crate) const CONFIGURE_MEM_SLOTS: Self = Self(1 << 15);
    /// The device status is passed on.
    pub(crate) const STATUS: Self = Self(1 << 16);
    /// The device's own state can be saved and loaded.
    pub(crate) const DEVICE_STATE: Self = Self(1 << 19);

    /// What every server offers.
    pub(crate) const OFFERED: Self = Self::MQ
        .with(Self::LOG_SHMFD)
        .with(Self::REPLY_ACK)
        .with(Self::BACKEND_REQ)
        .with(Self::CONFIG)
        .with(Self::INFLIGHT_SHMFD)
        .with(Self::RESET_DEVICE)
        .with(Self::INBAND_NOTIFICATIONS)
        .with(Self::CONFIGURE_MEM_SLOTS)
        .with(Self::STATUS)
        .with(Self::DEVICE_STATE);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How long a payload may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    Exactly(usize),
    /// Two lengths: with the padding that C gives a structure, and without.
    Either(usize, usize),
    /// Up to eight memory regions.
    Regions,
    /// A piece of configuration space.
    Config,
}

impl Payload {
    pub(crate) fn accepts(self, len: usize) -> bool {
        match self {
            Self::Exactly(wanted) => len == wanted,
            Self::Either(one, other) => len == one || len == other,
            Self::Regions => (0..=MAX_FDS).any(|count| len == Self::table_len(count)),
            Self::Config => (CONFIG_HEADER_LEN..=CONFIG_HEADER_LEN + MAX_CONFIG_LEN).contains(&len),
        }
    }

    /// Length of a memory table of `count` regions.
    pub(super) const fn table_len(count: usize) -> usize {
        const HEADER_LEN: usize = 8;
        const REGION_LEN: usize = 32;
        HEADER_LEN + count * REGION_LEN
    }
}

/// What answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// Nothing, or with `REPLY_ACK`, if asked for, whether it succeeded.
    Status,
    /// A reply of its own, always.
    Own,
}

/// What is known of a request before its payload is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    pub(crate) payload: Payload,
    pub(crate) fds: RangeInclusive<usize>,
    pub(crate) reply: Reply,
    pub(crate) needs: ProtocolFeatures,
}

macro_rules! requests {
    ($($name:ident = $number:literal: $payload:expr, $fds:expr, $reply:ident, $needs:ident;)*) => {
        /// A request of the front-end.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub(crate) enum Request {
            $($name = $number,)*
        }

        impl Request {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            pub(crate) fn rule(self) -> Rule {
                match self {
                    $(Self::$name => Rule {
                        payload: $payload,
                        fds: $fds,
                        reply: Reply::$reply,
                        needs: ProtocolFeatures::$needs,
                    },)*
                }
            }
        }
    };
}

use Payload::{Config, Either, Exactly, Regions};

requests! {
    // name           number  payload          fds           reply   needs
    GetFeatures         =  1: Exactly(0),      0..=0,        Own,    NONE;
    SetFeatures         =  2: Exactly(8),      0..=0,        Status, NONE;
    SetOwner            =  3: Exactly(0),      0..=0,        Status, NONE;
    ResetOwner          =  4: Exactly(0),      0..=0,        Status, NONE;
    SetMemTable         =  5: Regions,         0..=MAX_FDS,  Status, NONE;
    SetLogBase          =  6: Exactly(16),     1..=1,        Own,    LOG_SHMFD;
    SetLogFd            =  7: Exactly(0),      1..=1,        Status, NONE;
    SetVringNum         =  8: Exactly(8),      0..=0,        Status, NONE;
    SetVringAddr        =  9: Exactly(40),     0..=0,        Status, NONE;
    SetVringBase        = 10: Exactly(8),      0..=0,        Status, NONE;
    GetVringBase        = 11: Exactly(8),      0..=0,        Own,    NONE;
    SetVringKick        = 12: Exactly(8),      0..=1,        Status, NONE;
    SetVringCall        = 13: Exactly(8),      0..=1,        Status, NONE;
    SetVringErr         = 14: Exactly(8),      0..=1,        Status, NONE;
    GetProtocolFeatures = 15: Exactly(0),      0..=0,        Own,    NONE;
    SetProtocolFeatures = 16: Exactly(8),      0..=0,        Status, NONE;
    // "in queried protocol features": it may come before they are set.
    GetQueueNum         = 17: Exactly(0),      0..=0,        Own,    NONE;
    SetVringEnable      = 18: Exactly(8),      0..=0,        Status, NONE;
    SetBackendReqFd     = 21: Exactly(0),      1..=1,        Status, BACKEND_REQ;
    GetConfig           = 24: Config,          0..=0,        Own,    CONFIG;
    SetConfig           = 25: Config,          0..=0,        Status, CONFIG;
    GetInflightFd       = 31: Either(20, 24),  0..=0,        Own,    INFLIGHT_SHMFD;
    SetInflightFd       = 32: Either(20, 24),  1..=1,        Status, INFLIGHT_SHMFD;
    ResetDevice         = 34: Exactly(0),      0..=0,        Status, RESET_DEVICE;
    VringKick           = 35: Exactly(8),      0..=0,        Status, INBAND_NOTIFICATIONS;
    GetMaxMemSlots      = 36: Exactly(0),      0..=0,        Own,    CONFIGURE_MEM_SLOTS;
    AddMemReg           = 37: Exactly(40),     1..=1,        Status, CONFIGURE_MEM_SLOTS;
    // Some front-ends send a descriptor, which the specification has us close.
    RemMemReg           = 38: Exactly(40),     0..=1,        Status, CONFIGURE_MEM_SLOTS;
    SetStatus           = 39: Exactly(8),      0..=0,        Status, STATUS;
    GetStatus           = 40: Exactly(0),      0..=0,        Own,    STATUS;
    SetDeviceStateFd    = 42: Exactly(8),      1..=1,        Own,    DEVICE_STATE;
    CheckDeviceState    = 43: Exactly(0),      0..=0,        Own,    DEVICE_STATE;
}
