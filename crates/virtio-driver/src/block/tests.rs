use super::{Allocation, Block, Request, TRANSFER_LEN};
use crate::error::RequestError;
use crate::fakes::{Call, FakeTransport, TestMemory};
use crate::request_queue::{Options, Taken};
use core::ops::ControlFlow;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;
use vioduct_spec::{Features, blk, device_type};
use vioduct_virtqueue::{Queue, QueuePosition};

type Shared = Arc<TestMemory>;

const SECTOR: usize = blk::SECTOR_LEN;

/// A block device that says of itself what `block_len_bytes` and `queues` say.
fn transport(features: Features, block_len_bytes: u32, queues: u16) -> FakeTransport {
    let mut transport = FakeTransport::new(features | Features::VERSION_1);
    transport.device_type = device_type::BLOCK;
    transport.config = vec![0; blk::CONFIG_LEN];
    transport.config[..8].copy_from_slice(&1000u64.to_le_bytes());
    transport.config[blk::BLOCK_SIZE..][..4].copy_from_slice(&block_len_bytes.to_le_bytes());
    transport.config[blk::NUM_QUEUES..][..2].copy_from_slice(&queues.to_le_bytes());
    transport
}

fn disk(features: Features) -> (Block<FakeTransport, Shared>, Queue, Shared) {
    let memory = TestMemory::new();
    let options = Options { queue_size: 8, ..Options::default() };
    let mut disk = Block::new(transport(features, 512, 1), memory.clone(), &options).unwrap();
    let (layout, negotiated) = (disk.device().transport().layout.unwrap(), disk.device().negotiated());
    let queue = Queue::new(memory.clone(), layout, negotiated, QueuePosition::START).unwrap();
    (disk, queue, memory)
}

/// Answers one request with `reply` from the start of its writable part, and returns what it was.
fn answer(queue: &mut Queue, reply: &[u8]) -> Vec<u8> {
    let chain = queue.pop().unwrap().unwrap();
    let mut request = vec![0; chain.readable_len() as usize];
    chain.reader().read_exact(&mut request).unwrap();
    chain.writer().write_all(reply).unwrap();
    queue.complete(chain, reply.len() as u32).unwrap();
    _ = queue.publish().unwrap();
    request
}

/// The request's bytes as the device sees them, and what the driver makes of `reply`.
fn exchange(
    request: Request<'_>,
    answer_len: usize,
    reply: &[u8],
) -> (Vec<u8>, Result<Vec<u8>, RequestError>) {
    let (mut disk, mut queue, _memory) = disk(blk::FLUSH | blk::DISCARD | blk::WRITE_ZEROES);
    let ticket = disk.submit(0, request).unwrap();
    disk.kick(0).unwrap();
    let seen = answer(&mut queue, reply);
    assert_eq!(disk.poll(0), Ok(1));
    let mut data = vec![0xee; answer_len];
    let taken = disk.take(0, ticket, &mut data).map(|taken| {
        assert_eq!(taken, Taken::Done(()));
        data
    });
    (seen, taken)
}

