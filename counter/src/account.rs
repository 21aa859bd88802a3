//! [`Account`]: what a processor has executed, and for whom.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of one processor, in instructions. Its own thread writes it, and those of others may read it meanwhile. It begins as zeros.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// All of them; translated code adds to it, at [`Self::EXECUTED`].
    executed: AtomicU64,
    /// Those of guests that have stopped.
    guests: AtomicU64,
    /// What was executed when the guest that now runs was entered; 0 while none does, as a host executes something before.
    entered: AtomicU64,
    /// 1 from a guest's entry to its first block; translated code reads it, at [`Self::FRESH`].
    fresh: AtomicU64,
}

impl Account {
    /// Where in an account that is which translated code adds to.
    pub(crate) const EXECUTED: usize = offset_of!(Self, executed);

    /// Where what tells that a guest has just been entered is.
    pub(crate) const FRESH: usize = offset_of!(Self, fresh);

    /// The host enters a guest. A guest that tries the same does not get far: its host hears of it.
    pub(crate) fn enter(&self) {
        if self.entered.load(Relaxed) == 0 {
            self.entered.store(self.executed.load(Relaxed), Relaxed);
        }
        self.fresh.store(1, Relaxed);
    }

    /// A guest goes on.
    pub(crate) fn go_on(&self) {
        self.fresh.store(0, Relaxed);
    }

    /// The host has the processor back.
    pub(crate) fn leave(&self) {
        self.go_on();
        let entered = self.entered.swap(0, Relaxed);
        if entered != 0 {
            self.guests.fetch_add(self.executed.load(Relaxed) - entered, Relaxed);
        }
    }

    /// What the host has executed.
    pub(crate) fn hosts(&self) -> u64 {
        let until = match self.entered.load(Relaxed) {
            0 => self.executed.load(Relaxed),
            entered => entered,
        };
        until.saturating_sub(self.guests.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(account: &Account, count: u64) {
        account.executed.fetch_add(count, Relaxed);
    }

    #[test]
    fn what_runs_between_entry_and_exit_is_the_guests() {
        let account = Account::default();
        execute(&account, 100);
        account.enter();
        assert_eq!(account.fresh.load(Relaxed), 1);
        account.go_on();
        execute(&account, 7000);
        assert_eq!((account.hosts(), account.fresh.load(Relaxed)), (100, 0), "the guest runs");
        account.leave();
        execute(&account, 20);
        account.enter();
        account.leave();
        execute(&account, 3);
        assert_eq!((account.hosts(), account.fresh.load(Relaxed)), (123, 0), "the guest did not even begin");
    }

    #[test]
    fn a_guest_that_enters_one_of_its_own_stays_a_guest() {
        let account = Account::default();
        execute(&account, 1);
        account.enter();
        execute(&account, 10);
        account.enter();
        execute(&account, 10);
        account.leave();
        account.leave();
        assert_eq!(account.hosts(), 1);
    }
}
