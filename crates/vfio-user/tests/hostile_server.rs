//! Servers that answer what no server should, late, or not at all; and what they may ask for.
#![allow(clippy::unwrap_used)]

mod client;

use client::fake::{Fake, Reply, Spoil};
use client::*;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vioduct_pci::{BarSpec, Capability, FunctionSpec, Hosted, InterruptPin, MsixSpec, NoInterrupts};
use vioduct_vfio_user::{ConnectError, RemoteFunction};
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{IoAddr, Memory};

const PATIENCE: Duration = Duration::from_secs(20);
const RAM: u64 = 1 << 20;

/// Tests that count descriptors run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn connect(fake: Fake, patience: Duration) -> Result<RemoteFunction, ConnectError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    fake.serve(theirs);
    RemoteFunction::over(ours.into(), &Arc::new(MemoryMap::shared(RAM).unwrap()), patience)
}

/// Connecting to this server fails, soon, and leaves no descriptor.
fn refused(name: &str, fake: Fake, expected: fn(&ConnectError) -> bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = open_fds();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = fake.serve(theirs);
    let memory = Arc::new(MemoryMap::shared(RAM).unwrap());
    let error = match RemoteFunction::over(ours.into(), &memory, PATIENCE) {
        Err(error) => error,
        Ok(function) => panic!("{name}: {:?}", function_spec(&function)),
    };
    assert!(expected(&error), "{name}: {error}");
    serving.join().unwrap();
    drop(memory);
    assert_eq!(open_fds(), before, "{name}");
}

fn function_spec(function: &RemoteFunction) -> FunctionSpec {
    use vioduct_pci::PciFunction;
    function.spec()
}

fn lost(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Lost { .. })
}

fn unsuitable(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Unsuitable(_))
}

/// Spoils the reply to one command.
macro_rules! spoil {
    ($command:pat, $spoil:expr) => {
        |request: &Received, reply: &mut Reply| {
            if matches!(request.command, $command) {
                let spoil: fn(&mut Reply) = $spoil;
                spoil(reply);
            }
        }
    };
}

fn json(reply: &mut Reply, text: &str) {
    reply.payload = [&[0, 0, 0, 0], text.as_bytes(), &[0]].concat();
}

/// An unspoilt one is taken for what it is.
#[test]
fn the_server_of_these_tests_is_a_good_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hosted =
        Hosted::new(connect(Fake::new(|_, _| {}), PATIENCE).unwrap(), Arc::new(NoInterrupts)).unwrap();
    let spec = FunctionSpec::new(0x1234, 0x5678, 0xff_0000)
        .with_interrupt_pin(InterruptPin::A)
        .with_bar(BarSpec::memory32(0, 4096))
        .with_capability(Capability::vendor([0xaa, 0xbb]))
        .with_msix(MsixSpec { vectors: 4, table_bar: 0, table_offset: 0x800, pba_bar: 0, pba_offset: 0xc00 });
    assert_eq!(*hosted.spec(), spec);
    hosted.bar_write(0, 8, &[1, 2, 3, 4]);
    let mut value = [0; 4];
    hosted.bar_read(0, 8, &mut value);
    assert_eq!(value, [1, 2, 3, 4]);
}