fn le(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

#[test]
fn s5_2_6_requests_are_type_reserved_sector_and_data() {
    let data = [7; SECTOR];
    let write = Request::Write { sector: 0x1_0000_0003, data: &data };
    let (seen, taken) = exchange(write, 0, &[blk::S_OK]);
    assert_eq!((seen, taken), ([le(blk::T_OUT, 0x1_0000_0003), data.to_vec()].concat(), Ok(vec![])));
    let reply = [&[9; SECTOR][..], &[blk::S_OK]].concat();
    let (seen, taken) = exchange(Request::Read { sector: 5, len_bytes: SECTOR }, SECTOR, &reply);
    assert_eq!((seen, taken), (le(blk::T_IN, 5), Ok(vec![9; SECTOR])));
    assert_eq!(exchange(Request::Flush, 0, &[blk::S_OK]).0, le(blk::T_FLUSH, 0));
    let reply = [&b"disk-7"[..], &[0; 14], &[blk::S_OK]].concat();
    let (seen, taken) = exchange(Request::Identify, blk::ID_LEN, &reply);
    assert_eq!((seen, taken), (le(blk::T_GET_ID, 0), Ok(reply[..blk::ID_LEN].to_vec())));
}

#[test]
fn s5_2_6_ranges_are_sector_number_and_flags() {
    let range = |flags: u8| [8, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, flags, 0, 0, 0].to_vec();
    let discard = Request::Discard { sector: 8, sectors: 16 };
    assert_eq!(exchange(discard, 0, &[blk::S_OK]).0, [le(blk::T_DISCARD, 0), range(0)].concat());
    for (allocation, flags) in [(Allocation::Kept, 0), (Allocation::MayGo, 1)] {
        let zeroes = Request::WriteZeroes { sector: 8, sectors: 16, allocation };
        assert_eq!(exchange(zeroes, 0, &[blk::S_OK]).0, [le(blk::T_WRITE_ZEROES, 0), range(flags)].concat());
    }
}

#[test]
fn the_status_is_what_counts_and_a_reply_without_one_is_none() {
    for (status, expected) in [
        (blk::S_IOERR, RequestError::Failed),
        (blk::S_UNSUPP, RequestError::Refused),
        (0xff, RequestError::Failed),
    ] {
        assert_eq!(exchange(Request::Flush, 0, &[status]).1, Err(expected));
    }
    // Row 76: a device that says it wrote less than the status has written none.
    let read = Request::Read { sector: 0, len_bytes: SECTOR };
    let short = RequestError::ShortReply { written: SECTOR as u32, wanted: SECTOR as u32 + 1 };
    assert_eq!(exchange(read, SECTOR, &[0; SECTOR]).1, Err(short));
    let none = RequestError::ShortReply { written: 0, wanted: 1 };
    assert_eq!(exchange(Request::Flush, 0, &[]).1, Err(none));
}

#[test]
fn long_transfers_take_several_requests() {
    let (mut disk, mut queue, _memory) = disk(Features::NONE);
    let data: Vec<u8> = (0..2 * TRANSFER_LEN + SECTOR).map(|byte| (byte % 251) as u8).collect();
    let mut seen = Vec::new();
    let mut wait = || {
        seen.push(answer(&mut queue, &[blk::S_OK]));
        ControlFlow::Continue(())
    };
    disk.write(10, &data, &mut wait).unwrap();
    let sectors: Vec<u64> =
        seen.iter().map(|one| u64::from_le_bytes(one[8..16].try_into().unwrap())).collect();
    assert_eq!(sectors, [10, 18, 26]);
    assert_eq!(seen.iter().flat_map(|one| one[16..].to_vec()).collect::<Vec<_>>(), data);
    let mut never = || ControlFlow::Break(());
    assert_eq!(disk.write(u64::MAX, &data, &mut wait_once(&mut queue)), Err(RequestError::Failed), "wraps");
    let long = vec![0; TRANSFER_LEN + 1];
    let error = RequestError::TooLong { len: TRANSFER_LEN + 1, slot: TRANSFER_LEN };
    assert_eq!(disk.submit(0, Request::Write { sector: 0, data: &long }).unwrap_err(), error);
    assert_eq!(disk.flush(&mut never), Ok(()), "without FLUSH each write was stable");
    assert_eq!(disk.submit(1, Request::Flush).unwrap_err(), RequestError::NoQueue);
}

fn wait_once(queue: &mut Queue) -> impl FnMut() -> ControlFlow<()> + '_ {
    || {
        answer(queue, &[blk::S_OK]);
        ControlFlow::Continue(())
    }
}

#[test]
fn row77_block_size_and_queues_are_checked() {
    let options = Options { queue_size: 8, ..Options::default() };
    for (said, taken) in [(4096, 4096), (0, 512), (256, 512), (1000, 512), (u32::MAX, 512)] {
        let transport = transport(blk::BLK_SIZE, said, 1);
        let disk = Block::new(transport, TestMemory::new(), &options).unwrap();
        assert_eq!((disk.geometry().sectors, disk.geometry().block_len_bytes), (1000, taken), "{said}");
    }
    for (features, said, wanted, expected) in
        [(blk::MQ, 2, 4, 2), (blk::MQ, u16::MAX, 2, 2), (blk::MQ, 0, 2, 1), (Features::NONE, 7, 2, 1)]
    {
        let transport = transport(features, 512, said);
        let mut disk = Block::with_queues(transport, TestMemory::new(), &options, wanted).unwrap();
        assert_eq!(disk.queue_count(), expected, "{said} said");
        let enabled = |call: &&Call| matches!(call, Call::Enable(_));
        let count = disk.device().transport().calls.iter().filter(enabled).count();
        assert_eq!(count, usize::from(expected));
    }
}
