//! "Did you mean": the nearest of the names there are.

/// A sentence about an unknown name: what there is instead, and what was probably meant.
pub(crate) fn unknown<'n>(what: &str, given: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(given.len()) / 2)
        .map(|(_, name)| format!(" Did you mean `{name}`?"));
    format!("there is no {what} `{given}`.{} There are: {}.", near.unwrap_or_default(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::unknown;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let names = ["pci-demo", "virtio-demo"];
        assert_eq!(
            unknown("lab", "virtio-dmeo", names),
            "there is no lab `virtio-dmeo`. Did you mean `virtio-demo`? There are: pci-demo, virtio-demo."
        );
        assert_eq!(
            unknown("lab", "xyzzy", names),
            "there is no lab `xyzzy`. There are: pci-demo, virtio-demo."
        );
    }
}
