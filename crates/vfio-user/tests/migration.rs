//! The states of migration, and states that are not what they should be.
#![allow(clippy::unwrap_used)]

mod client;

use client::bus::Bus;
use client::states::*;
use client::*;
use std::os::fd::AsFd;
use vioduct_entropy::Entropy;
use vioduct_loopback::Machine;
use vioduct_pci::{BarSpec, FunctionHost, FunctionSpec, PciFunction, StateError};
use vioduct_pci_demo::PciDemo;
use vioduct_state::{open, seal};
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{EventFd, Features, Workers};
use vioduct_virtio_driver::Options;
use vioduct_virtqueue::{IoAddr, Memory};

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;
/// In the common configuration.
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_ENABLE: u64 = 0x1c;
const DOORBELL: u64 = 0x3000;

fn pci_demo() -> Served {
    Served::new(Device::registers(PciDemo::new()).unwrap())
}

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

/// A device with a driver, which has stored 7, and its state.
fn saved(machine: &Machine, options: &Options) -> Vec<u8> {
    let served = virtio_demo();
    let event = eventfd();
    let bus = Bus::new(attached(&served, machine, &event));
    let mut driver = bus.driver(machine, 2, options);
    assert_eq!(driver.write(7, &mut bus.wait(&event)), Ok(7));
    let state = bus.client.borrow_mut().save();
    // Its driver does not know that it is gone, and is not to be told.
    std::mem::forget(driver);
    state
}

fn attached(served: &Served, machine: &Machine, event: &EventFd) -> Client {
    let mut client = Client::qemu(&served.path);
    client.map_machine(machine, Sharing::Descriptors);
    client.request_with(SET_IRQS, &irqs(0x24, 2, 0, 2), &[event.as_fd(), event.as_fd()]).unwrap();
    client
}

/// Every pair of states, and numbers that are none that a client can ask for.
#[test]
fn arcs_are_those_of_vfio() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    let state = client.save();
    client.go_to(RUNNING).unwrap();
    for from in [STOP, RUNNING, STOP_COPY, RESUMING] {
        for wanted in [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, 5, 6, 7, u32::MAX] {
            client.go_to(from).unwrap();
            if from == RESUMING {
                client.write_piece(&state).unwrap();
            }
            let offered = (STOP..=RESUMING).contains(&wanted);
            assert_eq!(
                client.go_to(wanted),
                if offered { Ok(()) } else { Err(EINVAL) },
                "{from} to {wanted}"
            );
            assert_eq!(client.state(), if offered { wanted } else { from }, "{from} to {wanted}");
            client.request(RESET, &[]).unwrap();
            assert_eq!(client.state(), RUNNING, "a reset leads back");
        }
    }
}

/// RESUMING ends in ERROR with a state that is incomplete, and nothing but a reset leads out of that.
#[test]
fn error_is_left_by_a_reset() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    for wanted in [STOP, RUNNING, STOP_COPY] {
        client.go_to(RESUMING).unwrap();
        assert_eq!(client.go_to(wanted), Err(EINVAL), "no state at all");
        assert_eq!(client.state(), ERROR);
        for wanted in [ERROR, STOP, RUNNING, STOP_COPY, RESUMING] {
            assert_eq!(client.go_to(wanted), Err(EINVAL));
        }
        assert_eq!(client.request(MIG_READ, &words(&[16, 8])), Err(EINVAL));
        assert_eq!(client.write_piece(&[0]), Err(EINVAL));
        client.request(RESET, &[]).unwrap();
        client.write(0, 0, &words(&[wanted])).unwrap();
        assert_eq!(client.read_u32(0, 0), wanted, "it works on");
    }
}

