//! Interfaces of this host, where it lets us make some; the others are made in the rig.

use super::*;
use crate::{Presence, Tap, TapError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::os::fd::BorrowedFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// Whether this test may make interfaces: whoever may not is told so, and the message is tested instead.
fn interface(pairs: u16) -> Option<Tap> {
    match Tap::create(pairs, Some(1400)) {
        Ok(tap) => Some(tap),
        Err(error @ (TapError::NoTun | TapError::Closed | TapError::NotPermitted)) => {
            let message = error.to_string();
            assert!(message.contains("tun") || message.contains("CAP_NET_ADMIN"), "{message}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The number of the interface of that name, of which no two are alike.
fn number(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()
}

#[test]
fn an_interface_is_made_up_and_goes_with_the_card() {
    let Some(tap) = interface(2) else { return };
    let name = tap.name().to_owned();
    let before = number(&name);
    assert!(name.starts_with("vioduct") && before.is_some());
    assert_eq!((tap.pairs(), tap.lend().unwrap().len()), (2, 2));
    assert!(tap.features().contains(CSUM | GUEST_CSUM | HOST_TSO4 | GUEST_TSO4));
    let busy = Tap::open(&name, 3).map(|third| third.pairs());
    assert!(busy.is_ok_and(|count| count == 3), "more queues of it");
    for count in [1, 2, 1, 2] {
        tap.set_pairs(count).unwrap();
    }
    tap.set_offloads(GUEST_CSUM | GUEST_TSO4).unwrap();
    tap.set_offloads(Features::NONE).unwrap();
    drop(tap);
    // Another test may be starting a process, which has the descriptors for a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while number(&name) == before {
        assert!(Instant::now() < deadline, "{name} is still there");
        std::thread::yield_now();
    }
}

/// The host's own packets: an interface that comes up asks who else is there.
#[test]
fn packets_of_the_host_reach_the_driver_and_a_lost_interface_is_a_link_that_is_down() {
    let Some(tap) = interface(1) else { return };
    let name = tap.name().to_owned();
    let features = (ALL.without(Features::RESERVED)).without(MTU);
    let mut card = Plugged { machine: machine(Arc::new(tap), SETUP, features), peers: Vec::new() };
    card.post(&vec![&[2000][..]; 16]);
    // A packet that the host drops, being for nobody there.
    card.machine.request(transmit_queue(0), &behind(PLAIN, &frame(PEER, ADDRESS, 60)), 0).unwrap();
    assert_eq!(dropped(&mut card.machine), (0, 0));
    assert_eq!(card.status(), STATUS_LINK_UP);
    let removed = Command::new("ip").args(["link", "del", &name]).status();
    if !removed.is_ok_and(|status| status.success()) {
        return;
    }
    for _ in 0..3 {
        card.machine.request(transmit_queue(0), &behind(PLAIN, &frame(PEER, ADDRESS, 60)), 0).unwrap();
    }
    run(&mut card.machine);
    assert_eq!((card.status(), dropped(&mut card.machine).0), (0, 3));
    healthy(&card.machine);
}

/// Nobody takes packets of one that is lent, and would find out.
#[test]
fn the_end_of_an_interface_that_is_lent_is_heard_of() {
    let Some(tap) = interface(1) else { return };
    assert!(tap.news().is_none());
    let lent = tap.lend().unwrap();
    assert_eq!((lent.len(), tap.hear()), (1, Presence::There));
    let removed = Command::new("ip").args(["link", "del", tap.name()]).status();
    if !removed.is_ok_and(|status| status.success()) {
        return;
    }
    assert!(readable(tap.news().unwrap()), "there is no news");
    assert_eq!(tap.hear(), Presence::Gone);
    assert!(!readable(tap.news().unwrap()), "all of it was taken");
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut events = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut events, Some(&Timespec::default())).unwrap() == 1
}

/// An interface that `ip` has made for another user, while this is there.
struct OfAnother(String);

impl OfAnother {
    fn new() -> Option<Self> {
        let name = format!("other{}", std::process::id() % 100_000);
        let made = Command::new("ip").args(["tuntap", "add", &name, "mode", "tap", "user", "1"]).output();
        made.is_ok_and(|made| made.status.success()).then_some(Self(name))
    }
}

impl Drop for OfAnother {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

/// Rights are a thread's, and each test has its own.
#[test]
fn whoever_lacks_the_right_is_told_what_it_takes() {
    let there = OfAnother::new();
    let mut rights = capabilities(None).unwrap();
    rights.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, rights).unwrap();
    let said = |outcome: Result<Tap, TapError>| outcome.err().unwrap().to_string();
    let made = said(Tap::create(1, None));
    if made.contains("/dev/net/tun") {
        // It is not there, or not for this user: nothing else can be said.
        return;
    }
    assert!(
        made.contains("making an interface needs CAP_NET_ADMIN: have one made for you by `ip tuntap"),
        "{made}"
    );
    let Some(OfAnother(name)) = &there else { return };
    let opened = said(Tap::open(name, 1));
    assert!(opened.contains("it is not yours, which needs CAP_NET_ADMIN: make one"), "{opened}");
    let missing = said(Tap::open("nobodys0", 1));
    assert!(missing.contains("there is no such interface"), "{missing}");
}

/// A queue of the interface's that gets no packets is no interface that is lost.
#[test]
fn s5_1_6_5_5_queues_of_pairs_that_are_not_used_have_no_packets_and_do_no_harm() {
    let Some(tap) = interface(2) else { return };
    let setup = Setup { pairs: 2, ..SETUP };
    let port = Arc::new(tap);
    let mut card = Plugged { machine: machine(port, setup, BARE | MQ | STATUS_FIELD), peers: Vec::new() };
    let packet = behind(PLAIN, &frame(PEER, ADDRESS, 60));
    let queue = control_queue(2);
    for count in [1u16, 2, 1, 2] {
        assert_eq!(card.command_in(queue, CTRL_MQ, CTRL_MQ_VQ_PAIRS_SET, &count.to_le_bytes()), CTRL_OK);
        for pair in 0..2 {
            card.machine.submit(receive_queue(pair), &[], &[2000]).unwrap();
            let _ = card.machine.kick(receive_queue(pair)).unwrap();
            run(&mut card.machine);
            card.machine.request(transmit_queue(pair), &packet, 0).unwrap();
        }
        assert_eq!((card.status(), dropped(&mut card.machine)), (STATUS_LINK_UP, (0, 0)), "{count}");
    }
}
