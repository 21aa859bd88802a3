//! The client's memory: mapping and unmapping it, and the log of what a device writes.
#![allow(clippy::unwrap_used)]

mod client;

use client::*;
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use vioduct_pci::{BarSpec, DmaFunction, FunctionHost, FunctionSpec, PciFunction};
use vioduct_vfio_user::{Device, Served as ServedFunction};
use vioduct_virtqueue::{Access, IoAddr, Memory};

/// What happened to the memory of a [`Copier`].
type Events = Arc<Mutex<VecDeque<&'static str>>>;

/// A function that copies: a write of (from, to, length) to its BAR does it. It reads as how that went.
struct Copier {
    memory: Arc<dyn Memory>,
    outcome: u8,
    events: Events,
}

impl Copier {
    fn copy(&self, from: u64, to: u64, len: u64) -> Option<()> {
        let mut data = vec![0; usize::try_from(len).ok()?];
        self.memory.read(IoAddr(from), &mut data).ok()?;
        self.memory.write(IoAddr(to), &data).ok()
    }
}

impl PciFunction for Copier {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(0x1234, 1, 0xff_0000).with_bar(BarSpec::memory32(0, 4096))
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, _bar: u8, _offset: u64, out: &mut [u8]) {
        out.fill(self.outcome);
    }
    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        let words = data.as_chunks::<8>().0;
        self.outcome = match (offset, words) {
            (0, [from, to, len]) => {
                let [from, to, len] = [from, to, len].map(|word| u64::from_ne_bytes(*word));
                u8::from(self.copy(from, to, len).is_some())
            }
            (8, [at, len]) => {
                let (at, len) = (IoAddr(u64::from_ne_bytes(*at)), u64::from_ne_bytes(*len));
                u8::from(self.memory.reaches(at, len, Access::ReadWrite))
            }
            _ => 0xee,
        };
    }
    fn reset(&mut self) {}
}

impl ServedFunction for Copier {}

impl DmaFunction for Copier {
    fn pause(&mut self) {
        self.events.lock().unwrap().push_back("pause");
    }
    fn replace_memory(&mut self, memory: Arc<dyn Memory>) {
        self.memory = memory;
        self.events.lock().unwrap().push_back("replace");
    }
    fn resume(&mut self) {
        self.events.lock().unwrap().push_back("resume");
    }
}

fn copier() -> (Served, Events) {
    let events = Events::default();
    let copier = Copier { memory: Device::no_memory(), outcome: 0, events: events.clone() };
    (Served::new(Device::new(copier).unwrap()), events)
}

fn copy(client: &mut Client, from: u64, to: u64, len: u64) -> bool {
    client.write(0, 0, &longs(&[from, to, len])).unwrap();
    client.read(0, 0, 1).unwrap() == [1]
}

fn taken(events: &Events) -> Vec<&'static str> {
    events.lock().unwrap().drain(..).collect()
}

/// What cannot be mapped, with or without a file.
#[test]
fn row72_wrong_mappings_are_refused() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    let file = memfd(0x10_0000);
    let rows = [
        (3, 0, 0x1_0000, 0, EINVAL),
        (3, 0, 0x1_0000, 0x800, EINVAL),
        (3, 0, 0x1_0800, 0x1000, EINVAL),
        (3, 0x800, 0x1_0000, 0x1000, EINVAL),
        (0, 0, 0x1_0000, 0x1000, EINVAL),
        (4, 0, 0x1_0000, 0x1000, EINVAL),
        (7, 0, 0x1_0000, 0x1000, EINVAL),
        (3, 0, !0xfff, 0x1000, EINVAL),
        (3, 0, 0x1000, !0xfff, EINVAL),
        (3, 0x10_0000, 0x1_0000, 0x1000, EACCES),
        (3, 0xf_f000, 0x1_0000, 0x2000, EACCES),
        (3, !0xfff, 0x1_0000, 0x1000, EACCES),
        (3, 0, 0x1_0000, 1 << 62, EACCES),
    ];
    for (flags, offset, address, len, error) in rows {
        let with_file = client.request_with(DMA_MAP, &map(flags, offset, address, len), &[file.as_fd()]);
        assert_eq!(with_file.unwrap_err(), error, "{flags} {offset:#x} {address:#x} {len:#x}");
        if error == EINVAL {
            let without = client.request(DMA_MAP, &map(flags, offset, address, len));
            assert_eq!(without, Err(EINVAL), "{flags} {offset:#x} {address:#x} {len:#x}");
        }
    }
    assert_eq!(client.request(DMA_MAP, &[words(&[31, 3]), longs(&[0, 0, 4096])].concat()), Err(EINVAL));
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
    for wrong in [reader, null] {
        let mapped = client.request_with(DMA_MAP, &map(3, 0, 0, 4096), &[wrong.as_fd()]);
        assert_eq!(mapped.unwrap_err(), EACCES, "not a file with bytes");
    }
    let read_only = rustix::fs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty()).unwrap();
    let mapped = client.request_with(DMA_MAP, &map(3, 0, 0, 4096), &[read_only.as_fd()]);
    assert_eq!(mapped.unwrap_err(), EACCES, "a file that is not open for writing");
    client.request_with(DMA_MAP, &map(1, 0, 0, 4096), &[read_only.as_fd()]).unwrap();
}

