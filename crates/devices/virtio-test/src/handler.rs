//! Serves the requests, and says what came.

use crate::request::{Format, Request};
use crate::{Observer, observe};
use vioduct_virtio_device::{Fault, Io, QueueHandler, RateLimit, Wake};

pub(crate) struct Server {
    format: Format,
    observer: Option<Observer>,
    log: RateLimit,
}

impl Server {
    pub(crate) fn new(format: Format, observer: Option<Observer>) -> Self {
        Self { format, observer, log: RateLimit::default() }
    }

    /// The log is for people and is kept short; the observer sees every request.
    fn report(&self, request: &Request) {
        if let Some(suppressed) = self.log.admit() {
            tracing::info!(device = "virtio-test", suppressed, "received {request}");
        }
        observe(self.observer.as_ref(), request);
    }
}

impl QueueHandler for Server {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        io.serve(q, |chain| {
            let request = Request::parse(self.format, chain)?;
            self.report(&request);
            request.answer(self.format, chain)
        })
    }
}
