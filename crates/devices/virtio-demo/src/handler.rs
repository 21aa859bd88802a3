//! Serves the requests.

use crate::request::{Request, reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vioduct_spec::demo;
use vioduct_virtio_device::{Fault, Io, QueueHandler, Wake};

pub(crate) struct Server {
    pub(crate) value: Arc<AtomicU32>,
}

impl QueueHandler for Server {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        let before = self.value.load(Ordering::Acquire);
        io.serve(q, |chain| match Request::parse(chain)? {
            Request::Read => reply(chain, demo::OP_READ, self.value.load(Ordering::Acquire)),
            Request::Write(operand) => {
                self.value.store(operand, Ordering::Release);
                reply(chain, demo::OP_WRITE, operand)
            }
            Request::Unknown(operand) => reply(chain, demo::OP_INVALID, operand),
        })?;
        if self.value.load(Ordering::Acquire) != before {
            io.config_changed();
        }
        Ok(())
    }
}
