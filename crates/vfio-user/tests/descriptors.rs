//! Descriptors are counted here, so tests of this file run one after the other.
#![allow(clippy::unwrap_used)]

mod client;

use client::*;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Workers;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

/// Descriptors that a command does not take are closed, and the command refused.
#[test]
fn row69_descriptors_that_are_not_wanted_are_closed() {
    let _alone = alone();
    let served = virtio_demo();
    let mut client = Client::qemu(&served.path);
    let file = memfd(4096);
    client.request(GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
    let before = open_fds();
    for count in [1usize, 2, 64, 253] {
        let fds: Vec<BorrowedFd<'_>> = (0..count).map(|_| file.as_fd()).collect();
        let info = client.request_with(GET_INFO, &words(&[16, 0, 0, 0]), &fds).map(drop);
        assert_eq!(info, Err(EINVAL), "{count}");
        let unknown = client.request_with(99, &[], &fds).map(drop);
        assert_eq!(unknown, Err(EOPNOTSUPP), "{count}");
        if count > 1 {
            let mapped = client.request_with(DMA_MAP, &map(3, 0, 0, 4096), &fds).map(drop);
            assert_eq!(mapped, Err(EINVAL), "{count}");
        }
    }
    // One with each byte of a long message.
    let payload = [access(0, 0, 400), vec![0; 400]].concat();
    for byte in [header(1, REGION_WRITE, 16 + payload.len() as u32, 0, 0), payload].concat() {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let byte = [std::io::IoSlice::new(std::slice::from_ref(&byte))];
        if rustix::net::sendmsg(&client.socket, &byte, &mut control, flags).is_err() {
            break;
        }
    }
    assert!(client.receive().is_none(), "more descriptors than a message has");
    drop(client);
    let mut client = Client::qemu(&served.path);
    client.request(GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
    assert_eq!(open_fds(), before);
}

/// Many messages of every kind leave nothing behind.
#[test]
fn row69_a_hundred_thousand_messages_leak_no_descriptor() {
    let _alone = alone();
    let served = virtio_demo();
    let mut client = Client::qemu(&served.path);
    let file = memfd(1 << 20);
    let event = eventfd();
    let round = |client: &mut Client| {
        let mapped = client.request_with(DMA_MAP, &map(3, 0, 0, 1 << 20), &[file.as_fd()]);
        mapped.unwrap();
        client.request_with(SET_IRQS, &irqs(0x24, 2, 0, 1), &[event.as_fd()]).unwrap();
        for value in 0..16u32 {
            client.send(REGION_WRITE, NO_REPLY, &[access(0x14, 0, 1), vec![value as u8]].concat(), &[]);
        }
        let refused = client.request_with(99, &[], &[file.as_fd()]);
        assert_eq!(refused.unwrap_err(), EOPNOTSUPP);
        client.request(DMA_UNMAP, &unmap(0, 0, 1 << 20)).unwrap();
    };
    round(&mut client);
    let before = open_fds();
    for _ in 0..5000 {
        round(&mut client);
    }
    assert_eq!(open_fds(), before);
}

/// What a client gave goes with it.
#[test]
fn row69_what_a_client_gave_is_closed_when_it_goes() {
    let _alone = alone();
    let served = virtio_demo();
    let file = memfd(1 << 20);
    let before = open_fds();
    for _ in 0..50 {
        let mut client = Client::qemu(&served.path);
        for place in 0..8 {
            let at = place * 4096;
            client.request_with(DMA_MAP, &map(3, at, at, 4096), &[file.as_fd()]).unwrap();
        }
        let event = eventfd();
        client.request_with(SET_IRQS, &irqs(0x24, 2, 0, 1), &[event.as_fd()]).unwrap();
        client.request_with(SET_IRQS, &irqs(0x24, 0, 0, 1), &[event.as_fd()]).unwrap();
    }
    // The next client is served when the last has been cleared away.
    let client = Client::qemu(&served.path);
    assert_eq!(open_fds(), before + 2, "both ends of this client");
    drop(client);
}
