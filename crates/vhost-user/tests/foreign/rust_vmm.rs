//! rust-vmm's crate `vhost`, which cloud-hypervisor and Firecracker have: its messages, and our driver's rings, for it has none.
//!
//! `unsafe` because it takes eventfds of its own kind, which are made from bare numbers.
#![allow(unsafe_code)]

use crate::rig::front::{Front, GUEST_START, MEMORY_LEN, Plan, USER_SHIFT, file_of, guest_memory, wait};
use crate::rig::peer::Peer;
use crate::{REQUESTS, demo_server, half};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserInflight, VhostUserProtocolFeatures as Protocol,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vioduct_spec::demo;
use vioduct_virtio_device::{EventFd, Features};
use vioduct_virtqueue::{IoAddr, Kick, Memory, MoreWork};

fn theirs(event: &EventFd) -> vmm_sys_util::eventfd::EventFd {
    let duplicate = event.as_fd().try_clone_to_owned().unwrap().into_raw_fd();
    // SAFETY: the descriptor was duplicated just now, for this owner.
    unsafe { vmm_sys_util::eventfd::EventFd::from_raw_fd(duplicate) }
}

/// Negotiates, shares memory, and starts the ring.
fn start(client: &mut Frontend, front: &Front) {
    client.set_owner().unwrap();
    let offered = client.get_features().unwrap();
    assert!(Features(offered).contains(front.plan.features), "{offered:#x}");
    client.set_features(front.plan.features.0).unwrap();
    let wanted = Protocol::MQ
        | Protocol::REPLY_ACK
        | Protocol::CONFIG
        | Protocol::INFLIGHT_SHMFD
        | Protocol::CONFIGURE_MEM_SLOTS
        | Protocol::RESET_DEVICE;
    let offered = client.get_protocol_features().unwrap();
    assert!(offered.contains(wanted), "{offered:?}");
    client.set_protocol_features(wanted).unwrap();
    client.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
    assert_eq!(client.get_queue_num().unwrap(), 1);
    assert!(client.get_max_mem_slots().unwrap() >= 8);
    let file = file_of(&front.memory);
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: GUEST_START,
        memory_size: MEMORY_LEN,
        userspace_addr: GUEST_START + USER_SHIFT,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    client.add_mem_region(&region).unwrap();
    let records = VhostUserInflight { num_queues: 1, queue_size: 16, ..VhostUserInflight::default() };
    let (records, file) = client.get_inflight_fd(&records).unwrap();
    client.set_inflight_fd(&records, file.as_raw_fd()).unwrap();
    start_ring(client, front, 0);
}

fn start_ring(client: &mut Frontend, front: &Front, base: u16) {
    let ring = &front.rings[0];
    let layout = ring.driver.layout();
    let user = |at: IoAddr| at.0 + USER_SHIFT;
    client.set_vring_num(0, layout.size).unwrap();
    client.set_vring_base(0, base).unwrap();
    let areas = VringConfigData {
        queue_max_size: layout.size,
        queue_size: layout.size,
        flags: 0,
        desc_table_addr: user(layout.descriptor_area),
        used_ring_addr: user(layout.device_area),
        avail_ring_addr: user(layout.driver_area),
        log_addr: None,
    };
    client.set_vring_addr(0, &areas).unwrap();
    client.set_vring_err(0, &theirs(&ring.error)).unwrap();
    client.set_vring_call(0, &theirs(&ring.call)).unwrap();
    client.set_vring_kick(0, &theirs(&ring.kick)).unwrap();
    client.set_vring_enable(0, true).unwrap();
}

fn request(front: &mut Front, opcode: u32, operand: u32) -> [u8; 8] {
    let (there, back) = (front.place(8), front.place(8));
    front.memory.write(there.addr, &half(opcode, operand)).unwrap();
    front.rings[0].driver.add(&[there], &[back], back).unwrap();
    if front.rings[0].driver.kick_prepare() == Kick::Needed {
        front.kick(0);
    }
    loop {
        if let Some(done) = front.rings[0].driver.get().unwrap() {
            assert_eq!(done.written, 8);
            let mut reply = [0; 8];
            front.memory.read(done.token.addr, &mut reply).unwrap();
            return reply;
        }
        if front.rings[0].driver.enable_callback() == MoreWork::None {
            assert!(wait(&front.rings[0].call), "no call comes");
            let _ = front.rings[0].call.take();
        }
    }
}

fn config(client: &mut Frontend) -> u32 {
    let (header, bytes) = client.get_config(0, 4, VhostUserConfigFlags::WRITABLE, &[0; 4]).unwrap();
    assert_eq!((header.offset, header.size), (0, 4));
    u32::from_le_bytes(bytes.try_into().unwrap())
}

fn drive(features: Features) {
    let running = demo_server();
    let (unconnected, _) = UnixStream::pair().unwrap();
    let mut front = Front::in_reset(Peer::over(unconnected), Plan::new(features), Arc::new(guest_memory()));
    let mut client = Frontend::connect(&running.path, 1).unwrap();
    start(&mut client, &front);
    assert_eq!(config(&mut client), demo::INITIAL_VALUE);
    for value in 0..REQUESTS {
        assert_eq!(request(&mut front, demo::OP_WRITE, value), half(demo::OP_WRITE, value));
        assert_eq!(request(&mut front, demo::OP_READ, 0), half(demo::OP_READ, value));
    }
    assert_eq!(config(&mut client), REQUESTS - 1);
    // Stopped and started where it stood, as for a guest that pauses. A base of 16 bits is a split ring's.
    let base = client.get_vring_base(0).unwrap();
    if !features.contains(Features::RING_PACKED) {
        assert_eq!(base, 2 * REQUESTS);
        start_ring(&mut client, &front, base as u16);
        assert_eq!(request(&mut front, demo::OP_READ, 0), half(demo::OP_READ, REQUESTS - 1));
    }
    client.reset_device().unwrap();
    assert_eq!(config(&mut client), demo::INITIAL_VALUE);
}

#[test]
fn rust_vmm_drives_split_rings() {
    drive(Features::NONE);
    drive(Features::EVENT_IDX | Features::INDIRECT_DESC);
}

/// It can only say a base of 0, which is not where a packed ring begins, and is understood.
#[test]
fn rust_vmm_drives_packed_rings() {
    drive(Features::RING_PACKED);
    drive(Features::RING_PACKED | Features::EVENT_IDX);
}
