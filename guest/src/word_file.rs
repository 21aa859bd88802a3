//! Device nodes that carry one `u32` per read and write.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};

use vioduct_spec::demo;

use crate::Failure;
use crate::system_calls::number_of;

/// An open device node.
#[derive(Debug)]
pub(crate) struct WordFile {
    path: &'static str,
    file: File,
    operations: Cell<u64>,
}

impl WordFile {
    pub(crate) fn open(path: &'static str) -> Result<Self, Failure> {
        Self::with(path, OpenOptions::new().read(true).write(true))
    }

    pub(crate) fn open_for_writing(path: &'static str) -> Result<Self, Failure> {
        Self::with(path, OpenOptions::new().write(true))
    }

    fn with(path: &'static str, options: &OpenOptions) -> Result<Self, Failure> {
        match options.open(path) {
            Ok(file) => Ok(Self { path, file, operations: Cell::new(0) }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Failure::Lab(format!("no {path}: attach the device to this guest, and load its driver")))
            }
            Err(error) => Err(Failure::Lab(format!("cannot open {path}: {error}"))),
        }
    }

    /// One read of 4 bytes.
    pub(crate) fn read(&self) -> Result<u32, Failure> {
        let mut value = [0; 4];
        self.whole("read", (&self.file).read(&mut value))?;
        Ok(u32::from_le_bytes(value))
    }

    /// One write of 4 bytes.
    pub(crate) fn write(&self, value: u32) -> Result<(), Failure> {
        self.whole("write", (&self.file).write(&value.to_le_bytes()))
    }

    /// Reads and writes so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// How often the device was notified, which Linux's driver counts.
    pub(crate) fn doorbells(&self) -> Result<u32, Failure> {
        number_of(&self.file, demo::COUNT_DOORBELLS)
            .map_err(|error| Failure::Lab(format!("cannot count the doorbells of {}: {error}", self.path)))
    }

    fn whole(&self, what: &str, length: Result<usize, Error>) -> Result<(), Failure> {
        self.operations.update(|operations| operations + 1);
        match length {
            Ok(4) => Ok(()),
            Ok(length) => Err(Failure::Lab(format!("{what} {}: {length} bytes instead of 4", self.path))),
            Err(error) => Err(Failure::Lab(format!("{what} {}: {error}", self.path))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_node_says_what_to_do() {
        let error = WordFile::open("/dev/nonexistent-vioduct").unwrap_err();
        let expected = "no /dev/nonexistent-vioduct: attach the device to this guest, and load its driver";
        assert_eq!(error, Failure::Lab(expected.into()));
    }

    #[test]
    fn a_short_read_is_an_error() {
        let error = WordFile::open("/dev/null").unwrap().read().unwrap_err();
        assert_eq!(error, Failure::Lab("read /dev/null: 0 bytes instead of 4".into()));
    }
}