#[test]
fn what_there_is_of_migration_is_told() {
    let served = virtio_demo();
    let mut client = Client::connect(&served.path);
    let version = String::from_utf8(client.negotiate(QEMU_VERSION).unwrap()).unwrap();
    assert!(version.contains(r#""migration":{"pgsize":4096,"max_bitmap_size":1048576}"#), "{version}");
    let flags = client.request(FEATURE, &words(&[16, GET | 1])).unwrap();
    assert_eq!(flags, [words(&[16, GET | 1]), longs(&[1])].concat(), "STOP_COPY");
    for (probe, outcome) in
        [(GET | 1, Ok(())), (SET | 1, Err(ENOTTY)), (GET | SET | 2, Ok(())), (GET | SET | 1, Err(ENOTTY))]
    {
        let probe = words(&[8, PROBE | probe]);
        assert_eq!(client.request(FEATURE, &probe).map(|reply| assert_eq!(reply, probe)), outcome);
    }
    drop(client);
    let mut client = Client::connect(&served.path);
    let version = String::from_utf8(client.negotiate("{}").unwrap()).unwrap();
    assert!(!version.contains("migration"), "a client that does not know of it: {version}");
}

/// Registers that nobody can save, or not now.
struct Fixed {
    saveable: bool,
}

impl PciFunction for Fixed {
    fn spec(&self) -> FunctionSpec {
        FunctionSpec::new(0x1234, 1, 0xff_0000).with_bar(BarSpec::memory32(0, 4096))
    }
    fn attach(&mut self, _host: FunctionHost) {}
    fn bar_read(&mut self, _bar: u8, _offset: u64, _out: &mut [u8]) {}
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
    fn reset(&mut self) {}
    fn is_saveable(&self) -> bool {
        self.saveable
    }
    fn save(&mut self) -> Result<Vec<u8>, StateError> {
        Err(StateError::Unavailable("its I/O has not ended".into()))
    }
}

/// The arc fails, the device is where it was, and goes on.
#[test]
fn a_function_that_cannot_be_saved_now_stays_stopped() {
    let served = Served::new(Device::registers(Fixed { saveable: true }).unwrap());
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.go_to(STOP_COPY), Err(EIO));
    assert_eq!(client.state(), STOP);
    client.go_to(RUNNING).unwrap();
}

#[test]
fn a_function_that_cannot_be_saved_offers_no_migration() {
    let served = Served::new(Device::registers(Fixed { saveable: false }).unwrap());
    let mut client = Client::connect(&served.path);
    let version = String::from_utf8(client.negotiate(QEMU_VERSION).unwrap()).unwrap();
    assert!(!version.contains("migration"), "{version}");
    for flags in [PROBE | GET | 1, PROBE | GET | SET | 2, GET | 1, GET | 2] {
        assert_eq!(client.request(FEATURE, &words(&[16, flags])), Err(ENOTTY));
    }
    assert_eq!(client.go_to(STOP), Err(ENOTTY));
}

/// A state is a stream: however it is cut in pieces, it is the same.
#[test]
fn states_are_read_and_written_in_pieces_of_any_length() {
    let (here, there) = (pci_demo(), pci_demo());
    let (mut client, mut other) = (Client::qemu(&here.path), Client::qemu(&there.path));
    client.write(0, 0, &words(&[0x1333])).unwrap();
    client.write(CONFIG, 0x10, &words(&[0xfe00_0000])).unwrap();
    let state = client.save();
    for piece_len in [1, 7, 4096, state.len(), state.len() + 1] {
        client.go_to(STOP_COPY).unwrap();
        assert_eq!(client.read_state(piece_len as u32), state, "{piece_len}");
        assert!(client.read_state(piece_len as u32).is_empty(), "it was read");
        let too_long = words(&[u32::MAX, (1 << 20) + 1]);
        assert_eq!(client.request(MIG_READ, &too_long), Err(EINVAL));
        assert_eq!(client.request(MIG_READ, &words(&[15, 8])), Err(EINVAL), "no room for it");
        client.go_to(STOP).unwrap();
        assert_eq!(client.request(MIG_READ, &words(&[16, 8])), Err(EINVAL));
        other.go_to(RESUMING).unwrap();
        other.write_state(&state, piece_len);
        other.go_to(RUNNING).unwrap();
        assert_eq!(other.read_u32(0, 0), 0x1333);
        assert_eq!(other.read(CONFIG, 0, 256), client.read(CONFIG, 0, 256));
        other.request(RESET, &[]).unwrap();
    }
}

/// A client that goes takes its migration along; the device is as it was.
#[test]
fn a_migration_ends_with_its_client() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    client.write(0, 0, &words(&[5])).unwrap();
    let state = client.save();
    client.go_to(RESUMING).unwrap();
    client.write_piece(&state[..state.len() / 2]).unwrap();
    drop(client);
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.state(), RUNNING);
    assert_eq!(client.read_u32(0, 0), 5);
}

/// The driver's view of a device in ERROR: one that was reset.
fn assert_in_reset(client: &mut Client) {
    assert_eq!(client.state(), ERROR);
    assert_eq!(client.read(0, STATUS, 1), Ok(vec![0]));
    client.write(0, QUEUE_SELECT, &[0, 0]).unwrap();
    assert_eq!(client.read(0, QUEUE_ENABLE, 2), Ok(vec![0, 0]));
    client.write(0, DOORBELL, &[0, 0]).unwrap();
}

