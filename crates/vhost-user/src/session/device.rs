//! Configuration space, status, and reset.

use super::{Outcome, Session};
use crate::error::Refusal;
use crate::vring::Vring;
use crate::wire::{ConfigSpan, ConfigWrite, MAX_CONFIG_LEN, ProtocolFeatures, Record};
use vioduct_spec::Status;
use vioduct_virtio_device::{Backend, ConfigAccess};

/// The front-end writes for a guest, which may write only what the specification lets it.
const FOR_THE_DRIVER: u32 = 0;

impl<B: Backend> Session<B> {
    /// Bytes beyond the configuration space are zero: a front-end may know of later fields than the device. An answer without
    /// bytes is an error.
    pub(super) fn read_config(&self, span: ConfigSpan) -> Outcome {
        let (start, len) = (span.offset as usize, span.len as usize);
        if len == 0 || start.checked_add(len).is_none_or(|end| end > MAX_CONFIG_LEN) {
            return Outcome::Reply(Vec::new());
        }
        let mut bytes = vec![0; len];
        let here = self.device.info().config_len.saturating_sub(start).min(len);
        if let Some(out) = bytes.get_mut(..here).filter(|out| !out.is_empty()) {
            self.device.read_config(start, out);
        }
        let header = Record::new().u32(span.offset).u32(span.len).u32(span.flags);
        Outcome::Reply(header.bytes(&bytes).done())
    }

    /// A guest may try to write anything anywhere, and its front-end passes it on.
    pub(super) fn write_config(&mut self, write: &ConfigWrite) -> Outcome {
        let info = self.device.info();
        let start = write.span.offset as usize;
        if start.checked_add(write.data.len()).is_none_or(|end| end > info.config_len) {
            return Outcome::Ignored("a write beyond the configuration space");
        }
        if write.span.flags == FOR_THE_DRIVER && info.config_access == ConfigAccess::ReadOnly {
            return Outcome::Ignored("a write to a configuration space that can only be read");
        }
        self.device.write_config(start, &write.data);
        Outcome::Done
    }

    pub(super) fn status(&self) -> u64 {
        let failed = if self.events.has_failed() { Status::NEEDS_RESET } else { Status::RESET };
        (Status(self.status) | failed).0.into()
    }

    /// Status 0 is a reset (virtio 1.3 §2.1.1). But a front-end that can reset the device in so many words may also send it
    /// whenever its guest pauses, as QEMU does, and then it only stops the rings: the guest goes on with the same device later.
    pub(super) fn set_status(&mut self, status: u64) -> Result<Outcome, Refusal> {
        let status = u8::try_from(status).map_err(|_| Refusal::Rule("a device status above 255"))?;
        match status {
            0 if self.has_agreed_on(ProtocolFeatures::RESET_DEVICE) => {
                self.halt_all()?;
                self.rings.iter_mut().for_each(|ring| ring.started = false);
            }
            0 => return self.reset_device(),
            // virtio 1.3 §2.1.1: a device that does not accept the features leaves FEATURES_OK clear.
            _ if self.features.is_none() => {
                self.status = Status(status).without(Status::FEATURES_OK).0;
                return Ok(Outcome::Done);
            }
            _ => {}
        }
        self.status = status;
        Ok(Outcome::Done)
    }

    /// The device as it was at first. The front-end keeps it, with its memory and its descriptors for calls.
    pub(super) fn reset_device(&mut self) -> Result<Outcome, Refusal> {
        self.halt_all()?;
        self.device.reset()?;
        self.rings.iter_mut().for_each(Vring::reset);
        self.events.recover();
        (self.features, self.records, self.status) = (None, None, 0);
        Ok(Outcome::Done)
    }
}
