//! What a driver must do for programs with faults, for many at once, and when its device is taken away.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::system::delete_module;
use vioduct_spec::demo::LAB_VALUES;

use crate::Failure;
use crate::first_process::load_again;
use crate::system_calls;
use crate::verdict::{must_be, must_hold, verdict};

/// A driver under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Driver {
    node: &'static str,
    module: &'static str,
    /// Where the bus has the driver.
    place: &'static str,
}

pub(crate) const PCI_DEMO: Driver =
    Driver { node: "/dev/demo", module: "vioduct_pci_demo", place: "/sys/bus/pci/drivers/vioduct_pci_demo" };
pub(crate) const VIRTIO_DEMO: Driver = Driver {
    node: "/dev/virtio_demo",
    module: "vioduct_virtio_demo",
    place: "/sys/bus/virtio/drivers/vioduct_virtio_demo",
};

/// Programs that use the node at once, and what each of them does.
const PROGRAMS: u32 = 8;
const ROUNDS: u32 = 200;
/// How long the device is used before it is taken away.
const LOAD: Duration = Duration::from_millis(100);
/// How long a node may take to come or go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the host is given to stop the device's server, in seconds, and the wait that a signal then ends.
const STALL_SECONDS: u32 = 2;

type Check = fn(Driver) -> Result<(), Error>;

const CHECKS: [(&str, Check); 6] = [
    ("less than a word is EINVAL, more is one word", lengths),
    ("a bad pointer is EFAULT", pointers),
    ("programs side by side each get answers of their own", side_by_side),
    ("a module in use is not unloaded, and one that is not is", unload),
    ("a device that goes under load ends every call with ENODEV", unbind_under_load),
    ("a device that comes back works", comes_back),
];

/// Every check, with a line for each.
pub(crate) fn run(driver: Driver) -> Result<(), Failure> {
    CHECKS.iter().try_for_each(|(what, check)| verdict(what, check(driver)))
}

/// What is left of a wait that a signal ends, while the host holds the device back.
pub(crate) fn interrupted_wait(driver: Driver) -> Result<(), Failure> {
    println!("stop the device");
    thread::sleep(Duration::from_secs(STALL_SECONDS.into()));
    verdict("a signal ends a wait with EINTR", interrupted(driver))?;
    println!("let the device go on");
    verdict("the next request gets its own answer", works(driver))
}

fn open(driver: Driver) -> Result<File, Error> {
    OpenOptions::new().read(true).write(true).open(driver.node)
}

fn store(mut node: &File, value: u32) -> Result<(), Error> {
    node.write(&value.to_le_bytes()).and_then(|length| must_hold(length == 4, "a short write"))
}

fn load(mut node: &File) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    node.read(&mut bytes).and_then(|length| must_hold(length == 4, "a short read"))?;
    Ok(u32::from_le_bytes(bytes))
}

fn works(driver: Driver) -> Result<(), Error> {
    let node = open(driver)?;
    for value in LAB_VALUES {
        store(&node, value)?;
        must_hold(load(&node)? == value, "another value came back")?;
    }
    Ok(())
}

fn lengths(driver: Driver) -> Result<(), Error> {
    let node = open(driver)?;
    for len in 1..4 {
        must_be((&node).read(&mut [0; 4][..len]), Errno::INVAL)?;
        must_be((&node).write(&[0; 4][..len]), Errno::INVAL)?;
    }
    let [value, ..] = LAB_VALUES;
    let mut long = [0xff; 8];
    long[..4].copy_from_slice(&value.to_le_bytes());
    must_hold((&node).write(&long)? == 4, "a long write is not of one word")?;
    must_hold((&node).read(&mut long)? == 4, "a long read is not of one word")?;
    must_hold(long[..4] == value.to_le_bytes(), "another value came back")
}

fn pointers(driver: Driver) -> Result<(), Error> {
    let node = open(driver)?;
    must_be(system_calls::read_to_nowhere(&node), Errno::FAULT)?;
    must_be(system_calls::write_from_nowhere(&node), Errno::FAULT)?;
    works(driver)
}

