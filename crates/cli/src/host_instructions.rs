//! [`HostInstructions`]: how many instructions this host has executed, its guests' not among them.
//!
//! An emulated host is asked ([`vioduct_spec::host_instructions`]). On others the processors count, by Linux's perf events.
//!
//! This module holds `unsafe` because the question is an instruction, and because nothing else makes the system call of perf events.
#![allow(unsafe_code)]

use crate::report::Transcript;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{FromRawFd, RawFd};

/// Who counts.
pub(crate) enum HostInstructions {
    /// What emulates this host.
    Emulation,
    /// Its processors, each of them.
    Processors(Vec<File>),
    /// Nobody, and why.
    Nobody(String),
}

impl HostInstructions {
    /// Finds out who counts on this host.
    pub(crate) fn find() -> Self {
        if ask().is_some() {
            return Self::Emulation;
        }
        let processors = online().and_then(|processors| {
            processors.into_iter().map(|processor| INSTRUCTIONS.open(processor)).collect::<io::Result<_>>()
        });
        match processors {
            Ok(processors) => Self::Processors(processors),
            Err(error) => Self::Nobody(reason(&error)),
        }
    }

    /// So many so far; what counts is the difference of two readings.
    pub(crate) fn read(&self) -> Option<u64> {
        match self {
            Self::Emulation => ask(),
            Self::Processors(counters) => counters.iter().map(read).sum(),
            Self::Nobody(_) => None,
        }
    }

    /// Says why nobody counts, if so.
    pub(crate) fn say_why_not(&self, out: &mut Transcript) {
        if let Self::Nobody(why) = self {
            out.say(format!("the host's instructions are not counted: {why}"));
        }
    }
}

/// What the emulation says; nothing where there is none, or none that counts.
#[cfg(target_arch = "x86_64")]
fn ask() -> Option<u64> {
    let mut answer = u64::MAX;
    // SAFETY: for a processor this does nothing; an emulation that knows it changes the register that is an output here.
    unsafe {
        std::arch::asm!(
            "nop dword ptr [rax + {question}]",
            question = const vioduct_spec::host_instructions::DISPLACEMENT,
            inout("rax") answer,
            options(nomem, nostack, preserves_flags),
        );
    }
    (answer != u64::MAX).then_some(answer)
}

#[cfg(not(target_arch = "x86_64"))]
fn ask() -> Option<u64> {
    None
}

/// An event that a processor counts: the first 64 bytes of Linux's `perf_event_attr`, which every kernel takes.
#[repr(C)]
struct Event {
    kind: u32,
    len: u32,
    number: u64,
    period: u64,
    sample_kind: u64,
    read_format: u64,
    flags: u64,
    wake_up: u32,
    breakpoint_kind: u32,
    breakpoint_address: u64,
}

/// `PERF_TYPE_HARDWARE`, and its `PERF_COUNT_HW_INSTRUCTIONS`.
const HARDWARE: u32 = 0;
const HARDWARE_INSTRUCTIONS: u64 = 1;
/// The counter is there all the time or not at all, and stops while a guest has the processor.
const PINNED: u64 = 1 << 2;
const EXCLUDE_GUEST: u64 = 1 << 20;
const INSTRUCTIONS: Event = Event::of(HARDWARE, HARDWARE_INSTRUCTIONS);

impl Event {
    const fn of(kind: u32, number: u64) -> Self {
        Self {
            kind,
            len: size_of::<Self>() as u32,
            number,
            period: 0,
            sample_kind: 0,
            read_format: 0,
            flags: PINNED | EXCLUDE_GUEST,
            wake_up: 0,
            breakpoint_kind: 0,
            breakpoint_address: 0,
        }
    }

    /// A counter of a processor's, whatever runs on it.
    fn open(&self, processor: i32) -> io::Result<File> {
        const ANY_PROCESS: i32 = -1;
        const NO_GROUP: RawFd = -1;
        /// `PERF_FLAG_FD_CLOEXEC`.
        const CLOSED_BY_EXEC: libc::c_ulong = 1 << 3;
        // SAFETY: the kernel reads as many bytes as the event says that it has.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                std::ptr::from_ref(self),
                ANY_PROCESS,
                processor,
                NO_GROUP,
                CLOSED_BY_EXEC,
            )
        };
        match RawFd::try_from(descriptor) {
            // SAFETY: the kernel has just made it, for this.
            Ok(descriptor @ 0..) => Ok(unsafe { File::from_raw_fd(descriptor) }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn read(mut counter: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    // A counter that is not there any more has nothing to read.
    counter.read_exact(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "perf events of all programs are for root".to_owned(),
        _ => format!("this host's processors do not count them ({error})"),
    }
}

fn online() -> io::Result<Vec<i32>> {
    const ONLINE: &str = "/sys/devices/system/cpu/online";
    let text = fs::read_to_string(ONLINE)?;
    numbers(text.trim()).ok_or_else(|| io::Error::other(format!("{ONLINE} says `{}`", text.trim())))
}

/// Reads `0-2,5`.
fn numbers(text: &str) -> Option<Vec<i32>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_as_the_kernel_lists_them() {
        assert_eq!(numbers("0"), Some(vec![0]));
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!((numbers(""), numbers("0-"), numbers("a")), (None, None, None));
    }

    #[test]
    fn a_question_that_nobody_answers_is_no_count() {
        // No test runs on an emulated host.
        assert_eq!(ask(), None);
    }

    #[test]
    fn whoever_counts_goes_on_counting() {
        let found = HostInstructions::find();
        let mut out = Transcript::unheard();
        found.say_why_not(&mut out);
        match found.read() {
            Some(before) => assert!(found.read() > Some(before) && out.steps.is_empty()),
            None => assert!(out.steps.iter().any(|step| step.text.contains("are not counted: "))),
        }
    }

    #[test]
    fn a_perf_event_of_the_kernels_own_is_counted() {
        // `PERF_TYPE_SOFTWARE`, and its `PERF_COUNT_SW_CPU_CLOCK`, which is there without counters of the processor's.
        let clock = Event { flags: 0, ..Event::of(1, 0) };
        match clock.open(0) {
            Ok(counter) => {
                let before = read(&counter).unwrap();
                while read(&counter).unwrap() == before {
                    std::hint::spin_loop();
                }
            }
            Err(error) => assert!(reason(&error).contains("perf events") || reason(&error).contains("count")),
        }
    }
}
