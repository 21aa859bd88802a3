//! Requests that no driver is to send: a status each, and never a fault of the device.

use super::*;
use crate::{MAX_RANGE_SECTORS, MAX_RANGES};
use vioduct_spec::Status;

/// A request, and its status.
type Row = (&'static str, u32, u64, Vec<u8>, usize, u8);

fn transfers() -> Vec<Row> {
    use blk::{S_IOERR, S_OK, S_UNSUPP, T_IN, T_OUT};
    let sectors = |count: usize| vec![0x5a; count * SECTOR];
    vec![
        ("the last sector", T_IN, SECTORS - 1, vec![], SECTOR, S_OK),
        ("nothing at the end", T_IN, SECTORS, vec![], 0, S_OK),
        ("the sector after the last", T_IN, SECTORS, vec![], SECTOR, S_IOERR),
        ("nothing beyond the end", T_IN, SECTORS + 1, vec![], 0, S_IOERR),
        ("across the end", T_IN, SECTORS - 1, vec![], 2 * SECTOR, S_IOERR),
        ("a write across the end", T_OUT, SECTORS - 1, sectors(2), 0, S_IOERR),
        ("a sector whose offset wraps", T_IN, 1 << 55, vec![], SECTOR, S_IOERR),
        ("the highest sector", T_OUT, u64::MAX, sectors(1), 0, S_IOERR),
        ("a sum that wraps", T_IN, u64::MAX - 1, vec![], 4 * SECTOR, S_IOERR),
        ("half a sector", T_IN, 0, vec![], SECTOR / 2, S_IOERR),
        ("a sector and a byte", T_OUT, 0, vec![1; SECTOR + 1], 0, S_IOERR),
        ("row 27: SCSI pass-through", 2, 0, sectors(1), SECTOR, S_UNSUPP),
        ("lifetime", blk::T_GET_LIFETIME, 0, vec![], SECTOR, S_UNSUPP),
        ("secure erase", blk::T_SECURE_ERASE, 0, range(0, 1, 0), 0, S_UNSUPP),
        ("a type that does not exist", 0xffff_ffff, 0, vec![], 0, S_UNSUPP),
        ("a flush with data", blk::T_FLUSH, u64::MAX, sectors(1), 0, S_OK),
    ]
}

fn ranges() -> Vec<Row> {
    use blk::{RANGE_UNMAP, S_IOERR, S_OK, S_UNSUPP, T_DISCARD, T_WRITE_ZEROES};
    let most = MAX_RANGES as usize;
    vec![
        ("no range", T_DISCARD, 0, vec![], 0, S_IOERR),
        ("part of a range", T_WRITE_ZEROES, 0, vec![0; 15], 0, S_IOERR),
        ("a range and a byte", T_WRITE_ZEROES, 0, vec![0; 17], 0, S_IOERR),
        ("as many ranges as may be", T_DISCARD, 0, range(0, 0, 0).repeat(most), 0, S_OK),
        ("one range too many", T_DISCARD, 0, range(0, 0, 0).repeat(most + 1), 0, S_IOERR),
        ("too long a range", T_WRITE_ZEROES, 0, range(0, MAX_RANGE_SECTORS + 1, 0), 0, S_IOERR),
        ("the longest number", T_WRITE_ZEROES, 0, range(0, u32::MAX, 0), 0, S_IOERR),
        ("a range across the end", T_WRITE_ZEROES, 0, range(SECTORS - 1, 2, 0), 0, S_IOERR),
        ("a range that wraps", T_DISCARD, 0, range(u64::MAX, 2, 0), 0, S_IOERR),
        (
            "a second range beyond",
            T_WRITE_ZEROES,
            0,
            [range(0, 1, 0), range(SECTORS, 1, 0)].concat(),
            0,
            S_IOERR,
        ),
        ("unmap in a discard", T_DISCARD, 0, range(0, 1, RANGE_UNMAP), 0, S_UNSUPP),
        ("an unknown flag", T_WRITE_ZEROES, 0, range(0, 1, 2), 0, S_UNSUPP),
        ("an unknown flag, and too far", T_WRITE_ZEROES, 0, range(SECTORS, 1, 1 << 31), 0, S_UNSUPP),
        (
            "too far, then an unknown flag",
            T_DISCARD,
            0,
            [range(SECTORS, 1, 0), range(0, 1, 4)].concat(),
            0,
            S_UNSUPP,
        ),
    ]
}

#[test]
fn row26_requests_beyond_the_disk_and_of_wrong_sizes_get_a_status() {
    for method in methods() {
        let image = image();
        let before = contents(&image);
        let mut rig = rig(&image, &format!(",io={method}"), everything());
        for (name, kind, sector, data, answer_len, expected) in transfers().into_iter().chain(ranges()) {
            assert_eq!(status(&mut rig, kind, sector, &data, answer_len), expected, "{method}: {name}");
        }
        assert!(!rig.endpoint.status().contains(Status::NEEDS_RESET), "no fault of the device");
        assert!(contents(&image) == before, "{method}: a refused request changes nothing");
    }
}

/// The total counts, however the pieces are cut.
#[test]
fn row26_pieces_count_together() {
    let image = image();
    let mut rig = rig(&image, "", everything());
    let reply = rig.request_in_pieces(0, &[&header(blk::T_IN, SECTORS - 2)], &[512, 512, 512, 1]).unwrap();
    assert_eq!(reply.bytes, [vec![0; 3 * SECTOR], vec![blk::S_IOERR]].concat(), "and no data");
}

#[test]
fn row8_short_requests_are_returned_with_a_status_where_there_is_room() {
    let image = image();
    let mut rig = rig(&image, "", everything());
    for len in [1, 8, 15] {
        let reply = rig.request(0, &header(blk::T_IN, 0)[..len], 8).unwrap();
        assert_eq!(reply.bytes, [[0; 7].as_slice(), &[blk::S_IOERR]].concat());
    }
    let reply = rig.request(0, &[], 1).unwrap();
    assert_eq!((reply.written, reply.bytes), (1, vec![blk::S_IOERR]));
    let nothing = rig.request(0, &[header(blk::T_OUT, 0), vec![9; SECTOR]].concat(), 0).unwrap();
    assert_eq!(nothing.written, 0);
    assert!(contents(&image) == pattern(0, SECTORS as usize * SECTOR), "nothing is written without a status");
}

#[test]
fn row31_requests_of_features_that_were_not_negotiated_are_unknown() {
    let image = image();
    let mut rig = rig(&image, "", Features::NONE);
    for (kind, data) in
        [(blk::T_FLUSH, vec![]), (blk::T_DISCARD, range(0, 1, 0)), (blk::T_WRITE_ZEROES, range(0, 1, 0))]
    {
        assert_eq!(status(&mut rig, kind, 0, &data, 0), blk::S_UNSUPP);
    }
    assert_eq!(status(&mut rig, blk::T_OUT, 0, &[1; SECTOR], 0), blk::S_OK);
}

/// virtio 1.3 §2.7.8.2: the driver is told of no byte that the device has not written; and a long failure is not a long wait.
#[test]
fn row21_a_failed_read_gives_zeroes_and_says_no_more_than_it_wrote() {
    const LEN: usize = (1 << 20) + SECTOR;
    let image = image();
    let mut rig = rig(&image, "", everything());
    let reply = ask(&mut rig, blk::T_IN, 0, &[], LEN);
    assert_eq!(reply.written, 1 << 20);
    assert_eq!(reply.bytes.last(), Some(&blk::S_IOERR));
}

#[test]
fn a_file_that_has_become_shorter_fails_reads_and_stays_usable() {
    for method in methods() {
        let image = image();
        let mut rig = rig(&image, &format!(",io={method}"), everything());
        image.as_file().set_len(3 * SECTOR as u64).unwrap();
        assert_eq!(status(&mut rig, blk::T_IN, 4, &[], SECTOR), blk::S_IOERR, "{method}");
        let reply = ask(&mut rig, blk::T_IN, 2, &[], 2 * SECTOR);
        let expected = [pattern(2 * SECTOR, SECTOR), vec![0; SECTOR], vec![blk::S_IOERR]].concat();
        assert!(reply.bytes == expected, "{method}: what there was, then zeroes");
        assert_eq!(status(&mut rig, blk::T_IN, 0, &[], SECTOR), blk::S_OK);
    }
}

/// Row 45: what a guest writes at the start of its disk is data, and no format.
#[test]
fn row45_no_format_is_ever_probed() {
    let mut image = image();
    {
        let mut rig = rig(&image, "", everything());
        let mut header = b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\x68\0\0\0\x10".to_vec();
        header.resize(SECTOR, 0);
        header[104..115].copy_from_slice(b"/etc/passwd");
        assert_eq!(status(&mut rig, blk::T_OUT, 0, &header, 0), blk::S_OK);
    }
    image.flush().unwrap();
    let mut again = rig(&image, "", everything());
    let mut capacity = [0; 8];
    again.endpoint.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS);
    assert_eq!(ask(&mut again, blk::T_IN, 0, &[], SECTOR).bytes[..4], *b"QFI\xfb");
}
