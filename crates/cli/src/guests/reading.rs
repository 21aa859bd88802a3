//! [`Reading`]: what the host has done so far.

/// As far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Processor time of the threads that serve queues.
    pub(super) server_ns: Option<u64>,
    /// What it has executed, its guests' instructions not among them.
    pub(super) host_instructions: Option<u64>,
}

impl Reading {
    /// What was done between two readings.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            // A thread that has ended meanwhile is missed.
            server_ns: difference(self.server_ns, before.server_ns),
            host_instructions: difference(self.host_instructions, before.host_instructions),
        }
    }

    /// Of that, what each of so many operations took.
    pub(super) fn for_each_of(self, operations: u64) -> Self {
        let each = |whole: Option<u64>| whole?.checked_div(operations);
        Self { server_ns: each(self.server_ns), host_instructions: each(self.host_instructions) }
    }
}

fn difference(after: Option<u64>, before: Option<u64>) -> Option<u64> {
    after?.checked_sub(before?)
}

#[cfg(test)]
mod tests {
    use super::Reading;

    #[test]
    fn a_difference_is_shared_among_operations_and_what_is_not_known_stays_so() {
        let reading = |server_ns, host_instructions| Reading { server_ns, host_instructions };
        let whole = reading(Some(50), Some(9000)).since(reading(Some(20), Some(1000)));
        assert_eq!(whole.for_each_of(10), reading(Some(3), Some(800)));
        assert_eq!(whole.for_each_of(0), Reading::default());
        assert_eq!(reading(Some(50), None).since(reading(Some(70), Some(1))), Reading::default());
    }
}