/// Nothing is mapped twice: at either end, within, or around.
#[test]
fn row72_overlaps_are_refused_and_neighbours_are_not() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    client.request(DMA_MAP, &map(3, 0, 0x10_0000, 0x4000)).unwrap();
    let overlaps =
        [(0x10_0000, 0x4000), (0xf_f000, 0x2000), (0x10_3000, 0x1000), (0x10_1000, 0x1000), (0, 0x20_0000)];
    for (address, len) in overlaps {
        assert_eq!(client.request(DMA_MAP, &map(3, 0, address, len)), Err(EEXIST), "{address:#x}");
    }
    for (address, len) in [(0xf_f000, 0x1000), (0x10_4000, 0x1000), (0, 0x1000)] {
        client.request(DMA_MAP, &map(3, 0, address, len)).unwrap();
    }
}

/// Unmapping names a mapping exactly, and everything can be unmapped at once.
#[test]
fn row67_unmapping_what_is_not_mapped_is_refused() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.request(DMA_UNMAP, &unmap(0, 0, 0x1000)), Err(ENOENT));
    client.request(DMA_MAP, &map(3, 0, 0x10_0000, 0x4000)).unwrap();
    let rows = [
        (0, 0x10_0000, 0x3000, EINVAL),
        (0, 0x10_0000, 0x5000, EINVAL),
        (0, 0x10_1000, 0x1000, ENOENT),
        (0, 0xf_f000, 0x5000, ENOENT),
        (0, u64::MAX, u64::MAX, ENOENT),
        (0, 0, 0, ENOENT),
        (1, 0x10_0000, 0x4000, EINVAL),
        (2, 0x10_0000, 0x4000, EINVAL),
        (4, 0x10_0000, 0x4000, EINVAL),
    ];
    for (flags, address, len, error) in rows {
        let refused = client.request(DMA_UNMAP, &unmap(flags, address, len));
        assert_eq!(refused, Err(error), "{flags} {address:#x} {len:#x}");
    }
    let request = unmap(0, 0x10_0000, 0x4000);
    assert_eq!(client.request(DMA_UNMAP, &request), Ok(request.clone()));
    assert_eq!(client.request(DMA_UNMAP, &request), Err(ENOENT));
    for address in [0, 0x1000, 0x2000] {
        client.request(DMA_MAP, &map(3, 0, address, 0x1000)).unwrap();
    }
    assert_eq!(client.request(DMA_UNMAP, &unmap(2, 0, 0)), Ok(unmap(2, 0, 0)));
    client.request(DMA_MAP, &map(3, 0, 0, 0x3000)).unwrap();
}

