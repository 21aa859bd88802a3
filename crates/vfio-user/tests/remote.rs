//! Our client at our server: functions of another process in a machine.
#![allow(clippy::unwrap_used)]

mod client;

use client::plugged::{Sink, driver};
use client::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vioduct_loopback::Machine;
use vioduct_pci::registers::{COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_MEMORY};
use vioduct_pci::{Controls, FunctionHost, FunctionSpec, Hosted, Level, NoInterrupts, PciFunction};
use vioduct_pci_demo::PciDemo;
use vioduct_vfio_user::{ConnectError, Device, RemoteFunction};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Backing, Features, MemoryMap, RegionSetup, Signal, Workers};
use vioduct_virtio_driver::demo::Request;
use vioduct_virtio_driver::{Options, Taken};
use vioduct_virtio_pci::VirtioPci;

const PATIENCE: Duration = Duration::from_secs(20);
/// In the common configuration: the status field.
const STATUS: u64 = 20;
const INITIAL: u32 = 0x1333;

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

fn connect(served: &Served, memory: &Arc<MemoryMap>) -> RemoteFunction {
    RemoteFunction::connect(&served.path, memory, PATIENCE).unwrap()
}

fn split() -> Options {
    Options { features: Features::INDIRECT_DESC | Features::EVENT_IDX, ..Options::default() }
}

/// The same bytes, of which no descriptor is shown.
fn without_files(memory: &MemoryMap) -> Arc<MemoryMap> {
    let regions = memory.regions().map(|(region, file)| {
        let (file, offset) = file.unwrap();
        let backing = Backing::File { file: Arc::new(file.try_clone_to_owned().unwrap()), offset };
        RegionSetup { at: region.at, len: region.len, access: region.access, backing }
    });
    Arc::new(MemoryMap::new(regions.collect()).unwrap().without_files())
}

/// The declaration that a host gets is the one that the server's function made.
#[test]
fn a_function_is_what_the_server_has() {
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let local = PciDemo::default().spec();
    let served = Served::new(Device::registers(PciDemo::default()).unwrap());
    assert_eq!(connect(&served, &memory).spec(), local);
    let local = VirtioPci::new(Workers::new(VirtioDemo::default()), Device::no_memory()).unwrap().spec();
    assert_eq!(connect(&virtio_demo(), &memory).spec(), local);
}

/// Registers, read and written; what is beyond them is nothing; another client finds them as they were.
#[test]
fn registers_are_reached() {
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let served = Served::new(Device::registers(PciDemo::default()).unwrap());
    for round in 1u32..4 {
        let mut hosted = Hosted::new(connect(&served, &memory), Arc::new(NoInterrupts)).unwrap();
        let mut value = [0; 4];
        if round > 1 {
            hosted.bar_read(0, 0, &mut value);
            assert_eq!(u32::from_le_bytes(value), (round - 1) * 1000 + 999);
        }
        for low in 0..1000 {
            hosted.bar_write(0, 0, &(round * 1000 + low).to_le_bytes());
        }
        hosted.bar_read(0, 0, &mut value);
        assert_eq!(u32::from_le_bytes(value), round * 1000 + 999);
        hosted.bar_read(0, 1 << 40, &mut value);
        hosted.bar_write(5, 0, &value);
        assert_eq!(value, [0xff; 4]);
    }
}

/// Whole requests with either ring, memory with descriptors and without, vectors by the host's eventfds and by the listener.
#[test]
fn requests_are_served() {
    for sharing in [Sharing::Descriptors, Sharing::Messages] {
        for direct in [2, 0] {
            for options in [split(), Options::default()] {
                let case = format!("{sharing:?}, {direct} eventfds");
                let served = virtio_demo();
                let machine = Machine::new(1 << 20).unwrap();
                let memory = match sharing {
                    Sharing::Descriptors => machine.memory(),
                    Sharing::Messages => without_files(&machine.memory()),
                };
                let sink = Sink::new(direct);
                let slot = machine.plug_with(connect(&served, &memory), sink.clone()).unwrap();
                let mut driver = driver(&machine, slot, 2, &options);
                assert_eq!(driver.read(&mut sink.waiting()), Ok(INITIAL), "{case}");
                for value in 0..50 {
                    assert_eq!(driver.write(value, &mut sink.waiting()), Ok(value), "{case}");
                    assert_eq!(driver.read(&mut sink.waiting()), Ok(value), "{case}");
                }
                assert_eq!(driver.config_value(), Ok(49), "{case}");
                let mut vectors = Vec::new();
                sink.until(|| {
                    vectors.extend(if direct > 0 { sink.take_direct() } else { sink.take_messages() });
                    vectors.contains(&0) && vectors.contains(&1)
                });
                assert!(sink.take_levels().is_empty(), "{case}: the pin is silent");
            }
        }
    }
}

