//! Raw mode, and back.
//!
//! This module holds `unsafe` to run code when a signal arrives, before it kills the process.
#![allow(unsafe_code)]

use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, register, unregister};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::{Arc, Mutex, Once, Weak};

/// Signals that end a process which does not handle them, from outside or from a key of another terminal.
pub const FATAL_SIGNALS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// A terminal in raw mode, until this is dropped: keys come one by one and unchanged, Ctrl-C included, and nothing is echoed.
///
/// It is put back on a panic of any thread too, before that is reported, and on the signals that were named.
pub struct RawMode {
    terminal: Arc<Terminal>,
    signals: Vec<SigId>,
}

/// A terminal, and how it was.
struct Terminal {
    fd: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// One system call, so that a signal handler may.
    fn restore(&self) {
        // There is nothing to be done about a terminal that is gone.
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.before);
    }
}

/// The terminal that a panic puts back, or another end which cannot be foreseen.
static ENTERED: Mutex<Weak<Terminal>> = Mutex::new(Weak::new());

/// Puts the terminal back, if one is in raw mode. A signal handler may call this.
pub(crate) fn restore() {
    // Not waited for: whoever holds it may be what this thread has interrupted.
    let terminal = ENTERED.try_lock().ok().and_then(|terminal| terminal.upgrade());
    if let Some(terminal) = terminal {
        terminal.restore();
        // The last holder frees memory, which is not for signal handlers.
        std::mem::forget(terminal);
    }
}

impl RawMode {
    /// Puts `input` into raw mode, if it is a terminal; if it is a file or a pipe the answer is `None`, and nothing happens.
    ///
    /// On `signals` (of [`FATAL_SIGNALS`], those that the program does not handle itself) the terminal is put back, and the process ends
    /// as it would have.
    ///
    /// # Errors
    /// If the terminal refuses, or a signal cannot be handled.
    pub fn enter(input: impl AsFd, signals: &[i32]) -> io::Result<Option<Self>> {
        if !isatty(&input) {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Lines of this program's own still begin at the left.
        raw.output_modes |= before.output_modes & OutputModes::OPOST;
        let terminal = Arc::new(Terminal { fd: input.as_fd().try_clone_to_owned()?, before });
        // From here on it is put back when this goes, whatever fails.
        let mut entered = Self { terminal, signals: Vec::new() };
        entered.restore_on_panic();
        for signal in signals {
            entered.restore_on(*signal)?;
        }
        tcsetattr(&entered.terminal.fd, OptionalActions::Now, &raw)?;
        Ok(Some(entered))
    }

    fn restore_on(&mut self, signal: i32) -> io::Result<()> {
        let terminal = self.terminal.clone();
        let action = move || {
            terminal.restore();
            let _ = emulate_default_handler(signal);
        };
        // SAFETY: what runs in the handler is a system call (tcsetattr is async-signal-safe by POSIX) and signal-hook's own emulation,
        // which is made for it; neither allocates nor takes a lock.
        self.signals.push(unsafe { register(signal, action) }?);
        Ok(())
    }

    fn restore_on_panic(&self) {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let report = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                restore();
                report(panic);
            }));
        });
        if let Ok(mut terminal) = ENTERED.lock() {
            *terminal = Arc::downgrade(&self.terminal);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.signals.drain(..).for_each(|signal| {
            unregister(signal);
        });
        self.terminal.restore();
    }
}