/// As many mappings as are offered, and not one more.
#[test]
fn row72_mappings_are_limited() {
    const MAX: u64 = 8192;
    let (served, _) = copier();
    let mut client = Client::connect(&served.path);
    let version = String::from_utf8(client.negotiate(QEMU_VERSION).unwrap()).unwrap();
    assert!(version.contains(r#""max_dma_maps":8192"#), "{version}");
    let file = memfd(4096);
    let at = |place: u64, client: &mut Client| {
        client.request_with(DMA_MAP, &map(3, 0, place * 8192, 4096), &[file.as_fd()]).map(drop)
    };
    for place in 0..MAX {
        at(place, &mut client).unwrap();
    }
    assert_eq!(at(MAX, &mut client), Err(ENOSPC));
    assert!(copy(&mut client, 0, (MAX - 1) * 8192, 4096));
    client.request(DMA_UNMAP, &unmap(0, 8192, 4096)).unwrap();
    assert_eq!(at(MAX, &mut client), Ok(()));
}

/// Memory by descriptor, by message, and from one into the other, in pieces of what the client takes.
#[test]
fn memory_is_reached_by_mapping_and_by_message() {
    let (served, _) = copier();
    let mut client = Client::connect(&served.path);
    client.negotiate(r#"{"capabilities":{"max_data_xfer_size":1000}}"#).unwrap();
    let machine = vioduct_loopback::Machine::new(1 << 20).unwrap();
    let memory = machine.memory();
    client.memory = Some(memory.clone());
    let mut regions = memory.regions();
    let (low, file) = regions.next().unwrap();
    let (file, offset) = file.unwrap();
    client.request_with(DMA_MAP, &map(3, offset, low.at.0, low.len), &[file]).unwrap();
    let (high, _) = regions.next().unwrap();
    client.request(DMA_MAP, &map(3, 0, high.at.0, high.len)).unwrap();
    let data: Vec<u8> = (0..5000u32).map(|byte| (byte * 7) as u8).collect();
    memory.write(low.at, &data).unwrap();
    assert!(copy(&mut client, low.at.0, high.at.0 + 10, 5000));
    assert_eq!(client.dma_calls, 5, "pieces of 1000 bytes");
    assert!(copy(&mut client, high.at.0 + 10, low.at.0 + 0x8000, 5000));
    let mut out = vec![0; 5000];
    memory.read(IoAddr(low.at.0 + 0x8000), &mut out).unwrap();
    assert!(out == data);
    assert_eq!(client.dma_calls, 10);
    // Beyond the end of either, and where nothing is.
    assert!(!copy(&mut client, low.at.0 + low.len - 1, low.at.0, 2));
    assert!(!copy(&mut client, high.at.0 + high.len - 1, low.at.0, 2));
    assert!(!copy(&mut client, 0, low.at.0, 1));
    client.write(0, 8, &longs(&[high.at.0, high.len])).unwrap();
    assert_eq!(client.read(0, 0, 1), Ok(vec![1]));
    client.write(0, 8, &longs(&[high.at.0, high.len + 1])).unwrap();
    assert_eq!(client.read(0, 0, 1), Ok(vec![0]));
}

/// A client's answers to calls are as hostile as its requests.
#[test]
fn row69_wrong_answers_to_calls_are_faults() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    client.request(DMA_MAP, &map(3, 0, 0x1000, 0x1000)).unwrap();
    let good = [longs(&[0x1000, 4]), vec![1, 2, 3, 4]].concat();
    let answers: &[(u16, u32, Vec<u8>)] = &[
        (DMA_READ, 0x21, vec![]),
        (DMA_READ, 1, vec![]),
        (DMA_READ, 1, good[..16].to_vec()),
        (DMA_READ, 1, good[..19].to_vec()),
        (DMA_READ, 1, [&good[..], &[5]].concat()),
        (DMA_READ, 1, [longs(&[0x1001, 4]), vec![0; 4]].concat()),
        (DMA_READ, 1, [longs(&[0x1000, 5]), vec![0; 4]].concat()),
        (DMA_WRITE, 1, good.clone()),
    ];
    for (command, flags, payload) in answers {
        let id = client.send(REGION_WRITE, 0, &[access(0, 0, 24), longs(&[0x1000, 0x1000, 4])].concat(), &[]);
        let call = client.receive().unwrap();
        assert_eq!((call.command, &call.payload), (DMA_READ, &longs(&[0x1000, 4])));
        // An answer to another call first.
        let stray = header(call.id.wrapping_add(1), DMA_READ, 16, 1, 0);
        let answer = header(call.id, *command, 16 + payload.len() as u32, *flags, 0);
        client.send_raw(&[&stray[..], &answer, payload].concat(), &[]);
        client.reply(id).unwrap();
        assert_eq!(client.read(0, 0, 1), Ok(vec![0]), "{command} {flags:#x} {payload:?}");
    }
}

/// While the server waits for an answer it takes commands, and obeys them in order afterwards.
#[test]
fn commands_that_come_during_a_call_wait_for_their_turn() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    client.request(DMA_MAP, &map(3, 0, 0x1000, 0x1000)).unwrap();
    let first = client.send(REGION_WRITE, 0, &[access(0, 0, 24), longs(&[0x1000, 0x1800, 4])].concat(), &[]);
    let call = client.receive().unwrap();
    let second = client.send(REGION_READ, 0, &access(0, 0, 1), &[]);
    let third = client.send(DMA_UNMAP, 0, &unmap(0, 0x1000, 0x1000), &[]);
    let data = [longs(&[0x1000, 4]), vec![9; 4]].concat();
    client.send_raw(&[header(call.id, DMA_READ, 36, 1, 0), data].concat(), &[]);
    let call = client.receive().unwrap();
    assert_eq!((call.command, call.payload), (DMA_WRITE, [longs(&[0x1800, 4]), vec![9; 4]].concat()));
    client.send_raw(&[header(call.id, DMA_WRITE, 32, 1, 0), longs(&[0x1800, 4])].concat(), &[]);
    client.reply(first).unwrap();
    assert_eq!(client.reply(second).unwrap().payload[16..], [1]);
    client.reply(third).unwrap();
    assert!(!copy(&mut client, 0x1000, 0x1000, 1), "unmapped");
}

/// A client that floods the server while that waits for it loses the connection, and no more.
#[test]
fn row72_a_flood_during_a_call_ends_the_connection() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    client.request(DMA_MAP, &map(3, 0, 0x1000, 0x1000)).unwrap();
    client.send(REGION_WRITE, NO_REPLY, &[access(0, 0, 24), longs(&[0x1000, 0x1000, 4])].concat(), &[]);
    assert_eq!(client.receive().unwrap().command, DMA_READ);
    let posted = [header(1, REGION_READ, 32, NO_REPLY, 0), access(0, 0, 4)].concat();
    for _ in 0..5000 {
        use std::io::Write;
        if client.socket.write_all(&posted).is_err() {
            break;
        }
    }
    assert!(client.receive().is_none());
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.read(0, 0, 1), Ok(vec![0]), "the call failed");
}