/// The pin: asserted when the server signals it, deasserted by the register access that tells what it is about.
#[test]
fn requests_are_served_with_the_interrupt_pin() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let sink = Sink::new(0);
    let slot = machine.plug_with(connect(&served, &machine.memory()), sink.clone()).unwrap();
    let mut driver = driver(&machine, slot, 0, &split());
    let mut levels = Vec::new();
    for value in 1..20 {
        let mut ticket = driver.submit(Request::Write(value)).unwrap();
        driver.kick().unwrap();
        let stored = loop {
            sink.until(|| {
                levels.extend(sink.take_levels());
                levels.last() == Some(&Level::Asserted)
            });
            driver.service().unwrap();
            levels.extend(sink.take_levels());
            match driver.take(ticket).unwrap() {
                Taken::Done(stored) => break stored,
                Taken::Pending(pending) => ticket = pending,
            }
        };
        assert_eq!(stored, value);
    }
    // One that was on its way when the last register was read.
    driver.service().unwrap();
    driver.service().unwrap();
    levels.extend(sink.take_levels());
    assert_eq!(levels.last(), Some(&Level::Deasserted));
    assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "{levels:?}");
}

/// A function whose doorbells are rung without a message, as KVM has it.
struct Belled {
    function: RemoteFunction,
    rung: Arc<AtomicU64>,
    /// Of a notification, in bytes.
    width: usize,
}

