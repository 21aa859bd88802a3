//! The device that `block,path=…` describes.

use crate::device::{Block, Setup};
use crate::disk::{Access, Disk};
use crate::engine::{Method, io_uring_works};
use std::path::Path;
use vioduct_spec::blk;
use vioduct_virtio_device::{OptionError, Options};

const KEYS: &[&str] = &["path", "readonly", "serial", "queues", "io", "block-size", "null"];
/// More than a machine has processors.
const MAX_QUEUES: u32 = 64;

impl Block {
    /// The device that `block,path=FILE` describes, or `block,null=SIZE`, with further options:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `path=FILE` | a raw file or block device; its format is never guessed |
    /// | `null=SIZE` | instead of a file: reads give zeroes, writes are forgotten; for benchmarks |
    /// | `readonly=on\|off` | whether the driver can only read (off) |
    /// | `serial=TEXT` | the identification, at most 20 bytes (`vioduct`) |
    /// | `queues=N` | how many queues there are, each served by its own thread (1) |
    /// | `io=uring\|threads\|auto` | what carries out operations: io_uring, threads, or whichever the system permits (auto) |
    /// | `block-size=512\|4096` | the block size shown to the driver (512) |
    ///
    /// # Errors
    /// If there is another option, a value is not one of these, or the file cannot be used.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.accept(KEYS)?;
        let access = options.choice("readonly", &[("on", Access::ReadOnly), ("off", Access::ReadWrite)])?;
        let access = access.unwrap_or(Access::ReadWrite);
        let block_len_bytes = options.choice("block-size", &[("512", 512), ("4096", 4096)])?.unwrap_or(512);
        let queues = options.number_in("queues", 1..=MAX_QUEUES)?.unwrap_or(1) as u16;
        let methods = [("uring", Method::Uring), ("threads", Method::Threads), ("auto", Method::Auto)];
        let method = options.choice("io", &methods)?.unwrap_or(Method::Auto);
        if method == Method::Uring {
            io_uring_works().map_err(|error| {
                options.unusable("io", format!("the system permits no io_uring ({error}): use io=threads"))
            })?;
        }
        let disk = disk(options, access, block_len_bytes)?;
        Ok(Self::new(Setup { disk, method, queues, block_len_bytes, serial: serial(options)? }))
    }
}

fn disk(options: &Options, access: Access, block_len_bytes: u32) -> Result<Disk, OptionError> {
    let Some(len_bytes) = options.size_bytes("null")? else {
        let path = options.required("path")?;
        return Disk::open(Path::new(path), access, block_len_bytes)
            .map_err(|reason| options.unusable("path", reason));
    };
    if options.text("path").is_some() {
        return Err(options.unusable("null", "there is a path, too: keep one"));
    }
    if len_bytes == 0 || !len_bytes.is_multiple_of(block_len_bytes.into()) {
        let reason = format!("write a multiple of the block size of {block_len_bytes}, and not 0");
        return Err(options.unusable("null", reason));
    }
    Ok(Disk::null(len_bytes, access))
}

/// virtio 1.3 §5.2.6: up to 20 bytes, and zeros.
fn serial(options: &Options) -> Result<[u8; blk::ID_LEN], OptionError> {
    let text = options.text("serial").unwrap_or("vioduct").as_bytes();
    if text.is_empty() || text.len() > blk::ID_LEN {
        return Err(options.unusable("serial", format!("write 1 to {} bytes", blk::ID_LEN)));
    }
    let mut serial = [0; blk::ID_LEN];
    serial.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    Ok(serial)
}
