//! What the kernel is asked, in which order, and what becomes of a refusal: with a recorder in the kernel's place.

mod demo;
mod fake;
mod log;
mod net;
mod platform;
mod refusals;
mod vsock;
