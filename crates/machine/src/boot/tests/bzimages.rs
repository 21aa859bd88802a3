//! The 64-bit boot protocol.

use super::*;
use crate::boot::places::BOOT_PARAMS;

/// Sectors of set-up code, beside the first one.
const SETUP_SECTS: u8 = 2;
pub(super) const SETUP_LEN: usize = 3 * 512;
pub(super) const KERNEL_LEN: usize = 4096;
const PREFERRED: u64 = 2 * MIB;
const INIT_SIZE: u64 = 4 * MIB;
const INITRD_ADDR_MAX: u32 = 0x7fff_ffff;
const COMMAND_LINE_SIZE: u32 = 100;

/// A kernel of protocol 2.15 with the fields of a Linux of today, whose code is a pattern.
pub(super) fn bzimage() -> Vec<u8> {
    let mut file = vec![0; SETUP_LEN];
    put(&mut file, 0x1f1, &[SETUP_SECTS]);
    put(&mut file, 0x1f4, &(KERNEL_LEN as u32 / 16).to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x020fu16.to_le_bytes());
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x22c, &INITRD_ADDR_MAX.to_le_bytes());
    put(&mut file, 0x230, &(2 * MIB as u32).to_le_bytes());
    put(&mut file, 0x234, &[1, 21]);
    put(&mut file, 0x236, &0x7fu16.to_le_bytes());
    put(&mut file, 0x238, &COMMAND_LINE_SIZE.to_le_bytes());
    put(&mut file, 0x258, &PREFERRED.to_le_bytes());
    put(&mut file, 0x260, &(INIT_SIZE as u32).to_le_bytes());
    put(&mut file, 0x268, &0x1234_5678u32.to_le_bytes());
    // Set-up code behind the header, which must not get into the zero page.
    put(&mut file, 0x26c, &[0xcc; 100]);
    file.extend((0..KERNEL_LEN).map(|place| (place % 251) as u8));
    file
}

fn changed(at: usize, data: &[u8]) -> Rig {
    let mut file = bzimage();
    put(&mut file, at, data);
    Rig::new(&file)
}

#[test]
fn the_kernel_is_where_it_wants_to_be() {
    let rig = Rig::new(&bzimage());
    let entry = rig.load().unwrap();
    assert_eq!(entry.instruction_pointer, PREFERRED + 0x200);
    assert_eq!(entry.mode, Mode::Long { boot_params: BOOT_PARAMS });
    assert_eq!(rig.bytes(PREFERRED, KERNEL_LEN), bzimage()[SETUP_LEN..]);
}

#[test]
fn the_zero_page_is_as_the_protocol_says() {
    let rig = Rig::new(&bzimage()).with_initrd(&[7; 5000]);
    rig.load().unwrap();
    let at = BOOT_PARAMS;
    assert_eq!(rig.bytes(at + 0x202, 6), b"HdrS\x0f\x02", "the header is copied");
    assert_eq!(rig.u32(at + 0x268), 0x1234_5678, "to the end that its jump tells");
    assert_eq!(rig.bytes(at + 0x26c, 0x290 - 0x26c), [0; 0x290 - 0x26c], "and no further");
    assert_eq!(rig.bytes(at + 0x1ef, 1), [0], "the sentinel");
    assert_eq!(rig.bytes(at + 0x210, 1), [0xff], "type_of_loader");
    assert_eq!(rig.bytes(at + 0x1fa, 2), [0xff, 0xff], "vid_mode");
    assert_eq!(rig.u64(at + 0x70), RSDP);
    assert_eq!(rig.text(u64::from(rig.u32(at + 0x228))), "console=ttyS0");
    let entries = rig.bytes(at + 0x1e8, 1)[0];
    let table = (0..u64::from(entries)).map(|entry| at + 0x2d0 + entry * 20);
    let told: Vec<_> = table.map(|at| (rig.u64(at), rig.u64(at + 8), rig.u32(at + 16))).collect();
    assert_eq!(told, TOLD);
}

#[test]
fn the_initrd_is_as_high_as_it_may_be() {
    let initrd: Vec<u8> = (0..5000u32).map(|place| (place % 253) as u8).collect();
    for (limit, start) in [(INITRD_ADDR_MAX, 16 * MIB - 0x2000), (9 * MIB as u32 - 1, 9 * MIB - 0x2000)] {
        let rig = changed(0x22c, &limit.to_le_bytes()).with_initrd(&initrd);
        rig.load().unwrap();
        assert_eq!(u64::from(rig.u32(BOOT_PARAMS + 0x218)), start);
        assert_eq!(rig.u32(BOOT_PARAMS + 0x21c), 5000);
        assert_eq!(rig.bytes(start, 5000), initrd);
    }
}

