//! A server of others: that of the crate `vfio_user`, with a device of registers and an interrupt pin.
#![allow(clippy::unwrap_used)]

mod client;

use client::plugged::Sink;
use std::fs::File;
use std::io::{Error, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfio_bindings::bindings::vfio::vfio_region_info;
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};
use vioduct_pci::registers::COMMAND;
use vioduct_pci::{BarSpec, FunctionSpec, Hosted, InterruptPin, Level};
use vioduct_vfio_user::RemoteFunction;
use vioduct_virtio_device::MemoryMap;

const CONFIG: u32 = 7;
const LEN: u64 = 0x100;

/// Four registers; a write to the first interrupts.
#[derive(Default)]
struct Registers {
    config: Vec<u8>,
    bytes: Vec<u8>,
    pin: Option<File>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Registers {
    fn new(seen: Arc<Mutex<Vec<String>>>) -> Self {
        let mut config = vec![0; LEN as usize];
        config[..4].copy_from_slice(&[0x4f, 0x49, 0xc8, 0x0d]);
        config[8..12].copy_from_slice(&[3, 0, 0, 0xff]);
        config[0x18] = 8;
        config[0x2c..0x30].copy_from_slice(&[1, 2, 3, 4]);
        config[0x3d] = 1;
        Self { config, bytes: vec![0; LEN as usize], pin: None, seen }
    }

    fn region(&mut self, region: u32) -> &mut [u8] {
        if region == CONFIG { &mut self.config } else { &mut self.bytes }
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

impl ServerBackend for Registers {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        let start = offset as usize;
        data.copy_from_slice(&self.region(region)[start..start + data.len()]);
        Ok(())
    }
    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Error> {
        let start = offset as usize;
        self.region(region)[start..start + data.len()].copy_from_slice(data);
        if let (0, false, Some(pin)) = (offset, region == CONFIG, &mut self.pin) {
            pin.write_all(&1u64.to_ne_bytes())?;
        }
        Ok(())
    }
    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        _offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> Result<(), Error> {
        self.note(format!("map {flags:?} {address:#x} {size:#x} {}", fd.is_some()));
        Ok(())
    }
    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, address: u64, size: u64) -> Result<(), Error> {
        self.note(format!("unmap {address:#x} {size:#x}"));
        Ok(())
    }
    fn reset(&mut self) -> Result<(), Error> {
        self.note("reset".into());
        self.bytes.fill(0);
        Ok(())
    }
    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        _: u32,
        count: u32,
        mut fds: Vec<File>,
    ) -> Result<(), Error> {
        self.note(format!("irqs {index} {flags:#x} {count} {}", fds.len()));
        if flags == 0x24 {
            self.pin = fds.pop();
        }
        Ok(())
    }
}

fn regions() -> Vec<ServerRegion> {
    let region = |index| {
        let size = if index == 2 || index == CONFIG { LEN } else { 0 };
        let region_info = vfio_region_info { argsz: 32, index, size, flags: 3, ..Default::default() };
        ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
    };
    (0..9).map(region).collect()
}

#[test]
fn a_server_of_others_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vfio.sock");
    let irqs = (0..5).map(|index| IrqInfo { index, count: u32::from(index == 0), flags: 1 }).collect();
    let server = Server::new(&path, true, irqs, regions()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut registers = Registers::new(seen.clone());
    let serving = std::thread::spawn(move || server.run(&mut registers));
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let mut function = RemoteFunction::connect(&path, &memory, Duration::from_secs(20)).unwrap();
    assert!(function.doorbells().is_empty());
    function.replace_memory(&memory).unwrap();
    let sink = Sink::new(0);
    let mut hosted = Hosted::new(function, sink.clone()).unwrap();
    let spec = FunctionSpec::new(0x494f, 0xdc8, 0xff_0000)
        .with_revision(3)
        .with_subsystem(0x201, 0x403)
        .with_interrupt_pin(InterruptPin::A)
        .with_bar(BarSpec { prefetchable: true, ..BarSpec::memory32(2, LEN) });
    assert_eq!(*hosted.spec(), spec);
    hosted.config_write(COMMAND, &[6, 0]);
    let mut value = [0; 4];
    for round in 0..600u32 {
        hosted.bar_write(2, 8, &round.to_le_bytes());
        hosted.bar_read(2, 8, &mut value);
        assert_eq!(u32::from_le_bytes(value), round);
    }
    assert!(sink.take_levels().is_empty());
    hosted.bar_write(2, 0, &[1]);
    let mut levels = Vec::new();
    sink.until(|| {
        levels.extend(sink.take_levels());
        !levels.is_empty()
    });
    hosted.bar_read(2, 8, &mut value);
    levels.extend(sink.take_levels());
    assert_eq!(levels, [Level::Asserted, Level::Deasserted]);
    hosted.reset();
    hosted.bar_read(2, 8, &mut value);
    assert_eq!(value, [0; 4]);
    drop(hosted);
    serving.join().unwrap().unwrap();
    let mapped = "map DmaMapFlags(READ | WRITE) 0x0 0x100000 true";
    let wanted = [mapped, "unmap 0x0 0x100000", mapped, "irqs 0 0x24 1 1", "irqs 0 0x11 1 0", "reset"];
    assert_eq!(*seen.lock().unwrap(), wanted);
}
