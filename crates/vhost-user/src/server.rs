//! [`Server`]: listens, and gives every client a device of its own.

use crate::error::ServerError;
use crate::session::{Client, End, Session};
use crate::table::{MemoryLimits, SharedFiles};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::AtFlags;
use rustix::fs::{CWD, FileType, Stat, lstat, unlinkat};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with};
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};
use vioduct_virtio_device::{Backend, EventFd, RateLimit, Signal};

/// What a server allows its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Clients at the same time. Further ones are turned away.
    pub clients: usize,
    /// Bytes of guest memory of one client: it takes this process's address space.
    pub guest_memory_bytes: u64,
    /// Which files guest memory may be in.
    pub shared_files: SharedFiles,
    /// How long a client that asks for the outcome of a transfer of device state waits for its end.
    pub transfer_limit: Duration,
    /// How long the end of the clients is waited for when the server stops.
    pub stop_limit: Duration,
}

impl Default for Limits {
    /// 64 clients of 1 TiB each, in files that cannot be shrunk; 10 s to end a transfer, and to stop.
    fn default() -> Self {
        Self {
            clients: 64,
            guest_memory_bytes: 1 << 40,
            shared_files: SharedFiles::Sealed,
            transfer_limit: Duration::from_secs(10),
            stop_limit: Duration::from_secs(10),
        }
    }
}

impl Limits {
    pub(crate) fn memory(&self) -> MemoryLimits {
        MemoryLimits { files: self.shared_files, total_bytes: self.guest_memory_bytes }
    }
}

/// Makes a server stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<EventFd>);

impl Stopper {
    /// The server accepts nobody any more, stops the rings of all clients, so that what their devices have taken is used, and
    /// [`Server::run`] returns.
    pub fn stop(&self) {
        self.0.signal();
    }
}

/// Serves devices over vhost-user: every client gets its own.
///
/// ```no_run
/// use vioduct_vhost_user::Server;
/// use vioduct_virtio_demo::VirtioDemo;
/// use vioduct_virtio_device::Workers;
///
/// let server = Server::listen("/run/demo.sock")?;
/// let stopper = server.stopper(); // for a signal handler, or another thread
/// server.run(|| Ok::<_, String>(Workers::new(VirtioDemo::default())))?;
/// # Ok::<(), vioduct_vhost_user::ServerError>(())
/// ```
#[derive(Debug)]
pub struct Server {
    door: Door,
    limits: Limits,
    stop: Arc<EventFd>,
}

/// Where clients come from.
#[derive(Debug)]
enum Door {
    Listening {
        socket: OwnedFd,
        path: Option<OwnPath>,
    },
    /// One client, which is there already.
    Connected(OwnedFd),
}

impl Server {
    /// Listens at `path`. A socket that a server left there, which listens no more, is replaced.
    ///
    /// # Errors
    /// If another server listens there, something else is there, or the system refuses; see [`ServerError`].
    pub fn listen(path: impl AsRef<Path>) -> Result<Self, ServerError> {
        let path = path.as_ref();
        let failed = |source| ServerError::Listen { path: path.to_owned(), source };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path).map_err(failed)?
            }
            outcome => outcome.map_err(failed)?,
        };
        let own = OwnPath::of(path).map_err(|error| failed(error.into()))?;
        Self::new(Door::Listening { socket: listener.into(), path: Some(own) })
    }

    /// Serves at a socket that someone else has made: one that listens, or one that is connected to the only client.
    ///
    /// # Errors
    /// If the descriptor is not a Unix stream socket.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, ServerError> {
        let stream = socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
        let unix = socket_domain(&socket).is_ok_and(|family| family == AddressFamily::UNIX);
        if !stream || !unix {
            return Err(ServerError::NotAStream);
        }
        let listens = socket_acceptconn(&socket).unwrap_or(false);
        Self::new(match listens {
            true => Door::Listening { socket, path: None },
            false => Door::Connected(socket),
        })
    }

    fn new(door: Door) -> Result<Self, ServerError> {
        let stop = EventFd::new().map_err(ServerError::system("create an eventfd"))?;
        if let Door::Listening { socket, .. } = &door {
            // What interrupts the wait for a client, a signal for one, must not leave `accept` waiting where nothing stops it.
            ioctl_fionbio(socket, true)
                .map_err(|error| ServerError::System { action: "set up a socket", source: error.into() })?;
        }
        Ok(Self { door, limits: Limits::default(), stop: Arc::new(stop) })
    }

    /// Allows clients what `limits` says.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What stops this server.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Serves until it is stopped, or, on a connected socket, until the client has gone. `device` makes the device of a client;
    /// if it cannot, the client is turned away.
    ///
    /// # Errors
    /// If clients cannot be accepted at all any more.
    pub fn run<B, E>(
        self,
        device: impl Fn() -> Result<B, E> + Send + Sync + 'static,
    ) -> Result<(), ServerError>
    where
        B: Backend + 'static,
        E: Display,
    {
        let Self { door, limits, stop } = self;
        let (leaving, left) = mpsc::channel();
        let mut hall = Hall {
            limits,
            stop,
            device: Arc::new(device),
            leaving,
            left,
            inside: 0,
            log: RateLimit::default(),
        };
        match door {
            Door::Connected(socket) => hall.admit(socket),
            Door::Listening { socket, path: _own } => hall.receive(&socket)?,
        }
        hall.close();
        Ok(())
    }
}

