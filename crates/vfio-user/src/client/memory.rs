//! The guest's memory: shown to the server, and read and written for it where it asks.

use crate::client::peer::{Peer, Trouble};
use crate::wire::{
    Answer, Command, DmaMap, DmaUnmap, Fields, Header, Kind, MAX_DATA_LEN, Message, Payload, Refusal,
};
use std::sync::{Arc, PoisonError, RwLock};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{Access, IoAddr, Memory};

/// The memory that the server may reach.
pub(super) struct GuestMemory {
    /// For what it asks for; what it has mapped it reaches by itself.
    map: RwLock<Arc<MemoryMap>>,
}

impl GuestMemory {
    pub(super) fn new(map: Arc<MemoryMap>) -> Self {
        Self { map: RwLock::new(map) }
    }

    fn map(&self) -> Arc<MemoryMap> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows all of it to the server: regions with a file by its descriptor, the others for the server to ask for.
    pub(super) fn share(&self, peer: &Peer) -> Result<(), Trouble> {
        for (region, file) in self.map().regions() {
            let file = file.filter(|_| peer.capabilities.max_msg_fds > 0);
            let (fd, offset) = file.map_or((None, 0), |(fd, offset)| (Some(fd), offset));
            let map = DmaMap { access: region.access, offset, address: region.at.0, len: region.len };
            peer.dma_map(&map, fd)?;
        }
        Ok(())
    }

    /// The same with other memory. When the server has let go of the one before, nothing of it is used any more.
    pub(super) fn replace(&self, peer: &Peer, map: Arc<MemoryMap>) -> Result<(), Trouble> {
        for (region, _) in self.map().regions() {
            peer.dma_unmap(DmaUnmap::One { address: region.at.0, len: region.len })?;
        }
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = map;
        self.share(peer)
    }

    /// Does as the server asks, until the connection ends; why it ended.
    pub(super) fn serve(&self, peer: &Peer) -> &'static str {
        loop {
            match peer.calls().next_command() {
                Ok(message) if message.header.kind() == Kind::Command => self.answer(peer, &message),
                Ok(_) => return peer.close("it sends what is neither a command nor a reply"),
                Err(why) => return peer.close(why),
            }
        }
    }

    fn answer(&self, peer: &Peer, message: &Message) {
        let header = message.header;
        let outcome = self.obey(header, &message.payload);
        if let Err(refusal) = outcome {
            tracing::debug!(command = header.command, "vfio-user server refused: {refusal:?}");
        }
        match (header.answer(), outcome) {
            (Answer::Unwanted, _) => {}
            (Answer::Wanted, Ok(payload)) => {
                peer.calls().send(header.reply(payload.len()), &[&payload], &[]);
            }
            (Answer::Wanted, Err(refusal)) => peer.calls().send(header.refusal(refusal), &[], &[]),
        }
    }

    fn obey(&self, header: Header, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let commands = [Command::DmaRead, Command::DmaWrite];
        let command = commands.into_iter().find(|command| *command as u16 == header.command);
        let command = command.ok_or(Refusal::Unsupported)?;
        let mut fields = Fields::new(payload);
        let (Some(address), Some(count)) = (fields.u64(), fields.u64()) else { return Err(Refusal::Invalid) };
        let count = usize::try_from(count).ok().filter(|count| *count <= MAX_DATA_LEN);
        let count = count.ok_or(Refusal::TooMuch)?;
        let head = Payload::default().u64(address).u64(count as u64);
        let (map, at) = (self.map(), IoAddr(address));
        match command {
            Command::DmaRead if fields.rest().is_empty() => {
                let mut data = vec![0; count];
                map.read(at, &mut data).map_err(|_| Refusal::Invalid)?;
                Ok(head.bytes(&data).into_bytes())
            }
            Command::DmaWrite if fields.rest().len() == count => {
                // All of it or nothing.
                is_writable(&map, address, count as u64).then_some(()).ok_or(Refusal::Invalid)?;
                map.write(at, fields.rest()).map_err(|_| Refusal::Invalid)?;
                Ok(head.into_bytes())
            }
            _ => Err(Refusal::Invalid),
        }
    }
}

/// Whether regions that may be written have all of `len` bytes at `address`.
fn is_writable(map: &MemoryMap, address: u64, len: u64) -> bool {
    let Some(end) = address.checked_add(len) else { return false };
    let mut here = address;
    while here < end {
        match map.region(IoAddr(here)) {
            Some(region) if region.access.allows(Access::Write) => here = region.at.0 + region.len,
            _ => return false,
        }
    }
    true
}
