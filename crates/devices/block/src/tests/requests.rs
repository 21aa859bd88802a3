//! Requests that a driver is to send.

use super::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn s5_2_6_data_are_read_and_written_where_the_sector_says() {
    for method in methods() {
        for format in [Features::NONE, Features::RING_PACKED] {
            let image = image();
            let mut rig = rig(&image, &format!(",io={method}"), everything() | format);
            let reply = ask(&mut rig, blk::T_IN, 3, &[], 2 * SECTOR);
            assert_eq!(reply.written as usize, 2 * SECTOR + 1, "{method}");
            assert_eq!(reply.bytes, [pattern(3 * SECTOR, 2 * SECTOR), vec![blk::S_OK]].concat());
            let data = vec![0xa5; 3 * SECTOR];
            assert_eq!(status(&mut rig, blk::T_OUT, SECTORS - 3, &data, 0), blk::S_OK);
            assert_eq!(status(&mut rig, blk::T_FLUSH, 0, &[], 0), blk::S_OK);
            let mut expected = pattern(0, SECTORS as usize * SECTOR);
            expected[(SECTORS as usize - 3) * SECTOR..].copy_from_slice(&data);
            assert!(contents(&image) == expected, "{method}: only what was written has changed");
        }
    }
}

/// virtio 1.3 §2.7.4.1: a device makes no assumption about framing.
#[test]
fn s5_2_6_requests_may_be_cut_anywhere() {
    for method in methods() {
        let image = image();
        let mut rig = rig(&image, &format!(",io={method}"), everything());
        let head = header(blk::T_OUT, 1);
        let data = pattern(7, SECTOR);
        let whole = [head, data.clone()].concat();
        for cuts in [vec![], vec![1, 15], vec![4, 16], vec![17, 300], vec![5, 20, 21, 500]] {
            let ends = cuts.iter().copied().chain([whole.len()]);
            let pieces: Vec<&[u8]> =
                [0].into_iter().chain(cuts.clone()).zip(ends).map(|(from, to)| &whole[from..to]).collect();
            let reply = rig.request_in_pieces(0, &pieces, &[1]).unwrap();
            assert_eq!((reply.written, reply.bytes), (1, vec![blk::S_OK]), "{cuts:?}");
            assert_eq!(contents(&image)[SECTOR..2 * SECTOR], data);
        }
        for answer in [vec![513], vec![512, 1], vec![1, 512], vec![100, 400, 13], vec![511, 1, 1]] {
            let reply = rig.request_in_pieces(0, &[&header(blk::T_IN, 1)], &answer).unwrap();
            assert_eq!(reply.written, 513, "{answer:?}");
            assert_eq!(reply.bytes, [data.clone(), vec![blk::S_OK]].concat(), "{answer:?}");
        }
    }
}

#[test]
fn s5_2_6_2_zeroed_ranges_read_as_zeroes_and_are_unmapped_on_request() {
    const LEN: usize = 1 << 20;
    for method in methods() {
        let mut image = NamedTempFile::new().unwrap();
        image.write_all(&vec![1; LEN]).unwrap();
        image.as_file().sync_all().unwrap();
        let blocks = || image.as_file().metadata().unwrap().blocks();
        let full = blocks();
        let mut rig = rig(&image, &format!(",io={method}"), everything());
        let ranges = [range(8, 16, 0), range(1024, 0, 0), range(100, 1, 0)].concat();
        assert_eq!(status(&mut rig, blk::T_WRITE_ZEROES, 0, &ranges, 0), blk::S_OK);
        let mut expected = vec![1; LEN];
        expected[8 * SECTOR..24 * SECTOR].fill(0);
        expected[100 * SECTOR..101 * SECTOR].fill(0);
        assert!(contents(&image) == expected, "{method}: keep");
        assert!(blocks() >= full, "{method}: nothing was deallocated");
        let unmap = range(1024, 512, blk::RANGE_UNMAP);
        assert_eq!(status(&mut rig, blk::T_WRITE_ZEROES, 0, &unmap, 0), blk::S_OK);
        expected[1024 * SECTOR..1536 * SECTOR].fill(0);
        assert!(contents(&image) == expected, "{method}: unmap");
        assert!(blocks() < full, "{method}: it was deallocated");
        assert_eq!(status(&mut rig, blk::T_DISCARD, 0, &range(0, 8, 0), 0), blk::S_OK);
        assert!(contents(&image)[8 * SECTOR..] == expected[8 * SECTOR..], "{method}: discard");
        assert_eq!(contents(&image).len(), LEN, "the disk stays as long as it is");
    }
}

