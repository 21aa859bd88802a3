//! A value travels: from a driver over a packed ring and a register window into a device, and back.
//!
//! `cargo run -p vioduct-loopback --example one_value`

use std::error::Error;

use vioduct_loopback::{Crossing, Depth, Machine};
use vioduct_spec::Features;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_driver::{Demo, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let machine = Machine::new(4 << 20)?;
    let device = machine.attach(VirtioDemo::default(), Depth::Mmio, Features::RING)?;
    let mut driver = Demo::new(device.transport()?, machine.dma(), &Options::default())?;

    let before = machine.traffic();
    machine.start_trace();
    driver.write(0x2333, &mut device.wait())?;
    for crossing in machine.take_trace() {
        match crossing {
            Crossing::RegisterWrite { address, value, .. } => {
                println!("driver writes {value:#x} at {address:#x}")
            }
            Crossing::RegisterRead { address, value, .. } => {
                println!("driver reads {value:#x} at {address:#x}")
            }
            other => println!("{other:?}"),
        }
    }
    println!("the device holds {:#x}", device.with_model(|model| model.value()));
    println!("the driver reads {:#x}", driver.read(&mut device.wait())?);
    println!("two requests crossed as {:?}", machine.traffic() - before);
    Ok(())
}
