//! [`Options`]: the `name,key=value…` grammar by which every device is configured.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A device's name and its options, as one gives them on a command line: `name,key=value,key=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    name: String,
    pairs: Vec<(String, String)>,
}

/// Why options are refused, in words for whoever wrote them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// There is no name, or a part is not `key=value`.
    #[error("`{part}` is not understood: write name,key=value,key=value")]
    Syntax {
        /// The part in error.
        part: String,
    },
    /// A key is given twice.
    #[error("{device}: `{key}` is given twice: keep one")]
    Twice {
        /// The device's name.
        device: String,
        /// The key.
        key: String,
    },
    /// The device has no such key.
    #[error("{device}: there is no option `{key}`{}; {}", did_you_mean(.nearest), listed(.known))]
    Unknown {
        /// The device's name.
        device: String,
        /// The key.
        key: String,
        /// The most similar key that there is.
        nearest: Option<&'static str>,
        /// All keys that there are.
        known: &'static [&'static str],
    },
    /// A key that the device needs is not there.
    #[error("{device}: it needs `{key}=…`")]
    Missing {
        /// The device's name.
        device: String,
        /// The key.
        key: &'static str,
    },
    /// A value is not of its kind.
    #[error("{device}: `{key}={value}`: write {wanted}")]
    Value {
        /// The device's name.
        device: String,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What the value must be.
        wanted: String,
    },
    /// A value is of its kind, and the system has nothing usable by that name.
    #[error("{device}: `{key}={value}`: {reason}")]
    Unusable {
        /// The device's name.
        device: String,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

fn listed(known: &[&str]) -> String {
    if known.is_empty() { "it has none".into() } else { format!("it has: {}", known.join(", ")) }
}

impl Options {
    /// Parses `text`. A value may hold `=`, and no comma.
    ///
    /// # Errors
    /// If a part is not `key=value`, or a key is given twice.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let syntax = |part: &str| OptionError::Syntax { part: part.into() };
        let mut parts = text.split(',');
        let name = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
        let mut options = Self { name: name.ok_or_else(|| syntax(text))?.into(), pairs: Vec::new() };
        for part in parts {
            let (key, value) =
                part.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| syntax(part))?;
            if options.text(key).is_some() {
                return Err(OptionError::Twice { device: options.name, key: key.into() });
            }
            options.pairs.push((key.into(), value.into()));
        }
        Ok(options)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a key out, for whoever places the device: the device itself does not see it.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let place = self.pairs.iter().position(|(found, _)| found == key)?;
        Some(self.pairs.remove(place).1)
    }

    /// Says which keys there are. A device calls this first, so that no key is silently without effect.
    ///
    /// # Errors
    /// If another key is given.
    pub fn accept(&self, known: &'static [&'static str]) -> Result<(), OptionError> {
        match self.pairs.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => Err(OptionError::Unknown {
                device: self.name.clone(),
                key: key.clone(),
                nearest: nearest(key, known),
                known,
            }),
        }
    }

    /// The value of a key as it is written.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key that must be given.
    ///
    /// # Errors
    /// If it is not.
    pub fn required(&self, key: &'static str) -> Result<&str, OptionError> {
        self.text(key).ok_or_else(|| OptionError::Missing { device: self.name.clone(), key })
    }

    /// A number: decimal, or hexadecimal after `0x`.
    ///
    /// # Errors
    /// If the value is none, or not below 2^32.
    pub fn number(&self, key: &'static str) -> Result<Option<u32>, OptionError> {
        self.number_in(key, 0..=u32::MAX)
    }

    /// A number of a range: decimal, or hexadecimal after `0x`.
    ///
    /// # Errors
    /// If the value is none, or outside of `range`.
    pub fn number_in(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, OptionError> {
        let wanted = format!("a number from {} to {}, decimal or 0x…", range.start(), range.end());
        self.parsed(key, wanted, |value| {
            let number = match value.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => value.parse().ok(),
            };
            number.filter(|number| range.contains(number))
        })
    }

    /// A size in bytes: a number, and `K`, `M` or `G` for multiples of 2^10, 2^20, 2^30.
    ///
    /// # Errors
    /// If the value is none, or not below 2^64.
    pub fn size_bytes(&self, key: &'static str) -> Result<Option<u64>, OptionError> {
        self.parsed(key, "a size in bytes such as 4096, 64K, 1M or 2G", |value| {
            let (digits, unit) = match value.as_bytes().last()? {
                b'K' => (value.strip_suffix('K')?, 1 << 10),
                b'M' => (value.strip_suffix('M')?, 1 << 20),
                b'G' => (value.strip_suffix('G')?, 1 << 30),
                _ => (value, 1),
            };
            u64::from_str(digits).ok()?.checked_mul(unit)
        })
    }

    /// One of the words of a table, by what it stands for.
    ///
    /// # Errors
    /// If the value is another word.
    pub fn choice<T: Copy>(&self, key: &'static str, table: &[(&str, T)]) -> Result<Option<T>, OptionError> {
        let words: Vec<_> = table.iter().map(|(word, _)| *word).collect();
        self.parsed(key, words.join(" or "), |value| {
            table.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning)
        })
    }

    /// Says that what a key names cannot be used: for devices that find out only when they open it.
    pub fn unusable(&self, key: &'static str, reason: impl Display) -> OptionError {
        OptionError::Unusable {
            device: self.name.clone(),
            key,
            value: self.text(key).unwrap_or_default().into(),
            reason: reason.to_string(),
        }
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        wanted: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, OptionError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(OptionError::Value {
                device: self.name.clone(),
                key,
                value: value.into(),
                wanted: wanted.to_string(),
            }),
        }
    }
}

