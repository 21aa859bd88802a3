//! What `/dev/vhost-demo` must do for programs that use it right, for those that do not, and when it is taken away.
//!
//! There is no guest: this program has a ring in its own memory, and is its driver.

mod device;
mod machine;
mod memory;
mod misuse;
mod module;
mod random;
mod requests;
mod ring;
mod starts;
mod storm;
mod workers;

use std::io::Error;
use std::process::{Command, Stdio};

use crate::Failure;
use crate::verdict::{must_hold, verdict};

/// What this process does of it: some checks need others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Every check, with a line for each.
    All,
    /// Has a device as its input that another process owns.
    Stranger,
    /// Calls at random.
    Storm,
    /// Uses a device until it is killed.
    Victim,
}

type Check = fn() -> Result<(), Error>;

const CHECKS: [(&str, Check); 21] = [
    ("requests are answered, whatever their layout and the ring's features", requests::every_layout),
    ("requests that are too short get no reply and store nothing", requests::too_short),
    ("more chains than a turn takes are all answered", requests::more_than_a_turn),
    ("the owner reads and sets the value", requests::value),
    ("what is written is logged as dirty, and nothing else", requests::dirty_log),
    ("a stop leaves what is available, and another device goes on from there", starts::hand_over),
    ("stopping in the middle leaves no request half done", starts::stops_under_load),
    ("closing with requests in flight is the end of them", starts::closes_under_load),
    ("a queue goes from thread to thread, at rest and at work", workers::take_over),
    ("features are accepted whole, and not while the queue runs", starts::features),
    ("a start needs all that belongs to it", starts::incomplete),
    ("without an owner, and for a stranger, nearly everything is EPERM", misuse::owners),
    ("bad pointers are EFAULT", misuse::pointers),
    ("indices, sizes and addresses out of range are refused", misuse::ranges),
    ("bad memory tables are refused", misuse::tables),
    ("what is no eventfd is refused", misuse::descriptors),
    ("ioctls that it has not are ENOTTY", misuse::unknown),
    ("a ring that makes no sense is reported, and left alone", misuse::bad_rings),
    ("calls at random end well or with an error", storm::in_another_process),
    ("the module stays while it is used, and goes with a program that is killed", module::twice),
    ("after all of it, the device works", requests::value),
];

/// One part.
pub(crate) fn run(part: Part) -> Result<(), Failure> {
    match part {
        Part::All => {
            module::is_sound_after(|| CHECKS.iter().try_for_each(|(what, check)| verdict(what, check())))
        }
        Part::Stranger => verdict("a stranger", misuse::stranger()),
        Part::Storm => verdict("a storm", storm::run()),
        Part::Victim => verdict("a victim", module::victim()),
    }
}

/// This program again, for one part.
fn another(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["vhost-checks", part]).stdin(Stdio::null());
    command
}

/// A part must end well.
fn must_succeed(mut command: Command) -> Result<(), Error> {
    let status = command.status()?;
    must_hold(status.success(), &format!("another process: {status}"))
}