/// Memory changes only while the function is paused, and a new client's is complete before it is used.
#[test]
fn row71_memory_changes_while_the_function_is_paused() {
    let (served, events) = copier();
    let mut client = Client::qemu(&served.path);
    assert_eq!(taken(&events), ["pause"], "before the first client");
    client.request(DMA_MAP, &map(3, 0, 0x1000, 0x1000)).unwrap();
    client.request(DMA_MAP, &map(3, 0, 0x2000, 0x1000)).unwrap();
    assert_eq!(taken(&events), [""; 0]);
    client.read(0, 0, 1).unwrap();
    assert_eq!(taken(&events), ["replace", "resume"]);
    client.request(DMA_UNMAP, &unmap(0, 0x1000, 0x1000)).unwrap();
    assert_eq!(taken(&events), ["pause", "replace", "resume"]);
    client.request(DMA_MAP, &map(3, 0, 0x1000, 0x1000)).unwrap();
    assert_eq!(taken(&events), ["pause", "replace", "resume"]);
    drop(client);
    let _next = Client::qemu(&served.path);
    assert_eq!(taken(&events), ["pause", "replace"]);
}

/// The log of pages written, reported in pages of any size.
#[test]
fn row70_pages_written_are_reported_once() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    let file = memfd(0x10_0000);
    let base = 0x4000_0000u64;
    client.request_with(DMA_MAP, &map(3, 0, base, 0x10_0000), &[file.as_fd()]).unwrap();
    let report = |client: &mut Client, start: u64, len: u64, page: u64| {
        let request = [words(&[1 << 16, 1 << 16 | 8]), longs(&[start, len, page])].concat();
        let reply = client.request(FEATURE, &request)?;
        assert_eq!(reply[4..32], request[4..]);
        assert_eq!(reply[..4], (reply.len() as u32).to_ne_bytes());
        Ok(reply[32..].to_vec())
    };
    assert_eq!(report(&mut client, base, 0x1000, 4096), Err(EINVAL), "not begun");
    for (methods, number, outcome) in
        [(2, 6, Ok(())), (2, 7, Ok(())), (1, 8, Ok(())), (2, 8, Err(ENOTTY)), (1, 1, Err(ENOTTY))]
    {
        let probe = words(&[8, 1 << 18 | methods << 16 | number]);
        assert_eq!(client.request(FEATURE, &probe).map(|reply| assert_eq!(reply, probe)), outcome);
    }
    let start = [words(&[24, 1 << 17 | 6]), longs(&[0x1_0000]), words(&[0, 0])].concat();
    let started = client.request(FEATURE, &start).unwrap();
    assert_eq!(started[8..16], longs(&[4096]), "the page that it has");
    assert_eq!(client.request(FEATURE, &start), Err(EINVAL), "begun already");
    assert!(copy(&mut client, base, base + 0x3fff, 2));
    assert!(copy(&mut client, base, base + 0x4_0000, 1));
    assert_eq!(report(&mut client, base, 0x10_0000, 4096), Ok(longs(&[0b11000, 1, 0, 0])));
    assert_eq!(report(&mut client, base, 0x10_0000, 4096), Ok(longs(&[0, 0, 0, 0])), "told");
    assert!(copy(&mut client, base, base + 0x3fff, 2));
    assert_eq!(report(&mut client, base + 0x8000, 0x1000, 4096), Ok(longs(&[0])));
    assert_eq!(report(&mut client, base, 0x8000, 0x8000), Ok(longs(&[1])), "a larger page");
    assert!(copy(&mut client, base, base + 0x3000, 1));
    assert_eq!(report(&mut client, base + 0x3000, 0x1000, 1024), Ok(longs(&[0b1111])), "smaller pages");
    for (start, len, page, error) in [
        (base, 0, 4096, EINVAL),
        (base, 4096, 0, EINVAL),
        (base, 4096, 4095, EINVAL),
        (u64::MAX, 2, 4096, EINVAL),
        (0, u64::MAX, 4096, E2BIG),
        (0, 1 << 40, 1, E2BIG),
    ] {
        assert_eq!(report(&mut client, start, len, page), Err(error), "{start:#x} {len:#x} {page}");
    }
    client.request(FEATURE, &words(&[8, 1 << 17 | 7])).unwrap();
    assert_eq!(client.request(FEATURE, &words(&[8, 1 << 17 | 7])), Err(EINVAL));
    let short = [words(&[24, 1 << 17 | 6]), longs(&[4096]), words(&[2, 0]), longs(&[0, 4096])].concat();
    assert_eq!(client.request(FEATURE, &short), Err(EINVAL), "two ranges announced, one sent");
}

/// A log has a bit for each page that the client maps: more than can be kept is refused.
#[test]
fn row70_a_log_that_is_too_long_is_refused() {
    let (served, _) = copier();
    let mut client = Client::qemu(&served.path);
    let file = memfd(1 << 45);
    client.request_with(DMA_MAP, &map(3, 0, 0, 1 << 45), &[file.as_fd()]).unwrap();
    let start = [words(&[24, 1 << 17 | 6]), longs(&[4096]), words(&[0, 0])].concat();
    assert_eq!(client.request(FEATURE, &start), Err(E2BIG));
    client.request(DMA_UNMAP, &unmap(0, 0, 1 << 45)).unwrap();
    client.request(FEATURE, &start).unwrap();
    let mapped = client.request_with(DMA_MAP, &map(3, 0, 0, 1 << 45), &[file.as_fd()]);
    assert_eq!(mapped.unwrap_err(), E2BIG);
}
