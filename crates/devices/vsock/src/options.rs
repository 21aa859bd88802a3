//! The device that `vsock,cid=…` describes.

use crate::device::{Setup, Vsock};
use crate::host::Listener;
use std::path::Path;
use vioduct_spec::vsock::{FIRST_GUEST_CID, LAST_GUEST_CID};
use vioduct_virtio_device::{OptionError, Options};

const KEYS: &[&str] = &["cid", "path"];

impl Vsock {
    /// The device that `vsock` describes, with these options:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `cid=N` | the guest's context identifier, from 3 on |
    /// | `path=PATH` | the socket at which host programs reach the guest; the guest reaches those that listen at `PATH_PORT` |
    ///
    /// Without a path, no program reaches another.
    ///
    /// # Errors
    /// If there is another option, a value is not one of these, or no socket can be made at `PATH`.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(KEYS)?;
        options.required("cid")?;
        let cid = options.number_in("cid", FIRST_GUEST_CID..=LAST_GUEST_CID)?.unwrap_or(FIRST_GUEST_CID);
        let listener = options.text("path").map(|path| Listener::bind(Path::new(path))).transpose();
        let listener = listener.map_err(|error| options.unusable("path", error))?;
        Ok(Self::new(Setup { cid, listener }))
    }
}