/// The clients that are being served.
struct Hall<F> {
    limits: Limits,
    stop: Arc<EventFd>,
    device: Arc<F>,
    leaving: Sender<()>,
    left: Receiver<()>,
    inside: usize,
    log: RateLimit,
}

impl<F, B, E> Hall<F>
where
    F: Fn() -> Result<B, E> + Send + Sync + 'static,
    B: Backend + 'static,
    E: Display,
{
    /// Accepts clients until the server is to stop.
    fn receive(&mut self, socket: &OwnedFd) -> Result<(), ServerError> {
        /// How long to wait for descriptors or memory to become free.
        const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
        while self.wait(Some(socket), None)? {
            match accept_with(socket, SocketFlags::CLOEXEC) {
                Ok(client) => self.admit(client),
                // The client has gone again.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.report("a client waits: no descriptor or memory is free");
                    if !self.wait(None, Some(SHORTAGE_PAUSE))? {
                        break;
                    }
                }
                Err(error) => {
                    return Err(ServerError::System { action: "accept clients", source: error.into() });
                }
            }
        }
        Ok(())
    }

    /// Waits for a client, or for `limit`. Whether the server is to go on.
    fn wait(&self, socket: Option<&OwnedFd>, limit: Option<Duration>) -> Result<bool, ServerError> {
        let mut fds = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let limit = limit.map(|limit| Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(ServerError::System { action: "wait for clients", source: error.into() });
            }
        }
        Ok(fds.first().is_some_and(|stop| stop.revents().is_empty()))
    }

    fn admit(&mut self, socket: OwnedFd) {
        self.inside -= self.left.try_iter().count();
        if self.inside == self.limits.clients {
            return self.report("a client is turned away: there are as many as are allowed");
        }
        match self.serve(socket) {
            Ok(()) => self.inside += 1,
            Err(error) => self.report(&format!("a client is turned away: {error}")),
        }
    }

    /// Serves a client in a thread.
    fn serve(&self, socket: OwnedFd) -> Result<(), String> {
        let device = (self.device)().map_err(|error| error.to_string())?;
        let name = device.info().name;
        let session = Session::new(device, self.limits.memory()).map_err(|error| error.to_string())?;
        let client = Client::new(socket, session, self.stop.clone(), self.limits.transfer_limit);
        let leaving = Leaving(self.leaving.clone());
        let thread = thread::Builder::new().name(format!("{name}-client")).spawn(move || {
            let _leaving = leaving;
            match client.run() {
                end @ (End::Left | End::Stopped) => tracing::debug!(device = name, "{end}"),
                end => tracing::warn!(device = name, "a client is disconnected: {end}"),
            }
        });
        thread.map(drop).map_err(|error| error.to_string())
    }

    /// Waits for the clients to be let go: all of them if the server is stopped, the only one if it is connected.
    fn close(&mut self) {
        let deadline = Instant::now() + self.limits.stop_limit;
        while self.inside > 0 {
            let stopped = !self.wait(None, Some(Duration::ZERO)).unwrap_or(false);
            let patience =
                if stopped { deadline.saturating_duration_since(Instant::now()) } else { Duration::MAX };
            match self.left.recv_timeout(patience) {
                Ok(()) => self.inside -= 1,
                Err(_) => return self.report("the server ends although clients' devices have not"),
            }
        }
    }

    fn report(&self, what: &str) {
        if let Some(suppressed) = self.log.admit() {
            tracing::warn!(suppressed, "{what}");
        }
    }
}

/// Says that a client's thread has ended, however it did.
struct Leaving(Sender<()>);

impl Drop for Leaving {
    fn drop(&mut self) {
        // Nobody waits any more if the server has ended first.
        let _ = self.0.send(());
    }
}

/// Removes the socket at `path` if nobody listens at it.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Listen { path: path.to_owned(), source };
    let status = lstat(path).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
        return Err(ServerError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ServerError::InUse(path.to_owned())),
    }
}

/// The file of a listening socket, removed at the end, unless another has taken its place.
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    file: (u64, u64),
}

impl OwnPath {
    fn of(path: &Path) -> rustix::io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: identity(&lstat(path)?) })
    }
}

fn identity(status: &Stat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        if lstat(&self.path).is_ok_and(|status| identity(&status) == self.file) {
            // What cannot be removed is stale, and the next server sees that.
            let _ = unlinkat(CWD, &self.path, AtFlags::empty());
        }
    }
}
