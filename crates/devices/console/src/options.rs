//! The device that `console,path=…` describes.

use crate::device::{Console, Size};
use crate::line::Line;
use std::path::Path;
use vioduct_virtio_device::{OptionError, Options};

const KEYS: &[&str] = &["path", "cols", "rows"];

impl Console {
    /// The device that `console` describes, with these options:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `path=FILE` | output goes to the end of this file, device or FIFO, which is made if it is not there; there is no input |
    /// | `path=pty` | input and output are a new terminal's, whose name [`terminal`](Self::terminal) is |
    /// | `path=stdio` | input is standard input, output is standard output |
    /// | `cols=N`, `rows=N` | the size that the driver is shown, in characters (80, 24) |
    ///
    /// Without a path, output goes to standard output, and there is no input.
    ///
    /// # Errors
    /// If there is another option, a value is not one of these, or what `path` names cannot be opened.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(KEYS)?;
        let characters = |key| options.number_in(key, 1..=u16::MAX.into());
        let Size { cols, rows } = Size::default();
        let size = Size {
            cols: characters("cols")?.map_or(cols, |cols| cols as u16),
            rows: characters("rows")?.map_or(rows, |rows| rows as u16),
        };
        let line = match options.text("path") {
            None => Line::stdout(),
            Some("stdio") => Line::stdio(),
            Some("pty") => Line::terminal(),
            Some(path) => Line::file(Path::new(path)),
        };
        line.and_then(|line| Self::new(line, size)).map_err(|error| {
            let wanted = "name a file that can be written to, pty or stdio";
            options.unusable("path", format_args!("{error}: {wanted}"))
        })
    }
}
