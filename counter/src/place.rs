//! [`Instruction`]: which instructions matter. [`Place`]: where a host goes on after its guest.

use vioduct_spec::host_instructions::QUESTION;

/// AMD64 Architecture Programmer's Manual, volume 3, `VMRUN`.
const VMRUN: [u8; 3] = [0x0f, 0x01, 0xd8];
/// What no instruction begins on one page and ends behind.
const PAGE_LEN: u64 = 4096;

/// What an instruction is for the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// A guest is entered. It ends a block of translated code.
    EntersGuest,
    /// Somebody asks for the count.
    Asks,
    Other,
}

impl Instruction {
    /// By its bytes, all of them.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes {
            bytes if bytes == VMRUN => Self::EntersGuest,
            bytes if bytes == QUESTION => Self::Asks,
            _ => Self::Other,
        }
    }
}

/// Where an instruction is in memory. Guests have addresses of their own, which may be the host's, too: QEMU's memory tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In QEMU's memory.
    Physical(usize),
    /// By its address in the host: of an instruction that begins a page, whose place nothing told before.
    Virtual(u64),
}

impl Place {
    /// Where the host goes on that has entered its guest by the instruction at `address`, which is `physical` in QEMU's memory.
    pub(crate) fn behind_entry(address: u64, physical: usize) -> Self {
        let behind = address.wrapping_add(VMRUN.len() as u64);
        match address / PAGE_LEN == behind / PAGE_LEN {
            true => Self::Physical(physical.wrapping_add(VMRUN.len())),
            false => Self::Virtual(behind),
        }
    }

    /// Whether the instruction at `address` is there.
    pub(crate) fn is(self, address: u64, physical: usize) -> bool {
        match self {
            Self::Physical(place) => place == physical,
            Self::Virtual(place) => place == address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_by_all_of_their_bytes() {
        assert_eq!(Instruction::of(&[0x0f, 0x01, 0xd8]), Instruction::EntersGuest);
        assert_eq!(Instruction::of(&QUESTION), Instruction::Asks);
        // VMMCALL, a compiler's no-operation of 7 bytes, and one byte of VMRUN.
        for other in [&[0x0f, 0x01, 0xd9][..], &[0x0f, 0x1f, 0x80, 0, 0, 0, 0], &[0x0f]] {
            assert_eq!(Instruction::of(other), Instruction::Other, "{other:x?}");
        }
    }

    #[test]
    fn the_host_goes_on_behind_the_entry_and_not_at_a_guests_same_address() {
        let place = Place::behind_entry(0x1000, 0x7000_0000);
        assert!(place.is(0x1003, 0x7000_0003) && !place.is(0x1003, 0x7fff_0003));
        let on_the_next_page = Place::behind_entry(0x1ffd, 0x7000_0ffd);
        assert!(on_the_next_page.is(0x2000, 0x1234_0000) && !on_the_next_page.is(0x2001, 0x7000_1000));
    }
}
