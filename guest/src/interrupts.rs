//! Interrupts as Linux counts them.

/// Those that a device has had: `virtio0`.
pub(crate) fn of(device: &str) -> u64 {
    interrupts_of(&std::fs::read_to_string("/proc/interrupts").unwrap_or_default(), device)
}

/// Reads `/proc/interrupts`: a device has lines for each of its vectors (`virtio0-input.0`), or one.
fn interrupts_of(text: &str, device: &str) -> u64 {
    let vector = format!("{device}-");
    let lines = text.lines().map(str::split_whitespace);
    lines
        .filter(|words| words.clone().any(|word| word == device || word.starts_with(&vector)))
        .flat_map(|words| words.skip(1).map_while(|word| word.parse::<u64>().ok()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::interrupts_of;

    #[test]
    fn interrupts_are_those_of_the_device_on_every_processor() {
        let text = "           CPU0       CPU1\n 24:  1  20  PCI-MSIX-0000:00:01.0  1-edge  virtio1-input.0\n \
                    25:  300  0  PCI-MSIX-0000:00:01.0  2-edge  virtio1-output.0\n 5:  7 0 IO-APIC 5-edge virtio10\n";
        assert_eq!((interrupts_of(text, "virtio1"), interrupts_of(text, "virtio10")), (321, 7));
    }
}
