//! [`Resident`]: memory of a process beside that of the guest which it shares or holds.

use anyhow::Result;

/// Resident memory in KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// All, the pages of programs and libraries that other processes use too among them.
    pub all: u64,
    /// What only this process has.
    pub private: u64,
}

/// A mapping of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mapping<'m> {
    /// Its line in `/proc/PID/maps`.
    pub line: &'m str,
    /// Its length in KiB.
    pub size_kib: u64,
}

impl Resident {
    /// Of a process, without the mappings that are the guest's memory.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn of(process: u32, is_guest: impl Fn(Mapping<'_>) -> bool) -> Result<Self> {
        Ok(Self::sum(&std::fs::read_to_string(format!("/proc/{process}/smaps"))?, is_guest))
    }

    fn sum(maps: &str, is_guest: impl Fn(Mapping<'_>) -> bool) -> Self {
        let (mut sum, mut mapping) = (Self::default(), Mapping::default());
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            match (first, words.next().and_then(|word| word.parse::<u64>().ok())) {
                _ if !first.ends_with(':') => mapping.line = line,
                // The first of a mapping's figures.
                ("Size:", Some(kib)) => mapping.size_kib = kib,
                ("Rss:", Some(kib)) if !is_guest(mapping) => sum.all += kib,
                ("Private_Clean:" | "Private_Dirty:", Some(kib)) if !is_guest(mapping) => sum.private += kib,
                _ => {}
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_not_counted() {
        let maps = "\
55d0c0000000-55d0c0010000 r-xp 00000000 fe:01 1234   /usr/bin/vioduct
Size:                 64 kB
Rss:                  60 kB
Pss:                  30 kB
Private_Clean:         8 kB
Private_Dirty:         0 kB
7f0000000000-7f0020000000 rw-s 00000000 00:01 7      /memfd:guest (deleted)
Size:             524288 kB
Rss:               65536 kB
Private_Dirty:       100 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0      [stack]
Size:                132 kB
Rss:                  12 kB
Private_Dirty:        12 kB
";
        let expected = Resident { all: 72, private: 20 };
        assert_eq!(Resident::sum(maps, |mapping| mapping.line.contains("/memfd:")), expected);
        assert_eq!(Resident::sum(maps, |mapping| mapping.size_kib == 524_288), expected);
        assert_eq!(Resident::sum(maps, |_| false).all, 72 + 65_536);
    }
}
