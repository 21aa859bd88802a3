//! The serving process is killed at random points under load and started again: every request is completed, and completed once.
#![allow(clippy::unwrap_used)]

mod behind_frontend;
#[path = "../rig/mod.rs"]
mod rig;

use rig::front::{Front, Plan};
use rig::peer::*;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vioduct_virtio_device::Features;
use vioduct_virtqueue::{Memory, RingFormat};

/// How often a process is killed, if that is to be another number than [`POINTS`].
const CRASHES: &str = "VIODUCT_CRASHES";
const POINTS: usize = 1000;

/// The process that is killed. One is ready before it is needed, for starting takes longer than all the rest.
struct Victim {
    process: Child,
    path: PathBuf,
}

impl Victim {
    /// Begins to start one, which listens in `folder` some time later.
    fn spawn(folder: &Path, number: usize) -> Self {
        let path = folder.join(number.to_string());
        let process = Command::new(program()).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        Self { process, path }
    }

    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        BufReader::new(self.process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the server does not start");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The example, which cargo builds along with the tests of a package.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/shuffler");
    assert!(
        program.exists(),
        "{} is not there: cargo build --examples -p vioduct-vhost-user",
        program.display()
    );
    program
}

struct Load {
    front: Front,
    records: Option<(Vec<u8>, OwnedFd)>,
    submitted: u64,
    outstanding: BTreeSet<u64>,
}

impl Load {
    fn new(features: Features) -> Self {
        let plan = Plan::new(features);
        let plan = Plan { protocol: plan.protocol | INFLIGHT_SHMFD, ..plan };
        Self::over(rig::behind::rings(plan))
    }

    fn over(front: Front) -> Self {
        Self { front, records: None, submitted: 0, outstanding: BTreeSet::new() }
    }

    /// As a front-end does that has lost its server: the same memory, the records that it keeps, and what it knows of the ring.
    fn connect(&mut self, path: &Path) {
        self.front.peer = Peer::connect(path);
        self.front.negotiate();
        self.front.share();
        let peer = &self.front.peer;
        let (payload, file) = self.records.get_or_insert_with(|| {
            let ask = rig::payloads::inflight(0, 0, 1, 16);
            peer.send(GET_INFLIGHT_FD, &ask, &[]);
            let mut reply = peer.expect_reply(GET_INFLIGHT_FD);
            (reply.payload, reply.fds.remove(0))
        });
        peer.must(SET_INFLIGHT_FD, payload, &[file.as_fd()]);
        self.front.start_ring(0, self.vring_base());
    }

    /// The used index of a split ring; of a packed ring nothing is known.
    fn vring_base(&self) -> u32 {
        if RingFormat::of(self.front.plan.features) == RingFormat::Packed {
            return 0;
        }
        let at = self.front.rings[0].driver.layout().device_area.checked_add(2).unwrap();
        let mut index = [0; 2];
        self.front.memory.read(at, &mut index).unwrap();
        u16::from_le_bytes(index).into()
    }

    fn submit(&mut self) {
        while self.front.rings[0].driver.free_descriptors() >= 2 {
            let _ = self.front.submit(0, self.submitted);
            self.outstanding.insert(self.submitted);
            self.submitted += 1;
        }
        self.front.kick(0);
    }

    /// Takes what has been completed: each a request that was not completed before. How many.
    fn collect(&mut self) -> usize {
        let mut count = 0;
        while let Some(reply) = self.front.take(0) {
            assert!(self.outstanding.remove(&!reply), "request {} is completed again", !reply);
            count += 1;
        }
        count
    }

    /// Keeps the ring full until so many requests are completed, and for a moment longer.
    fn run(&mut self, mut goal: usize, moment: Duration) {
        let began = Instant::now();
        let mut reached = None;
        while reached.is_none_or(|reached: Instant| reached.elapsed() < moment) {
            assert!(began.elapsed() < PATIENCE, "requests {:?} are lost", self.outstanding);
            self.submit();
            goal = goal.saturating_sub(self.collect());
            if goal == 0 {
                reached.get_or_insert_with(Instant::now);
            }
            std::thread::yield_now();
        }
    }

    fn finish(&mut self) {
        let began = Instant::now();
        while !self.outstanding.is_empty() {
            assert!(began.elapsed() < PATIENCE, "requests {:?} are lost", self.outstanding);
            self.collect();
            std::thread::yield_now();
        }
    }
}

fn survive(features: Features) {
    let crashes = std::env::var(CRASHES).map_or(POINTS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut load = Load::new(features);
    let mut next = Victim::spawn(folder.path(), 0);
    for crash in 0..crashes {
        let mut victim = mem::replace(&mut next, Victim::spawn(folder.path(), crash + 1));
        victim.wait_until_ready();
        load.connect(&victim.path);
        load.run(crash * 31 % 64, Duration::from_micros(crash as u64 * 7919 % 300));
    }
    next.wait_until_ready();
    load.connect(&next.path);
    load.finish();
    assert_eq!(load.front.rings[0].driver.in_flight(), 0);
}

#[test]
fn a_split_queue_survives_its_server() {
    survive(Features::NONE);
}

#[test]
fn a_split_queue_in_order_survives_its_server() {
    survive(Features::IN_ORDER | Features::EVENT_IDX);
}

#[test]
fn a_packed_queue_survives_its_server() {
    survive(Features::RING_PACKED);
}

#[test]
fn a_packed_queue_in_order_survives_its_server() {
    survive(Features::RING_PACKED | Features::IN_ORDER | Features::EVENT_IDX);
}