#[test]
fn s5_2_6_the_identification_is_20_bytes() {
    let image = image();
    let mut with = rig(&image, ",serial=disk-7", everything());
    let reply = ask(&mut with, blk::T_GET_ID, 0, &[], blk::ID_LEN);
    assert_eq!(reply.written as usize, blk::ID_LEN + 1);
    assert_eq!(reply.bytes, [b"disk-7".as_slice(), &[0; 14], &[blk::S_OK]].concat());
    let mut without = rig(&image, "", everything());
    let reply = ask(&mut without, blk::T_GET_ID, 0, &[], blk::ID_LEN);
    assert_eq!(reply.bytes[..8], *b"vioduct\0");
    for wrong in [0, 19, 21] {
        assert_eq!(status(&mut without, blk::T_GET_ID, 0, &[], wrong), blk::S_IOERR, "{wrong}");
    }
}

#[test]
fn s5_2_6_2_a_read_only_disk_fails_writes_and_keeps_its_data() {
    let image = image();
    // Whether or not the driver has taken RO.
    for features in [Features::NONE, blk::RO] {
        let mut rig = rig(&image, ",readonly=on", features);
        assert_eq!(status(&mut rig, blk::T_OUT, 0, &[9; SECTOR], 0), blk::S_IOERR);
        assert_eq!(status(&mut rig, blk::T_DISCARD, 0, &range(0, 1, 0), 0), blk::S_UNSUPP);
        assert_eq!(status(&mut rig, blk::T_IN, 0, &[], SECTOR), blk::S_OK);
        assert!(contents(&image) == pattern(0, SECTORS as usize * SECTOR));
    }
}

#[test]
fn s5_2_5_2_the_cache_mode_is_the_drivers_to_choose() {
    let mode = |rig: &mut Rig<Inline<Block>>| {
        let mut mode = [0xff];
        rig.endpoint.read_config(blk::WRITEBACK as u64, &mut mode);
        mode[0]
    };
    let image = image();
    let mut rig = rig(&image, "", everything());
    assert_eq!(mode(&mut rig), blk::WRITEBACK_CACHE);
    rig.endpoint.write_config(blk::WRITEBACK as u64, &[blk::WRITETHROUGH_CACHE]);
    assert_eq!(mode(&mut rig), blk::WRITETHROUGH_CACHE);
    assert_eq!(status(&mut rig, blk::T_OUT, 0, &[9; SECTOR], 0), blk::S_OK);
    assert_eq!(status(&mut rig, blk::T_WRITE_ZEROES, 0, &range(1, 1, 0), 0), blk::S_OK);
    rig.endpoint.write_config(blk::CAPACITY as u64, &[1; 8]);
    let mut capacity = [0; 8];
    rig.endpoint.read_config(blk::CAPACITY as u64, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS, "the capacity is not the driver's to write");
    let mut unflushed = super::rig(&image, "", everything().without(blk::FLUSH));
    assert_eq!(mode(&mut unflushed), blk::WRITETHROUGH_CACHE);
}

#[test]
fn without_mq_one_queue_is_served_and_with_it_all() {
    let image = image();
    let mut all = rig(&image, ",queues=3", blk::MQ);
    for queue in 0..3 {
        let reply = all.request_in_pieces(queue, &[&header(blk::T_IN, 2)], &[512, 1]).unwrap();
        assert_eq!(reply.bytes[..SECTOR], pattern(2 * SECTOR, SECTOR));
    }
    let mut device = device("block,null=1M,queues=3");
    assert_eq!(device.handlers(Features::NONE).len(), 1);
    assert_eq!(device.handlers(blk::MQ).len(), 3);
}

#[test]
fn the_null_disk_reads_zeroes() {
    let mut rig = Rig::new(Inline::new(device("block,null=1M")), everything()).unwrap();
    assert_eq!(status(&mut rig, blk::T_OUT, 0, &[9; SECTOR], 0), blk::S_OK);
    assert_eq!(ask(&mut rig, blk::T_IN, 0, &[], SECTOR).bytes, [0; SECTOR + 1]);
    for (kind, data) in [(blk::T_FLUSH, vec![]), (blk::T_DISCARD, range(0, 8, 0))] {
        assert_eq!(status(&mut rig, kind, 0, &data, 0), blk::S_OK);
    }
}
