//! [`Server`]: where clients come to, one after the other.

use crate::device::Device;
use crate::error::ServeError;
use crate::link::{Link, Patience};
use crate::session::Session;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketFlags, SocketType, accept_with};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vioduct_virtio_device::{EventFd, Signal};

/// What a client may take to answer a call, and how long it may leave a reply unread.
const PATIENCE: Patience = Patience { call: Duration::from_secs(5), send: Duration::from_secs(10) };

/// Serves one device to one client at a time. Another client waits until the first has gone; the registers of the device are
/// then as that one left them, until a client or a guest resets them.
pub struct Server {
    device: Device,
    source: Source,
    stop: Arc<EventFd>,
    /// Removed when this is dropped.
    _path: Option<SocketFile>,
}

/// Where clients come from.
enum Source {
    Listener(OwnedFd),
    /// The one client that there will be, until it has been served.
    Connected(Option<OwnedFd>),
}

/// A path that is ours to remove.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Stops a server from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<EventFd>);

impl Stopper {
    /// Disconnects the client and has [`Server::run`] return, now or as soon as it is called.
    pub fn stop(&self) {
        self.0.signal();
    }
}

impl Server {
    /// Listens at `path`. A socket there that nobody listens at any more is replaced; the path is removed when this is dropped.
    ///
    /// # Errors
    /// If the path is in use, or cannot be used.
    pub fn bind(path: impl AsRef<Path>, device: Device) -> Result<Self, ServeError> {
        let path = path.as_ref();
        clear(path)?;
        let failed = |source| ServeError::Listen { path: path.into(), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.into());
        listener.set_nonblocking(true).map_err(failed)?;
        Self::new(Source::Listener(listener.into()), Some(file), device)
    }

    /// Serves over a descriptor that was inherited: a socket that listens, or one that is connected, for one client.
    ///
    /// # Errors
    /// If it is no stream socket.
    pub fn inherited(socket: OwnedFd, device: Device) -> Result<Self, ServeError> {
        let kind = socket_type(&socket).map_err(|error| ServeError::Descriptor(error.into()))?;
        let listens = socket_acceptconn(&socket).map_err(|error| ServeError::Descriptor(error.into()))?;
        if kind != SocketType::STREAM {
            return Err(ServeError::Descriptor(Errno::PROTOTYPE.into()));
        }
        if listens {
            // A signal that ends the wait for a client, with none there, must not leave `accept` waiting where nothing stops it.
            ioctl_fionbio(&socket, true).map_err(|error| ServeError::Descriptor(error.into()))?;
        }
        let source = if listens { Source::Listener(socket) } else { Source::Connected(Some(socket)) };
        Self::new(source, None, device)
    }

    fn new(source: Source, path: Option<SocketFile>, device: Device) -> Result<Self, ServeError> {
        let stop =
            EventFd::new().map_err(|source| ServeError::System { action: "make an eventfd", source })?;
        Ok(Self { device, source, stop: Arc::new(stop), _path: path })
    }

    /// A handle to stop it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves clients until it is stopped; over a connected socket, until that client has gone.
    ///
    /// # Errors
    /// If no client can be accepted any more.
    pub fn run(&mut self) -> Result<(), ServeError> {
        while let Some(socket) = self.next_client()? {
            let link = Arc::new(Link::new(socket, PATIENCE, self.stop.clone()));
            tracing::info!("vfio-user client connected");
            let why = Session::new(&mut self.device, link).run();
            tracing::info!("vfio-user client disconnected: {why}");
        }
        Ok(())
    }

    /// `None` when there is none to come.
    fn next_client(&mut self) -> Result<Option<OwnedFd>, ServeError> {
        let listener = match &mut self.source {
            Source::Connected(socket) => return Ok(socket.take()),
            Source::Listener(listener) => listener,
        };
        let failed = |error: Errno| ServeError::System { action: "accept a client", source: error.into() };
        loop {
            let mut fds = [PollFd::new(&*listener, PollFlags::IN), PollFd::new(&*self.stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
            let [_, stop] = fds;
            if !stop.revents().is_empty() {
                return Ok(None);
            }
            match accept_with(&*listener, SocketFlags::CLOEXEC) {
                Ok(socket) => return Ok(Some(socket)),
                // Gone again, or not there.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Removes a socket that nobody listens at.
fn clear(path: &Path) -> Result<(), ServeError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ServeError::Listen { path: path.into(), source }),
    };
    if !kind.is_socket() {
        return Err(ServeError::NotASocket(path.into()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| ServeError::Listen { path: path.into(), source })
        }
        Ok(_) => Err(ServeError::InUse(path.into())),
        Err(source) => Err(ServeError::Listen { path: path.into(), source }),
    }
}
