//! A server in a thread.

use crate::rig::peer::Peer;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;
use vioduct_vhost_user::{Limits, Server, ServerError, Stopper};
use vioduct_virtio_device::{BusyPoll, DeviceModel, WorkerPolicy, Workers};

pub(crate) struct Running {
    pub(crate) path: PathBuf,
    pub(crate) stopper: Stopper,
    thread: Option<Serving>,
    _folder: TempDir,
}

/// No busy polling, so that every notification that is needed is tested.
pub(crate) fn policy() -> WorkerPolicy {
    WorkerPolicy { busy_poll: BusyPoll::Off, ..WorkerPolicy::default() }
}

type Serving = JoinHandle<Result<(), ServerError>>;

fn serve<M: DeviceModel + 'static>(
    path: &Path,
    limits: Limits,
    model: impl Fn() -> M + Send + Sync + 'static,
) -> (Stopper, Serving) {
    let server = Server::listen(path).unwrap().with_limits(limits);
    let device = move || Ok::<_, String>(Workers::with_policy(model(), policy()));
    (server.stopper(), thread::spawn(move || server.run(device)))
}

impl Running {
    pub(crate) fn new<M: DeviceModel + 'static>(model: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self::with_limits(Limits::default(), model)
    }

    pub(crate) fn with_limits<M: DeviceModel + 'static>(
        limits: Limits,
        model: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (stopper, thread) = serve(&path, limits, model);
        Self { path, stopper, thread: Some(thread), _folder: folder }
    }

    /// Another server, at the same path, after the end of the one before.
    pub(crate) fn begin<M: DeviceModel + 'static>(&mut self, model: impl Fn() -> M + Send + Sync + 'static) {
        let (stopper, thread) = serve(&self.path, Limits::default(), model);
        (self.stopper, self.thread) = (stopper, Some(thread));
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(&self.path)
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    pub(crate) fn end(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}
