//! [`Console`]: identity, features and configuration space (virtio 1.3 §5.3.3, §5.3.4); [`Window`]: its size.

use crate::handler::{Receiver, Transmitter, lock};
use crate::keyboard::{Keyboard, MAX_UNREAD_BYTES};
use crate::line::Line;
use crate::screen::Screen;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use vioduct_spec::{console, device_type};
use vioduct_virtio_device::{
    ConfigAccess, DeviceInfo, DeviceModel, EventFd, Features, Handlers, RateLimit, Signal, StateError,
};

/// A virtio console with one port.
pub struct Console {
    keyboard: Arc<Mutex<Keyboard>>,
    screen: Arc<Mutex<Screen>>,
    window: Window,
    terminal: Option<PathBuf>,
}

/// The size of a console, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// In a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for Size {
    /// 80 by 24: a terminal's.
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

/// The size that a console shows its driver: for whoever has the console on display.
#[derive(Clone, Debug)]
pub struct Window(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    /// Columns, and rows in the upper half: they change together.
    size: AtomicU32,
    changed: EventFd,
}

impl Window {
    fn new(size: Size) -> io::Result<Self> {
        let window = Self(Arc::new(Shown { size: AtomicU32::new(0), changed: EventFd::new()? }));
        window.store(size);
        Ok(window)
    }

    /// The size now.
    #[must_use]
    pub fn size(&self) -> Size {
        let size = self.0.size.load(Ordering::Acquire);
        Size { cols: size as u16, rows: (size >> 16) as u16 }
    }

    /// Shows the driver another size, and tells it so if it knows of sizes (virtio 1.3 §5.3.6).
    pub fn resize(&self, size: Size) {
        self.store(size);
        self.0.changed.signal();
    }

    fn store(&self, Size { cols, rows }: Size) {
        self.0.size.store(u32::from(cols) | u32::from(rows) << 16, Ordering::Release);
    }

    /// Becomes readable with each change.
    pub(crate) fn changed(&self) -> &EventFd {
        &self.0.changed
    }

    /// Calls `tell` if there was a change since the last time.
    pub(crate) fn tell(&self, tell: impl FnOnce()) {
        if self.0.changed.take() > 0 {
            tell();
        }
    }
}

impl Console {
    /// Largest size of each virtqueue, in descriptors.
    pub const QUEUE_SIZE: u16 = 256;

    /// A console at the end of `line`.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new(line: Line, size: Size) -> io::Result<Self> {
        let Line { input, output, terminal } = line;
        Ok(Self {
            keyboard: Arc::new(Mutex::new(Keyboard::new(input))),
            screen: Arc::new(Mutex::new(Screen::new(output))),
            window: Window::new(size)?,
            terminal,
        })
    }

    /// The terminal that it has made, for others to open.
    #[must_use]
    pub fn terminal(&self) -> Option<&Path> {
        self.terminal.as_deref()
    }

    /// Its size, which may be changed at any time, by any thread.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window.clone()
    }
}

impl DeviceModel for Console {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            features: console::SIZE | console::EMERG_WRITE,
            config_len: console::CONFIG_LEN,
            config_access: ConfigAccess::AlwaysWritable,
            ..DeviceInfo::new(device_type::CONSOLE, "console", vec![Self::QUEUE_SIZE; 2])
        }
    }

    /// virtio 1.3 §5.3.4. There are no ports but the first, and what is written to `emerg_wr` is not kept.
    fn read_config(&self, offset: usize, out: &mut [u8]) {
        let Size { cols, rows } = self.window.size();
        let mut config = [0; console::CONFIG_LEN];
        for (at, bytes) in [(console::COLS, cols.to_le_bytes()), (console::ROWS, rows.to_le_bytes())] {
            config.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
        }
        out.iter_mut().zip(config.iter().skip(offset)).for_each(|(to, from)| *to = *from);
    }

    /// virtio 1.3 §5.3.5.1: the lowest byte of what is written to `emerg_wr` is output, whether or not the driver has acknowledged
    /// the feature, and without queues.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let (console::EMERG_WR, Some(character)) = (offset, data.first()) else { return };
        let mut screen = lock(&self.screen);
        let added = screen.add(1, |room| {
            room.iter_mut().for_each(|to| *to = *character);
            Ok::<_, std::convert::Infallible>(room.len())
        });
        if added == Ok(0) {
            screen.say(format_args!("a character of output is lost: nobody has read what was before"));
        }
        screen.send();
    }

    fn handlers(&mut self, negotiated: Features) -> Handlers {
        let (keyboard, window) = (self.keyboard.clone(), self.window.clone());
        let receiver = Receiver { keyboard, window, negotiated, log: RateLimit::default() };
        let transmitter = Transmitter { screen: self.screen.clone(), parked: None };
        let queues = |q: u16| q..q + 1;
        vec![
            (queues(console::RECEIVE_QUEUE), Box::new(receiver)),
            (queues(console::TRANSMIT_QUEUE), Box::new(transmitter)),
        ]
    }

    /// What was typed and not read yet: it can be read from nowhere else any more.
    fn save(&self) -> Vec<u8> {
        let Self { keyboard, screen: _, window: _, terminal: _ } = self;
        lock(keyboard).unread().to_vec()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        if state.len() > MAX_UNREAD_BYTES {
            let len = state.len();
            return Err(StateError(format!("{len} bytes of input are more than a console keeps").into()));
        }
        let Self { keyboard, screen: _, window: _, terminal: _ } = self;
        lock(keyboard).put(state);
        Ok(())
    }
}
