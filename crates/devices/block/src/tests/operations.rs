//! Which operations a request becomes, in which order, and what is made of their results.

use super::*;
use crate::device::{Cache, Setup};
use crate::disk::{Access, Disk, Store};
use crate::engine::scripted::{Script, Seen};
use crate::engine::{Durability, Engine, Method};
use crate::handler::Server;
use crate::request::Rules;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use vioduct_virtio_device::{DeviceInfo, Handlers};

/// A device whose engine does as it is told.
struct Scripted {
    script: Option<Script>,
    cache: Arc<Cache>,
}

impl DeviceModel for Scripted {
    fn info(&self) -> DeviceInfo {
        device("block,null=1M").info()
    }

    fn handlers(&mut self, negotiated: Features) -> Handlers {
        let rules = Rules { sectors: 1 << 30, offered: everything(), negotiated };
        let engine = Engine::Scripted(self.script.take().unwrap());
        let server = Server::new(engine, rules, self.cache.clone(), [0; 20], Pace::Stepped);
        vec![(0..1, Box::new(server))]
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

fn scripted(features: Features, results: Vec<io::Result<u64>>) -> (Rig<Inline<Scripted>>, Log) {
    let script = Script::new(results);
    let log = script.seen.clone();
    let model = Scripted { script: Some(script), cache: Arc::new(Cache::new()) };
    (Rig::new(Inline::new(model), features).unwrap(), log)
}

/// The last byte of the answer to a request in one piece, and the operations that it has become.
fn trace(
    features: Features,
    request: &[u8],
    answer_len: usize,
    results: Vec<io::Result<u64>>,
) -> (u8, Vec<Seen>) {
    let (mut rig, log) = scripted(features, results);
    let reply = rig.request(0, request, answer_len as u32 + 1).unwrap();
    let seen = log.lock().unwrap().clone();
    (*reply.bytes.last().unwrap(), seen)
}

fn errno(number: i32) -> io::Result<u64> {
    Err(io::Error::from_raw_os_error(number))
}

fn write(sector: u64, sectors: usize) -> Vec<u8> {
    [header(blk::T_OUT, sector), vec![1; sectors * SECTOR]].concat()
}

fn zeroes(ranges: &[Vec<u8>]) -> Vec<u8> {
    [header(blk::T_WRITE_ZEROES, 0), ranges.concat()].concat()
}

/// Row 28: each write that the driver has seen complete was written before the file is synchronized.
#[test]
fn row28_a_flush_synchronizes_after_the_writes_before_it() {
    let (mut rig, log) = scripted(everything(), vec![]);
    rig.request(0, &write(0, 1), 1).unwrap();
    rig.request(0, &write(8, 2), 1).unwrap();
    rig.request(0, &header(blk::T_FLUSH, 0), 1).unwrap();
    let durability = Durability::Cached;
    let write = |at, len| Seen::Write { at, len, durability };
    assert_eq!(*log.lock().unwrap(), [write(0, 512), write(4096, 1024), Seen::Sync]);
    let flush = header(blk::T_FLUSH, 0);
    assert_eq!(trace(everything(), &flush, 0, vec![errno(libc::EIO)]).0, blk::S_IOERR);
}

/// virtio 1.3 §5.2.6.2: where a driver cannot flush, or has chosen so, a write is stable before it is complete.
#[test]
fn s5_2_6_2_without_a_writeback_cache_each_write_is_stable() {
    for features in [Features::NONE, blk::CONFIG_WCE, blk::FLUSH, blk::FLUSH | blk::CONFIG_WCE] {
        let (mut rig, log) = scripted(features, vec![]);
        let cache = rig.endpoint.backend_mut().model().cache.clone();
        // What the driver's write to the configuration space does.
        let mut chooses = |mode| {
            cache.set_mode(mode);
            rig.request(0, &write(0, 1), 1).unwrap();
            match log.lock().unwrap().pop() {
                Some(Seen::Write { durability, .. }) => durability,
                other => panic!("{other:?}"),
            }
        };
        let chosen = [chooses(blk::WRITETHROUGH_CACHE), chooses(blk::WRITEBACK_CACHE)];
        use Durability::{Cached, Stable};
        let expected = match (features.contains(blk::CONFIG_WCE), features.contains(blk::FLUSH)) {
            (true, _) => [Stable, Cached],
            (false, true) => [Cached, Cached],
            (false, false) => [Stable, Stable],
        };
        assert_eq!(chosen, expected, "{features}");
    }
    let request = zeroes(&[range(0, 8, 0)]);
    let seen = trace(blk::WRITE_ZEROES, &request, 0, vec![]).1;
    assert_eq!(seen, [Seen::Zero { at: 0, len: 4096 }, Seen::Sync]);
}

#[test]
fn transfers_go_on_where_the_system_stopped() {
    let read = header(blk::T_IN, 2);
    let results = vec![Ok(100), errno(libc::EINTR), errno(libc::EAGAIN), Ok(412)];
    let (status, seen) = trace(everything(), &read, 1024, results);
    let at = |at, len| Seen::Read { at, len };
    assert_eq!(status, blk::S_OK);
    assert_eq!(seen, [at(1024, 1024), at(1124, 924), at(1124, 924), at(1124, 924), at(1536, 512)]);
    let durability = Durability::Cached;
    let (status, seen) = trace(everything(), &write(0, 2), 0, vec![Ok(1), errno(libc::ENOSPC)]);
    let write = |at, len| Seen::Write { at, len, durability };
    assert_eq!((status, seen), (blk::S_IOERR, vec![write(0, 1024), write(1, 1023)]));
}

#[test]
fn errors_of_the_file_are_errors_of_the_request() {
    let requests = [
        (header(blk::T_IN, 0), 512),
        (write(0, 1), 0),
        (zeroes(&[range(0, 1, 0)]), 0),
        ([header(blk::T_DISCARD, 0), range(0, 1, 0)].concat(), 0),
    ];
    for (request, answer_len) in &requests {
        for error in [libc::EIO, libc::ENOSPC, libc::EFBIG, libc::EBADF] {
            let (status, seen) = trace(everything(), request, *answer_len, vec![errno(error)]);
            assert_eq!((status, seen.len()), (blk::S_IOERR, 1), "{error}");
        }
    }
    for (request, answer_len) in &requests[..2] {
        assert_eq!(trace(everything(), request, *answer_len, vec![Ok(0)]).0, blk::S_IOERR, "no progress");
    }
}

#[test]
fn zeroes_are_written_where_the_file_system_makes_none() {
    const MIB: u64 = 1 << 20;
    let ranges = [range(8, 5 << 11, blk::RANGE_UNMAP), range(0, 1, 0)];
    let results = vec![errno(libc::EOPNOTSUPP)];
    let (status, seen) = trace(everything(), &zeroes(&ranges), 0, results);
    let write = |at, len| Seen::Write { at, len, durability: Durability::Cached };
    let expected = [
        Seen::Punch { at: 4096, len: 5 * MIB },
        write(4096, 4 * MIB),
        write(4096 + 4 * MIB, MIB),
        Seen::Zero { at: 0, len: 512 },
    ];
    assert_eq!((status, seen), (blk::S_OK, expected.to_vec()));
    let discard = [header(blk::T_DISCARD, 0), range(0, 8, 0), range(8, 8, 0)].concat();
    let results = vec![errno(libc::EOPNOTSUPP), errno(libc::EOPNOTSUPP)];
    let (status, seen) = trace(everything(), &discard, 0, results);
    assert_eq!((status, seen.len()), (blk::S_OK, 2), "a discard that cannot be is no failure");
}

/// A device over a file that only some operations work on.
fn over(path: &str, method: Method) -> Rig<Inline<Block>> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let disk = Disk { store: Store::File(file), sectors: SECTORS, access: Access::ReadWrite };
    let setup = Setup { disk, method, queues: 1, block_len_bytes: 512, serial: [0; 20] };
    Rig::new(Inline::new(Block::new(setup).with_pace(Pace::Stepped)), everything()).unwrap()
}

/// The engines' own operations on files that fail them: a device without room, and one that cannot be synchronized.
#[test]
fn row28_a_flush_reaches_the_file() {
    for method in methods() {
        let method = if method == "uring" { Method::Uring } else { Method::Threads };
        let mut full = over("/dev/full", method);
        assert_eq!(status(&mut full, blk::T_OUT, 0, &[1; SECTOR], 0), blk::S_IOERR, "{method:?}: no space");
        assert_eq!(status(&mut full, blk::T_FLUSH, 0, &[], 0), blk::S_IOERR, "{method:?}: no fdatasync");
        let mut zero = over("/dev/zero", method);
        assert_eq!(status(&mut zero, blk::T_WRITE_ZEROES, 0, &range(0, 9, 0), 0), blk::S_OK, "{method:?}");
        assert_eq!(status(&mut zero, blk::T_DISCARD, 0, &range(0, 9, 0), 0), blk::S_OK, "{method:?}");
    }
}
