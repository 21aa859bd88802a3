//! VERSION: the first message of a client, and the capabilities of both ends.

use super::{Fields, MAX_DATA_LEN, MAX_FDS, OFFERED_FDS};
use crate::dma::MAX_MAPPINGS;
use serde::{Deserialize, Serialize};

/// The version spoken.
const MAJOR: u16 = 0;
const MINOR: u16 = 0;
/// What is said to clients that have said theirs.
const MIGRATION: MigrationCapability =
    MigrationCapability { pgsize: PAGE_SIZES, max_bitmap_size: MAX_DATA_LEN as u64 };
/// The pages that mappings are made of, in bytes.
const PAGE_SIZES: u64 = 4096;

/// What a client proposes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct VersionRequest {
    pub(crate) capabilities: Capabilities,
}

/// What the other end can do, where it says so; what is not known here is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    /// Descriptors that it takes in one message.
    pub(crate) max_msg_fds: u64,
    /// Bytes of data that it takes in one message.
    pub(crate) max_data_xfer_size: u64,
    pub(crate) max_dma_maps: u64,
    pub(crate) pgsizes: u64,
    pub(crate) write_multiple: bool,
    /// Of the protocol before its version 0.1, which knew states and dirty pages by it; some clients go on to send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) migration: Option<MigrationCapability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    twin_socket: Option<TwinSocketCapability>,
}

/// A socket for commands of the server's and their replies: whether the sender knows of it, and, in the reply, which descriptor it
/// is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TwinSocketCapability {
    supported: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd_index: Option<u64>,
}

/// Whether a reply comes with a socket for commands of the server's, as its only descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TwinSocket {
    Offered,
    Absent,
}

impl Capabilities {
    /// Whether the sender takes a socket for commands of the server's.
    pub(crate) fn wants_twin_socket(&self) -> bool {
        self.max_msg_fds > 0 && self.twin_socket.is_some_and(|twin| twin.supported)
    }
}

/// Dirty pages: their length, and how many bytes of bitmap may be asked for at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MigrationCapability {
    pgsize: u64,
    max_bitmap_size: u64,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_msg_fds: 1,
            max_data_xfer_size: MAX_DATA_LEN as u64,
            max_dma_maps: 65535,
            pgsizes: PAGE_SIZES,
            write_multiple: false,
            migration: None,
            twin_socket: None,
        }
    }
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct VersionData {
    capabilities: Capabilities,
}

impl VersionRequest {
    /// `None` for another major version, and for data that are not JSON, end without NUL or are of other types than they should.
    pub(super) fn decode(mut fields: Fields<'_>) -> Option<Self> {
        let (major, _minor) = (fields.u16()?, fields.u16()?);
        if major != MAJOR {
            return None;
        }
        let data = match fields.rest() {
            [] => VersionData::default(),
            [json @ .., 0] => serde_json::from_slice(json).ok()?,
            _ => return None,
        };
        // A client that takes no data cannot reply to a DMA_READ, nor read a region.
        (data.capabilities.max_data_xfer_size > 0).then_some(Self { capabilities: data.capabilities })
    }
}

/// The payload by which a client proposes: what it can do, and that it knows of twin sockets.
pub(crate) fn version_request() -> Vec<u8> {
    payload(Capabilities {
        max_msg_fds: MAX_FDS as u64,
        twin_socket: Some(TwinSocketCapability { supported: true, fd_index: None }),
        ..Capabilities::default()
    })
}

/// What a server can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VersionReply {
    pub(crate) capabilities: Capabilities,
    /// Which of the reply's descriptors is a socket for commands of the server's.
    pub(crate) twin_socket: Option<usize>,
}

impl VersionReply {
    /// `None` for what a client cannot have asked for, as of a request.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let VersionRequest { capabilities } = VersionRequest::decode(Fields::new(payload))?;
        let twin = capabilities.twin_socket.filter(|twin| twin.supported);
        let index = twin.map(|twin| usize::try_from(twin.fd_index?).ok());
        Some(Self {
            capabilities,
            twin_socket: match index {
                None => None,
                Some(index) => Some(index?),
            },
        })
    }
}

/// The payload of the reply. The minor version is 0, which every client of the same major version speaks.
pub(crate) fn version_reply(client: &Capabilities, twin_socket: TwinSocket) -> Vec<u8> {
    let capabilities = Capabilities {
        max_msg_fds: OFFERED_FDS as u64,
        max_data_xfer_size: MAX_DATA_LEN as u64,
        max_dma_maps: MAX_MAPPINGS as u64,
        pgsizes: PAGE_SIZES,
        write_multiple: client.write_multiple,
        migration: client.migration.map(|_| MIGRATION),
        twin_socket: match twin_socket {
            TwinSocket::Offered => Some(TwinSocketCapability { supported: true, fd_index: Some(0) }),
            TwinSocket::Absent => None,
        },
    };
    payload(capabilities)
}

fn payload(capabilities: Capabilities) -> Vec<u8> {
    let json = serde_json::to_vec(&VersionData { capabilities })
        .expect("invariant: numbers and booleans have a JSON form");
    [&MAJOR.to_ne_bytes()[..], &MINOR.to_ne_bytes(), &json, &[0]].concat()
}
