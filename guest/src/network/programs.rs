//! Programs of Debian's: ip, ethtool, ping and iperf3.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// Where the guest has its programs.
const PATH: &str = "/usr/sbin:/usr/bin";
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// How long iperf3 sends.
const SECONDS: &str = "1";
/// The same where that is not enough for a byte to be received: an emulated processor may be busy with other things that long.
const MORE_SECONDS: &str = "10";
/// What each packet carries of UDP's, in bytes.
const PAYLOAD_LEN: &str = "1400";
/// An iperf3 has not always done with one client when the next one comes.
const TRIES: u32 = 5;

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Program {
    words: Vec<String>,
}

impl Program {
    pub(super) fn of(name: &str) -> Self {
        Self { words: vec![name.to_owned()] }
    }

    pub(super) fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|word| String::from(*word)));
        self
    }

    fn command(&self) -> Command {
        let (name, arguments) =
            self.words.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        let mut command = Command::new(name);
        command.args(arguments).env("PATH", PATH).stdin(Stdio::null());
        command
    }

    fn failed(&self, why: impl std::fmt::Display) -> Failure {
        Failure::Lab(format!("{}: {why}", self.words.join(" ")))
    }
}

/// Runs it to its end; what it printed.
pub(super) fn run(program: &Program) -> Result<String, Failure> {
    let output = program.command().output().map_err(|error| program.failed(error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(program.failed(format!(
            "{}: {}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ))),
    }
}

/// The same on one processor.
pub(super) fn run_on(processor: u8, program: &Program) -> Result<String, Failure> {
    let all = sched_getaffinity(None).map_err(|error| program.failed(error))?;
    let mut one = CpuSet::new();
    one.set(processor.into());
    sched_setaffinity(None, &one).map_err(|error| program.failed(error))?;
    let done = run(program);
    sched_setaffinity(None, &all).map_err(|error| program.failed(error))?;
    done
}

/// Waits until it holds.
pub(super) fn wait(what: &str, holds: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            return Err(Failure::Lab(format!("waited in vain for {what}")));
        }
        sleep(POLL);
    }
    Ok(())
}

/// The average round trip of pings that were all answered, in nanoseconds: reads `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
pub(super) fn average_ns(ping: &str) -> Result<u64, Failure> {
    let average = || {
        let (_, times) = ping.split_once("rtt min/avg/max/mdev = ")?;
        let milliseconds: f64 = times.split('/').nth(1)?.parse().ok()?;
        Some((milliseconds * 1e6) as u64)
    };
    match (ping.contains(" 0% packet loss"), average()) {
        (true, Some(average)) => Ok(average),
        _ => Err(Failure::Lab(format!("pings were lost: {ping}"))),
    }
}

/// A client of an iperf3.
#[derive(Debug)]
pub(super) struct Iperf {
    program: Program,
    streams: u8,
}

impl Iperf {
    pub(super) fn to(host: &str, port: u16, streams: u8) -> Self {
        let (port, parallel) = (port.to_string(), streams.to_string());
        let program = Program::of("iperf3").with(&[
            "-c",
            host,
            "-p",
            &port,
            "-P",
            &parallel,
            "-f",
            "k",
            "--connect-timeout",
            "5000",
        ]);
        Self { program, streams }
    }

    pub(super) fn with(self, word: &str) -> Self {
        Self { program: self.program.with(&[word]), ..self }
    }

    /// What the receiver has had, in kbit/s.
    pub(super) fn run(self) -> Result<u64, Failure> {
        let mut said = String::new();
        for seconds in [SECONDS, MORE_SECONDS] {
            said = run_when_free(&self.program.clone().with(&["-t", seconds]))?;
            if let Some(kbits @ 1..) = received_kbits(&said, self.streams) {
                return Ok(kbits);
            }
        }
        Err(self.program.failed(format!("nothing was received: {said}")))
    }

    /// Sends packets of UDP, as fast as it can.
    pub(super) fn packets(self) -> Result<(), Failure> {
        let words = ["-u", "-b", "0", "-l", PAYLOAD_LEN, "-t", SECONDS];
        run_when_free(&self.program.with(&words)).map(drop)
    }

    /// Lets it send until it is ended.
    pub(super) fn without_end(self) -> Result<Load, Failure> {
        let program = self.program.with(&["-t", "600"]);
        let child = program.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Load(child.map_err(|error| program.failed(error))?))
    }
}

/// Runs a client once the server has time for it.
fn run_when_free(client: &Program) -> Result<String, Failure> {
    let mut tries = 1;
    loop {
        match run(client) {
            Err(Failure::Lab(why)) if why.contains("server is busy") && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
        sleep(Duration::from_millis(200));
    }
}

/// A client that sends; it must be ended.
pub(super) struct Load(Child);

impl Load {
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.map(drop).map_err(|error| Failure::Lab(format!("cannot end iperf3: {error}")))
    }
}

/// Reads `[  5]   0.00-1.00   sec  1.09 GBytes  9390000 Kbits/sec    receiver`, or the sum of several streams.
fn received_kbits(said: &str, streams: u8) -> Option<u64> {
    let begins = if streams > 1 { "[SUM]" } else { "[" };
    let line = said.lines().find(|line| line.starts_with(begins) && line.trim_end().ends_with("receiver"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Kbits/sec")?;
    words.get(unit.checked_sub(1)?)?.parse::<f64>().ok().map(|kbits| kbits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that says this when it sends for a second, and that when it sends for ten.
    fn client(of_one: &str, of_ten: &str) -> Iperf {
        let script = format!("case $2 in 1) echo '{of_one}';; 10) echo '{of_ten}';; esac");
        Iperf { program: Program::of("sh").with(&["-c", &script, "iperf3"]), streams: 1 }
    }

    #[test]
    fn where_a_second_is_not_enough_it_sends_for_ten() {
        let nothing = "[  4]   0.00-1.13   sec  0.00 Bytes  0.00 Kbits/sec   receiver";
        let something = |kbits| format!("[  4]   0.00-1.00   sec   10 MBytes  {kbits} Kbits/sec   receiver");
        assert_eq!(client(&something(7), &something(70)).run().unwrap(), 7);
        assert_eq!(client(nothing, &something(70)).run().unwrap(), 70);
        let Err(Failure::Lab(why)) = client("nothing", nothing).run() else {
            panic!("something was received")
        };
        assert!(why.contains("nothing was received") && why.contains(nothing), "{why}");
    }

    #[test]
    fn what_the_receiver_had_is_read() {
        let one = "[  5]   0.00-1.00   sec   10 MBytes  99 Kbits/sec    0   sender\n\
                   [  5]   0.00-1.00   sec   10 MBytes  88 Kbits/sec        receiver\n";
        let sum = "[SUM]   0.00-1.00   sec   10 MBytes  177 Kbits/sec        receiver\n";
        assert_eq!(received_kbits(one, 1), Some(88));
        assert_eq!(received_kbits(&format!("{one}{sum}"), 2), Some(177));
        assert_eq!(received_kbits("iperf3: error\n", 1), None);
    }

    #[test]
    fn pings_are_answered_or_lost() {
        let said = "5 packets transmitted, 5 received, 0% packet loss, time 40ms\nrtt min/avg/max/mdev = 0.1/0.250/0.3/0.0 ms\n";
        assert_eq!(average_ns(said), Ok(250_000));
        assert!(average_ns(&said.replace(" 0%", " 20%")).is_err());
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = run(&Program::of("sh").with(&["-c", "echo no; exit 3"])).unwrap_err();
        assert_eq!(error, Failure::Lab("sh -c echo no; exit 3: exit status: 3: no\n".into()));
    }
}
