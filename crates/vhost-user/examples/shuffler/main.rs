//! Serves a device that answers in any order, in a process that can be killed at any time: `shuffler PATH`.
//!
//! A front-end that has agreed on `INFLIGHT_SHMFD` keeps the records of what the device has taken and not answered. It shares
//! them with the server that comes next, which goes on from there: every request is answered, and answered once. The server
//! does nothing for it, and the device does not know. The crate's test of crashes kills this program a thousand times.

mod shuffler;

use shuffler::Shuffler;
use std::error::Error;
use vioduct_vhost_user::Server;
use vioduct_virtio_device::{BusyPoll, WorkerPolicy, Workers};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: shuffler PATH")?;
    let server = Server::listen(path)?;
    println!("ready");
    // The device wakes itself while it holds anything: it is always at work, and always there is something to interrupt.
    let policy = WorkerPolicy { busy_poll: BusyPoll::Off, ..WorkerPolicy::default() };
    server.run(move || Shuffler::new().map(|device| Workers::with_policy(device, policy.clone())))?;
    Ok(())
}
