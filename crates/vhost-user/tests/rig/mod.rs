//! What the test programs share, each of which uses a part of it: a server, raw messages, a small front-end.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod back;
pub(crate) mod behind;
pub(crate) mod devices;
pub(crate) mod front;
pub(crate) mod payloads;
pub(crate) mod peer;
pub(crate) mod requests;
pub(crate) mod running;
