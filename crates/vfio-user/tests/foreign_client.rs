//! A client of others: the crate `vfio_user`, which Cloud Hypervisor uses.
#![allow(clippy::unwrap_used)]

mod client;

use client::{Served, eventfd, memfd};
use std::os::fd::{AsFd, AsRawFd};
use vfio_user::Client;
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Workers;

const MSIX: u32 = 2;
const CONFIG: u32 = 7;
/// In the common configuration: the status field.
const STATUS: u64 = 20;

/// It shows what it read and not whether that was an error, so every step is seen by what it does.
#[test]
fn a_client_of_others_is_served() {
    let served = Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap());
    for _ in 0..2 {
        let mut client = Client::new(&served.path).unwrap();
        let lens = [0, 1, 6, CONFIG].map(|index| client.region(index).unwrap().size);
        assert_eq!(lens, [0x8000, 0, 0, 256]);
        let mut ids = [0; 4];
        client.region_read(CONFIG, 0, &mut ids).unwrap();
        assert_eq!(ids, [0xf4, 0x1a, 0x7f, 0x10]);

        let mut status = [0xff];
        client.region_write(0, STATUS, &[1]).unwrap();
        client.region_read(0, STATUS, &mut status).unwrap();
        assert_eq!(status, [1]);

        assert_eq!(client.get_irq_info(MSIX).unwrap().count, 2);
        let events = [eventfd(), eventfd()];
        let fds = events.each_ref().map(|event| event.as_fd().as_raw_fd());
        client.set_irqs(MSIX, 0x24, 0, 2, &fds).unwrap();
        client.set_irqs(MSIX, 0x21, 1, 1, &[]).unwrap();
        assert_eq!(events.each_ref().map(|event| event.take()), [0, 1]);

        let file = memfd(0x1_0000);
        client.dma_map(0, 0x10_0000, 0x1_0000, file.as_raw_fd()).unwrap();
        client.dma_unmap(0x10_0000, 0x1_0000).unwrap();

        client.reset().unwrap();
        client.region_read(0, STATUS, &mut status).unwrap();
        assert_eq!(status, [0]);
        client.shutdown().unwrap();
    }
}
