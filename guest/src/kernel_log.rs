//! The kernel's log, line by line as it grows.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;

/// An open `/dev/kmsg`, which gives one record with each read.
#[derive(Debug)]
pub(crate) struct KernelLog {
    file: File,
}

/// How long a line is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// No record is longer.
const RECORD_LEN: usize = 8192;

impl KernelLog {
    /// Everything before is passed over.
    pub(crate) fn from_now_on() -> Result<Self, Failure> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file })
    }

    /// The next line that begins in one of these ways; those between are passed over.
    pub(crate) fn wait_for(&mut self, beginnings: &[&str]) -> Result<String, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut record = [0; RECORD_LEN];
        while Instant::now() < deadline {
            match self.file.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let line = message(&text);
                    if beginnings.iter().any(|beginning| line.starts_with(beginning)) {
                        return Ok(line.to_string());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.sleep_until(deadline)?,
                // The log has run over the place where we were: the next read goes on with what is left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let (wanted, seconds) = (beginnings.join("…` or `"), PATIENCE.as_secs());
        Err(Failure::Lab(format!("the kernel's log has no line `{wanted}…` after {seconds} s")))
    }

    /// What has come so far and was not read yet.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>, Failure> {
        let (mut lines, mut record) = (Vec::new(), [0; RECORD_LEN]);
        loop {
            match self.file.read(&mut record) {
                Ok(length) => lines.push(message(&String::from_utf8_lossy(&record[..length])).to_string()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(lines),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn sleep_until(&self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout))
            .map_err(|error| failed(error.into()))?;
        Ok(())
    }
}

/// What a record says, without its numbers and its properties.
fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.split('\n').next().unwrap_or_default()
}

fn failed(error: std::io::Error) -> Failure {
    Failure::Lab(format!("cannot read /dev/kmsg: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_message() {
        assert_eq!(message("6,339,5140900,-;echo: 111, 112; 113\n SUBSYSTEM=x\n"), "echo: 111, 112; 113");
        assert_eq!(message(""), "");
    }
}