/// Replies that no server should give end the connection, and all that came with them is closed.
#[test]
fn wrong_replies_end_the_connection() {
    let rows: &[(&str, Spoil)] = &[
        ("another command", spoil!(GET_INFO, |reply| reply.command = REGION_INFO)),
        ("neither command nor reply", spoil!(GET_INFO, |reply| reply.flags = 2)),
        ("too short", spoil!(GET_INFO, |reply| reply.payload.truncate(15))),
        ("empty", spoil!(REGION_INFO, |reply| reply.payload.clear())),
        ("longer than a message", spoil!(REGION_INFO, |reply| reply.excess = 1 << 30)),
        ("another region", spoil!(REGION_INFO, |reply| reply.payload[8] ^= 1)),
        ("another interrupt", spoil!(IRQ_INFO, |reply| reply.payload[8] ^= 1)),
        ("short data", spoil!(REGION_READ, |reply| reply.payload.truncate(19))),
        ("more data", spoil!(REGION_READ, |reply| reply.payload.push(0))),
        ("another offset", spoil!(REGION_READ, |reply| reply.payload[0] ^= 4)),
        ("another count", spoil!(REGION_READ, |reply| reply.payload[12] ^= 1)),
        ("no text", spoil!(VERSION, |reply| reply.payload.clear())),
        ("another version", spoil!(VERSION, |reply| reply.payload[0] = 1)),
        ("no JSON", spoil!(VERSION, |reply| json(reply, "{"))),
        ("another type", spoil!(VERSION, |reply| json(reply, r#"{"capabilities":7}"#))),
        ("no end", spoil!(VERSION, |reply| _ = reply.payload.pop())),
        ("no data", spoil!(VERSION, |reply| json(reply, r#"{"capabilities":{"max_data_xfer_size":0}}"#))),
        (
            "a twin that did not come",
            spoil!(VERSION, |reply| json(
                reply,
                r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}"#
            )),
        ),
        (
            "a twin that is no socket",
            spoil!(VERSION, |reply| {
                json(reply, r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":1}}}"#);
                reply.fds = vec![memfd(1), memfd(1)];
            }),
        ),
        (
            "a doorbell that did not come",
            spoil!(IO_FDS, |reply| {
                let place = [longs(&[0, 4]), words(&[1, 0, 0, 0]), longs(&[0])].concat();
                reply.payload = [words(&[56, 0, 0, 1]), place].concat();
                reply.fds = vec![memfd(1)];
            }),
        ),
        (
            "fewer doorbells than there are",
            spoil!(IO_FDS, |reply| {
                let place = [longs(&[0, 4]), words(&[0, 0, 0, 0]), longs(&[0])].concat();
                reply.payload = [words(&[96, 0, 0, 2]), place].concat();
                reply.fds = vec![memfd(1)];
            }),
        ),
        ("half a doorbell", spoil!(IO_FDS, |reply| reply.payload.push(0))),
        ("descriptors with all", |request, reply| {
            reply.fds = (0..100).map(|_| memfd(1)).collect();
            if request.command == DMA_MAP {
                reply.command = 0;
            }
        }),
    ];
    for (name, spoil) in rows {
        refused(name, Fake::new(*spoil), lost);
    }
}

/// What is well said and cannot be.
#[test]
fn impossible_functions_are_refused() {
    fn good() -> Fake {
        Fake::new(|_, _| {})
    }
    fn with(change: fn(&mut Fake)) -> Fake {
        let mut fake = good();
        change(&mut fake);
        fake
    }
    let rows = [
        ("no PCI", Fake::new(spoil!(GET_INFO, |reply| reply.payload = words(&[16, 1, 9, 3])))),
        ("no configuration", Fake::new(spoil!(GET_INFO, |reply| reply.payload = words(&[16, 3, 7, 3])))),
        (
            "a short configuration",
            Fake::new(|request, reply| {
                if request.command == REGION_INFO && request.payload[8] == CONFIG as u8 {
                    reply.payload[16..24].copy_from_slice(&10u64.to_ne_bytes());
                }
            }),
        ),
        (
            "a BAR without end",
            Fake::new(spoil!(REGION_INFO, |reply| {
                if reply.payload[8] == 0 {
                    reply.payload[16..24].fill(0xff);
                }
            })),
        ),
        ("a list that goes round", with(|fake| fake.config[0x51] = 0x40)),
        ("a list in the header", with(|fake| fake.config[0x51] = 0x3c)),
        ("a capability of no length", with(|fake| fake.config[0x52] = 2)),
        (
            "a capability beyond the end",
            with(|fake| {
                fake.config[0x51] = 0xfc;
                fake.config[0xfc..].copy_from_slice(&[9, 0, 5, 0]);
            }),
        ),
        ("fewer vectors than it has", with(|fake| fake.vectors = 3)),
    ];
    for (name, fake) in rows {
        refused(name, fake, unsuitable);
    }
    // What only the function's host can tell.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for change in [
        (|fake| fake.config[0x44] = 1) as fn(&mut Fake),
        |fake| fake.config[0x45] = 0x10,
        |fake| fake.config[..2].fill(0xff),
        |fake| fake.config[0x10] = 1,
    ] {
        let function = connect(with(change), PATIENCE).unwrap();
        assert!(Hosted::new(function, Arc::new(NoInterrupts)).is_err());
    }
}

/// A refusal of what is needed says what was refused.
#[test]
fn refusals_are_told() {
    let rows: &[Spoil] = &[
        spoil!(VERSION | GET_INFO, |reply| (reply.flags, reply.error) = (0x21, ENOSPC)),
        spoil!(REGION_READ, |reply| (reply.flags, reply.error) = (0x21, ENOSPC)),
        spoil!(DMA_MAP, |reply| (reply.flags, reply.error) = (0x21, ENOSPC)),
        spoil!(DMA_MAP, |reply| (reply.flags, reply.error) = (0x21, u32::MAX)),
    ];
    for spoil in rows {
        refused("refusal", Fake::new(*spoil), |error| matches!(error, ConnectError::Refused { .. }));
    }
    // Doorbells are not needed.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let spoil: Spoil = spoil!(IO_FDS, |reply| (reply.flags, reply.error) = (0x21, EOPNOTSUPP));
    assert!(connect(Fake::new(spoil), PATIENCE).unwrap().doorbells().is_empty());
}

/// A server that does not answer is given up after its time, while connecting and later; then nothing waits any more.
#[test]
fn a_silent_server_is_given_up() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let short = Duration::from_millis(100);
    let silent = connect(Fake::new(|_, reply| reply.flags = 0), short).map(drop);
    assert!(matches!(silent, Err(ConnectError::Lost { .. })), "{silent:?}");
    let fake = Fake::new(|_, reply| reply.flags = 0);
    let armed = fake.armed.clone();
    armed.store(false, Ordering::SeqCst);
    let patience = Duration::from_secs(1);
    let mut hosted = Hosted::new(connect(fake, patience).unwrap(), Arc::new(NoInterrupts)).unwrap();
    armed.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let mut value = [0; 4];
    hosted.bar_read(0, 8, &mut value);
    assert_eq!(value, [0xff; 4]);
    assert!(began.elapsed() >= patience);
    for _ in 0..1000 {
        hosted.bar_read(0, 8, &mut value);
        hosted.bar_write(0, 8, &value);
        hosted.reset();
        assert_eq!(value, [0xff; 4]);
    }
    assert!(began.elapsed() < 10 * patience, "each of them waited");
}

/// A refused access is one that reads as all ones, and no more.
#[test]
fn a_refused_access_reads_as_all_ones() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let fake = Fake::new(spoil!(REGION_READ, |reply| (reply.flags, reply.error) = (0x21, EINVAL)));
    let armed = fake.armed.clone();
    armed.store(false, Ordering::SeqCst);
    let mut hosted = Hosted::new(connect(fake, PATIENCE).unwrap(), Arc::new(NoInterrupts)).unwrap();
    hosted.bar_write(0, 8, &[1, 2, 3, 4]);
    let mut value = [0; 4];
    armed.store(true, Ordering::SeqCst);
    hosted.bar_read(0, 8, &mut value);
    assert_eq!(value, [0xff; 4]);
    armed.store(false, Ordering::SeqCst);
    hosted.bar_read(0, 8, &mut value);
    assert_eq!(value, [1, 2, 3, 4]);
}

/// What a server asks for is served within the guest's memory, and refused beyond it; at a socket of its own, or between replies.
#[test]
fn calls_are_bounded_by_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let refusals: &[(u16, Vec<u8>, u32)] = &[
        (DMA_READ, longs(&[RAM - 3, 4]), EINVAL),
        (DMA_READ, longs(&[u64::MAX, 4]), EINVAL),
        (DMA_READ, longs(&[RAM, 1]), EINVAL),
        (DMA_READ, longs(&[0, (1 << 20) + 1]), E2BIG),
        (DMA_READ, longs(&[0, u64::MAX]), E2BIG),
        (DMA_READ, longs(&[0]), EINVAL),
        (DMA_READ, [longs(&[0, 4]), vec![0]].concat(), EINVAL),
        (DMA_WRITE, [longs(&[RAM - 3, 4]), vec![9; 4]].concat(), EINVAL),
        (DMA_WRITE, [longs(&[0, 4]), vec![9; 3]].concat(), EINVAL),
        (DMA_WRITE, [longs(&[0, 4]), vec![9; 5]].concat(), EINVAL),
        (VERSION, vec![0; 4], EOPNOTSUPP),
        (DMA_MAP, map(3, 0, 0, 4096), EOPNOTSUPP),
        (0xffff, Vec::new(), EOPNOTSUPP),
    ];
    for has_twin in [true, false] {
        let before = open_fds();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (answers, from_fake) = std::sync::mpsc::channel();
        let mut fake = Fake { answers: Some(answers), ..Fake::new(|_, _| {}) };
        let socket = if has_twin {
            let (twin, client_end) = UnixStream::pair().unwrap();
            fake.twin = Some(client_end.into());
            twin
        } else {
            theirs.try_clone().unwrap()
        };
        let serving = fake.serve(theirs);
        let memory = Arc::new(MemoryMap::shared(RAM).unwrap());
        let function = RemoteFunction::over(ours.into(), &memory, PATIENCE).unwrap();
        let mut hosted = Hosted::new(function, Arc::new(NoInterrupts)).unwrap();
        let mut calls = Client::over(socket);
        let mut ask = |command, payload: &[u8], fds: &[_]| {
            let id = calls.send(command, 0, payload, fds);
            let answer = if has_twin { calls.receive().unwrap() } else { from_fake.recv().unwrap() };
            assert_eq!((answer.id, answer.command, answer.flags & 0xf), (id, command, 1));
            let error = if answer.flags & 0x20 == 0 { 0 } else { answer.error };
            (error, answer.payload)
        };
        memory.write(IoAddr(RAM - 4), &[1, 2, 3, 4]).unwrap();
        let file = memfd(1);
        let mut value = [0; 4];
        for (command, payload, error) in refusals {
            assert_eq!(
                ask(*command, payload, &[file.as_fd(); 3]),
                (*error, Vec::new()),
                "{command} {payload:?}"
            );
            hosted.bar_write(0, 8, &error.to_le_bytes());
            hosted.bar_read(0, 8, &mut value);
            assert_eq!(u32::from_le_bytes(value), *error);
        }
        let at = longs(&[RAM - 4, 4]);
        assert_eq!(ask(DMA_READ, &at, &[]), (0, [&at[..], &[1, 2, 3, 4]].concat()));
        assert_eq!(ask(DMA_WRITE, &[&at[..], &[5, 6, 7, 8]].concat(), &[]), (0, at));
        assert_eq!(ask(DMA_READ, &longs(&[0, RAM]), &[]).1.len() as u64, 16 + RAM);
        memory.read(IoAddr(RAM - 4), &mut value).unwrap();
        assert_eq!(value, [5, 6, 7, 8]);
        let mut start = [9; 8];
        memory.read(IoAddr(0), &mut start).unwrap();
        assert_eq!(start, [0; 8], "nothing of what was refused");
        drop(hosted);
        drop(serving.join().unwrap());
        drop((calls, memory, file));
        assert_eq!(open_fds(), before);
    }
}
