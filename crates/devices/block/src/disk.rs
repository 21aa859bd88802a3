//! [`Disk`]: the file that holds the data, and what of it can be used.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use vioduct_spec::blk;

/// What may be done with the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// Where the data are. Nothing in them is looked at, ever: what a guest writes to its disk must not decide what the host opens
/// (row 45 of the hostile peers).
pub(crate) enum Store {
    File(File),
    /// Reads as zeroes, and forgets what is written.
    Null,
}

pub(crate) struct Disk {
    pub(crate) store: Store,
    pub(crate) sectors: u64,
    pub(crate) access: Access,
}

impl Disk {
    pub(crate) fn null(len_bytes: u64, access: Access) -> Self {
        Self { store: Store::Null, sectors: len_bytes / blk::SECTOR_LEN as u64, access }
    }

    /// Opens a file or block device whose length is a multiple of `block_len_bytes`. The error is one line that says what to do.
    pub(crate) fn open(path: &Path, access: Access, block_len_bytes: u32) -> Result<Self, String> {
        let kind = std::fs::metadata(path).map_err(|error| refusal(&error, access))?.file_type();
        // Found out before it is opened: to open a FIFO waits for its other end.
        if kind.is_dir() {
            return Err("it is a directory: give a raw image file or a block device".into());
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err("it is neither a file nor a block device: give one of them".into());
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .open(path)
            .map_err(|error| refusal(&error, access))?;
        let len_bytes = file.seek(SeekFrom::End(0)).map_err(|error| refusal(&error, access))?;
        if len_bytes == 0 {
            return Err("it is empty: give it the disk's size, as `truncate -s 1G` does".into());
        }
        if !len_bytes.is_multiple_of(block_len_bytes.into()) {
            return Err(format!(
                "its {len_bytes} bytes are no multiple of the block size of {block_len_bytes}: extend it to {} bytes",
                len_bytes.next_multiple_of(block_len_bytes.into())
            ));
        }
        Ok(Self { store: Store::File(file), sectors: len_bytes / blk::SECTOR_LEN as u64, access })
    }
}

fn refusal(error: &io::Error, access: Access) -> String {
    match (error.kind(), access) {
        (io::ErrorKind::NotFound, _) => {
            "there is no such file: create it with the disk's size, as `truncate -s 1G` does".into()
        }
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, Access::ReadWrite) => {
            format!("it may not be opened for writing ({error}): change its permissions, or add readonly=on")
        }
        (io::ErrorKind::PermissionDenied, Access::ReadOnly) => {
            format!("it may not be opened ({error}): change its permissions")
        }
        _ => format!("it cannot be opened: {error}"),
    }
}