/// Every length but the right one: refused, and the device is one in reset.
#[test]
fn row75_a_state_cut_short_or_extended_is_refused() {
    let machine = Machine::new(1 << 20).unwrap();
    for options in [Options::default(), Options { features: Features::EVENT_IDX, ..Options::default() }] {
        let state = saved(&machine, &options);
        let served = virtio_demo();
        let mut client = attached(&served, &machine, &eventfd());
        for len in 0..state.len() {
            client.go_to(RESUMING).unwrap();
            client.write_piece(&state[..len]).unwrap();
            assert_eq!(client.go_to(STOP), Err(EINVAL), "{len} bytes");
            assert_in_reset(&mut client);
            client.request(RESET, &[]).unwrap();
        }
        client.go_to(RESUMING).unwrap();
        client.write_piece(&state).unwrap();
        assert_eq!(client.write_piece(&[0]), Err(EINVAL), "one more");
        client.go_to(RUNNING).unwrap();
        assert_eq!(client.read(0, STATUS, 1), Ok(vec![15]), "what was refused is not part of it");
    }
}

/// Lengths that no state has are refused as soon as they are said.
#[test]
fn row75_a_state_that_claims_too_much_is_refused_at_once() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    client.go_to(RESUMING).unwrap();
    for len in [64 << 20, 1 << 30, 1 << 40, u64::MAX] {
        assert_eq!(
            client.write_piece(&[b"Vioduct\0\x01\0", &longs(&[len])[..]].concat()),
            Err(EINVAL),
            "{len}"
        );
    }
    assert_eq!(client.write_piece(&vec![0x5a; 1 << 20]), Err(EINVAL));
    assert_eq!(client.state(), RESUMING);
}

/// Another kind of device, and one of the same kind that offers less.
#[test]
fn row75_a_state_of_another_device_is_refused() {
    let machine = Machine::new(1 << 20).unwrap();
    let state = saved(&machine, &Options::default());
    let lesser = Workers::new(VirtioDemo::default()).offering(Features::VERSION_1);
    let others = [
        Device::virtio(Workers::new(Entropy)).unwrap(),
        Device::virtio(lesser).unwrap(),
        Device::registers(PciDemo::new()).unwrap(),
    ];
    for device in others {
        let served = Served::new(device);
        let mut client = Client::qemu(&served.path);
        client.go_to(STOP).unwrap();
        assert_eq!(client.load(&state), Err(EINVAL));
        assert_eq!(client.state(), ERROR);
    }
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Damaged with a checksum that is right, so that everything else has to be checked: each such state is refused and leaves a
/// device in reset, or taken over whole; and none of it touches memory before the client says so.
#[test]
fn row75_damaged_states_are_refused_or_taken_over_whole() {
    const ROUNDS: usize = 10_000;
    let machine = Machine::new(1 << 20).unwrap();
    let state = saved(&machine, &Options::default());
    let content = open(&state).unwrap();
    let served = virtio_demo();
    let mut client = attached(&served, &machine, &eventfd());
    let mut numbers = Numbers(0x1af4);
    let (mut refused, mut bytes) = (0, vec![0; 4096]);
    let memory = machine.memory();
    let probe = memory.regions().next().unwrap().0.at;
    let look = |bytes: &mut Vec<u8>| memory.read(IoAddr(probe.0), bytes).map(|()| bytes.clone()).unwrap();
    let before = look(&mut bytes);
    for round in 0..ROUNDS {
        let mut damaged = content.to_vec();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(damaged.len());
            damaged[at] ^= 1 + numbers.below(255) as u8;
        }
        client.go_to(STOP).unwrap();
        match client.load(&seal(&damaged)) {
            Ok(()) => assert_eq!(client.state(), STOP, "round {round}"),
            Err(error) => {
                assert_eq!(error, EINVAL, "round {round}");
                assert_in_reset(&mut client);
                refused += 1;
            }
        }
        client.write(0, DOORBELL, &[0, 0]).unwrap();
        assert!(look(&mut bytes) == before, "round {round}");
        client.request(RESET, &[]).unwrap();
    }
    assert!((ROUNDS / 2..ROUNDS).contains(&refused), "{refused} of {ROUNDS}");
}

/// The same, and the device goes on with whatever was taken over: queues may be anywhere then, and it lives.
#[test]
fn row75_a_device_lives_with_any_state_that_it_took_over() {
    let machine = Machine::new(1 << 20).unwrap();
    let state = saved(&machine, &Options::default());
    let content = open(&state).unwrap();
    let served = virtio_demo();
    let mut client = attached(&served, &machine, &eventfd());
    let mut numbers = Numbers(0x1333);
    let mut taken = 0;
    for _ in 0..2000 {
        let mut damaged = content.to_vec();
        let at = numbers.below(damaged.len());
        damaged[at] ^= 1 << numbers.below(8);
        client.go_to(STOP).unwrap();
        if client.load(&seal(&damaged)).is_ok() {
            client.go_to(RUNNING).unwrap();
            client.write(0, DOORBELL, &[0, 0]).unwrap();
            assert_eq!(client.state(), RUNNING);
            taken += 1;
        }
        client.request(RESET, &[]).unwrap();
        assert_eq!(client.read(0, STATUS, 1), Ok(vec![0]));
    }
    assert!(taken > 10, "{taken} were taken over");
}
