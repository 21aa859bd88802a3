//! `vioduct device`: the devices there are.

use crate::Failure;
use crate::args::Format;
use crate::registry::DEVICES;
use crate::report;

/// Prints every device, what it is and its options.
pub(crate) fn list(format: Format) -> Result<(), Failure> {
    if format.json {
        return report::print_json(&DEVICES);
    }
    let mut text = String::new();
    for device in DEVICES {
        text.push_str(&format!("{:<14} {}\n", device.name, device.is));
        for (option, meaning) in device.options {
            text.push_str(&format!("{:<14}   {option:<26} {meaning}\n", ""));
        }
    }
    report::print_text(&text)
}