#[test]
fn an_initrd_that_does_not_fit_is_refused() {
    // Between the end of `init_size` and that of RAM.
    let room = (16 * MIB - PREFERRED - INIT_SIZE) as usize;
    Rig::new(&bzimage()).with_initrd(&vec![1; room]).load().unwrap();
    assert_eq!(
        Rig::new(&bzimage()).with_initrd(&vec![1; room + 1]).error(),
        "the initrd initrd has 10485761 bytes, and there is room for 10485760: give the guest more memory or use a smaller initrd"
    );
    let low = changed(0x22c, &(MIB as u32).to_le_bytes()).with_initrd(&[1]);
    assert!(low.error().contains("there is room for 0"), "{}", low.error());
    let mut absent = Rig::new(&bzimage());
    absent.sources.initrd = Some(absent.folder.path().join("absent"));
    assert!(absent.error().starts_with("cannot read the initrd absent: "), "{}", absent.error());
}

#[test]
fn a_command_line_is_as_long_as_the_kernel_takes() {
    let mut rig = Rig::new(&bzimage());
    rig.sources.command_line = "x".repeat(COMMAND_LINE_SIZE as usize);
    rig.load().unwrap();
    assert_eq!(rig.text(u64::from(rig.u32(BOOT_PARAMS + 0x228))), rig.sources.command_line);
    rig.sources.command_line.push('x');
    assert_eq!(rig.error(), "the command line has 101 bytes, this kernel takes 100: shorten it");
    let mut boundless = changed(0x238, &[0xff; 4]);
    boundless.sources.command_line = "x".repeat(0x1_0000);
    assert_eq!(boundless.error(), "the command line has 65536 bytes, this kernel takes 65535: shorten it");
}

#[test]
fn a_kernel_that_is_larger_than_memory_is_refused() {
    let expected = |needed| {
        format!(
            "the kernel kernel needs memory up to {needed} MiB, the guest has 16 MiB below 3 GiB: give it more memory"
        )
    };
    // Just as large, and one byte more.
    changed(0x260, &(14 * MIB as u32).to_le_bytes()).load().unwrap();
    assert_eq!(changed(0x260, &(14 * MIB as u32 + 1).to_le_bytes()).error(), expected(17));
    assert_eq!(changed(0x258, &(64 * MIB).to_le_bytes()).error(), expected(68));
    let mut no_low_ram = Rig::new(&bzimage());
    no_low_ram.ram = MemoryMap::anonymous(0x1000).unwrap();
    assert!(no_low_ram.error().contains("the guest has 0 MiB"), "{}", no_low_ram.error());
}

#[test]
fn only_a_relocatable_kernel_is_aligned() {
    let unaligned = PREFERRED + 0x1000;
    let rig = changed(0x258, &unaligned.to_le_bytes());
    assert_eq!(rig.load().unwrap().instruction_pointer, 4 * MIB + 0x200);
    let mut file = bzimage();
    put(&mut file, 0x258, &unaligned.to_le_bytes());
    put(&mut file, 0x234, &[0]);
    assert_eq!(Rig::new(&file).load().unwrap().instruction_pointer, unaligned + 0x200);
}

#[test]
fn kernels_that_cannot_be_entered_are_refused() {
    let no_entry = "the kernel kernel has no 64-bit entry: use Linux 3.8 or later, built for x86-64";
    assert_eq!(changed(0x206, &0x020bu16.to_le_bytes()).error(), no_entry);
    assert_eq!(changed(0x236, &0x7eu16.to_le_bytes()).error(), no_entry);
    assert!(changed(0x211, &[0]).error().contains("is a zImage"));
    assert!(changed(0x1f4, &[0; 4]).error().contains("its length is 0"));
    for (at, data) in [(0x230, &[3, 0, 0, 0][..]), (0x258, &[0; 8]), (0x258, &[0xff; 8]), (0x230, &[0; 4])] {
        let error = changed(at, data).error();
        assert!(error.contains("asks for an impossible address: copy or build it again"), "{error}");
    }
}

/// A guest with more memory than fits below the hole.
#[test]
fn memory_above_the_hole_is_told() {
    use vioduct_virtio_device::{Backing, RegionSetup};
    use vioduct_virtqueue::Access;
    let part =
        |at, len| RegionSetup { at: IoAddr(at), len, access: Access::ReadWrite, backing: Backing::Anonymous };
    let mut rig = Rig::new(&bzimage()).with_initrd(&[1; 5]);
    rig.ram = MemoryMap::new(vec![part(0, 3 << 30), part(4 << 30, 1 << 30)]).unwrap();
    rig.load().unwrap();
    assert_eq!(rig.u32(BOOT_PARAMS + 0x218), 0x7fff_f000, "below initrd_addr_max");
    let last = BOOT_PARAMS + 0x2d0 + 4 * 20;
    assert_eq!(rig.bytes(BOOT_PARAMS + 0x1e8, 1), [5]);
    assert_eq!((rig.u64(last), rig.u64(last + 8), rig.u32(last + 16)), (4 << 30, 1 << 30, 1));
}
