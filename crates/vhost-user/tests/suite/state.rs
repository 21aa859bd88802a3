//! A device's own state, from one device to another.

use crate::rig::devices::Adder;
use crate::rig::front::{Front, Plan};
use crate::rig::peer::*;
use crate::rig::running::Running;
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Features;

const SAVE: u32 = 0;
const LOAD: u32 = 1;
const STOPPED: u32 = 0;
/// No descriptor comes back.
const NO_FD: u64 = 1 << 8;

fn begin(peer: &Peer, direction: u32, phase: u32, fd: &impl AsFd) -> u64 {
    let reply = peer.ask(SET_DEVICE_STATE_FD, &words(&[direction, phase]), &[fd.as_fd()]);
    u64::from_ne_bytes(reply.try_into().unwrap())
}

fn save(peer: &Peer) -> Vec<u8> {
    let (mut reader, writer) = pipe().unwrap();
    assert_eq!(begin(peer, SAVE, STOPPED, &writer), NO_FD);
    drop(writer);
    let mut state = Vec::new();
    reader.read_to_end(&mut state).unwrap();
    assert_eq!(peer.ask_long(CHECK_DEVICE_STATE), 0);
    state
}

fn load(peer: &Peer, state: &[u8]) -> u64 {
    let (reader, mut writer) = pipe().unwrap();
    assert_eq!(begin(peer, LOAD, STOPPED, &reader), NO_FD);
    drop(reader);
    // The device may have had enough.
    let _ = writer.write_all(state);
    drop(writer);
    peer.ask_long(CHECK_DEVICE_STATE)
}

/// Everything that migrates: the state, larger than the pipe, and the ring's position.
#[test]
fn a_device_goes_on_elsewhere() {
    let (here, there) = (Running::new(|| Adder::new(1)), Running::new(|| Adder::new(1)));
    for features in [Features::NONE, Features::RING_PACKED] {
        let mut source = Front::start(&here.path, Plan::new(features));
        assert_eq!((source.add(0, 5), source.add(0, 6)), (5, 11));
        let base = source.stop_ring(0);
        let state = save(&source.peer);
        assert_eq!(state.len(), 160_000);
        let mut target = Front { peer: there.peer(), ..source };
        target.negotiate();
        target.share();
        assert_eq!(load(&target.peer, &state), 0);
        target.start_ring(0, base);
        assert_eq!(target.add(0, 7), 18);
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let running = Running::new(|| Adder::new(1));
    let peer = running.peer();
    peer.agree(DEVICE_STATE);
    assert_eq!(load(&peer, &[1; 100]), 1);
    assert_eq!(load(&peer, &[]), 1);
    assert_eq!(peer.ask_long(CHECK_DEVICE_STATE), 1, "there is nothing to check any more");
    assert_eq!(load(&peer, &vec![0; 17 << 20]), 1, "more than any device has");
}

/// A device without state saves nothing and takes nothing.
#[test]
fn a_device_without_state_has_its_rings_positions_only() {
    let running = Running::new(VirtioDemoWithoutState::default);
    let peer = running.peer();
    peer.agree(DEVICE_STATE);
    assert_eq!(save(&peer), []);
    assert_eq!((load(&peer, &[]), load(&peer, &[1])), (0, 1));
}

/// A device that leaves the state to the default.
#[derive(Default)]
struct VirtioDemoWithoutState(VirtioDemo);

impl vioduct_virtio_device::DeviceModel for VirtioDemoWithoutState {
    fn info(&self) -> vioduct_virtio_device::DeviceInfo {
        self.0.info()
    }
    fn handlers(&mut self, negotiated: Features) -> vioduct_virtio_device::Handlers {
        self.0.handlers(negotiated)
    }
}

/// State is that of a device at rest.
#[test]
fn a_device_that_runs_is_not_saved() {
    let running = Running::new(|| Adder::new(1));
    let front = Front::start(&running.path, Plan::new(Features::NONE));
    let (_reader, writer) = pipe().unwrap();
    assert_eq!(begin(&front.peer, SAVE, STOPPED, &writer), NO_FD | 1);
    front.stop_ring(0);
    assert_eq!(begin(&front.peer, SAVE, 1, &writer), NO_FD | 1, "a phase that there is not");
    front.peer.send(SET_DEVICE_STATE_FD, &words(&[2, 0]), &[writer.as_fd()]);
    front.peer.expect_end();
}
