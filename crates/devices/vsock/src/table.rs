//! [`Table`]: all connections, within their limits, and whose turn it is.

use crate::connection::{Connection, Ports};
use std::collections::{HashMap, VecDeque};

/// Connections at a time, at most.
pub const MAX_CONNECTIONS: usize = 1024;
/// The host's ports of connections that host programs want: from here on, where no program listens.
const FIRST_HOST_PORT: u32 = 1 << 30;

#[derive(Debug)]
pub(crate) struct Table {
    places: Vec<Place>,
    free: Vec<usize>,
    by_ports: HashMap<Ports, usize>,
    /// The places whose connections may have something to say, each once, in their turn.
    turns: VecDeque<usize>,
    next_host_port: u32,
}

#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    /// Whether it is among those whose turn comes.
    in_turn: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_ports: HashMap::new(),
            turns: VecDeque::new(),
            next_host_port: FIRST_HOST_PORT,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() >= MAX_CONNECTIONS
    }

    pub(crate) fn find(&self, ports: Ports) -> Option<usize> {
        self.by_ports.get(&ports).copied()
    }

    pub(crate) fn get(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.connection.as_mut()
    }

    /// Takes a connection in, of ports that no other has, if there is a place.
    pub(crate) fn insert(&mut self, connection: Connection) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.by_ports.insert(connection.ports(), place);
        self.places.get_mut(place)?.connection = Some(connection);
        self.changed(place);
        Some(place)
    }

    /// A port of the host's for a connection to this port of the guest's.
    pub(crate) fn host_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_host_port;
            self.next_host_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            // There are more ports than connections: one of the first is free.
            if self.find(Ports { guest, host }).is_none() {
                return host;
            }
        }
    }

    /// Something has happened to a connection: it goes, or has its turn.
    pub(crate) fn changed(&mut self, place: usize) {
        let Some(here) = self.places.get_mut(place) else { return };
        let Some(connection) = &here.connection else { return };
        let ports = connection.ports();
        if connection.is_forgotten() && self.by_ports.get(&ports) == Some(&place) {
            self.by_ports.remove(&ports);
        }
        if connection.is_over() {
            here.connection = None;
            self.free.push(place);
        } else if !std::mem::replace(&mut here.in_turn, true) {
            self.turns.push_back(place);
        }
    }

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<usize> {
        self.turns.front().copied()
    }

    /// It has had its turn.
    pub(crate) fn pass(&mut self) {
        let place = self.turns.pop_front().and_then(|place| self.places.get_mut(place));
        if let Some(place) = place {
            place.in_turn = false;
        }
    }

    /// All connections, and their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.places.iter().enumerate().filter_map(|(place, here)| Some((place, here.connection.as_ref()?)))
    }
}
