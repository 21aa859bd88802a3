//! Serves a device at a socket, to one client after the other: `serve pci-demo|virtio-demo|entropy PATH`.
//!
//! QEMU 10.1 and later take it with memory that is shared, as in `-object memory-backend-memfd,id=m,size=512M,share=on -machine
//! q35,memory-backend=m -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"PATH"}}'`.

use std::error::Error;
use vioduct_entropy::Entropy;
use vioduct_pci_demo::PciDemo;
use vioduct_vfio_user::{Device, Server};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Workers;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (device, path) = match arguments.as_slice() {
        [name, path] if name == "pci-demo" => (Device::registers(PciDemo::new())?, path),
        [name, path] if name == "virtio-demo" => (Device::virtio(Workers::new(VirtioDemo::default()))?, path),
        [name, path] if name == "entropy" => (Device::virtio(Workers::new(Entropy))?, path),
        _ => return Err("usage: serve pci-demo|virtio-demo|entropy PATH".into()),
    };
    Server::bind(path, device)?.run()?;
    Ok(())
}
