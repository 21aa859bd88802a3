//! Huge pages, without which DPDK has no memory that others can map.

use anyhow::{Context, Result, bail};
use std::fs;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Pages of 2 MiB that are free; those that were reserved for this go with it.
pub struct Pages {
    /// What was reserved before, if that was changed.
    before: Option<u64>,
}

impl Pages {
    /// Sees to it that `count` are free.
    ///
    /// # Errors
    /// If they are not, and this process may not reserve them: it says what to do.
    pub fn reserve(count: u64) -> Result<Self> {
        let (reserved, free) = (number(RESERVED)?, number(PAGES)?);
        if free >= count {
            return Ok(Self { before: None });
        }
        let wanted = reserved + count - free;
        let pages = Self { before: Some(reserved) };
        if fs::write(RESERVED, wanted.to_string()).is_err() || number(PAGES)? < count {
            bail!("DPDK needs {count} free pages of 2 MiB: as root, echo {wanted} > {RESERVED}");
        }
        Ok(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // They are somebody's to free, who will see them.
            let _ = fs::write(RESERVED, before.to_string());
        }
    }
}

fn number(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    text.trim().parse().with_context(|| format!("{path} is no number"))
}
