//! Linux's own driver on our entropy device.

use std::fs::{self, File};
use std::io::Read;

use crate::Failure;

/// The driver that feeds `/dev/hwrng`.
const CURRENT: &str = "/sys/class/misc/hw_random/rng_current";
const LEN: usize = 64;

/// Reads bytes from the device, twice.
pub(crate) fn run() -> Result<(), Failure> {
    let source = fs::read_to_string(CURRENT).unwrap_or_default();
    println!("entropy comes from {}", source.trim());
    if !source.starts_with("virtio_rng") {
        return Err(Failure::Lab(format!(
            "`{}` is not Linux's driver of virtio entropy devices",
            source.trim()
        )));
    }
    let first = read()?;
    let second = read()?;
    if first == second {
        return Err(Failure::Lab("the same bytes came twice".into()));
    }
    println!("read {LEN} bytes of entropy, and {LEN} others");
    Ok(())
}

fn read() -> Result<[u8; LEN], Failure> {
    let mut bytes = [0; LEN];
    let outcome = File::open("/dev/hwrng").and_then(|mut file| file.read_exact(&mut bytes));
    outcome.map_err(|error| Failure::Lab(format!("cannot read /dev/hwrng: {error}")))?;
    Ok(bytes)
}
