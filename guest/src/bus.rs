//! The kernel's virtio bus: what was negotiated, and taking a device from another driver, for 45 is also the number of SPI
//! controllers, whose driver may have been first.

use std::fs;
use std::io;
use std::path::Path;

use vioduct_spec::{Features, device_type};

use crate::Failure;

const BUS: &str = "/sys/bus/virtio";

/// Sees to it that every device of virtio-test's type is bound to `driver`.
pub(crate) fn give_virtio_test_to(driver: &str) -> Result<(), Failure> {
    in_sysfs(Path::new(BUS), device_type::TEST, driver)
        .map_err(|error| Failure::Lab(format!("cannot give a device to {driver}: {error}")))
}

fn in_sysfs(bus: &Path, device_type: u32, driver: &str) -> io::Result<()> {
    let devices = match fs::read_dir(bus.join("devices")) {
        Ok(devices) => devices,
        // A kernel without a virtio bus has nothing to rebind.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for device in devices {
        let device = device?;
        let holder = fs::read_link(device.path().join("driver")).ok();
        let held_by_other = holder.is_none_or(|holder| !holder.ends_with(driver));
        if type_of(&fs::read_to_string(device.path().join("device"))?) != Some(device_type) || !held_by_other
        {
            continue;
        }
        let name = device.file_name();
        let name = name.to_string_lossy();
        if device.path().join("driver").exists() {
            println!("taking {name} from another driver");
            fs::write(device.path().join("driver/unbind"), name.as_bytes())?;
        }
        let bind = bus.join("drivers").join(driver).join("bind");
        if bind.exists() {
            fs::write(bind, name.as_bytes())?;
        }
    }
    Ok(())
}

/// Says which features the devices of a driver were given, as a number: bit 0 is feature 0.
pub(crate) fn print_negotiated(driver: &str) -> Result<(), Failure> {
    negotiated(driver)?.into_iter().for_each(|features| println!("negotiated {:#x}", features.0));
    Ok(())
}

/// Which features the devices of a driver were given.
pub(crate) fn negotiated(driver: &str) -> Result<Vec<Features>, Failure> {
    let failed = |error| Failure::Lab(format!("cannot read what {driver} has negotiated: {error}"));
    let mut negotiated = Vec::new();
    for device in devices_of(driver)? {
        let features = fs::read_to_string(Path::new(BUS).join("devices").join(device).join("features"));
        negotiated.push(Features(features_of(&features.map_err(failed)?)));
    }
    Ok(negotiated)
}

/// The devices of a driver: `virtio0`.
pub(crate) fn devices_of(driver: &str) -> Result<Vec<String>, Failure> {
    let folder = Path::new(BUS).join("drivers").join(driver);
    let failed = |error| Failure::Lab(format!("cannot read the devices of {driver}: {error}"));
    let mut devices = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // The folder also has what binds and unbinds.
        if entry.path().join("features").exists() {
            devices.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(devices)
}

/// A digit for each feature, the first for feature 0.
pub(crate) fn features_of(text: &str) -> u64 {
    text.trim()
        .bytes()
        .take(64)
        .enumerate()
        .fold(0, |sum, (bit, digit)| sum | u64::from(digit == b'1') << bit)
}

/// `0x002d` and a newline.
fn type_of(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_type_is_read_from_sysfs() {
        assert_eq!(type_of("0x002d\n"), Some(45));
        assert_eq!(type_of("45"), None);
    }

    #[test]
    fn features_are_read_from_sysfs() {
        let text = format!("1{}1{}\n", "0".repeat(31), "0".repeat(31));
        assert_eq!(features_of(&text), 1 | 1 << 32);
        assert_eq!(features_of(&format!("{}1\n", "0".repeat(64))), 0, "sixty-four fit");
    }

    #[test]
    fn a_bus_that_is_not_there_is_no_error() {
        in_sysfs(Path::new("/nonexistent"), 45, "driver").unwrap();
    }
}
