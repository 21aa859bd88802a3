//! The guest's serial line on this process's terminal, and the signals that stop it.

use crate::Failure;
use crate::labs::failed;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use vioduct_machine::terminal::{EscapeFilter, FATAL_SIGNALS, RawMode};
use vioduct_machine::{Keyboard, Stopper};

/// What stops the guest.
const STOPPING: [i32; 2] = [SIGTERM, SIGINT];

/// The terminal, for one guest after the other.
pub(super) struct Console {
    /// Restores the terminal in the end.
    _raw: Option<RawMode>,
    connected: Arc<Mutex<Line>>,
}

/// What the terminal is connected to, and what came from it for any guest.
#[derive(Default)]
struct Line {
    guest: Option<Connection>,
    stopped: Stopped,
}

/// Whether somebody wants it to be over: also of a guest that is yet to start, or to start again.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stopped {
    #[default]
    No,
    Yes,
}

/// The guest that the terminal is connected to.
struct Connection {
    keyboard: Keyboard,
    stopper: Stopper,
}

/// Disconnects when it is dropped.
pub(super) struct Connected(Arc<Mutex<Line>>);

impl Drop for Connected {
    fn drop(&mut self) {
        lock(&self.0).guest = None;
    }
}

impl Console {
    /// Takes the terminal over, if stdin is one.
    pub(super) fn open() -> Result<Self, Failure> {
        // Those that stop the guest end this process by its way out, where the terminal is put back.
        let fatal: Vec<i32> = FATAL_SIGNALS.into_iter().filter(|signal| !STOPPING.contains(signal)).collect();
        let raw = RawMode::enter(io::stdin(), &fatal).map_err(failed("set the terminal up"))?;
        let connected = Arc::<Mutex<Line>>::default();
        let listening = connected.clone();
        let mut signals = Signals::new(STOPPING).map_err(failed("wait for signals"))?;
        let waiting = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                stop(&listening);
            }
        });
        waiting.map_err(failed("start a thread"))?;
        let typing = connected.clone();
        let reading = thread::Builder::new().name("keyboard".to_owned()).spawn(move || type_in(&typing));
        reading.map_err(failed("start a thread"))?;
        Ok(Self { _raw: raw, connected })
    }

    /// Where the guest's output goes.
    pub(super) fn output(&self) -> Box<dyn Write + Send> {
        Box::new(io::stdout())
    }

    /// What is typed goes to this guest until the result is dropped.
    pub(super) fn connect(&self, keyboard: Keyboard, stopper: Stopper) -> Connected {
        let mut line = lock(&self.connected);
        if line.stopped == Stopped::Yes {
            stopper.stop();
        }
        line.guest = Some(Connection { keyboard, stopper });
        Connected(self.connected.clone())
    }
}

fn lock(connected: &Mutex<Line>) -> MutexGuard<'_, Line> {
    connected.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop(connected: &Mutex<Line>) {
    let mut line = lock(connected);
    line.stopped = Stopped::Yes;
    if let Some(connection) = &line.guest {
        connection.stopper.stop();
    }
}

/// Hands what is typed to the guest; Ctrl-A X stops it.
fn type_in(connected: &Mutex<Line>) {
    let mut escape = EscapeFilter::new();
    let mut bytes = [0; 256];
    while let Ok(len @ 1..) = io::stdin().read(&mut bytes) {
        let mut keys = Vec::new();
        let leave = escape.filter(bytes.get(..len).unwrap_or_default(), &mut keys);
        if let Some(connection) = &lock(connected).guest {
            // What there is no room for is lost, as on a line without flow control.
            connection.keyboard.press(&keys);
        }
        if leave.is_some() {
            stop(connected);
        }
    }
}
