//! The host's end of the networks: interfaces' addresses, and an iperf3.

use crate::Failure;
use crate::labs::failed;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use vioduct_net::Tap;

/// Programs that the lab runs, and how each is asked what it is.
const PROGRAMS: [(&str, &str); 2] = [("ip", "-V"), ("iperf3", "-v")];
/// What iperf3 says when clients may come.
const LISTENING: &str = "Server listening";
const VHOST: &str = "/dev/vhost-net";

/// Why the lab cannot run on this host, if it cannot.
pub(crate) fn why_not() -> Option<String> {
    if let Err(why) = Tap::create(1, None) {
        return Some(format!("it makes network interfaces: {why}"));
    }
    if !Path::new(VHOST).exists() {
        return Some(format!("there is no {VHOST}: modprobe vhost_net"));
    }
    let missing = PROGRAMS.iter().find(|(name, question)| {
        let asked = Command::new(name).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status();
        !asked.is_ok_and(|status| status.success())
    });
    missing.map(|(name, _)| format!("there is no `{name}` here: install iproute2 and iperf3"))
}

/// Gives an interface that is up the host's address in its network.
pub(super) fn set_up(interface: &str, [a, b, c]: [u8; 3]) -> Result<(), Failure> {
    let address = format!("{a}.{b}.{c}.1/24");
    let status = Command::new("ip").args(["addr", "add", &address, "dev", interface]).status();
    match status.map_err(failed("start ip"))?.success() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("{interface} cannot have the address {address}"))),
    }
}

/// The interface that another process has made for its card, by what the kernel says of its descriptors.
pub(super) fn interface_of(process: u32) -> Result<String, Failure> {
    let entries = fs::read_dir(format!("/proc/{process}/fdinfo")).map_err(failed("look at the server"))?;
    let name =
        |text: String| text.lines().find_map(|line| Some(line.strip_prefix("iff:")?.trim().to_owned()));
    entries
        .flatten()
        .find_map(|entry| name(fs::read_to_string(entry.path()).ok()?))
        .ok_or_else(|| Failure::Failed("the server has no interface".to_owned()))
}

/// An iperf3 that serves, until this is dropped.
pub(super) struct Iperf(Child);

impl Iperf {
    /// Starts it, and waits until clients may come.
    pub(super) fn start() -> Result<Self, Failure> {
        let mut command = Command::new("iperf3");
        command.args(["-s", "--forceflush"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut iperf = Self(command.spawn().map_err(failed("start iperf3"))?);
        let stdout = iperf.0.stdout.take().map(BufReader::new);
        let mut lines = stdout.into_iter().flat_map(|stdout| stdout.lines().map_while(Result::ok));
        if !lines.any(|line| line.contains(LISTENING)) {
            return Err(Failure::Failed(
                "iperf3 has ended before it served: is there one already?".to_owned(),
            ));
        }
        // It must never wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(iperf)
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
