//! The labs as their users see them.

use vioduct_spec::demo::{INITIAL_VALUE, LAB_VALUES};

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::bus;
use crate::disk;
use crate::driver_checks::{self, Driver};
use crate::entropy;
use crate::file_system;
use crate::interrupts;
use crate::kernel_log::KernelLog;
use crate::network::Network;
use crate::sockets;
use crate::vhost_checks;
use crate::word_file::WordFile;

/// One lab, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lab {
    PciDemo,
    VirtioDemo,
    VirtioTest(u32),
    Entropy,
    Disk(End),
    FileSystem,
    Network(Network),
    DriverChecks(Driver),
    /// The host stops the device when it is told, and lets it go on.
    InterruptedWait,
    VhostChecks(vhost_checks::Part),
    /// A host loses its vhost-net, as if that were not loaded.
    NoVhostNet,
    Sockets(sockets::Part),
}

/// What becomes of a guest whose lab has done something for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    PowerOff,
    /// The lab is done again, and finds what it did.
    Restart,
}

const DEMO_DRIVER: &str = "vioduct_virtio_demo";
const VHOST_NET: &str = "/dev/vhost-net";
const TEST_DRIVER: &str = "vioduct_virtio_test";
/// Writes by which costs are measured.
const WRITES: u32 = 1_000;
/// How long it takes at most until a word of the console's is where somebody waits for it.
const AFTER_WORD: Duration = Duration::from_millis(50);
/// How the driver's log lines begin that tell of a reply.
const REPLIES: [&str; 2] = ["vioduct_virtio_test: factorial of ", "vioduct_virtio_test: echo: "];

impl Lab {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["pci-demo"] => Ok(Self::PciDemo),
            ["virtio-demo"] => Ok(Self::VirtioDemo),
            ["virtio-test", n] => match n.parse() {
                Ok(n) => Ok(Self::VirtioTest(n)),
                Err(error) => Err(Failure::Usage(format!("`{n}`: {error}"))),
            },
            ["virtio-test", ..] => Err(Failure::Usage("virtio-test takes one number".into())),
            ["entropy"] => Ok(Self::Entropy),
            ["disk"] => Ok(Self::Disk(End::PowerOff)),
            ["file-system"] => Ok(Self::FileSystem),
            ["network", words @ ..] => match Network::parse(words) {
                Some(network) => Ok(Self::Network(network)),
                None => Err(Failure::Usage(
                    "network takes where its addresses begin, and a number of pairs".into(),
                )),
            },
            ["disk", "restart"] => Ok(Self::Disk(End::Restart)),
            ["driver-checks", "pci-demo"] => Ok(Self::DriverChecks(driver_checks::PCI_DEMO)),
            ["driver-checks", "virtio-demo"] => Ok(Self::DriverChecks(driver_checks::VIRTIO_DEMO)),
            ["interrupted-wait"] => Ok(Self::InterruptedWait),
            ["vhost-checks"] => Ok(Self::VhostChecks(vhost_checks::Part::All)),
            ["vhost-checks", "stranger"] => Ok(Self::VhostChecks(vhost_checks::Part::Stranger)),
            ["vhost-checks", "storm"] => Ok(Self::VhostChecks(vhost_checks::Part::Storm)),
            ["vhost-checks", "victim"] => Ok(Self::VhostChecks(vhost_checks::Part::Victim)),
            ["no-vhost-net"] => Ok(Self::NoVhostNet),
            ["sockets", words @ ..] => {
                let part = sockets::Part::parse(words).map(Self::Sockets);
                part.ok_or_else(|| Failure::Usage("sockets takes a side, and an amount in MiB".into()))
            }
            [] => Err(Failure::Usage("which lab?".into())),
            [other, ..] => Err(Failure::Usage(format!("`{other}` is no lab, or takes no argument"))),
        }
    }

    /// Does it, and says how the guest is to end.
    pub(crate) fn run(self) -> Result<End, Failure> {
        match self {
            Self::Disk(end) => return disk::run(end),
            Self::FileSystem => return file_system::run(),
            Self::Network(network) => return network.run(),
            Self::PciDemo => {
                let device = WordFile::open("/dev/demo")?;
                write_and_read(&device)?;
                cost_of_writes(&device, || Ok(String::new()))
            }
            Self::VirtioDemo => {
                bus::print_negotiated(DEMO_DRIVER)?;
                let device = WordFile::open("/dev/virtio_demo")?;
                expect("first read", device.read()?, INITIAL_VALUE)?;
                write_and_read(&device)?;
                cost_of_writes(&device, || counted(&device))
            }
            Self::VirtioTest(n) => {
                bus::give_virtio_test_to(TEST_DRIVER)?;
                bus::print_negotiated(TEST_DRIVER)?;
                test(n)
            }
            Self::Entropy => entropy::run(),
            Self::DriverChecks(driver) => driver_checks::run(driver),
            Self::VhostChecks(part) => vhost_checks::run(part),
            Self::NoVhostNet => std::fs::remove_file(VHOST_NET)
                .map_err(|error| Failure::Lab(format!("cannot remove {VHOST_NET}: {error}"))),
            Self::Sockets(part) => sockets::run(&part),
            Self::InterruptedWait => driver_checks::interrupted_wait(driver_checks::VIRTIO_DEMO),
        }
        .map(|()| End::PowerOff)
    }
}