impl PciFunction for Belled {
    fn spec(&self) -> FunctionSpec {
        self.function.spec()
    }
    fn attach(&mut self, host: FunctionHost) {
        self.function.attach(host);
    }
    fn bar_read(&mut self, bar: u8, offset: u64, out: &mut [u8]) {
        self.function.bar_read(bar, offset, out);
    }
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        match self.function.doorbells().iter().find(|bell| (bell.bar, bell.offset) == (bar, offset)) {
            None => self.function.bar_write(bar, offset, data),
            Some(bell) => {
                assert_eq!(data.len(), self.width);
                bell.event.signal();
                self.rung.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    fn reset(&mut self) {
        self.function.reset();
    }
    fn controls_changed(&mut self, to: Controls) {
        self.function.controls_changed(to);
    }
}

/// Doorbells that the server offers: requests are served with no write of a register, whatever a notification says.
#[test]
fn doorbells_are_rung_without_a_message() {
    for (width, features) in [(2, split().features), (4, split().features | Features::NOTIFICATION_DATA)] {
        let served = virtio_demo();
        let machine = Machine::new(1 << 20).unwrap();
        let sink = Sink::new(2);
        let function = connect(&served, &machine.memory());
        let [bell] = function.doorbells() else { panic!("{:?}", function.doorbells()) };
        let own = VirtioPci::new(Workers::new(VirtioDemo::default()), Device::no_memory()).unwrap();
        let own = own.doorbell(0).unwrap();
        assert_eq!((bell.bar, bell.offset, bell.len, bell.datamatch), (own.bar, own.offset, 0, None));
        let rung = Arc::new(AtomicU64::new(0));
        let belled = Belled { function, rung: rung.clone(), width };
        let slot = machine.plug_with(belled, sink.clone()).unwrap();
        let mut driver = driver(&machine, slot, 2, &Options { features, ..Options::default() });
        for value in 0..20 {
            assert_eq!(driver.write(value, &mut sink.waiting()), Ok(value));
        }
        assert!(rung.load(Ordering::Relaxed) > 0);
    }
}

/// What turns parts of the function on and off reaches the server, and a reset does.
#[test]
fn controls_and_resets_reach_the_server() {
    let served = virtio_demo();
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let mut hosted = Hosted::new(connect(&served, &memory), Arc::new(NoInterrupts)).unwrap();
    let command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
    hosted.config_write(COMMAND, &command.to_le_bytes());
    hosted.bar_write(0, STATUS, &[1]);
    let mut status = [0];
    hosted.bar_read(0, STATUS, &mut status);
    assert_eq!(status, [1]);
    // The registers outlive their client, which shows what it has written.
    drop(hosted);
    let mut raw = Client::qemu(&served.path);
    assert_eq!(raw.read(CONFIG, COMMAND, 2), Ok(command.to_le_bytes().to_vec()));
    drop(raw);
    let mut hosted = Hosted::new(connect(&served, &memory), Arc::new(NoInterrupts)).unwrap();
    hosted.bar_read(0, STATUS, &mut status);
    assert_eq!(status, [1]);
    hosted.reset();
    hosted.bar_read(0, STATUS, &mut status);
    assert_eq!(status, [0]);
}

/// virtio's access to BARs by configuration space goes to the server's BAR.
#[test]
fn bars_are_reached_by_configuration_space() {
    let served = virtio_demo();
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let mut hosted = Hosted::new(connect(&served, &memory), Arc::new(NoInterrupts)).unwrap();
    let at = (0x40..0x100)
        .step_by(4)
        .find(|at| {
            let mut bytes = [0; 4];
            hosted.config_read(*at, &mut bytes);
            (bytes[0], bytes[3]) == (9, 5)
        })
        .unwrap();
    hosted.config_write(at + 4, &[0]);
    hosted.config_write(at + 8, &(STATUS as u32).to_le_bytes());
    hosted.config_write(at + 12, &1u32.to_le_bytes());
    hosted.config_write(at + 16, &[1]);
    let mut status = [0];
    hosted.bar_read(0, STATUS, &mut status);
    assert_eq!(status, [1]);
    hosted.bar_write(0, STATUS, &[3]);
    hosted.config_read(at + 16, &mut status);
    assert_eq!(status, [3]);
}

/// Memory is exchanged under a driver that does not notice, for the bytes are the same.
#[test]
fn memory_is_replaced() {
    let served = virtio_demo();
    let machine = Machine::new(1 << 20).unwrap();
    let memory = machine.memory();
    let mut function = connect(&served, &memory);
    for _ in 0..3 {
        function.replace_memory(&without_files(&memory)).unwrap();
        function.replace_memory(&memory).unwrap();
    }
    function.replace_memory(&without_files(&memory)).unwrap();
    let sink = Sink::new(2);
    let slot = machine.plug_with(function, sink.clone()).unwrap();
    let mut driver = driver(&machine, slot, 2, &split());
    assert_eq!(driver.write(7, &mut sink.waiting()), Ok(7));
}

/// A server that stops: reads give all ones, writes go nowhere, and neither waits.
#[test]
fn a_server_that_is_gone_reads_as_all_ones() {
    let mut served = Served::new(Device::registers(PciDemo::default()).unwrap());
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let mut hosted = Hosted::new(connect(&served, &memory), Arc::new(NoInterrupts)).unwrap();
    hosted.bar_write(0, 0, &[1, 2, 3, 4]);
    served.join();
    let mut value = [0; 4];
    for _ in 0..100 {
        hosted.bar_write(0, 0, &[5; 4]);
        hosted.bar_read(0, 0, &mut value);
        assert_eq!(value, [0xff; 4]);
        hosted.config_write(COMMAND, &[6, 0]);
        hosted.reset();
    }
    let gone = hosted.function_mut().replace_memory(&memory);
    assert!(matches!(gone, Err(ConnectError::Lost { .. })), "{gone:?}");
}

/// Nobody there, and something else there.
#[test]
fn what_is_no_server_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let memory = Arc::new(MemoryMap::shared(1 << 20).unwrap());
    let nobody = RemoteFunction::connect(directory.path().join("none"), &memory, PATIENCE).map(drop);
    assert!(matches!(nobody, Err(ConnectError::Connect { .. })), "{nobody:?}");
    let file = RemoteFunction::over(memfd(4096), &memory, PATIENCE).map(drop);
    assert!(matches!(file, Err(ConnectError::NotAStream)), "{file:?}");
    let served = virtio_demo();
    let _first = connect(&served, &memory);
    let second = RemoteFunction::connect(&served.path, &memory, Duration::from_millis(50)).map(drop);
    assert!(matches!(second, Err(ConnectError::Lost { .. })), "{second:?}");
}