/// The key that `key` was most likely meant to be.
fn nearest(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    /// Edits beyond which two words are not thought of as the same.
    const FAR: usize = 3;
    let distances = known.iter().map(|word| (strsim::damerau_levenshtein(key, word), *word));
    distances.filter(|(distance, word)| *distance < FAR.min(word.len())).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["format", "id"];

    #[test]
    fn a_name_and_pairs_are_parsed() {
        let mut options = Options::parse("virtio-test,format=echo,id=0x2d,path=a=b").unwrap();
        assert_eq!(options.name(), "virtio-test");
        assert_eq!(options.number("id"), Ok(Some(45)));
        assert_eq!(options.choice("format", &[("factorial", 1), ("echo", 2)]), Ok(Some(2)));
        assert_eq!(options.take("path").as_deref(), Some("a=b"));
        assert_eq!(options.accept(KEYS), Ok(()));
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_all() {
        let error = Options::parse("virtio-test,fromat=echo").unwrap().accept(KEYS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "virtio-test: there is no option `fromat`, did you mean `format`?; it has: format, id"
        );
        let error = Options::parse("entropy,colour=red").unwrap().accept(&[]).unwrap_err();
        assert_eq!(error.to_string(), "entropy: there is no option `colour`; it has none");
    }

    #[test]
    fn bad_text_and_values_say_what_to_write() {
        let message = |text| Options::parse(text).unwrap_err().to_string();
        assert_eq!(message("a,b"), "`b` is not understood: write name,key=value,key=value");
        assert_eq!(message("a,b=1,b=2"), "a: `b` is given twice: keep one");
        assert_eq!(message(""), "`` is not understood: write name,key=value,key=value");
        let options = Options::parse("a,id=4294967296,format=x").unwrap();
        let error = options.number("id").unwrap_err().to_string();
        assert_eq!(error, "a: `id=4294967296`: write a number from 0 to 4294967295, decimal or 0x…");
        let error = options.choice("format", &[("factorial", 1), ("echo", 2)]).unwrap_err().to_string();
        assert_eq!(error, "a: `format=x`: write factorial or echo");
        assert_eq!(options.required("path").unwrap_err().to_string(), "a: it needs `path=…`");
    }

    #[test]
    fn sizes_have_units_and_do_not_wrap() {
        let size =
            |value: &str| Options::parse(&format!("a,s={value}")).unwrap().size_bytes("s").ok().flatten();
        assert_eq!(["4096", "64K", "1M", "2G"].map(size), [4096, 64 << 10, 1 << 20, 2 << 30].map(Some));
        assert_eq!(["", "K", "1T", "-1", "99999999999G"].map(size), [None; 5]);
    }
}
