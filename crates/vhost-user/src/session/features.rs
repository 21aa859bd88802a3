//! Negotiation.

use super::{Outcome, Session};
use crate::channel::Terms;
use crate::error::Refusal;
use crate::features::{LOG_ALL, NOT_CARRIED, PROTOCOL, PROTOCOL_FEATURES};
use crate::wire::{Answer, ProtocolFeatures};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use std::os::fd::OwnedFd;
use vioduct_spec::Features;
use vioduct_virtio_device::Backend;

impl<B: Backend> Session<B> {
    pub(super) fn offered(&self) -> Features {
        self.device.features().without(NOT_CARRIED) | PROTOCOL
    }

    /// The features in force for the device, once it has been told of any.
    pub(super) fn negotiated(&self) -> Option<Features> {
        self.features.map(|features| features.without(PROTOCOL))
    }

    /// The front-end may set the same features again at any time, and does, when its guest pauses and goes on: that is nothing
    /// new to the device. Other features are those of another driver.
    pub(super) fn set_features(&mut self, features: Features) -> Result<Outcome, Refusal> {
        let extra = features.without(self.offered());
        if !extra.is_empty() {
            return Err(Refusal::Features(extra));
        }
        if !features.contains(Features::VERSION_1) {
            return Err(Refusal::Rule("features without VERSION_1: legacy drivers are not served"));
        }
        let negotiated = features.without(PROTOCOL);
        if self.negotiated() != Some(negotiated) || self.events.has_failed() {
            self.renegotiate(negotiated)?;
        }
        let logged = self.logs_data();
        self.features = Some(features);
        if self.logs_data() != logged {
            self.renew_memory()?;
        }
        if !features.contains(PROTOCOL_FEATURES) {
            self.enable_all_rings()?;
        }
        Ok(Outcome::Done)
    }

    /// Whether the front-end wants to know what devices write into buffers.
    pub(super) fn logs_data(&self) -> bool {
        self.features.is_some_and(|features| features.contains(LOG_ALL))
    }

    fn renegotiate(&mut self, negotiated: Features) -> Result<(), Refusal> {
        if self.rings.iter().any(|ring| ring.running) {
            return Err(Refusal::Rule("features cannot change while a ring runs: stop or disable it first"));
        }
        self.features = None;
        self.device.set_features(negotiated)?;
        self.events.recover();
        self.rings.iter_mut().for_each(|ring| ring.started = false);
        Ok(())
    }

    pub(super) fn set_protocol_features(&mut self, wanted: ProtocolFeatures) -> Result<Outcome, Refusal> {
        if !ProtocolFeatures::OFFERED.contains(wanted) {
            return Err(Refusal::Rule("protocol features that are not on offer"));
        }
        let answered = ProtocolFeatures::BACKEND_REQ.with(ProtocolFeatures::REPLY_ACK);
        if wanted.contains(ProtocolFeatures::INBAND_NOTIFICATIONS) && !wanted.contains(answered) {
            return Err(Refusal::Rule("in-band notifications need BACKEND_REQ and REPLY_ACK"));
        }
        self.protocol = wanted;
        let acked = wanted.contains(ProtocolFeatures::REPLY_ACK);
        self.channel.agree(Terms {
            config: wanted.contains(ProtocolFeatures::CONFIG),
            in_band: wanted.contains(ProtocolFeatures::INBAND_NOTIFICATIONS),
            answer: if acked { Answer::Wanted } else { Answer::Unwanted },
        });
        Ok(Outcome::Done)
    }

    /// Whether the front-end and this server have agreed on all of `features`.
    pub(super) fn has_agreed_on(&self, features: ProtocolFeatures) -> bool {
        self.protocol.contains(features)
    }

    pub(super) fn open_channel(&mut self, socket: OwnedFd) -> Result<Outcome, Refusal> {
        if !socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM) {
            return Err(Refusal::Rule("the channel for requests of the back-end is not a stream socket"));
        }
        self.channel.open(socket);
        Ok(Outcome::Done)
    }
}