fn write_and_read(device: &WordFile) -> Result<(), Failure> {
    for value in LAB_VALUES {
        device.write(value)?;
        let read = device.read()?;
        println!("wrote {value:#x}, read {read:#x}");
        if read != value {
            return Err(Failure::Lab(format!("{value:#x} was written, and {read:#x} came back")));
        }
    }
    Ok(())
}

/// What Linux and its driver of virtio-demo have counted.
fn counted(device: &WordFile) -> Result<String, Failure> {
    let interrupts: u64 = bus::devices_of(DEMO_DRIVER)?.iter().map(|device| interrupts::of(device)).sum();
    Ok(format!(" interrupts={interrupts} doorbells={}", device.doorbells()?))
}

/// What a write costs, as a program sees it, and what was `counted` besides: lines that programs read, too.
fn cost_of_writes(
    device: &WordFile,
    counted: impl FnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let [.., value] = LAB_VALUES;
    let mut samples = Vec::with_capacity(WRITES as usize);
    println!("load");
    // Whoever measures is at it then.
    sleep(AFTER_WORD);
    let (before, start) = (device.operations(), Instant::now());
    for _ in 0..WRITES {
        let before = Instant::now();
        // The value that is stored already, so that no change of the configuration is announced beside the answers.
        device.write(value)?;
        samples.push(before.elapsed());
    }
    // Writes may be posted: a read waits until the device has had them all.
    device.read()?;
    let total = start.elapsed();
    println!("loaded operations={}", device.operations() - before);
    samples.sort_unstable();
    let at = |percent: usize| samples.get(samples.len() * percent / 100).map_or(0, Duration::as_nanos);
    let each = total.as_nanos() / u128::from(WRITES);
    let operations = device.operations();
    println!(
        "cost operations={operations} median_ns={} p99_ns={} per_operation_ns={each}{}",
        at(50),
        at(99),
        counted()?
    );
    Ok(())
}

fn expect(what: &str, found: u32, expected: u32) -> Result<(), Failure> {
    println!("{what} {found:#x}");
    if found == expected {
        return Ok(());
    }
    Err(Failure::Lab(format!("{what}: {found:#x} instead of {expected:#x}")))
}

/// Submits n, and waits until the driver has logged the reply, in whichever format it speaks.
fn test(n: u32) -> Result<(), Failure> {
    let device = WordFile::open_for_writing("/dev/virtio_misc")?;
    let mut log = KernelLog::from_now_on()?;
    device.write(n)?;
    println!("wrote {n}");
    println!("{}", log.wait_for(&REPLIES)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Lab, Failure> {
        Lab::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn labs_go_by_their_names() {
        assert_eq!(parse("pci-demo"), Ok(Lab::PciDemo));
        assert_eq!(parse("virtio-demo"), Ok(Lab::VirtioDemo));
        assert_eq!(parse("virtio-test 10"), Ok(Lab::VirtioTest(10)));
        assert_eq!(parse("disk"), Ok(Lab::Disk(End::PowerOff)));
        assert_eq!(parse("disk restart"), Ok(Lab::Disk(End::Restart)));
        assert_eq!(parse("virtio-test 4294967295"), Ok(Lab::VirtioTest(u32::MAX)));
    }

    #[test]
    fn what_is_no_number_in_range_is_a_usage_error() {
        for line in
            ["virtio-test ten", "virtio-test -1", "virtio-test 4294967296", "virtio-test", "virtio-test 1 2"]
        {
            assert!(matches!(parse(line), Err(Failure::Usage(_))), "{line}");
        }
        for line in ["", "pci-demo 1", "other", "sockets guest", "sockets nobody 1"] {
            assert!(matches!(parse(line), Err(Failure::Usage(_))), "{line}");
        }
    }

    #[test]
    fn a_value_that_does_not_come_back_fails_the_lab() {
        // It takes what is written, and reads as zero.
        let error = write_and_read(&WordFile::open("/dev/zero").unwrap()).unwrap_err();
        assert_eq!(error, Failure::Lab("0x1333 was written, and 0x0 came back".into()));
    }
}