fn side_by_side(driver: Driver) -> Result<(), Error> {
    let programs: Vec<_> =
        (1..=PROGRAMS).map(|number| thread::spawn(move || one_of_many(driver, number))).collect();
    programs
        .into_iter()
        .try_for_each(|program| program.join().unwrap_or_else(|_| Err(Error::other("a panic"))))
}

/// Every value that is read was written by one of the programs.
fn one_of_many(driver: Driver, number: u32) -> Result<(), Error> {
    let node = open(driver)?;
    for round in 0..ROUNDS {
        store(&node, number << 16 | round)?;
        let read = load(&node)?;
        let written = (1..=PROGRAMS).contains(&(read >> 16)) && read & 0xffff < ROUNDS;
        must_hold(written, "a value came back that none has written")?;
    }
    Ok(())
}

fn unload(driver: Driver) -> Result<(), Error> {
    let name = std::ffi::CString::new(driver.module).map_err(Error::other)?;
    let node = open(driver)?;
    must_be(delete_module(&name, 0).map_err(Error::from), Errno::AGAIN)?;
    store(&node, 1)?;
    drop(node);
    delete_module(&name, 0)?;
    must_hold(!Path::new(driver.node).exists(), "the node outlives its module")?;
    load_again(driver.module)?;
    await_node(driver, Presence::There)?;
    works(driver)
}

fn unbind_under_load(driver: Driver) -> Result<(), Error> {
    let device = bound_device(driver)?;
    let held = open(driver)?;
    // All are open before: on a busy machine a program may begin after the device has gone.
    let nodes = (0..PROGRAMS).map(|_| open(driver)).collect::<Result<Vec<_>, _>>()?;
    let going = AtomicBool::new(false);
    thread::scope(|scope| {
        let going = &going;
        let users: Vec<_> =
            nodes.into_iter().map(|node| scope.spawn(move || use_until_it_goes(&node, going))).collect();
        thread::sleep(LOAD);
        going.store(true, Ordering::Release);
        fs::write(Path::new(driver.place).join("unbind"), &device)?;
        users.into_iter().try_for_each(|user| user.join().unwrap_or_else(|_| Err(Error::other("a panic"))))
    })?;
    must_be(load(&held), Errno::NODEV)?;
    must_be(store(&held, 1), Errno::NODEV)?;
    await_node(driver, Presence::Gone)?;
    drop(held);
    // For the check that follows.
    fs::write(Path::new(driver.place).join("bind"), &device)
}

fn use_until_it_goes(node: &File, going: &AtomicBool) -> Result<(), Error> {
    loop {
        match store(node, 1).and_then(|()| load(node)) {
            Ok(_) => {}
            error if going.load(Ordering::Acquire) => return must_be(error, Errno::NODEV),
            Err(error) => return Err(error),
        }
    }
}

fn comes_back(driver: Driver) -> Result<(), Error> {
    await_node(driver, Presence::There)?;
    works(driver)
}

fn interrupted(driver: Driver) -> Result<(), Error> {
    let node = open(driver)?;
    system_calls::interrupt_in(1);
    let start = Instant::now();
    must_be((&node).read(&mut [0; 4]), Errno::INTR)?;
    must_hold(start.elapsed() >= Duration::from_millis(500), "it did not wait")
}

/// The device that the driver drives, by the bus's name for it.
fn bound_device(driver: Driver) -> Result<String, Error> {
    for entry in fs::read_dir(driver.place)? {
        let entry = entry?;
        // The folder also links the module.
        if entry.path().join("driver").exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err(Error::new(ErrorKind::NotFound, "the driver has no device"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
}

fn await_node(driver: Driver, wanted: Presence) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while Path::new(driver.node).exists() != (wanted == Presence::There) {
        if Instant::now() > deadline {
            return Err(Error::other(format!("{} is not {wanted:?} in time", driver.node)));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
