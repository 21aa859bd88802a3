//! [`Session`]: what the server has been told, and telling it all again to one that comes in its place.

use super::Trouble;
use super::ears::Ears;
use super::log::WriteLog;
use super::options::{Patience, SharedRegion};
use super::origin::Origin;
use super::remote::{RecordFile, Remote};
use super::ring::Ring;
use crate::wire::{ProtocolFeatures, Request, WireError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vioduct_spec::Features;
use vioduct_virtio_device::DeviceInfo;
use vioduct_virtqueue::{Memory, QueuePosition, RingFormat};

pub(super) struct Session {
    pub(super) info: DeviceInfo,
    pub(super) patience: Patience,
    origin: Origin,
    /// `None` while there is none.
    pub(super) remote: Option<Remote>,
    pub(super) absence: Option<Absence>,
    /// When it came, and how long it had been sought: one that goes at once has not been there.
    arrival: Option<(Instant, Seeking)>,
    pub(super) regions: Vec<SharedRegion>,
    pub(super) memory: Option<Arc<dyn Memory>>,
    pub(super) features: Option<Features>,
    pub(super) rings: Vec<Option<Ring>>,
    records: Option<Records>,
    /// While the server logs what it writes.
    log: Option<WriteLog>,
    /// The configuration space as it was last read.
    pub(super) config: Vec<u8>,
}

/// Records of what is in flight, and which queues have begun theirs.
struct Records {
    file: RecordFile,
    begun: Vec<u16>,
}

/// A server that is gone.
pub(super) struct Absence {
    /// When to look for it next; `None`: never.
    next: Option<Instant>,
    seeking: Seeking,
    pub(super) reason: String,
}

/// How a server is sought.
#[derive(Clone, Copy)]
struct Seeking {
    since: Instant,
    /// Before the next attempt but one.
    pause: Duration,
}

impl Seeking {
    fn begin(patience: &Patience) -> Self {
        Self { since: Instant::now(), pause: patience.first_pause }
    }

    /// When to look next, if there is still time.
    fn next(&mut self, patience: &Patience) -> Option<Instant> {
        let now = Instant::now();
        let next = now + self.pause;
        self.pause = (self.pause * 2).min(patience.longest_pause);
        (now.duration_since(self.since) < patience.absence).then_some(next)
    }
}

/// What to do about a server that is not there for long.
fn overdue(reason: &dyn std::fmt::Display, patience: &Patience) -> String {
    let limit = patience.absence;
    format!("{reason}; it has not served for {limit:?}: start it again, and reset the device")
}

impl Session {
    pub(super) fn new(
        origin: Origin,
        info: DeviceInfo,
        regions: Vec<SharedRegion>,
        patience: Patience,
    ) -> Self {
        let rings = info.queue_sizes.iter().map(|_| None).collect();
        let config = vec![0; info.config_len];
        Self {
            info,
            patience,
            origin,
            remote: None,
            absence: None,
            arrival: None,
            regions,
            memory: None,
            features: None,
            rings,
            records: None,
            log: None,
            config,
        }
    }

    pub(super) fn format(&self) -> RingFormat {
        RingFormat::of(self.features.unwrap_or_default())
    }

    /// The server, for one request.
    pub(super) fn remote(&mut self) -> Result<&mut Remote, Trouble> {
        self.remote.as_mut().ok_or_else(Trouble::closed)
    }

    /// Finds a server and tells it all that the one before knew.
    pub(super) fn bring_up(&mut self, ears: &Ears) -> Result<(), Trouble> {
        let socket = self.origin.dial()?;
        let (mut remote, channel) = Remote::open(socket, &self.info, self.patience.request)?;
        if self.records.is_some() && !remote.has(ProtocolFeatures::INFLIGHT_SHMFD) {
            return Err(Trouble::Unsuitable(
                "takes no records of what is in flight, as the one before did".into(),
            ));
        }
        remote.share(&self.regions)?;
        if let Some(features) = self.features {
            remote.set_features(features)?;
        }
        if let Some(records) = &self.records {
            remote.set_records(&records.file)?;
        }
        if self.log.is_some() {
            if !remote.can_log() {
                return Err(Trouble::Unsuitable("does not log what it writes, as the one before did".into()));
            }
            remote.log(self.log.as_ref())?;
        }
        for (q, ring) in (0..).zip(&self.rings) {
            if let (Some(ring), Some(memory)) = (ring, &self.memory) {
                remote.start(q, ring, ring.vring_base_after_loss(self.format(), &**memory))?;
            }
        }
        let system = |source| Trouble::System { action: "listen to the vhost-user server", source };
        let heard = remote.link.socket().map_err(system)?;
        self.remote = Some(remote);
        let before = self.config.clone();
        if let Err(trouble) = self.read_config() {
            self.remote = None;
            return Err(trouble);
        }
        if self.config != before {
            ears.config_changed();
        }
        ears.open(heard, channel).map_err(system)
    }

    /// The whole configuration space, which is kept for when there is no server.
    pub(super) fn read_config(&mut self) -> Result<Vec<u8>, Trouble> {
        let len = self.info.config_len;
        if len == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.remote()?.read_config(0, len)?;
        self.config.clone_from(&bytes);
        Ok(bytes)
    }

    /// The connection is of no use any more. Whether the device goes on: not if what it had in flight is not known.
    pub(super) fn lose(&mut self, ears: &Ears, reason: &dyn std::fmt::Display) {
        if self.remote.take().is_none() {
            return;
        }
        ears.close();
        tracing::warn!(device = self.info.name, "{reason}");
        let patience = &self.patience;
        let (seeking, next) = match self.arrival.take() {
            Some((came, mut seeking)) if came.elapsed() < patience.longest_pause => {
                let next = seeking.next(patience);
                (seeking, next)
            }
            _ => (Seeking::begin(patience), Some(Instant::now())),
        };
        let words = if next.is_some() { reason.to_string() } else { overdue(reason, patience) };
        let mut absence = Absence { next, seeking, reason: words };
        if !self.origin.can_dial() {
            absence.reason =
                format!("{reason}, and was reached by a socket that cannot be dialled: start both anew");
            absence.next = None;
        } else if !self.can_resume() {
            absence.reason = format!(
                "{reason}; it kept no record of what is in flight (INFLIGHT_SHMFD), and the queues do not show it: reset the \
                 device"
            );
            absence.next = None;
        }
        if absence.next.is_none() {
            ears.needs_reset(&absence.reason);
        }
        ears.seek(absence.next);
        self.absence = Some(absence);
    }

    /// Whether it is known where another server is to go on. Packed rings do not show what is in flight; split rings do where
    /// buffers are used in order.
    fn can_resume(&self) -> bool {
        let in_order = self.features.is_some_and(|features| features.contains(Features::IN_ORDER));
        let shows = |ring: &Ring| match (self.format(), &self.memory) {
            (RingFormat::Split, Some(memory)) => {
                in_order || ring.was_used_in_order(&**memory).unwrap_or(false)
            }
            _ => false,
        };
        self.records.is_some() || self.rings.iter().flatten().all(shows)
    }

    /// When the server is to be looked for, if it is.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.absence.as_ref().and_then(|absence| absence.next)
    }

    /// Looks for the server once, if it is time to.
    pub(super) fn attempt(&mut self, ears: &Ears) {
        if self.next_attempt().is_none_or(|next| next > Instant::now()) {
            return;
        }
        let outcome = self.bring_up(ears);
        let Some(absence) = &mut self.absence else { return };
        match outcome {
            Ok(()) => {
                tracing::info!(device = self.info.name, "the vhost-user server is back");
                self.arrival = Some((Instant::now(), absence.seeking));
                self.absence = None;
                ears.call_all();
            }
            Err(trouble) => {
                absence.next = absence.seeking.next(&self.patience);
                absence.reason = trouble.to_string();
                if absence.next.is_none() {
                    absence.reason = overdue(&trouble, &self.patience);
                    ears.needs_reset(&absence.reason);
                }
            }
        }
        ears.seek(self.next_attempt());
    }

    /// The driver starts over: what was told is void, and a server that was given up is looked for again.
    pub(super) fn forget(&mut self, ears: &Ears) {
        (self.features, self.records) = (None, None);
        for (q, ring) in (0..).zip(&mut self.rings) {
            if ring.take().is_some() {
                ears.remove(q);
            }
        }
        if let Some(absence) = &mut self.absence
            && self.origin.can_dial()
        {
            absence.seeking = Seeking::begin(&self.patience);
            absence.next = Some(Instant::now());
            ears.seek(absence.next);
        }
    }

    /// Before a ring starts: has the server log what it writes if the memory wants to know, which it may say anew whenever no ring
    /// runs.
    pub(super) fn prepare_log(&mut self) -> Result<(), Trouble> {
        let wanted = self.memory.as_ref().is_some_and(|memory| memory.logs_writes());
        if !wanted || !self.remote()?.can_log() {
            return match self.log.take() {
                Some(_) => self.remote()?.log(None),
                None => Ok(()),
            };
        }
        let len = WriteLog::len_for(&self.regions);
        if self.log.as_ref().is_none_or(|log| log.len < len) {
            let failed = |source| Trouble::System { action: "create a log of what is written", source };
            let log = WriteLog::new(len).map_err(failed)?;
            self.remote()?.log(Some(&log))?;
            // What is in the one before was collected when the rings stopped.
            self.log = Some(log);
        }
        Ok(())
    }

    /// What the server has written by now is in the memory's log when this returns, if there is one.
    pub(super) fn collect_log(&self) {
        let Some(memory) = self.memory.as_ref().filter(|memory| memory.logs_writes()) else { return };
        match &self.log {
            Some(log) => log.pass_on(&**memory),
            // Nobody knows, so it has written everything.
            None => self.regions.iter().for_each(|region| memory.written(region.at, region.len)),
        }
    }

    /// Stops ring `q` in the server; where it stood.
    pub(super) fn stop(&mut self, q: u16) -> Result<Option<QueuePosition>, Trouble> {
        let format = self.format();
        let base = self.remote()?.stop(q)?;
        self.collect_log();
        let ring = self.rings.get(usize::from(q)).and_then(Option::as_ref);
        let Some(ring) = ring else { return Ok(None) };
        let nowhere = || WireError::Field { request: Request::GetVringBase, value: base.into() };
        Ok(Some(ring.stopped(format, base).ok_or_else(nowhere)?))
    }

    /// Before ring `q` starts: sees to it that its record is a new one, for nothing of it is in flight. Only all records can be
    /// new together, so the rings that run stop for it.
    pub(super) fn prepare_record(&mut self, q: u16) -> Result<(), Trouble> {
        if !self.remote()?.has(ProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(());
        }
        if let Some(records) = &mut self.records
            && !records.begun.contains(&q)
        {
            records.begun.push(q);
            return Ok(());
        }
        self.renew_records(q).map_err(Trouble::end)
    }

    fn renew_records(&mut self, q: u16) -> Result<(), Trouble> {
        let running = self.running();
        for &other in &running {
            let position = self.stop(other)?;
            if let (Some(Some(ring)), Some(position)) = (self.rings.get_mut(usize::from(other)), position) {
                ring.position = position;
            }
        }
        let count = self.info.queue_sizes.len() as u16;
        let largest = self.info.queue_sizes.iter().copied().max().unwrap_or(1);
        let file = self.remote()?.make_records(count, largest)?;
        let format = self.format();
        let begun = running.iter().copied().chain([q]).collect();
        let records = self.records.insert(Records { file, begun });
        let remote = self.remote.as_mut().ok_or_else(Trouble::closed)?;
        remote.set_records(&records.file)?;
        for other in running {
            if let Some(Some(ring)) = self.rings.get(usize::from(other)) {
                remote.start(other, ring, ring.vring_base(format))?;
            }
        }
        Ok(())
    }

    /// The rings that the server serves.
    pub(super) fn running(&self) -> Vec<u16> {
        (0..).zip(&self.rings).filter_map(|(q, ring)| ring.as_ref().map(|_| q)).collect()
    }
}
