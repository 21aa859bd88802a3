//! Files that are cut, and files with bytes that are wrong: an error in one line or a kernel within memory, never a panic.

use super::bzimages::{KERNEL_LEN, SETUP_LEN, bzimage};
use super::elves::{NOTES_AT, TABLE_AT, elf};
use super::*;
use proptest::prelude::*;

#[test]
fn a_kernel_that_is_cut_anywhere_is_told_so() {
    for whole in [bzimage(), elf()] {
        let rig = Rig::new(&whole);
        let file = fs::File::options().write(true).open(&rig.sources.kernel).unwrap();
        rig.load().unwrap();
        for len in (0..whole.len() as u64).rev() {
            file.set_len(len).unwrap();
            let error = rig.error();
            let expected = format!("the kernel kernel is truncated: it has {len} bytes of at least ");
            let rest = error.strip_prefix(&expected).unwrap_or_else(|| panic!("{len}: {error}"));
            let needed: u64 = rest.strip_suffix(": copy or build it again").unwrap().parse().unwrap();
            assert!(len < needed && needed <= whole.len() as u64, "{error}");
        }
    }
}

/// What follows the kernel (a signature) may be absent: nobody misses it.
#[test]
fn bytes_behind_the_kernel_are_not_loaded() {
    let mut file = bzimage();
    assert_eq!(file.len(), SETUP_LEN + KERNEL_LEN);
    file.extend([0xab; 100]);
    let rig = Rig::new(&file);
    let at = rig.load().unwrap().instruction_pointer - 0x200 + KERNEL_LEN as u64;
    assert_eq!(rig.bytes(at, 100), [0; 100]);
}

/// Writes over a few fields, with values at the edges as often as any.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u64, usize)>> {
    let value = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 63),
        (0u32..64).prop_map(|bit| 1 << bit),
        any::<u64>()
    ];
    let len = prop::sample::select(vec![1usize, 2, 4, 8]);
    prop::collection::vec((any::<prop::sample::Index>(), value, len), 1..4)
}

fn check(mut file: Vec<u8>, places: std::ops::Range<usize>, damage: &[(prop::sample::Index, u64, usize)]) {
    for (place, value, len) in damage {
        let at = places.start + place.index(places.len());
        put(&mut file, at, &value.to_le_bytes()[..*len]);
    }
    let rig = Rig::new(&file).with_initrd(&[1; 100]);
    match rig.load() {
        Ok(entry) => assert!((MIB..16 * MIB + 0x200).contains(&entry.instruction_pointer), "{entry:?}"),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_damaged_bzimage_is_an_error_or_a_kernel(damage in damage()) {
        check(bzimage(), 0x1f1..0x264, &damage);
    }

    #[test]
    fn a_damaged_elf_header_is_an_error_or_a_kernel(damage in damage()) {
        check(elf(), 4..TABLE_AT, &damage);
    }

    #[test]
    fn damaged_program_headers_are_an_error_or_a_kernel(damage in damage()) {
        check(elf(), TABLE_AT..TABLE_AT + 112, &damage);
    }

    #[test]
    fn damaged_notes_are_an_error_or_a_kernel(damage in damage()) {
        check(elf(), NOTES_AT..NOTES_AT + 48, &damage);
    }

    #[test]
    fn noise_is_no_kernel(noise in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(Rig::new(&noise).load().is_err());
    }
}
